//! What providers offer about consents themselves, and which API it is asked of.
//!
//! A provider, or its profile, says which calls there are; an API says how its host is reached and with which headers. The
//! two come together here: in the API that the provider names, else in its first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::providers::Providers;
use super::{not_one_of, quantities, routes};
use crate::config::fault::At;
use crate::config::raw::{RawBankCall, RawConsentInfo, RawFeed, RawProvider};
use crate::consent::{BankCall, CallPath, CallToken, DeskSettings, FeedCall, InfoCall};
use crate::proxy::settings::Api;
use crate::token::ClientGrant;
use crate::words::bank::{BankBehaviour, Matcher};
use crate::words::ids::ProviderId;

/// What a provider offers.
#[derive(Default)]
pub(super) struct Offered {
    api: Option<String>,
    revoke: Option<BankCall>,
    info: Option<InfoCall>,
    feed: Option<FeedCall>,
    /// Whether the operator wrote one of its keys, and not the profile alone.
    is_meant: bool,
    token_rejected: Vec<Matcher>,
    consent_dead: Vec<Matcher>,
    request_id: Option<http::HeaderName>,
}

pub(super) fn offered(raw: &RawProvider, own: &RawProvider, behaviour: Option<&BankBehaviour>, at: &At<'_>) -> Offered {
    let revoke_at = at.key("revoke_by");
    let revoke = raw.revoke_by.as_ref().and_then(|raw| call(raw, &revoke_at));
    if let (Some(_), Some(own)) = (&revoke, own.revocation_endpoint.as_ref()) {
        let where_else = at.key("revocation_endpoint");
        where_else.warn(format_args!("revoke_by ends a consent with all its tokens, so {own} is not asked"));
    }
    let info = raw.consent_info.as_ref().and_then(|raw| info(raw, &at.key("consent_info")));
    let feed = raw.feed.as_ref().and_then(|raw| feed(raw, &at.key("feed")));
    let behaviour = behaviour.cloned().unwrap_or_default();
    Offered {
        api: raw.consent_api.clone(),
        is_meant: own.consent_api.is_some()
            || own.revoke_by.is_some()
            || own.consent_info.is_some()
            || own.feed.is_some(),
        revoke,
        info,
        feed,
        token_rejected: behaviour.token_rejected,
        consent_dead: behaviour.consent_dead,
        request_id: behaviour.request_id_headers.into_iter().next(),
    }
}

/// Where the bank tells of a consent, and where in its answer what stands.
fn info(raw: &RawConsentInfo, at: &At<'_>) -> Option<InfoCall> {
    let RawConsentInfo { call: what, token, audience, scope, .. } = raw.clone();
    let call = call(&RawBankCall { call: what, token, audience, scope }, at);
    let place = |key: &str, place: &Option<String>| {
        if place.as_deref().is_some_and(|place| !place.starts_with('/')) {
            at.key(key).fault("a JSON pointer begins with /, as in /consent/status");
        }
        place.clone()
    };
    if raw.active.is_some() && raw.status.is_none() {
        at.key("active").fault("active needs status: the place of the word that it is compared with");
    }
    if raw.consent_expires_at.is_some() && raw.consent_expires_in.is_some() {
        at.key("consent_expires_in").fault("it is given beside consent_expires_at; a bank says one of the two");
    }
    Some(InfoCall {
        call: call?,
        status: place("status", &raw.status),
        active: raw.active.clone().unwrap_or_default(),
        scope: place("covers", &raw.covers),
        consent_expires_at: place("consent_expires_at", &raw.consent_expires_at),
        consent_expires_in: place("consent_expires_in", &raw.consent_expires_in),
        token_expires_at: place("token_expires_at", &raw.token_expires_at),
    })
}

/// Where the bank tells what has happened to consents. `None` also where it is not to be read.
fn feed(raw: &RawFeed, at: &At<'_>) -> Option<FeedCall> {
    let call_at = at.key("call");
    let text = call_at.need(raw.call.as_deref());
    let path = text.and_then(|text| text.strip_prefix("GET ")).and_then(|path| call_at.take(CallPath::parse(path)));
    if text.is_some_and(|text| !text.starts_with("GET ")) {
        call_at.fault("it has to be GET and a path, as in GET /v1/events");
    }
    if path.as_ref().is_some_and(CallPath::names_consent) {
        call_at.fault("a feed tells of all consents, so its path names none");
    }
    let scope = routes::scope(raw.scope.as_ref(), &at.key("scope")).ok()?;
    let parameter = |key: &str, text: &Option<String>| {
        let at = at.key(key);
        let text = at.need(text.as_deref())?;
        at.take(FeedCall::check_parameter(text)).map(|()| text.to_owned())
    };
    let place = |key: &str, text: &Option<String>| {
        let at = at.key(key);
        let text = at.need(text.as_deref())?;
        if !text.starts_with('/') {
            at.fault("a JSON pointer begins with /, as in /consent/status");
        }
        Some(text.to_owned())
    };
    let (from, limit) = (parameter("from", &raw.from), parameter("limit", &raw.limit));
    let (events, number) = (place("events", &raw.events), place("number", &raw.number));
    let (consent, kind) = (place("consent", &raw.consent), place("kind", &raw.kind));
    let ended = at.key("ended").need(raw.ended.clone().filter(|words| !words.is_empty()));
    let every = quantities::duration(raw.every.as_ref(), &at.key("every"), Duration::from_secs(30), "1s", "1h");
    let kept = quantities::duration(raw.kept.as_ref(), &at.key("kept"), Duration::from_secs(7 * 86_400), "1h", "180d");
    let read = FeedCall {
        path: path?,
        token: Arc::new(ClientGrant { audience: raw.audience.clone(), scope }),
        from: from?,
        limit: limit?,
        events: events?,
        number: number?,
        consent: consent?,
        kind: kind?,
        ended: ended?,
        every,
        kept,
    };
    raw.read.unwrap_or(false).then_some(read)
}

/// `METHOD /path`, and whose token goes with it.
fn call(raw: &RawBankCall, at: &At<'_>) -> Option<BankCall> {
    let call_at = at.key("call");
    let text = call_at.need(raw.call.as_deref())?;
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let [method, path] = words.as_slice() else {
        call_at.fault("it has to be a method and a path, as in DELETE /v1/consents/{bank_consent_id}");
        return None;
    };
    let method = call_at.take(Method::from_bytes(method.as_bytes()));
    let path = call_at.take(CallPath::parse(path));
    let scope = routes::scope(raw.scope.as_ref(), &at.key("scope")).ok()?;
    let token = match raw.token.as_deref().unwrap_or("consent") {
        "consent" => {
            if raw.audience.is_some() || raw.scope.is_some() {
                at.fault("an audience and a scope are asked for with token: client alone");
            }
            CallToken::Consent
        }
        "client" => CallToken::Client(Arc::new(ClientGrant { audience: raw.audience.clone(), scope })),
        other => {
            at.key("token").fault(not_one_of(other, &["consent", "client"]));
            return None;
        }
    };
    if path.as_ref().is_some_and(|path| !path.names_consent()) && token != CallToken::Consent {
        call_at.fault("with our client's token the path has to say which consent is meant: {bank_consent_id}");
    }
    Some(BankCall { method: method?, path: path?, token })
}

/// The desks of all providers that offer something and have an API to ask it of.
pub(super) fn parse(providers: &Providers, apis: &[Api], at: &At<'_>) -> BTreeMap<ProviderId, DeskSettings> {
    let desks = providers.all().filter_map(|(provider, named)| {
        let offered = &named.desk;
        let at = at.key(provider.as_str());
        let own: Vec<&Api> = apis.iter().filter(|api| api.provider == *provider).collect();
        let api = match (&offered.api, own.as_slice()) {
            (Some(name), own) => {
                let found = own.iter().find(|api| api.name == *name).copied();
                // An API with a fault of its own is missing from the list.
                if found.is_none() && !apis.is_empty() {
                    at.key("consent_api").fault(format_args!("no api of this provider is called {name:?}"));
                }
                found?
            }
            (None, []) => return None,
            (None, [only]) => *only,
            (None, [first, ..]) => {
                if offered.revoke.is_some() || offered.is_meant {
                    at.warn(format_args!(
                        "several apis use this provider; it is asked about consents at {}, unless consent_api names another",
                        first.name
                    ));
                }
                *first
            }
        };
        if offered.revoke.is_none() && offered.info.is_none() && offered.feed.is_none() {
            return None;
        }
        Some((provider.clone(), settings(offered, api)?))
    });
    desks.collect()
}

fn settings(offered: &Offered, api: &Api) -> Option<DeskSettings> {
    let set_headers = api.set_headers.iter().map(|(name, secret)| Some((name.clone(), secret.to_header_value().ok()?)));
    Some(DeskSettings {
        base: api.upstream.clone(),
        roots: api.roots.clone(),
        reachable: api.reachable,
        identity: api.identity.clone(),
        set_headers: set_headers.collect::<Option<_>>()?,
        request_id: offered.request_id.clone(),
        token_rejected: offered.token_rejected.clone(),
        consent_dead: offered.consent_dead.clone(),
        revoke: offered.revoke.clone(),
        info: offered.info.clone(),
        feed: offered.feed.clone(),
    })
}
