//! How customers are asked: the callback listener, and what each provider adds to it.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Uri;

use super::listeners::{Reach, bind, hosts};
use super::{not_one_of, quantities};
use crate::callback::settings::CallbackSettings;
use crate::config::fault::At;
use crate::config::raw::{RawCallback, RawProvider, RawWords};
use crate::config::value;
use crate::consent::scopes::ScopeRules;
use crate::consent::settings::{AskSettings, Asking};
use crate::oauth::authorize::OUR_PARAMETERS;
use crate::oauth::settings::{Authorization, Pkce};
use crate::words::ids::ProviderId;
use crate::words::token_set::Scope;

/// The `callback:` section, but for the providers. `None` after a fault.
pub(super) fn callback(raw: &RawCallback, at: &At<'_>) -> Option<(CallbackSettings, AskSettings)> {
    let bind = bind(raw.listen.as_deref().unwrap_or("127.0.0.1:8090"), Reach::Anybody, &at.key("listen"));
    let hosts = hosts(raw.hosts.as_ref(), &at.key("hosts"));
    let url_at = at.key("public_url");
    let public_url = url_at.need(raw.public_url.as_deref()).and_then(|text| public_url(text, &url_at));
    let path = path(raw.path.as_deref().unwrap_or(AskSettings::PATH), &at.key("path"));
    let return_urls = raw.return_urls.as_deref().unwrap_or_default();
    let return_at = at.key("return_urls");
    for (nth, text) in return_urls.iter().enumerate() {
        return_url(text, &return_at.index(nth));
    }
    let providers = BTreeMap::new();
    let asking = AskSettings { public_url: public_url?, path: path?, return_urls: return_urls.to_vec(), providers };
    Some((CallbackSettings { bind: bind?, hosts }, asking))
}

/// A scheme and a host, with a port if need be: paths below it are the listener's own.
fn public_url(text: &str, at: &At<'_>) -> Option<String> {
    let url = at.take(value::endpoint(text))?;
    if url.query().is_some() || !matches!(url.path(), "" | "/") {
        at.fault("it has to be a scheme and a host alone, as in https://consent.example");
        return None;
    }
    Some(text.trim_end_matches('/').to_owned())
}

fn path(text: &str, at: &At<'_>) -> Option<String> {
    let plain = |segment: &str| {
        !segment.is_empty()
            && !matches!(segment, "." | "..")
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~'))
    };
    let fits = text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(plain));
    if !fits || text.starts_with("/start/") || text == "/start" {
        at.fault("it has to be a path such as /callback, of plain segments, and not below /start");
        return None;
    }
    Some(text.to_owned())
}

/// An address that a browser is sent to. Parameters are added to it, so it may hold a query, and no fragment.
fn return_url(text: &str, at: &At<'_>) {
    at.take(value::endpoint(text));
}

/// What a provider says of its authorization endpoint; `None` where it has none, and after a fault.
pub(super) fn provider(raw: &RawProvider, client_id: Option<&str>, at: &At<'_>) -> Option<Asking> {
    let endpoint_at = at.key("authorization_endpoint");
    let endpoint = raw.authorization_endpoint.as_deref().and_then(|text| endpoint_at.take(value::endpoint(text)));
    let parameters = parameters(raw.authorize_parameters.as_ref(), &at.key("authorize_parameters"));
    let pkce = match raw.pkce.as_deref() {
        None | Some("allowed") => Some(Pkce::Allowed),
        Some("required") => Some(Pkce::Required),
        Some("never") => Some(Pkce::Never),
        Some(other) => {
            at.key("pkce").fault(not_one_of(other, &["required", "allowed", "never"]));
            None
        }
    };
    let issuer = raw.issuer.clone().filter(|issuer| {
        let fits = issuer.parse::<Uri>().is_ok_and(|uri| uri.scheme().is_some() && uri.host().is_some());
        if !fits {
            at.key("issuer").fault("it has to be the URL that the bank calls itself, to the letter");
        }
        fits
    });
    let rules = ScopeRules {
        exclusive: sets(raw.exclusive_scopes.as_deref().unwrap_or_default(), &at.key("exclusive_scopes")),
        one_of: scope_words(raw.one_scope_of.as_deref().unwrap_or_default(), &at.key("one_scope_of")),
        days: raw.scope_days.unwrap_or(false),
    };
    let scope_at = at.key("default_scope");
    let default_scope = raw.default_scope.as_ref().and_then(|RawWords(text)| scope(text, &scope_at));
    if let Some(scope) = &default_scope {
        scope_at.take(rules.check(scope));
    }
    let life_at = at.key("consent_life");
    let consent_life = raw
        .consent_life
        .as_ref()
        .map(|text| quantities::duration(Some(text), &life_at, Duration::from_secs(60), "1m", "3650d"));
    let denied_by = match raw.denied_by.as_deref() {
        None => Asking::DENIED_BY.map(str::to_owned).to_vec(),
        Some(words) => words.to_vec(),
    };
    let pasted_at = at.key("pasted_redirect_uri");
    let pasted_redirect_uri =
        raw.pasted_redirect_uri.clone().filter(|text| pasted_at.take(value::endpoint(text)).is_some());
    let authorization =
        Authorization { endpoint: endpoint?, client_id: client_id?.to_owned(), parameters, pkce: pkce?, issuer };
    Some(Asking { authorization, default_scope, rules, consent_life, pasted_redirect_uri, denied_by })
}

fn parameters(raw: Option<&BTreeMap<String, String>>, at: &At<'_>) -> Vec<(String, String)> {
    let mut parameters = Vec::new();
    for (name, value) in raw.into_iter().flatten() {
        if OUR_PARAMETERS.contains(&name.as_str()) {
            at.key(name).fault("this parameter is set by consentry");
        } else {
            parameters.push((name.clone(), value.clone()));
        }
    }
    parameters
}

fn sets(raw: &[Vec<String>], at: &At<'_>) -> Vec<Vec<String>> {
    if raw.len() == 1 {
        at.fault("a set excludes others: it takes at least two");
    }
    raw.iter().enumerate().map(|(nth, words)| scope_words(words, &at.index(nth))).collect()
}

fn scope_words(words: &[String], at: &At<'_>) -> Vec<String> {
    let is_one = |word: &String| Scope::parse(word).is_some_and(|scope| scope.as_str() == word) && !word.contains(' ');
    for (nth, word) in words.iter().enumerate() {
        if word.is_empty() || !is_one(word) {
            at.index(nth).fault("it is not one word of a scope");
        }
    }
    words.to_vec()
}

fn scope(text: &str, at: &At<'_>) -> Option<Scope> {
    let scope = Scope::parse(text);
    if scope.is_none() {
        at.fault("it holds a character that no scope has");
    }
    scope.filter(|scope| !scope.as_str().is_empty())
}

/// The providers' part put into the callback's.
pub(super) fn together(settings: AskSettings, providers: BTreeMap<ProviderId, Asking>, at: &At<'_>) -> AskSettings {
    if providers.is_empty() {
        at.warn("no provider has an authorization_endpoint, so no consent can be started");
    }
    AskSettings { providers, ..settings }
}
