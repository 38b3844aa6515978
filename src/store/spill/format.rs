//! How a spill is written: JSON that a person can read, with the sealed parts in base64 and a format version, so that
//! the next release reads what this one left behind.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::entry::{SpillContent, SpillEntry, SpilledTokens};
use crate::store::contract::Sealed;
use crate::store::keys;
use crate::words::clock::{WallTime, millis};
use crate::words::ids::{AttemptId, Fingerprint, ProviderId, Version};
use crate::words::token_set::Scope;

const FORMAT: u32 = 1;
/// Of new grants. A release that knows no such spills must not take one for a refresh.
const GRANT_FORMAT: u32 = 2;

#[derive(Serialize, Deserialize)]
struct File {
    v: u32,
    key: String,
    provider: String,
    attempt: String,
    base: String,
    obtained_at_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<Tokens>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    grant: Option<Tokens>,
    #[serde(skip_serializing_if = "Option::is_none")]
    salvage: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Tokens {
    access: String,
    refresh: Option<String>,
    refresh_fingerprint: Option<String>,
    spent: Option<String>,
    remaining_ms: u64,
    life_ms: u64,
    scope: Option<String>,
    bank_consent_id: Option<String>,
    consent_expires_at_ms: Option<u64>,
    certificate: Option<String>,
    #[serde(default)]
    granted_at_ms: Option<u64>,
    forced: bool,
}

/// `None` only if JSON cannot carry it, which no entry should bring about.
pub(super) fn to_json(entry: &SpillEntry) -> Option<Vec<u8>> {
    let (tokens, grant, salvage) = match &entry.content {
        SpillContent::Tokens(tokens) => (Some(write_tokens(tokens)), None, None),
        SpillContent::Grant(tokens) => (None, Some(write_tokens(tokens)), None),
        SpillContent::Salvage(body) => (None, None, Some(write_sealed(body))),
    };
    let file = File {
        v: if grant.is_some() { GRANT_FORMAT } else { FORMAT },
        key: keys::short_name(&entry.key),
        provider: entry.provider.to_string(),
        attempt: entry.attempt.as_str().to_owned(),
        base: entry.base.to_string(),
        obtained_at_ms: entry.obtained_at.as_millis(),
        tokens,
        grant,
        salvage,
    };
    serde_json::to_vec_pretty(&file).ok()
}

/// The error names the part that cannot be understood, never its contents.
pub(super) fn from_json(text: &[u8]) -> Result<SpillEntry, &'static str> {
    let version: VersionOnly = serde_json::from_slice(text).map_err(|_| "it is not the JSON of a spill")?;
    if ![FORMAT, GRANT_FORMAT].contains(&version.v) {
        return Err("it has a format version that this release does not know");
    }
    let file: File = serde_json::from_slice(text).map_err(|_| "a part of it is missing or of the wrong type")?;
    let content = match (file.tokens, file.grant, file.salvage) {
        (Some(tokens), None, None) => SpillContent::Tokens(Box::new(read_tokens(tokens)?)),
        (None, Some(tokens), None) => SpillContent::Grant(Box::new(read_tokens(tokens)?)),
        (None, None, Some(body)) => SpillContent::Salvage(read_sealed(&body)?),
        _ => return Err("it must hold either tokens, of a refresh or of a new grant, or a salvaged body"),
    };
    Ok(SpillEntry {
        key: keys::parse_short_name(&file.key).ok_or("its key is malformed")?,
        provider: ProviderId::parse(&file.provider).ok_or("its provider is malformed")?,
        attempt: AttemptId::from_stored(&file.attempt),
        base: Version::parse(&file.base).ok_or("its version is malformed")?,
        obtained_at: WallTime::from_millis(file.obtained_at_ms),
        content,
    })
}

#[derive(Deserialize)]
struct VersionOnly {
    v: u32,
}

fn write_tokens(tokens: &SpilledTokens) -> Tokens {
    Tokens {
        access: write_sealed(&tokens.access),
        refresh: tokens.refresh.as_ref().map(write_sealed),
        refresh_fingerprint: tokens.refresh_fingerprint.map(|fingerprint| fingerprint.to_string()),
        spent: tokens.spent.map(|fingerprint| fingerprint.to_string()),
        remaining_ms: millis(tokens.remaining),
        life_ms: millis(tokens.life),
        scope: tokens.scope.as_ref().map(|scope| scope.as_str().to_owned()),
        bank_consent_id: tokens.bank_consent_id.clone(),
        consent_expires_at_ms: tokens.consent_expires_at.map(WallTime::as_millis),
        certificate: tokens.certificate.clone(),
        granted_at_ms: tokens.granted_at.map(WallTime::as_millis),
        forced: tokens.forced,
    }
}

fn read_tokens(tokens: Tokens) -> Result<SpilledTokens, &'static str> {
    let fingerprint = |text: Option<String>| match text {
        Some(text) => Fingerprint::parse(&text).map(Some).ok_or("a fingerprint is malformed"),
        None => Ok(None),
    };
    let scope = match tokens.scope {
        Some(scope) => Some(Scope::parse(&scope).ok_or("its scope is malformed")?),
        None => None,
    };
    Ok(SpilledTokens {
        access: read_sealed(&tokens.access)?,
        refresh: tokens.refresh.as_deref().map(read_sealed).transpose()?,
        refresh_fingerprint: fingerprint(tokens.refresh_fingerprint)?,
        spent: fingerprint(tokens.spent)?,
        remaining: Duration::from_millis(tokens.remaining_ms),
        life: Duration::from_millis(tokens.life_ms),
        scope,
        bank_consent_id: tokens.bank_consent_id,
        consent_expires_at: tokens.consent_expires_at_ms.map(WallTime::from_millis),
        certificate: tokens.certificate,
        granted_at: tokens.granted_at_ms.map(WallTime::from_millis),
        forced: tokens.forced,
    })
}

fn write_sealed(sealed: &Sealed) -> String {
    STANDARD.encode(sealed.as_bytes())
}

fn read_sealed(text: &str) -> Result<Sealed, &'static str> {
    STANDARD.decode(text).map(Sealed::from_bytes).map_err(|_| "a sealed part is not base64")
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::{grant, salvage, tokens};
    use super::*;

    #[test]
    fn a_spill_reads_back_what_it_wrote() {
        for entry in [tokens(), grant(), salvage()] {
            assert_eq!(from_json(&to_json(&entry).unwrap()), Ok(entry));
        }
    }

    #[test]
    fn another_format_version_is_named_before_its_parts_are_looked_at() {
        let unknown = "it has a format version that this release does not know";
        assert_eq!(from_json(br#"{"v":3,"key":7}"#), Err(unknown));
    }

    #[test]
    fn no_malformed_part_is_taken_for_something_else() {
        let text = String::from_utf8(to_json(&tokens()).unwrap()).unwrap();
        for (from, to) in [("c:c1", "c:/"), ("\"bank\"", "\"Bank\""), (".3\"", "\""), ("a b", "a\\u0000b")] {
            assert!(from_json(text.replacen(from, to, 1).as_bytes()).is_err(), "{from}");
        }
        for cut in 0..text.len() {
            assert!(from_json(&text.as_bytes()[..cut]).is_err(), "cut at {cut}");
        }
    }
}
