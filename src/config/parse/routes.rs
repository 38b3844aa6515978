//! Routes: what may be called, and with whose token.

use super::{not_one_of, quotas};
use crate::config::fault::{At, Faulted};
use crate::config::raw::{RawRoute, RawScopeRule, RawWords};
use crate::http::route::RouteMatch;
use crate::proxy::settings::{Route, ScopeRule, TokenSource};
use crate::words::ids::ConsentId;
use crate::words::token_set::{Needs, Scope};

/// The routes of one API; without any, everything may be called with the consent's token. `None` after a fault.
pub(super) fn parse(raw: Option<&[RawRoute]>, at: &At<'_>, is_public_client: bool) -> Option<Vec<Route>> {
    let everything = RawRoute { r#match: Some("/**".to_owned()), ..RawRoute::default() };
    let raw = match raw {
        None => std::slice::from_ref(&everything),
        Some([]) => {
            at.fault(
                "an empty list would allow nothing; without the key, everything is allowed with a consent's token",
            );
            return None;
        }
        Some(raw) => raw,
    };
    let routes: Vec<Option<Route>> =
        raw.iter().enumerate().map(|(nth, raw)| route(raw, &at.index(nth), is_public_client)).collect();
    for (nth, one) in routes.iter().enumerate() {
        let Some(one) = one else { continue };
        let earlier = routes
            .iter()
            .take(nth)
            .position(|other| other.as_ref().is_some_and(|other| takes_all_of(&other.matcher, &one.matcher)));
        if let Some(earlier) = earlier {
            at.index(nth).key("match").fault(format_args!("it is never reached: routes[{earlier}] takes all of it"));
        }
    }
    routes.into_iter().collect()
}

fn route(raw: &RawRoute, at: &At<'_>, is_public_client: bool) -> Option<Route> {
    let match_at = at.key("match");
    let matcher = match_at.need(raw.r#match.as_deref()).and_then(|text| match_at.take(RouteMatch::parse(text)));
    let source = source(raw, at, is_public_client);
    let needs = scope(raw.needs.as_ref(), &at.key("needs"));
    if raw.needs.is_some() && source.as_ref().is_some_and(|source| *source != TokenSource::Consent) {
        at.key("needs").fault("it is about the consent's scope, so it takes token: consent");
    }
    let quota_at = at.key("quota");
    let name = raw.r#match.clone().unwrap_or_default();
    let quota = raw.quota.as_ref().map(|raw| quotas::quota(raw, name, &quota_at));
    if quota.is_some() && source.as_ref().is_some_and(|source| *source != TokenSource::Consent) {
        quota_at.fault("it is about a consent's use, so it takes token: consent");
    }
    let consent = consent(raw, matcher.as_ref(), source.as_ref(), at);
    let single_use = raw.single_use.unwrap_or(false);
    if single_use && raw.resend_on_lost_reply == Some(true) {
        at.key("resend_on_lost_reply")
            .fault("the lost call may have been the one use of a single_use consent, so it is never sent again");
    }
    Some(Route {
        matcher: matcher?,
        source: source?,
        needs: needs.ok()?,
        quota: match quota {
            Some(quota) => Some(quota?),
            None => None,
        },
        consent: consent.ok()?,
        single_use,
        replay_on_rejection: raw.replay_on_rejection.unwrap_or(true),
        resend_on_lost_reply: raw.resend_on_lost_reply.unwrap_or(!single_use),
        forward_consent_header: raw.forward_consent_header.unwrap_or(false),
    })
}

fn source(raw: &RawRoute, at: &At<'_>, is_public_client: bool) -> Option<TokenSource> {
    let token = raw.token.as_deref().unwrap_or("consent");
    if token == "client" {
        if is_public_client {
            at.key("token")
                .fault("a client that proves itself in no way (client_auth method none) gets no token of its own");
        }
        if raw.audience.as_deref() == Some("") {
            at.key("audience").fault("it is empty");
        }
        let scope = scope(raw.scope.as_ref(), &at.key("scope")).ok()?;
        return Some(TokenSource::Client { audience: raw.audience.clone(), scope });
    }
    if raw.audience.is_some() {
        at.key("audience").fault("an audience is asked for with token: client alone");
    }
    if raw.scope.is_some() {
        at.key("scope")
            .fault("a scope is asked for with token: client alone; what a consent has to cover goes under needs");
    }
    match token {
        "consent" => Some(TokenSource::Consent),
        "none" => Some(TokenSource::None),
        other => {
            at.key("token").fault(not_one_of(other, &["consent", "client", "none"]));
            None
        }
    }
}

fn consent(
    raw: &RawRoute,
    matcher: Option<&RouteMatch>,
    source: Option<&TokenSource>,
    at: &At<'_>,
) -> Result<Option<ConsentId>, Faulted> {
    let at = at.key("consent");
    let Some(text) = &raw.consent else { return Ok(None) };
    let id = at.take(ConsentId::parse(text));
    if matcher.is_some_and(|matcher| matcher.pattern().names_consent()) {
        at.fault("the path names the consent already, with {consent_id}");
    }
    if source == Some(&TokenSource::None) {
        at.fault("a call without a token needs no consent");
    }
    at.warn("whoever calls this route acts for this consent; that is for development");
    id.map(Some).ok_or(Faulted)
}

pub(super) fn scope(raw: Option<&RawWords>, at: &At<'_>) -> Result<Option<Scope>, Faulted> {
    let Some(RawWords(text)) = raw else { return Ok(None) };
    match Scope::parse(text) {
        Some(scope) if !scope.as_str().is_empty() => Ok(Some(scope)),
        Some(_) => {
            at.fault("it is empty");
            Err(Faulted)
        }
        None => {
            at.fault("it holds a character that no scope has (RFC 6749 §3.3)");
            Err(Faulted)
        }
    }
}

/// What the bank's calls need of a consent. A rule that is at fault is left out.
pub(super) fn scope_rules(raw: &[RawScopeRule], at: &At<'_>) -> Vec<ScopeRule> {
    raw.iter().enumerate().filter_map(|(nth, raw)| scope_rule(raw, &at.index(nth))).collect()
}

fn scope_rule(raw: &RawScopeRule, at: &At<'_>) -> Option<ScopeRule> {
    let match_at = at.key("match");
    let matcher = match_at.need(raw.r#match.as_deref()).and_then(|text| match_at.take(RouteMatch::parse(text)));
    let one_of_at = at.key("needs_one_of");
    let scopes: Vec<Option<Scope>> = match (&raw.needs, raw.needs_one_of.as_deref()) {
        (Some(words), None) => vec![scope(Some(words), &at.key("needs")).ok()?],
        (None, Some(several)) if !several.is_empty() => {
            let one = |(nth, words)| scope(Some(words), &one_of_at.index(nth)).unwrap_or_default();
            several.iter().enumerate().map(one).collect()
        }
        (None, Some(_)) => {
            one_of_at.fault("it is empty");
            return None;
        }
        (Some(_), Some(_)) | (None, None) => {
            at.fault("it has either needs, all of whose words are needed, or needs_one_of");
            return None;
        }
    };
    let scopes: Option<Vec<Scope>> = scopes.into_iter().collect();
    Some(ScopeRule { matcher: matcher?, needs: Needs::one_of(scopes?) })
}

/// Whether nothing that fits `later` gets past `earlier`, as far as that shows at a glance.
fn takes_all_of(earlier: &RouteMatch, later: &RouteMatch) -> bool {
    let same_path = earlier.pattern() == later.pattern();
    let any_path = RouteMatch::parse("/**").is_ok_and(|any| any.pattern() == earlier.pattern());
    let methods = match (earlier.methods(), later.methods()) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(earlier), Some(later)) => later.iter().all(|method| earlier.contains(method)),
    };
    (same_path || any_path) && methods
}
