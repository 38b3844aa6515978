//! The fields of a provider's record, as every store keeps them.
//!
//! Words and numbers that a person reads with `redis-cli HGETALL`. Lists are words with a space between them, and their
//! parts have a `|` between them; no name that stands in them can hold either. Times are milliseconds of the store's clock.
//! Every list is bounded. A list's entry that cannot be understood is dropped, because forgetting a permit or a suspect
//! costs little; a freeze or a breaker that cannot be understood is an error.

use std::time::Duration;

use crate::store::contract::{
    Breaker, BreakerClass, Freeze, FreezeReason, Opened, ProviderStanding, Refusal, Stage, Suspect,
};
use crate::store::keys::{parse_short_name, short_name};
use crate::store::record::{BadField, SCHEMA};
use crate::words::ids::{AttemptId, TokenKey, Version};

/// A provider's record. A record that is not there is the same as this by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderRecord {
    /// `fz`: the reasons of the freezes that stand, the gravest first; `fz_{reason}_by`, `_why`, `_at`: the rest of each.
    pub freezes: Vec<Frozen>,
    /// `fz_over`: what it was last frozen over that freezes a provider only once. It outlives the freeze.
    pub frozen_over: Option<String>,
    /// `fails`: failures since the last success.
    pub failures: u32,
    /// `opened`: how often in a row the breaker has opened; 0, it is closed.
    pub opened: u32,
    /// `until`: when one request may try.
    pub open_until: u64,
    /// `class`: whose fault it is taken to be.
    pub class: Option<BreakerClass>,
    /// `why`: the class of the failure that opened it.
    pub why: String,
    /// `canary`: the permit that is trying.
    pub canary: Option<Permit>,
    /// `canaries`: for which tokens it was tried last, oldest first.
    pub canaries: Vec<TokenKey>,
    /// `permits`: those that are out.
    pub permits: Vec<Permit>,
    /// `sent`: when requests were reported to be over, within the last second, oldest first.
    pub sent: Vec<u64>,
    /// `hungry`: when somebody who waits was last told that there is no room.
    pub hungry_at: u64,
    /// `suspects`: oldest first.
    pub suspects: Vec<Listed>,
}

/// A freeze, with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// Why, for programs.
    pub reason: FreezeReason,
    /// Who.
    pub by: String,
    /// Why, for people.
    pub why: Option<String>,
    /// When.
    pub at: u64,
}

/// A permit that is out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    /// Its name.
    pub id: AttemptId,
    /// Since when.
    pub at: u64,
    /// Until when.
    pub until: u64,
}

/// A suspect, with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// When it was refused.
    pub at: u64,
    /// Who, and how it is seen.
    pub suspect: Suspect,
}

impl Frozen {
    /// The freeze, as it is told.
    fn told_at(&self, now: u64) -> Freeze {
        let age = Duration::from_millis(now.saturating_sub(self.at));
        Freeze { reason: self.reason, by: self.by.clone(), why: self.why.clone(), age, over: None }
    }
}

impl ProviderRecord {
    /// How the provider stands at `now`.
    pub fn standing(&self, now: u64) -> ProviderStanding {
        let breaker = match self.opened_at(now) {
            None => Breaker::Closed,
            Some(opened) if self.open_until > now => Breaker::Open(opened),
            Some(opened) => Breaker::HalfOpen(opened),
        };
        let mut freezes = self.freezes.iter().map(|frozen| frozen.told_at(now));
        ProviderStanding {
            freeze: freezes.next(),
            frozen_besides: freezes.collect(),
            breaker,
            in_flight: self.permits.iter().filter(|permit| permit.until > now).count(),
            suspects: self.suspects.iter().map(|listed| listed.suspect.clone()).collect(),
        }
    }

    /// The suspects in this stage, oldest first.
    pub fn in_stage(&self, stage: Stage) -> Vec<Suspect> {
        let suspects = self.suspects.iter().map(|listed| &listed.suspect);
        suspects.filter(|suspect| suspect.stage == stage).cloned().collect()
    }

    /// The gravest freeze, as it is told.
    pub(in crate::store) fn frozen_at(&self, now: u64) -> Option<Freeze> {
        self.freezes.first().map(|frozen| frozen.told_at(now))
    }

    /// The open breaker, as it is told; nothing where it is closed.
    pub(in crate::store) fn opened_at(&self, now: u64) -> Option<Opened> {
        (self.opened > 0).then(|| Opened {
            wait: Duration::from_millis(self.open_until.saturating_sub(now)),
            class: self.class.unwrap_or(BreakerClass::Unavailable),
            why: self.why.clone(),
        })
    }

    /// Reads the fields of a stored hash; none at all is a provider of which nothing is known. Fields it does not know
    /// are passed over.
    pub fn from_fields(fields: &[(Vec<u8>, Vec<u8>)]) -> Result<Self, BadField> {
        if fields.is_empty() {
            return Ok(Self::default());
        }
        let text = |name: &str| {
            let found = fields.iter().find(|(field, _)| field == name.as_bytes());
            found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        };
        if text("v").as_deref() != Some(SCHEMA) {
            return Err(BadField("v"));
        }
        let number = |name: &'static str| {
            let parsed = text(name).map_or(Some(0), |text| parse_number(&text));
            parsed.ok_or(BadField(name))
        };
        let count = |name| number(name).map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        let words = |name| -> Vec<String> {
            text(name).unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect()
        };
        let mut freezes = Vec::new();
        for word in words("fz") {
            let of = |part: &str| text(&format!("fz_{word}_{part}"));
            freezes.push(Frozen {
                reason: FreezeReason::parse(&word).ok_or(BadField("fz"))?,
                by: of("by").unwrap_or_default(),
                why: of("why"),
                at: of("at").map_or(Some(0), |text| parse_number(&text)).ok_or(BadField("fz"))?,
            });
        }
        let class = match text("class") {
            None => None,
            Some(word) => Some(BreakerClass::parse(&word).ok_or(BadField("class"))?),
        };
        Ok(Self {
            freezes,
            frozen_over: text("fz_over"),
            failures: count("fails")?,
            opened: count("opened")?,
            open_until: number("until")?,
            class,
            why: text("why").unwrap_or_default(),
            canary: words("canary").first().and_then(|word| parse_permit(word)),
            canaries: words("canaries").iter().filter_map(|word| parse_short_name(word)).collect(),
            permits: words("permits").iter().filter_map(|word| parse_permit(word)).collect(),
            sent: words("sent").iter().filter_map(|word| parse_number(word)).collect(),
            hungry_at: number("hungry")?,
            suspects: words("suspects").iter().filter_map(|word| parse_suspect(word)).collect(),
        })
    }

    /// The fields to store. What is absent, empty or zero is not written.
    pub fn to_fields(&self) -> Vec<(String, Vec<u8>)> {
        let mut fields = vec![("v".to_owned(), SCHEMA.as_bytes().to_vec())];
        let mut put = |name: &str, text: String| {
            if !text.is_empty() {
                fields.push((name.to_owned(), text.into_bytes()));
            }
        };
        let number = |number: u64| if number > 0 { number.to_string() } else { String::new() };
        put("fz", joined(self.freezes.iter().map(|frozen| frozen.reason.as_str().to_owned())));
        for frozen in &self.freezes {
            let reason = frozen.reason.as_str();
            put(&format!("fz_{reason}_by"), frozen.by.clone());
            put(&format!("fz_{reason}_why"), frozen.why.clone().unwrap_or_default());
            put(&format!("fz_{reason}_at"), number(frozen.at));
        }
        put("fz_over", self.frozen_over.clone().unwrap_or_default());
        put("fails", number(self.failures.into()));
        put("opened", number(self.opened.into()));
        put("until", number(self.open_until));
        put("class", self.class.map_or_else(String::new, |class| class.as_str().to_owned()));
        put("why", self.why.clone());
        put("canary", self.canary.as_ref().map_or_else(String::new, permit));
        put("canaries", joined(self.canaries.iter().map(short_name)));
        put("permits", joined(self.permits.iter().map(permit)));
        put("sent", joined(self.sent.iter().map(u64::to_string)));
        put("hungry", number(self.hungry_at));
        put("suspects", joined(self.suspects.iter().map(suspect)));
        fields
    }

    /// Whether the two differ in more than what a restart may forget: permits, and who was turned away.
    pub fn differs_for_good(&self, other: &Self) -> bool {
        let lasting = |record: &Self| Self {
            permits: Vec::new(),
            sent: Vec::new(),
            hungry_at: 0,
            canary: None,
            canaries: Vec::new(),
            ..record.clone()
        };
        lasting(self) != lasting(other)
    }
}

fn joined(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

fn parse_number(text: &str) -> Option<u64> {
    let digits = (1..=15).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn permit(permit: &Permit) -> String {
    format!("{}|{}|{}", permit.until, permit.at, permit.id.as_str())
}

fn parse_permit(word: &str) -> Option<Permit> {
    let mut parts = word.splitn(3, '|');
    let (until, at) = (parse_number(parts.next()?)?, parse_number(parts.next()?)?);
    Some(Permit { id: AttemptId::from_stored(parts.next()?), at, until })
}

fn suspect(listed: &Listed) -> String {
    let Listed { at, suspect: Suspect { key, attempt, refusal, stage } } = listed;
    let Refusal { version, fence, probe } = refusal;
    let (stage, attempt, probe) = (stage.as_str(), attempt.as_str(), u8::from(*probe));
    format!("{stage}|{at}|{version}|{fence}|{attempt}|{probe}|{}", short_name(key))
}

fn parse_suspect(word: &str) -> Option<Listed> {
    let mut parts = word.splitn(7, '|');
    let mut next = || parts.next();
    let (stage, at) = (Stage::parse(next()?)?, parse_number(next()?)?);
    let (version, fence) = (Version::parse(next()?)?, parse_number(next()?)?);
    let (attempt, probe) = (AttemptId::from_stored(next()?), next()? == "1");
    let key = parse_short_name(next()?)?;
    Some(Listed { at, suspect: Suspect { key, attempt, refusal: Refusal { version, fence, probe }, stage } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::ids::{ConsentId, GrantId};

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let key = TokenKey::Consent(ConsentId::parse("c:1~x").unwrap());
        let attempt = AttemptId::new("host-1/00ff", 7);
        let refusal = Refusal { version: Version::first(GrantId::random()), fence: 3, probe: true };
        let record = ProviderRecord {
            freezes: vec![
                Frozen { reason: FreezeReason::OldBackup, by: "a b".into(), why: Some("c d".into()), at: 5 },
                Frozen { reason: FreezeReason::Operator, by: "e".into(), why: None, at: 4 },
            ],
            frozen_over: Some("a-b/7".into()),
            failures: 1,
            opened: 2,
            open_until: 9,
            class: Some(BreakerClass::Misconfigured),
            why: "tls_refused".into(),
            canary: Some(Permit { id: attempt.clone(), at: 1, until: 4 }),
            canaries: vec![key.clone(), key.clone()],
            permits: vec![Permit { id: attempt.clone(), at: 2, until: 8 }],
            sent: vec![1, 2],
            hungry_at: 6,
            suspects: vec![Listed { at: 3, suspect: Suspect { key, attempt, refusal, stage: Stage::Spared } }],
        };
        let fields: Vec<_> = record.to_fields().into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
        assert_eq!(ProviderRecord::from_fields(&fields), Ok(record));
        assert_eq!(ProviderRecord::from_fields(&[]), Ok(ProviderRecord::default()));
    }

    #[test]
    fn an_entry_that_cannot_be_understood_is_dropped_and_a_freeze_that_cannot_is_an_error() {
        let field = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        let version = field("v", SCHEMA);
        let odd = [version.clone(), field("permits", "x 5|a 5|4|a"), field("suspects", "what"), field("sent", "1 b 2")];
        let read = ProviderRecord::from_fields(&odd).unwrap();
        assert_eq!((read.permits.len(), read.suspects.len(), read.sent), (1, 0, vec![1, 2]));
        for bad in [field("fz", "operator whim"), field("class", "x"), field("until", "soon")] {
            assert!(ProviderRecord::from_fields(&[version.clone(), bad]).is_err());
        }
        assert_eq!(ProviderRecord::from_fields(&[field("v", "2")]), Err(BadField("v")));
    }
}
