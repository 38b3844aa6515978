//! A Redis that keeps token sets: one server, the one that sentinels name, or a cluster.

use super::store::key_prefix;
use super::{Sources, quantities};
use crate::config::StoreKind;
use crate::config::fault::{At, Faulted};
use crate::config::raw::{RawRedis, RawSentinel, RawSource};
use crate::net::tls::Roots;
use crate::store::redis::{ClientIdentity, RedisAddress, RedisSettings, SentinelSettings, Servers};
use crate::words::secrets::StorePassword;

/// More than anybody has, and few enough to ask them all at once.
const MOST_NODES: usize = 64;

/// The settings and the key prefix; `None` after a fault.
pub(super) fn parse(raw: &RawRedis, at: &At<'_>, sources: &Sources<'_>) -> Option<(StoreKind, String)> {
    let servers = servers(raw, at, sources);
    let password = password(raw.password.as_ref(), raw.username.as_ref(), at, sources);
    let tls = tls(raw, servers.as_ref(), at, sources);
    let key_prefix = key_prefix(raw.key_prefix.as_deref(), &at.key("key_prefix"));
    let replicas = quantities::count(raw.replicas_required, &at.key("replicas_required"), 0, 0, 16);
    let own = RedisSettings::new(servers?);
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
        fsync_required: raw.fsync_required.unwrap_or(false),
        replica_wait,
        accept_eviction: raw.accept_eviction.unwrap_or(false),
        command_timeout,
        connect_timeout,
        ..own
    };
    Some((StoreKind::Redis(Box::new(settings)), key_prefix))
}

fn servers(raw: &RawRedis, at: &At<'_>, sources: &Sources<'_>) -> Option<Servers> {
    if raw.database.is_some() && raw.sentinel.is_none() {
        at.key("database")
            .fault("it goes with sentinel; a URL holds its own number, and a cluster has the first alone");
    }
    match (&raw.url, &raw.sentinel, &raw.cluster) {
        (Some(url), None, None) => at.key("url").take(RedisAddress::parse(url)).map(Servers::One),
        (None, Some(sentinel), None) => self::sentinel(sentinel, raw.database, at, sources).map(Servers::Sentinel),
        (None, None, Some(cluster)) => {
            nodes(cluster.nodes.as_deref(), &at.key("cluster").key("nodes")).map(Servers::Cluster)
        }
        (None, None, None) => {
            at.fault("it has to say which servers: url, sentinel or cluster");
            None
        }
        (_, _, _) => {
            at.fault("the servers are one of url, sentinel and cluster");
            None
        }
    }
}

fn sentinel(
    raw: &RawSentinel,
    database: Option<u64>,
    redis_at: &At<'_>,
    sources: &Sources<'_>,
) -> Option<SentinelSettings> {
    let at = redis_at.key("sentinel");
    let name_at = at.key("name");
    let name = name_at.need(raw.name.as_deref()).filter(|name| {
        let fits = (1..=128).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
        if !fits {
            name_at.fault("it may hold 1 to 128 letters, digits and signs, and no space");
        }
        fits
    });
    let nodes = nodes(raw.nodes.as_deref(), &at.key("nodes"));
    let password = password(raw.password.as_ref(), raw.username.as_ref(), &at, sources);
    let most = 1_000_000;
    let number = database.and_then(|number| u32::try_from(number).ok().filter(|number| *number <= most));
    if database.is_some() && number.is_none() {
        redis_at.key("database").fault("it is no number of a database");
    }
    Some(SentinelSettings {
        name: name?.to_owned(),
        nodes: nodes?,
        username: raw.username.clone(),
        password: password.ok()?,
        database: number.unwrap_or(0),
    })
}

/// Addresses without a number of a database, all with TLS or all without.
fn nodes(raw: Option<&[String]>, at: &At<'_>) -> Option<Vec<RedisAddress>> {
    let urls = at.need(raw.filter(|urls| !urls.is_empty()))?;
    if urls.len() > MOST_NODES {
        at.fault(format_args!("{MOST_NODES} are enough: the others are learnt from them"));
        return None;
    }
    let addresses: Vec<Option<RedisAddress>> = urls
        .iter()
        .enumerate()
        .map(|(nth, url)| {
            let at = at.index(nth);
            let address = at.take(RedisAddress::parse(url))?;
            if address.database != 0 {
                at.fault("it may not name a database");
                return None;
            }
            Some(address)
        })
        .collect();
    let addresses: Vec<RedisAddress> = addresses.into_iter().collect::<Option<_>>()?;
    if addresses.iter().any(|address| address.tls != addresses[0].tls) {
        at.fault("all are reached with TLS (rediss://) or all without (redis://)");
        return None;
    }
    Some(addresses)
}

fn password(
    source: Option<&RawSource>,
    username: Option<&String>,
    at: &At<'_>,
    sources: &Sources<'_>,
) -> Result<Option<StorePassword>, Faulted> {
    match (source, username) {
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
    servers: Option<&Servers>,
    at: &At<'_>,
    sources: &Sources<'_>,
) -> Result<(Option<Vec<u8>>, Option<ClientIdentity>), Faulted> {
    let (ca_at, certificate_at) = (at.key("ca_file"), at.key("client_certificate"));
    if servers.is_some_and(|servers| !servers.tls()) {
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
