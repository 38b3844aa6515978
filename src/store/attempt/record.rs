//! An attempt as the fields of a hash: what is checked when it is read, and what is left out when it is written.

use std::time::Duration;

use crate::store::contract::{Attempt, AttemptStage, Open, Sealed};
use crate::store::record::{BadField, MOST};
use crate::words::ids::{AttemptId, BrowserDigest, ConsentId, GrantId, ProviderId};
use crate::words::token_set::Scope;

/// The layout of the fields.
const SCHEMA: &[u8] = b"1";

/// An attempt. Each field's documentation begins with its stored name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    /// `cid`: which consent is to be granted.
    pub consent: ConsentId,
    /// `prov`: where.
    pub provider: ProviderId,
    /// `grant`: what the grant will be called.
    pub grant: GrantId,
    /// `scope`: what is asked for.
    pub scope: Option<Scope>,
    /// `ret`: where the browser goes in the end.
    pub return_url: Option<String>,
    /// `ver`: the sealed PKCE verifier.
    pub verifier: Sealed,
    /// `st`, and `out` where it has ended: how far it is.
    pub stage: AttemptStage,
    /// `brw`: a digest of what its browser presents.
    pub browser: Option<BrowserDigest>,
    /// `by`: who claimed it.
    pub by: Option<AttemptId>,
    /// `at`: since when it is at its stage.
    pub at: u64,
    /// `exp`: until when it is kept.
    pub until: u64,
    /// `life`: how long that was when it was written.
    pub life: u64,
}

impl AttemptRecord {
    /// A new one.
    pub fn open(open: &Open, now: u64, life: u64) -> Self {
        Self {
            consent: open.consent.clone(),
            provider: open.provider.clone(),
            grant: open.grant,
            scope: open.scope.clone(),
            return_url: open.return_url.clone(),
            verifier: open.verifier.clone(),
            stage: AttemptStage::Open,
            browser: None,
            by: None,
            at: now,
            until: now + life,
            life,
        }
    }

    /// Whether its time is over. One that ends later than its life allows was written before the clock was set back, and how
    /// long ago that was is not known.
    pub fn is_past(&self, now: u64) -> bool {
        self.until <= now || self.until - now > self.life
    }

    /// Moves it on, and its end with it.
    pub(super) fn move_to(&mut self, stage: AttemptStage, now: u64, life: u64) {
        self.stage = stage;
        self.at = now;
        self.until = now + life;
        self.life = life;
    }

    /// What a step tells of it.
    pub fn snapshot(&self, now: u64) -> Attempt {
        Attempt {
            consent: self.consent.clone(),
            provider: self.provider.clone(),
            grant: self.grant,
            scope: self.scope.clone(),
            return_url: self.return_url.clone(),
            verifier: self.verifier.clone(),
            browser: self.browser,
            stage: self.stage.clone(),
            since: Duration::from_millis(now.saturating_sub(self.at)),
        }
    }

    /// Reads the fields of a stored hash. Fields it does not know are passed over.
    pub fn from_fields(fields: &[(Vec<u8>, Vec<u8>)]) -> Result<Self, BadField> {
        let bytes = |name: &str| fields.iter().find(|(field, _)| field == name.as_bytes()).map(|(_, value)| value);
        let text = |name: &'static str| {
            bytes(name).map(|value| std::str::from_utf8(value).map_err(|_| BadField(name))).transpose()
        };
        let word = |name: &'static str| text(name)?.ok_or(BadField(name));
        let number = |name: &'static str| {
            let text = word(name)?;
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten().filter(|number| *number <= MOST).ok_or(BadField(name))
        };
        if bytes("v").map(Vec::as_slice) != Some(SCHEMA) {
            return Err(BadField("v"));
        }
        Ok(Self {
            consent: ConsentId::parse(word("cid")?).map_err(|_| BadField("cid"))?,
            provider: ProviderId::parse(word("prov")?).ok_or(BadField("prov"))?,
            grant: GrantId::parse(word("grant")?).ok_or(BadField("grant"))?,
            scope: text("scope")?.map(|text| Scope::parse(text).ok_or(BadField("scope"))).transpose()?,
            return_url: text("ret")?.map(str::to_owned),
            verifier: Sealed::from_bytes(bytes("ver").ok_or(BadField("ver"))?.as_slice()),
            stage: match word("st")? {
                "open" => AttemptStage::Open,
                "bound" => AttemptStage::Bound,
                "exchanging" => AttemptStage::Exchanging,
                "over" => AttemptStage::Over(word("out")?.to_owned()),
                _ => return Err(BadField("st")),
            },
            browser: text("brw")?.map(|text| BrowserDigest::parse(text).ok_or(BadField("brw"))).transpose()?,
            by: text("by")?.map(AttemptId::from_stored),
            at: number("at")?,
            until: number("exp")?,
            life: number("life")?,
        })
    }

    /// The fields to store.
    pub fn to_fields(&self) -> Vec<(&'static str, Vec<u8>)> {
        let mut fields: Vec<(&'static str, Vec<u8>)> = vec![
            ("v", SCHEMA.into()),
            ("st", self.stage.as_str().into()),
            ("cid", self.consent.as_str().into()),
            ("prov", self.provider.as_str().into()),
            ("grant", self.grant.to_string().into()),
            ("ver", self.verifier.as_bytes().to_vec()),
            ("at", self.at.to_string().into()),
            ("exp", self.until.to_string().into()),
            ("life", self.life.to_string().into()),
        ];
        let mut put = |name, value: Option<String>| fields.extend(value.map(|value| (name, value.into_bytes())));
        put("scope", self.scope.as_ref().map(|scope| scope.as_str().to_owned()));
        put("ret", self.return_url.clone());
        put("brw", self.browser.map(|browser| browser.to_string()));
        put("by", self.by.as_ref().map(|by| by.as_str().to_owned()));
        match &self.stage {
            AttemptStage::Over(outcome) => put("out", Some(outcome.clone())),
            AttemptStage::Open | AttemptStage::Bound | AttemptStage::Exchanging => {}
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> AttemptRecord {
        let open = Open {
            consent: ConsentId::parse("c-1").expect("valid"),
            provider: ProviderId::parse("bank").expect("valid"),
            grant: GrantId::random(),
            scope: Scope::parse("a b"),
            return_url: Some("https://app.example/done".to_owned()),
            verifier: Sealed::from_bytes(*b"\0sealed"),
            life: Duration::from_secs(600),
        };
        AttemptRecord::open(&open, 1_000_000, 600_000)
    }

    fn stored(record: &AttemptRecord) -> Vec<(Vec<u8>, Vec<u8>)> {
        record.to_fields().into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value)).collect()
    }

    #[test]
    fn an_attempt_reads_back_what_it_wrote_at_every_stage() {
        let bare = AttemptRecord { scope: None, return_url: None, ..record() };
        assert_eq!(AttemptRecord::from_fields(&stored(&bare)), Ok(bare.clone()));
        for stage in [AttemptStage::Bound, AttemptStage::Exchanging, AttemptStage::Over("granted".to_owned())] {
            let by = Some(AttemptId::new("replica", 7));
            let full = AttemptRecord { stage, by, browser: Some(BrowserDigest::of("key")), ..record() };
            assert_eq!(AttemptRecord::from_fields(&stored(&full)), Ok(full));
        }
    }

    #[test]
    fn a_field_that_cannot_be_understood_is_named() {
        let with = |name: &str, value: &str| {
            let mut fields = stored(&record());
            fields.retain(|(field, _)| field != name.as_bytes());
            fields.push((name.into(), value.into()));
            AttemptRecord::from_fields(&fields).map(drop)
        };
        let rows = [
            ("v", "2"),
            ("st", "closed"),
            ("cid", "a b"),
            ("prov", "Bank"),
            ("grant", "x"),
            ("scope", "\""),
            ("brw", "x"),
            ("at", "-1"),
            ("exp", "9999999999999999"),
            ("life", ""),
        ];
        for (name, value) in rows {
            assert_eq!(with(name, value), Err(BadField(name)), "{name}");
        }
    }

    #[test]
    fn an_attempt_from_before_the_clock_was_set_back_counts_as_past() {
        let record = record();
        assert!(!record.is_past(1_000_000) && !record.is_past(1_599_999));
        assert!(record.is_past(1_600_000) && record.is_past(999_999));
    }
}
