//! Where token sets live: Redis or a file, the spill directory, and the keys that seal.

use super::{Sources, redis};
use crate::config::fault::{At, Faulted};
use crate::config::raw::{RawEmbedded, RawSeal, RawSpill, RawStore};
use crate::config::{SpillSettings, StoreConfig, StoreKind};
use crate::store::seal::{Keyring, SealKey};

/// The store; `None` after a fault.
pub(super) fn parse(raw: Option<&RawStore>, at: &At<'_>, sources: &Sources<'_>) -> Option<StoreConfig> {
    let raw = at.need(raw)?;
    let kind = match (&raw.redis, &raw.embedded) {
        (Some(raw), None) => redis::parse(raw, &at.key("redis"), sources),
        (None, Some(embedded)) => embedded_store(embedded, &at.key("embedded"), sources),
        (Some(_), Some(_)) => {
            at.fault("token sets live in one place: redis or embedded, not both");
            None
        }
        (None, None) => {
            at.fault("it has to say where token sets live: redis or embedded");
            None
        }
    };
    let spill = spill(raw.spill.as_ref(), raw.redis.is_some() && raw.embedded.is_none(), &at.key("spill"), sources);
    let keyring = keyring(raw.seal.as_ref(), &at.key("seal"), sources);
    let (kind, key_prefix) = kind?;
    Some(StoreConfig { kind, key_prefix, spill: spill.ok()?, keyring: keyring? })
}

fn embedded_store(raw: &RawEmbedded, at: &At<'_>, sources: &Sources<'_>) -> Option<(StoreKind, String)> {
    let path_at = at.key("path");
    let path = path_at.need(raw.path.as_deref()).map(|path| sources.path(path));
    if let Some(path) = &path
        && (path.is_dir() || path.parent().is_none_or(|folder| !folder.is_dir()))
    {
        path_at.fault("it has to be a file, there or not, in a folder that is there");
    }
    let key_prefix = key_prefix(raw.key_prefix.as_deref(), &at.key("key_prefix"));
    Some((StoreKind::Embedded { path: path? }, key_prefix?))
}

pub(super) fn key_prefix(text: Option<&str>, at: &At<'_>) -> Option<String> {
    let prefix = text.unwrap_or("consentry");
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
    if (1..=64).contains(&prefix.len()) && prefix.bytes().all(allowed) {
        return Some(prefix.to_owned());
    }
    at.fault("it may hold 1 to 64 of A-Z a-z 0-9 - _ . :");
    None
}

fn spill(
    raw: Option<&RawSpill>,
    is_redis: bool,
    at: &At<'_>,
    sources: &Sources<'_>,
) -> Result<Option<SpillSettings>, Faulted> {
    let Some(raw) = raw else {
        if is_redis {
            at.fault(
                "Redis needs a spill directory: while Redis is away, a bank's reply with the only valid refresh token \
                 would be in memory alone, and a restart would lose the consent",
            );
            return Err(Faulted);
        }
        return Ok(None);
    };
    let directory_at = at.key("directory");
    let directory = directory_at.need(raw.directory.as_deref()).map(|path| sources.path(path)).ok_or(Faulted)?;
    if directory.exists() && !directory.is_dir() {
        directory_at.fault("it is there and not a directory");
        return Err(Faulted);
    }
    Ok(Some(SpillSettings { directory, required: raw.required.unwrap_or(false) }))
}

fn keyring(raw: Option<&RawSeal>, at: &At<'_>, sources: &Sources<'_>) -> Option<Keyring> {
    let list_at = at.key("keys");
    let keys = list_at.need(raw.and_then(|raw| raw.keys.as_deref()).filter(|keys| !keys.is_empty()))?;
    let keys: Vec<Option<SealKey>> = keys
        .iter()
        .enumerate()
        .map(|(nth, raw)| {
            let at = list_at.index(nth);
            let id = at.key("id").need(raw.id.as_deref());
            let key_at = at.key("key");
            let key = sources.secret(raw.key.as_ref(), &key_at).map(zeroize::Zeroizing::new);
            key_at.take(SealKey::from_base64(id?, &key?))
        })
        .collect();
    let keys: Option<Vec<SealKey>> = keys.into_iter().collect();
    list_at.take(Keyring::new(keys?))
}
