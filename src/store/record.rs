//! The fields behind a record, as every store keeps them.
//!
//! One hash per record: words, numbers and names that a person reads with `redis-cli HGETALL`, and tokens as sealed
//! blobs. Times are milliseconds of the store's own clock. [`Record`] is the hash as the steps in [`super::steps`] see
//! it; the Lua scripts of the Redis store work on the fields themselves and check the same things before they change
//! anything. A record that cannot be understood is left as it is.

use std::time::Duration;

use super::contract::{RecordState, Sealed, Snapshot};
use crate::words::clock::{WallTime, millis};
use crate::words::ids::{AttemptId, Fence, Fingerprint, GrantId, ProviderId, Version};
use crate::words::token_set::Scope;

/// The schema version this release reads and writes.
pub const SCHEMA: &str = "1";

/// How many fingerprints of spent refresh tokens a record remembers.
pub const MOST_SPENT: usize = 32;

/// How long a tombstone stands: longer than any refresh, replica or spill that could bring the consent back.
pub const TOMBSTONE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How far the store's clock may have stepped back behind the writing of an access token before that token counts as
/// expired: more than two nodes of one store differ, less than a life that matters.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// The longest number a record may hold, in digits: what a Lua number carries exactly.
const MOST_DIGITS: usize = 15;
/// The largest number that has so many digits.
pub const MOST: u64 = 999_999_999_999_999;

/// A record. Every time is in milliseconds of the store's clock; zero where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// `prov`: where the consent was granted.
    pub provider: ProviderId,
    /// `st`.
    pub state: RecordState,
    /// `grant` and `gen`.
    pub version: Version,
    /// `fence`: counts leases.
    pub fence: Fence,
    /// `at`: the sealed access token.
    pub access: Option<Sealed>,
    /// `at_iat`: when it was written.
    pub access_from: u64,
    /// `at_exp`: when it expires.
    pub access_until: u64,
    /// `life`: its whole life.
    pub life: u64,
    /// `rt`: the sealed refresh token.
    pub refresh: Option<Sealed>,
    /// `rt_fp`: its fingerprint.
    pub refresh_fingerprint: Option<Fingerprint>,
    /// `spent`: the fingerprints of the refresh tokens that were spent last, oldest first.
    pub spent: Vec<Fingerprint>,
    /// `scope`.
    pub scope: Option<Scope>,
    /// `bank_cid`: the bank's own name for the consent.
    pub bank_consent_id: Option<String>,
    /// `c_exp`: when the consent ends, a date of the calendar.
    pub consent_until: Option<u64>,
    /// `crt`: the thumbprint of the client certificate the tokens are bound to.
    pub certificate: Option<String>,
    /// `own`: who holds or last held the lease.
    pub holder: Option<AttemptId>,
    /// `lease`: until when.
    pub lease_until: u64,
    /// `it_id`, `it_ver`, `it_at`: the last intent that nobody has explained.
    pub intent: Option<Intent>,
    /// `it_n`: how many intents of this version nobody has explained. A record is uncertain only while there are any.
    pub sends: u32,
    /// `quar`: from when the quarantine of an uncertain record is counted.
    pub quarantine_from: u64,
    /// `lc`: who committed this version.
    pub committed_by: Option<AttemptId>,
    /// `lc_back`: whether that commit brought back generations that the store had forgotten.
    pub committed_back: bool,
    /// `lf`: the last lease that ended in a FAIL, as `{fence} {attempt}`.
    pub failed_lease: Option<String>,
    /// `next`: nobody refreshes before.
    pub not_before: u64,
    /// `fails`: failures in a row.
    pub failures: u32,
    /// `why`: the class of the last one, or why the consent ended.
    pub why: Option<String>,
    /// `alt_rt`, `alt_ver`, `alt_fp`: the refresh token of a commit that lost a race.
    pub alt: Option<Alternate>,
    /// `old_rt`, `old_ver`: the refresh token of the grant that was replaced last, and the version it is sealed for.
    pub replaced: Option<(Sealed, Version)>,
    /// `forced_at`: when a refresh that a rejection forced was committed.
    pub forced_at: Option<u64>,
    /// `ended_at`: when a tombstone was put up.
    pub ended_at: u64,
    /// `g_at`: when this grant was stored first.
    pub granted_at: u64,
    /// `ra`: the last attempt that told again of an intent which the store had forgotten.
    pub reasserted: Option<AttemptId>,
}

/// A refresh token that came second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternate {
    /// The token.
    pub refresh: Sealed,
    /// The version it is sealed for.
    pub version: Version,
    /// Its fingerprint.
    pub fingerprint: Option<Fingerprint>,
}

/// The durable note that a refresh token is being spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// By whom.
    pub attempt: AttemptId,
    /// Of which version.
    pub version: Version,
    /// Since when.
    pub at: u64,
}

/// The field of a stored record that cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadField(pub &'static str);

impl Record {
    /// A record without tokens.
    pub fn empty(provider: ProviderId, grant: GrantId) -> Self {
        Self {
            provider,
            state: RecordState::Active,
            version: Version { grant, generation: 0 },
            fence: 0,
            access: None,
            access_from: 0,
            access_until: 0,
            life: 0,
            refresh: None,
            refresh_fingerprint: None,
            spent: Vec::new(),
            scope: None,
            bank_consent_id: None,
            consent_until: None,
            certificate: None,
            holder: None,
            lease_until: 0,
            intent: None,
            sends: 0,
            quarantine_from: 0,
            committed_by: None,
            committed_back: false,
            failed_lease: None,
            not_before: 0,
            failures: 0,
            why: None,
            alt: None,
            replaced: None,
            forced_at: None,
            ended_at: 0,
            granted_at: 0,
            reasserted: None,
        }
    }

    /// Whether an END put up a tombstone here.
    pub const fn is_tombstone(&self) -> bool {
        match self.state {
            RecordState::Denied | RecordState::Revoked | RecordState::Expired => true,
            RecordState::Pending
            | RecordState::Active
            | RecordState::Leased
            | RecordState::Armed
            | RecordState::Uncertain
            | RecordState::ReauthorizationRequired => false,
        }
    }

    /// The state at `now`. That a consent's own time is over is seen and not written: a clock that is wrong for a
    /// minute must not end consents for good.
    pub fn state_at(&self, now: u64) -> RecordState {
        let over = self.consent_until.is_some_and(|end| end <= now);
        if over && self.state.is_usable() { RecordState::Expired } else { self.state }
    }

    /// How much of the access token's life is left. Nothing if the clock stepped back behind its writing, and never
    /// more than its life.
    pub fn remaining(&self, now: u64) -> u64 {
        if self.access.is_none() || self.access_from > now + millis(CLOCK_TOLERANCE) {
            return 0;
        }
        self.access_until.saturating_sub(now).min(self.access_until.saturating_sub(self.access_from))
    }

    /// What a step tells of the record.
    pub fn snapshot(&self, now: u64) -> Snapshot {
        Snapshot {
            provider: self.provider.clone(),
            state: self.state_at(now),
            version: self.version,
            access: self.access.clone(),
            remaining: Duration::from_millis(self.remaining(now)),
            life: Duration::from_millis(self.life),
            refresh: self.refresh.clone(),
            refresh_fingerprint: self.refresh_fingerprint,
            granted_at: (self.granted_at > 0).then(|| WallTime::from_millis(self.granted_at)),
            scope: self.scope.clone(),
            bank_consent_id: self.bank_consent_id.clone(),
            consent_expires_at: self.consent_until.map(WallTime::from_millis),
            consent_remaining: self.consent_until.map(|end| Duration::from_millis(end.saturating_sub(now))),
            certificate: self.certificate.clone(),
            holder: self.holder.clone(),
            sends: self.sends,
            failures: self.failures,
            backoff: Duration::from_millis(self.not_before.saturating_sub(now)),
            why: self.why.clone(),
            replaced: self.replaced.clone(),
        }
    }

    /// Reads the fields of a stored hash. Fields it does not know are passed over.
    pub fn from_fields(fields: &[(Vec<u8>, Vec<u8>)]) -> Result<Self, BadField> {
        let fields = Fields(fields);
        if fields.bytes("v") != Some(SCHEMA.as_bytes()) {
            return Err(BadField("v"));
        }
        let word = |name| fields.text(name).ok_or(BadField(name));
        let provider = ProviderId::parse(&word("prov")?).ok_or(BadField("prov"))?;
        let grant = GrantId::parse(&word("grant")?).ok_or(BadField("grant"))?;
        let generation = fields.number("gen")?.ok_or(BadField("gen"))?;
        let time = |name| fields.number(name).map(Option::unwrap_or_default);
        let count = |name| time(name).map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        let attempt = |name| fields.text(name).map(|text| AttemptId::from_stored(&text));
        let spent: Option<Vec<_>> =
            fields.text("spent").unwrap_or_default().split_ascii_whitespace().map(Fingerprint::parse).collect();
        Ok(Self {
            state: RecordState::parse(&word("st")?).ok_or(BadField("st"))?,
            fence: time("fence")?,
            access: fields.sealed("at"),
            access_from: time("at_iat")?,
            access_until: time("at_exp")?,
            life: time("life")?,
            refresh: fields.sealed("rt"),
            refresh_fingerprint: fields.parsed("rt_fp", Fingerprint::parse)?,
            spent: spent.ok_or(BadField("spent"))?,
            scope: fields.parsed("scope", Scope::parse)?,
            bank_consent_id: fields.text("bank_cid"),
            consent_until: fields.number("c_exp")?,
            certificate: fields.text("crt"),
            holder: attempt("own"),
            lease_until: time("lease")?,
            intent: match (attempt("it_id"), fields.parsed("it_ver", Version::parse)?) {
                (Some(attempt), Some(version)) => Some(Intent { attempt, version, at: time("it_at")? }),
                (None, _) | (_, None) => None,
            },
            sends: count("it_n")?,
            quarantine_from: time("quar")?,
            committed_by: attempt("lc"),
            committed_back: fields.bytes("lc_back").is_some(),
            failed_lease: fields.text("lf"),
            not_before: time("next")?,
            failures: count("fails")?,
            why: fields.text("why"),
            alt: match (fields.sealed("alt_rt"), fields.parsed("alt_ver", Version::parse)?) {
                (Some(refresh), Some(version)) => {
                    let fingerprint = fields.parsed("alt_fp", Fingerprint::parse)?;
                    Some(Alternate { refresh, version, fingerprint })
                }
                (None, _) | (_, None) => None,
            },
            replaced: fields.sealed("old_rt").zip(fields.parsed("old_ver", Version::parse)?),
            forced_at: fields.number("forced_at")?,
            ended_at: time("ended_at")?,
            granted_at: time("g_at")?,
            reasserted: attempt("ra"),
            provider,
            version: Version { grant, generation },
        })
    }

    /// The fields to store. What is absent, empty or zero is not written.
    pub fn to_fields(&self) -> Vec<(&'static str, Vec<u8>)> {
        let mut fields: Vec<(&'static str, Vec<u8>)> = vec![
            ("v", SCHEMA.into()),
            ("prov", self.provider.as_str().into()),
            ("st", self.state.as_str().into()),
            ("grant", self.version.grant.to_string().into()),
            ("gen", self.version.generation.to_string().into()),
        ];
        let mut put = |name, value: Option<Vec<u8>>| fields.extend(value.map(|value| (name, value)));
        let number = |number: u64| (number > 0).then(|| number.to_string().into_bytes());
        let text = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
        let sealed = |sealed: Option<&Sealed>| sealed.map(|sealed| sealed.as_bytes().to_vec());
        put("fence", number(self.fence));
        put("at", sealed(self.access.as_ref()));
        put("at_iat", number(self.access_from));
        put("at_exp", number(self.access_until));
        put("life", number(self.life));
        put("rt", sealed(self.refresh.as_ref()));
        put("rt_fp", self.refresh_fingerprint.map(|fingerprint| fingerprint.to_string().into()));
        let spent = self.spent.iter().map(Fingerprint::to_string).collect::<Vec<_>>().join(" ");
        put("spent", (!spent.is_empty()).then(|| spent.into()));
        put("scope", text(self.scope.as_ref().map(Scope::as_str)));
        put("bank_cid", text(self.bank_consent_id.as_deref()));
        put("c_exp", self.consent_until.map(|end| end.to_string().into()));
        put("crt", text(self.certificate.as_deref()));
        put("own", text(self.holder.as_ref().map(AttemptId::as_str)));
        put("lease", number(self.lease_until));
        if let Some(intent) = &self.intent {
            put("it_id", text(Some(intent.attempt.as_str())));
            put("it_ver", Some(intent.version.to_string().into()));
            put("it_at", number(intent.at));
        }
        put("it_n", number(self.sends.into()));
        put("quar", number(self.quarantine_from));
        put("lc", text(self.committed_by.as_ref().map(AttemptId::as_str)));
        put("lc_back", self.committed_back.then(|| b"1".to_vec()));
        put("lf", text(self.failed_lease.as_deref()));
        put("next", number(self.not_before));
        put("fails", number(self.failures.into()));
        put("why", text(self.why.as_deref()));
        if let Some(Alternate { refresh, version, fingerprint }) = &self.alt {
            put("alt_rt", sealed(Some(refresh)));
            put("alt_ver", Some(version.to_string().into()));
            put("alt_fp", fingerprint.map(|fingerprint| fingerprint.to_string().into()));
        }
        if let Some((refresh, version)) = &self.replaced {
            put("old_rt", sealed(Some(refresh)));
            put("old_ver", Some(version.to_string().into()));
        }
        put("forced_at", self.forced_at.map(|at| at.to_string().into()));
        put("ended_at", number(self.ended_at));
        put("g_at", number(self.granted_at));
        put("ra", text(self.reasserted.as_ref().map(AttemptId::as_str)));
        fields
    }
}

struct Fields<'a>(&'a [(Vec<u8>, Vec<u8>)]);

impl Fields<'_> {
    fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(field, _)| field == name.as_bytes()).map(|(_, value)| value.as_slice())
    }

    fn text(&self, name: &str) -> Option<String> {
        self.bytes(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    fn sealed(&self, name: &str) -> Option<Sealed> {
        self.bytes(name).map(Sealed::from_bytes)
    }

    fn number(&self, name: &'static str) -> Result<Option<u64>, BadField> {
        let parse = |text: &str| {
            let digits = (1..=MOST_DIGITS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten()
        };
        self.parsed(name, parse)
    }

    fn parsed<T>(&self, name: &'static str, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, BadField> {
        match self.bytes(name) {
            Some(bytes) => std::str::from_utf8(bytes).ok().and_then(parse).map(Some).ok_or(BadField(name)),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Record {
        let version = Version { grant: GrantId::random(), generation: 3 };
        let attempt = AttemptId::new("replica/boot", 1);
        Record {
            state: RecordState::Uncertain,
            version,
            fence: 9,
            access: Some(Sealed::from_bytes([0, 255, 1])),
            access_from: 1_000,
            access_until: 2_000,
            life: 1_000,
            refresh: Some(Sealed::from_bytes([7; 40])),
            refresh_fingerprint: Some(Fingerprint::from_bytes([1; 16])),
            spent: vec![Fingerprint::from_bytes([2; 16]), Fingerprint::from_bytes([3; 16])],
            scope: Scope::parse("a [b]"),
            bank_consent_id: Some("B/1".into()),
            consent_until: Some(5_000),
            certificate: Some("thumb".into()),
            holder: Some(attempt.clone()),
            lease_until: 1_500,
            intent: Some(Intent { attempt: attempt.clone(), version, at: 1_400 }),
            sends: 1,
            quarantine_from: 1_500,
            committed_by: Some(attempt),
            committed_back: true,
            failed_lease: Some("8 replica/boot/0".into()),
            not_before: 1_700,
            failures: 2,
            why: Some("timeout".into()),
            alt: Some(Alternate {
                refresh: Sealed::from_bytes([8]),
                version,
                fingerprint: Some(Fingerprint::from_bytes([4; 16])),
            }),
            replaced: Some((Sealed::from_bytes([9]), Version::first(GrantId::random()))),
            forced_at: Some(1_200),
            ended_at: 4,
            granted_at: 3,
            reasserted: Some(AttemptId::new("replica/boot", 1)),
            ..Record::empty(ProviderId::parse("bank").unwrap(), version.grant)
        }
    }

    fn stored(record: &Record) -> Vec<(Vec<u8>, Vec<u8>)> {
        record.to_fields().into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value)).collect()
    }

    #[test]
    fn a_record_reads_back_what_it_wrote() {
        let small = Record::empty(ProviderId::parse("bank").unwrap(), GrantId::random());
        for record in [full(), small] {
            assert_eq!(Record::from_fields(&stored(&record)), Ok(record));
        }
    }

    #[test]
    fn every_checked_field_names_itself_when_it_is_garbage() {
        let checked = [
            "v",
            "prov",
            "st",
            "grant",
            "gen",
            "fence",
            "at_iat",
            "at_exp",
            "life",
            "rt_fp",
            "spent",
            "scope",
            "c_exp",
            "lease",
            "it_ver",
            "it_at",
            "it_n",
            "quar",
            "next",
            "fails",
            "alt_ver",
            "old_ver",
            "forced_at",
            "ended_at",
            "alt_fp",
            "g_at",
        ];
        for name in checked {
            let mut fields = stored(&full());
            let field = fields.iter_mut().find(|(field, _)| field == name.as_bytes()).unwrap();
            field.1 = b"\"garbage".to_vec();
            assert_eq!(Record::from_fields(&fields), Err(BadField(name)));
        }
        for name in ["v", "prov", "st", "grant", "gen"] {
            let fields: Vec<_> = stored(&full()).into_iter().filter(|(field, _)| field != name.as_bytes()).collect();
            assert_eq!(Record::from_fields(&fields), Err(BadField(name)));
        }
    }

    #[test]
    fn a_field_of_a_later_release_is_passed_over() {
        let record = full();
        let mut fields = stored(&record);
        fields.push((b"later".to_vec(), b"?".to_vec()));
        assert_eq!(Record::from_fields(&fields), Ok(record));
    }

    #[test]
    fn an_access_token_from_the_future_counts_as_expired() {
        let record = full();
        assert_eq!(record.remaining(1_400), 600);
        assert_eq!(record.remaining(2_000), 0);
        assert_eq!(record.remaining(0), 1_000, "within the tolerance, and never more than its life");
        let later = Record { access_from: 10_000, access_until: 11_000, ..record };
        assert_eq!(later.remaining(4_999), 0);
    }

    #[test]
    fn the_end_of_a_consent_is_seen_and_not_written() {
        let record = full();
        assert_eq!(record.state_at(4_999), RecordState::Uncertain);
        assert_eq!(record.state_at(5_000), RecordState::Expired);
        assert_eq!(record.state_at(4_999), RecordState::Uncertain, "a clock that was wrong has ended nothing");
    }
}
