//! Providers: a profile, overridden key by key, becomes a registration and what is known of the bank.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::desks::{self, Offered};
use super::{Sources, asking, auth, headers, not_one_of, quantities, quotas, reachable, routes};
use crate::config::fault::{At, Collector};
use crate::config::raw::{Over as _, RawMatcher, RawProfile, RawProvider};
use crate::config::{shape, tree, value};
use crate::consent::settings::Asking;
use crate::oauth::settings::{ClientAuth, Registration};
use crate::profiles;
use crate::proxy::settings::{QuotaRule, ScopeRule};
use crate::token::settings::ProviderSettings;
use crate::words::bank::{BankBehaviour, BodyMatcher, Matcher, OldAccessToken, Rotation};
use crate::words::ids::ProviderId;

/// What the other parts of the file may refer to.
#[derive(Default)]
pub(super) struct Providers {
    /// Each name in the file, with the upstream that its profile knows. Also those with faults of their own.
    named: BTreeMap<ProviderId, Named>,
    settings: BTreeMap<ProviderId, ProviderSettings>,
    registrations: BTreeMap<ProviderId, Registration>,
    asked: BTreeMap<ProviderId, Asking>,
}

/// What the rest of the program gets.
type Finished =
    (BTreeMap<ProviderId, ProviderSettings>, BTreeMap<ProviderId, Registration>, BTreeMap<ProviderId, Asking>);

/// What is known of a provider even if something in it is wrong.
pub(super) struct Named {
    /// Where its profile says the API is.
    pub(super) upstream: Option<String>,
    /// Whether its profile is a name that nothing is known of, so that what is missing may be in the one meant.
    pub(super) has_unknown_profile: bool,
    /// Whether it proves itself in no way.
    pub(super) is_public_client: bool,
    /// The headers its requests are known by.
    pub(super) request_id_headers: Vec<http::HeaderName>,
    /// What its calls need of a consent.
    pub(super) scope_rules: Vec<ScopeRule>,
    /// The headers by which an app says that the customer is there.
    pub(super) psu_headers: Vec<http::HeaderName>,
    /// How often a consent may be used there without its customer.
    pub(super) quotas: Vec<QuotaRule>,
    /// What it offers about consents.
    pub(super) desk: Offered,
}

impl Providers {
    /// The provider called `name`, if the file has it.
    pub(super) fn get(&self, name: &str) -> Option<(ProviderId, &Named)> {
        let (id, named) = self.named.get_key_value(&ProviderId::parse(name)?)?;
        Some((id.clone(), named))
    }

    /// Each name, and what is known of it.
    pub(super) fn all(&self) -> impl Iterator<Item = (&ProviderId, &Named)> {
        self.named.iter()
    }

    /// All the names.
    pub(super) fn names(&self) -> impl Iterator<Item = &ProviderId> {
        self.named.keys()
    }

    pub(super) fn finish(self) -> Finished {
        (self.settings, self.registrations, self.asked)
    }
}

pub(super) fn parse(raw: Option<&BTreeMap<String, RawProvider>>, at: &At<'_>, sources: &Sources<'_>) -> Providers {
    let mut providers = Providers::default();
    let Some(raw) = at.need(raw.filter(|raw| !raw.is_empty())) else { return providers };
    for (name, raw) in raw {
        let at = at.key(name);
        let Some(id) = ProviderId::parse(name) else {
            at.fault("a provider's name is 1 to 64 of a-z 0-9 - _, and begins with a letter");
            continue;
        };
        provider(id, raw, &at, sources, &mut providers);
    }
    providers
}

fn provider(id: ProviderId, own: &RawProvider, at: &At<'_>, sources: &Sources<'_>, providers: &mut Providers) {
    let profile = own.profile.as_deref().map(|name| profile(name, &at.key("profile")));
    let has_unknown_profile = matches!(profile, Some(None));
    let profile = profile.flatten().unwrap_or_default();
    let raw = overlay(own.clone(), profile.provider.unwrap_or_default());

    let endpoint_at = at.key("token_endpoint");
    if !has_unknown_profile {
        endpoint_at.need(raw.token_endpoint.as_deref());
    }
    let endpoint = raw.token_endpoint.as_deref().and_then(|text| endpoint_at.take(value::endpoint(text)));
    let client_id = client_id(raw.client_id.as_deref(), &at.key("client_id"));
    let client_auth = auth::client_auth(&raw, at, sources);
    let roots = sources.roots(raw.ca_file.as_deref(), &at.key("ca_file"));
    let connect_timeout = &at.key("connect_timeout");
    let connect_timeout = quantities::duration(
        raw.connect_timeout.as_ref(),
        connect_timeout,
        Registration::CONNECT_TIMEOUT,
        "100ms",
        "30s",
    );
    let max_in_flight = &at.key("max_in_flight");
    let max_in_flight = quantities::count(raw.max_in_flight, max_in_flight, ProviderSettings::MAX_IN_FLIGHT, 1, 1000);
    let max_per_second = &at.key("max_per_second");
    let max_per_second =
        quantities::count(raw.max_per_second, max_per_second, ProviderSettings::MAX_PER_SECOND, 1, 10_000);
    let behaviour = behaviour(&raw, at);
    let asking = asking::provider(&raw, client_id.as_deref(), at);

    let optional = |key: &str, text: Option<&str>| text.and_then(|text| at.key(key).take(value::endpoint(text)));
    let revocation_endpoint = optional("revocation_endpoint", raw.revocation_endpoint.as_deref());
    let pushed = raw.pushed_authorization_request_endpoint.as_deref();
    let pushed_authorization_request_endpoint = optional("pushed_authorization_request_endpoint", pushed);
    if pushed.is_some() && raw.authorization_endpoint.is_none() {
        let at = at.key("pushed_authorization_request_endpoint");
        at.warn("it has no effect without authorization_endpoint, where customers are sent");
    }
    let is_public_client = matches!(client_auth, Some((ClientAuth::None, _)));
    let request_id_headers =
        behaviour.as_ref().map(|behaviour| behaviour.request_id_headers.clone()).unwrap_or_default();
    let scope_rules = routes::scope_rules(raw.scope_rules.as_deref().unwrap_or_default(), &at.key("scope_rules"));
    let psu_headers = behaviour.as_ref().map(|behaviour| behaviour.psu_headers.clone()).unwrap_or_default();
    let quotas = quotas::rules(raw.quotas.as_deref().unwrap_or_default(), &at.key("quotas"));
    let desk = desks::offered(&raw, own, behaviour.as_ref(), at);
    let named = Named {
        upstream: profile.upstream,
        has_unknown_profile,
        is_public_client,
        request_id_headers,
        scope_rules,
        psu_headers,
        quotas,
        desk,
    };
    providers.named.insert(id.clone(), named);
    let (Some(token_endpoint), Some(client_id), Some((client_auth, identity)), Some(roots), Some(behaviour)) =
        (endpoint, client_id, client_auth, roots, behaviour)
    else {
        return;
    };
    let settings = ProviderSettings { behaviour, client_id: client_id.clone(), max_in_flight, max_per_second };
    providers.settings.insert(id.clone(), settings);
    providers.asked.extend(asking.map(|asking| (id.clone(), asking)));
    let registration = Registration {
        provider: id.clone(),
        token_endpoint,
        revocation_endpoint,
        pushed_authorization_request_endpoint,
        client_id,
        client_auth,
        identity: identity.map(Arc::new),
        roots,
        reachable: reachable(raw.refuse_private_addresses),
        connect_timeout,
    };
    providers.registrations.insert(id, registration);
}

/// A built-in profile. What is wrong in one is our fault, and a test's to find.
fn profile(name: &str, at: &At<'_>) -> Option<RawProfile> {
    let Some(yaml) = profiles::find(name) else {
        let names: Vec<&str> = profiles::ALL.iter().map(|(name, _)| *name).collect();
        at.fault(not_one_of(name, &names));
        return None;
    };
    let collector = Collector::default();
    let mut tree = at.take(tree::read(yaml, &collector))?;
    let profile = shape::shape(&mut tree, &collector);
    at.take(collector.finish(yaml))?;
    Some(profile)
}

/// The operator's keys over the profile's. Within `client_auth` and `feed`, too, since the method is the bank's and the secret ours.
fn overlay(own: RawProvider, profile: RawProvider) -> RawProvider {
    let client_auth = match (own.client_auth.clone(), profile.client_auth.clone()) {
        (Some(own), Some(profile)) => Some(own.over(profile)),
        (own, profile) => own.or(profile),
    };
    // How a feed is read is the bank's, and whether it is ours.
    let feed = match (own.feed.clone(), profile.feed.clone()) {
        (Some(own), Some(profile)) => Some(own.over(profile)),
        (own, profile) => own.or(profile),
    };
    RawProvider { client_auth, feed, ..own.over(profile) }
}

fn client_id(text: Option<&str>, at: &At<'_>) -> Option<String> {
    let text = at.need(text)?;
    // RFC 6749 appendix A.1: visible ASCII and the space.
    if text.is_empty() || text.len() > 512 || !text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        at.fault("it has to be 1 to 512 visible ASCII characters");
        return None;
    }
    Some(text.to_owned())
}

fn behaviour(raw: &RawProvider, at: &At<'_>) -> Option<BankBehaviour> {
    let own = BankBehaviour::default();
    let rotation = match raw.rotation.as_deref() {
        None => Some(own.rotation),
        Some("rotates") => Some(Rotation::Rotates),
        Some("never") => Some(Rotation::Never),
        Some(other) => {
            at.key("rotation").fault(not_one_of(other, &["rotates", "never"]));
            None
        }
    };
    let old_access_token = match raw.old_access_token.as_deref() {
        None => Some(own.old_access_token),
        Some("valid") => Some(OldAccessToken::Valid),
        Some("revoked") => Some(OldAccessToken::Revoked),
        Some(other) => {
            at.key("old_access_token").fault(not_one_of(other, &["valid", "revoked"]));
            None
        }
    };
    let grace_at = at.key("reuse_grace");
    let reuse_grace = raw
        .reuse_grace
        .as_ref()
        .map(|text| quantities::duration(Some(text), &grace_at, Duration::from_secs(1), "1s", "10m"));
    if reuse_grace.is_some() && rotation == Some(Rotation::Never) {
        grace_at.warn("it has no effect where refresh tokens never rotate");
    }
    let expires_at = at.key("default_expires_in");
    let default_expires_in =
        quantities::duration(raw.default_expires_in.as_ref(), &expires_at, own.default_expires_in, "1s", "180d");
    let token_rejected = match &raw.token_rejected {
        Some(raw) => matchers(raw, &at.key("token_rejected")),
        None => own.token_rejected,
    };
    let consent_dead = match &raw.consent_dead {
        Some(raw) => matchers(raw, &at.key("consent_dead")),
        None => own.consent_dead,
    };
    for (nth, matcher) in consent_dead.iter().enumerate() {
        let says_why = matcher.bearer_error.is_some() || matcher.body.is_some();
        if !says_why && matcher.status != StatusCode::GONE {
            at.key("consent_dead").index(nth).fault(
                "a status alone does not say that a consent has ended, and no consent may end for another reason: \
                 add json and any_of, or bearer_error",
            );
        }
    }
    let names = |key: &str, raw: Option<&Vec<String>>, own: Vec<http::HeaderName>| match raw {
        Some(names) => {
            let at = at.key(key);
            names.iter().enumerate().filter_map(|(nth, name)| headers::name(name, &at.index(nth))).collect()
        }
        None => own,
    };
    let psu_headers = names("psu_headers", raw.psu_headers.as_ref(), own.psu_headers);
    let request_id_headers = names("request_id_headers", raw.request_id_headers.as_ref(), own.request_id_headers);
    if let Some(name) = request_id_headers.iter().find(|name| psu_headers.contains(name)) {
        at.key("request_id_headers")
            .fault(format_args!("the header {name} says that the customer is there, and is never made here"));
    }
    Some(BankBehaviour {
        rotation: rotation?,
        reuse_grace,
        old_access_token: old_access_token?,
        trust_5xx: raw.trust_5xx.unwrap_or(own.trust_5xx),
        default_expires_in,
        send_scope_on_refresh: raw.send_scope_on_refresh.unwrap_or(own.send_scope_on_refresh),
        token_rejected,
        consent_dead,
        request_id_headers,
        psu_headers,
        tells_by_feed: raw.feed.is_some(),
    })
}

fn matchers(raw: &[RawMatcher], at: &At<'_>) -> Vec<Matcher> {
    raw.iter().enumerate().filter_map(|(nth, raw)| matcher(raw, &at.index(nth))).collect()
}

fn matcher(raw: &RawMatcher, at: &At<'_>) -> Option<Matcher> {
    let status_at = at.key("status");
    let status = status_at.need(raw.status).and_then(|code| {
        let status = u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.filter(|status| status.is_client_error() || status.is_server_error());
        if status.is_none() {
            status_at.fault("it has to be a status of failure, 400 to 599");
        }
        status
    });
    if raw.bearer_error.as_deref() == Some("") {
        at.key("bearer_error").fault("it is empty");
    }
    let body = match (&raw.json, &raw.any_of) {
        (None, None) => None,
        (Some(pointer), Some(any_of)) if !any_of.is_empty() => {
            if !pointer.starts_with('/') {
                at.key("json").fault("a JSON pointer begins with /, as in /errors/*/code");
            }
            Some(BodyMatcher { pointer: pointer.clone(), any_of: any_of.clone() })
        }
        (Some(_), _) => {
            at.key("any_of").fault("json needs any_of: the values that match there");
            None
        }
        (None, Some(_)) => {
            at.key("json").fault("any_of needs json: the place in the body where to look");
            None
        }
    };
    Some(Matcher { status: status?, bearer_error: raw.bearer_error.clone(), body })
}
