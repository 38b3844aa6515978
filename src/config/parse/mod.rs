//! Raw to meaningful: every value checked, every reference followed, all faults gathered.
//!
//! Each function here looks at everything below its cursor before it gives up, and gives up by returning `None` after
//! having recorded why. Nothing below may stop at the first fault: an operator wants the list.

mod apis;
mod asking;
mod auth;
mod desks;
mod headers;
mod listeners;
mod providers;
mod proxy;
mod quantities;
mod quotas;
mod redis;
mod routes;
mod sources;
mod store;

use std::collections::BTreeMap;

use tracing_subscriber::filter::Targets;

use super::fault::At;
use super::nearest::nearest;
use super::raw::{RawConfig, RawLog, RawShutdown, RawTokens};
use super::{Config, LogFormat, LogSettings, ShutdownSettings};
use crate::net::names::Reachable;
use crate::token::settings::TokenSettings;

pub(super) use sources::{Sources, read_again, read_bounded, text_of};

/// Makes a configuration of what was read. `None` only after a fault.
pub(super) fn parse(raw: &RawConfig, at: &At<'_>, sources: &Sources<'_>) -> Option<Config> {
    let providers = providers::parse(raw.providers.as_ref(), &at.key("providers"), sources);
    let listeners = listeners::parse(raw, at, sources);
    let proxy = proxy::parse(raw.proxy.as_ref(), &at.key("proxy"));
    let consent_header = proxy.consent_header.clone();
    let apis = apis::parse(raw.apis.as_ref(), &at.key("apis"), &providers, consent_header.as_ref(), sources);
    let store = store::parse(raw.store.as_ref(), &at.key("store"), sources);
    let tokens = tokens(raw.tokens.as_ref(), &at.key("tokens"));
    let shutdown = shutdown(raw.shutdown.as_ref(), &at.key("shutdown"));
    let log = log(raw.log.as_ref(), &at.key("log"));
    let replica = replica(raw.replica.as_deref(), &at.key("replica"), sources);

    let desks = desks::parse(&providers, apis.as_deref().unwrap_or_default(), &at.key("providers"));
    let (settings, registrations, asked) = providers.finish();
    let callback = listeners.callback.map(|callback| {
        callback.map(|(listener, settings)| (listener, asking::together(settings, asked, &at.key("callback"))))
    });
    Some(Config {
        proxy: proxy.finish(listeners.proxy?, apis?)?,
        health: listeners.health?,
        admin: listeners.admin.ok()?,
        callback: callback.ok()?,
        store: store?,
        tokens: TokenSettings { providers: settings, ..tokens },
        registrations,
        desks,
        shutdown,
        log: log?,
        replica: replica?,
        files: sources.files(),
        renewals: sources.renewals(),
    })
}

fn tokens(raw: Option<&RawTokens>, at: &At<'_>) -> TokenSettings {
    let count =
        |key: &str, value: Option<u64>, default| quantities::count(value, &at.key(key), default, 1, 100_000_000);
    let cache_capacity = raw.and_then(|raw| raw.cache_capacity);
    let max_flights = raw.and_then(|raw| raw.max_flights);
    TokenSettings {
        providers: BTreeMap::new(),
        cache_capacity: count("cache_capacity", cache_capacity, TokenSettings::CACHE_CAPACITY),
        max_flights: count("max_flights", max_flights, TokenSettings::MAX_FLIGHTS),
    }
}

fn shutdown(raw: Option<&RawShutdown>, at: &At<'_>) -> ShutdownSettings {
    let grace = raw.and_then(|raw| raw.grace.as_ref());
    ShutdownSettings {
        grace: quantities::duration(grace, &at.key("grace"), ShutdownSettings::default().grace, "1s", "1h"),
    }
}

fn log(raw: Option<&RawLog>, at: &At<'_>) -> Option<LogSettings> {
    let format = match raw.and_then(|raw| raw.format.as_deref()) {
        None | Some("auto") => Some(LogFormat::Auto),
        Some("json") => Some(LogFormat::Json),
        Some("text") => Some(LogFormat::Text),
        Some(other) => {
            at.key("format").fault(not_one_of(other, &["auto", "json", "text"]));
            None
        }
    };
    let level = raw.and_then(|raw| raw.level.as_deref()).unwrap_or(LogSettings::LEVEL);
    if level.parse::<Targets>().is_err() {
        at.key("level")
            .fault("it is not a log filter: a level (info) or levels by module (info,consentry::token=debug)");
    }
    Some(LogSettings { format: format?, level: level.to_owned() })
}

fn replica(name: Option<&str>, at: &At<'_>, sources: &Sources<'_>) -> Option<String> {
    let fits = |name: &str| {
        (1..=128).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    match name {
        Some(name) if fits(name) => Some(name.to_owned()),
        Some(_) => {
            at.fault("it may hold 1 to 128 of A-Z a-z 0-9 - _ .");
            None
        }
        None => {
            let host = sources.host_name().filter(|name| fits(name));
            Some(host.unwrap_or_else(|| format!("process-{}", std::process::id())))
        }
    }
}

/// Which addresses a bank's name may lead to.
fn reachable(refuse_private_addresses: Option<bool>) -> Reachable {
    if refuse_private_addresses.unwrap_or(false) { Reachable::Internet } else { Reachable::Everything }
}

/// `{found} is not one of …`, with a guess where one is near.
fn not_one_of(found: &str, known: &[&str]) -> String {
    let list = known.join(", ");
    match nearest(found, known) {
        Some(near) => format!("{found:?} is not one of {list}; did you mean {near}?"),
        None => format!("{found:?} is not one of {list}"),
    }
}
