//! A record as the fields of a hash: what is checked when it is read, and what is left out when it is written.

use super::{Alternate, Intent, Record, SCHEMA};
use crate::store::contract::{RecordState, Sealed};
use crate::words::ids::{AttemptId, Fingerprint, GrantId, ProviderId, Version};
use crate::words::token_set::Scope;

/// The longest number a record may hold, in digits: what a Lua number carries exactly.
const MOST_DIGITS: usize = 15;
/// The largest number that has so many digits.
pub const MOST: u64 = 999_999_999_999_999;

/// The field of a stored record that cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadField(pub &'static str);

impl Record {
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
            revived_by: attempt("rv"),
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
            pending_until: time("p_exp")?,
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
        put("rv", text(self.revived_by.as_ref().map(AttemptId::as_str)));
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
        put("p_exp", number(self.pending_until));
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
