//! Where token sets live: Redis or a file, the spill directory, and the keys that seal.

use super::{Sources, quantities};
use crate::config::fault::{At, Faulted};
use crate::config::raw::{RawEmbedded, RawRedis, RawSeal, RawSpill, RawStore};
use crate::config::{SpillSettings, StoreConfig, StoreKind};
use crate::net::tls::Roots;
use crate::store::redis::{ClientIdentity, RedisAddress, RedisSettings};
use crate::store::seal::{Keyring, SealKey};
use crate::words::secrets::StorePassword;

/// The store; `None` after a fault.
pub(super) fn parse(raw: Option<&RawStore>, at: &At<'_>, sources: &Sources<'_>) -> Option<StoreConfig> {
    let raw = at.need(raw)?;
    let kind = match (&raw.redis, &raw.embedded) {
        (Some(redis), None) => redis_store(redis, &at.key("redis"), sources),
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

fn redis_store(raw: &RawRedis, at: &At<'_>, sources: &Sources<'_>) -> Option<(StoreKind, String)> {
    let url_at = at.key("url");
    let address = url_at.need(raw.url.as_deref()).and_then(|url| url_at.take(RedisAddress::parse(url)));
    let password = password(raw, at, sources);
    let tls = tls(raw, address.as_ref(), at, sources);
    let key_prefix = key_prefix(raw.key_prefix.as_deref(), &at.key("key_prefix"));
    let replicas = quantities::count(raw.replicas_required, &at.key("replicas_required"), 0, 0, 16);
    let own = RedisSettings::new(address?);
    let time =
        |key: &str, value: Option<&_>, default, most| quantities::duration(value, &at.key(key), default, "10ms", most);
    let replica_wait = time("replica_wait", raw.replica_wait.as_ref(), own.replica_wait, "5s");
    let command_timeout = time("command_timeout", raw.command_timeout.as_ref(), own.command_timeout, "5s");
    let connect_timeout = time("connect_timeout", raw.connect_timeout.as_ref(), own.connect_timeout, "10s");
    if replica_wait >= command_timeout {
        at.key("replica_wait").fault("it has to be shorter than command_timeout, within which the replicas answer");
    }
    let (ca_pem, client_identity) = tls.ok()?;
    let key_prefix = key_prefix?;
    let settings = RedisSettings {
        username: raw.username.clone(),
        password: password.ok()?,
        ca_pem,
        client_identity,
        key_prefix: key_prefix.clone(),
        replicas_required: u32::try_from(replicas).ok()?,
        replica_wait,
        accept_eviction: raw.accept_eviction.unwrap_or(false),
        command_timeout,
        connect_timeout,
        ..own
    };
    Some((StoreKind::Redis(settings), key_prefix))
}

fn password(raw: &RawRedis, at: &At<'_>, sources: &Sources<'_>) -> Result<Option<StorePassword>, Faulted> {
    match (&raw.password, &raw.username) {
        (None, None) => Ok(None),
        (None, Some(_)) => {
            at.key("username").fault("a username needs a password");
            Err(Faulted)
        }
        (Some(source), _) => {
            let password = sources.secret(Some(source), &at.key("password"));
            password.map(|password| Some(StorePassword::new(password))).ok_or(Faulted)
        }
    }
}

/// Certificate authorities and client certificate, checked here so that a fault has its path.
fn tls(
    raw: &RawRedis,
    address: Option<&RedisAddress>,
    at: &At<'_>,
    sources: &Sources<'_>,
) -> Result<(Option<Vec<u8>>, Option<ClientIdentity>), Faulted> {
    let (ca_at, certificate_at) = (at.key("ca_file"), at.key("client_certificate"));
    if address.is_some_and(|address| !address.tls) {
        for (is_set, at) in [(raw.ca_file.is_some(), &ca_at), (raw.client_certificate.is_some(), &certificate_at)] {
            if is_set {
                at.fault("it is for TLS alone, and the URL begins with redis://; rediss:// is with TLS");
            }
        }
    }
    let roots = sources.roots(raw.ca_file.as_deref(), &ca_at);
    let pem = raw.client_certificate.as_ref().map(|raw| {
        let pem = sources.identity_pem(raw.certificate.as_ref(), raw.key.as_ref(), &certificate_at);
        pem.map(|(certificate_pem, key_pem)| ClientIdentity { certificate_pem, key_pem })
    });
    let ca_pem = match roots.ok_or(Faulted)? {
        Roots::System => None,
        Roots::Pem(pem) => Some(pem),
    };
    Ok((ca_pem, pem.map(|pem| pem.ok_or(Faulted)).transpose()?))
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

fn key_prefix(text: Option<&str>, at: &At<'_>) -> Option<String> {
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
