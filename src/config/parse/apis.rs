//! APIs: a local prefix, a bank's base URL, and what is set on every call.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderName;

use super::providers::{Named, Providers};
use super::{Sources, headers, routes};
use crate::config::fault::At;
use crate::config::nearest::nearest;
use crate::config::raw::{RawApi, RawSource};
use crate::config::value;
use crate::http::prefix::PathPrefix;
use crate::http::upstream_uri::UpstreamBase;
use crate::net::tls::Identity;
use crate::proxy::settings::Api;
use crate::words::ids::ProviderId;
use crate::words::secrets::HeaderSecret;

/// All APIs; `None` after a fault in one.
pub(super) fn parse(
    raw: Option<&BTreeMap<String, RawApi>>,
    at: &At<'_>,
    providers: &Providers,
    consent_header: Option<&HeaderName>,
    sources: &Sources<'_>,
) -> Option<Vec<Api>> {
    let raw = at.need(raw.filter(|raw| !raw.is_empty()))?;
    let apis: Vec<Option<Api>> = raw
        .iter()
        .map(|(name, raw)| api(name, raw, &at.key(name), &Surroundings { providers, consent_header, sources }))
        .collect();
    // Of all APIs whose path can be read, whatever else is wrong with them.
    let mut served: Vec<(&str, PathPrefix)> = Vec::new();
    for (name, raw) in raw {
        let Some(Ok(prefix)) = raw.path.as_deref().map(PathPrefix::parse) else { continue };
        if let Some((other, _)) = served.iter().find(|(_, other)| *other == prefix) {
            at.key(name).key("path").fault(format_args!("the api {other} is already served there"));
        }
        served.push((name, prefix));
    }
    for provider in providers.names() {
        let used = raw.values().any(|api| api.provider.as_deref() == Some(provider.as_str()));
        if !used {
            at.warn(format_args!("no api uses the provider {provider}"));
        }
    }
    apis.into_iter().collect()
}

/// What an API is read against.
struct Surroundings<'s> {
    providers: &'s Providers,
    consent_header: Option<&'s HeaderName>,
    sources: &'s Sources<'s>,
}

fn api(name: &str, raw: &RawApi, at: &At<'_>, around: &Surroundings<'_>) -> Option<Api> {
    if ProviderId::parse(name).is_none() {
        at.fault("an api's name is 1 to 64 of a-z 0-9 - _, and begins with a letter");
    }
    let path_at = at.key("path");
    let prefix = path_at.need(raw.path.as_deref()).and_then(|path| path_at.take(PathPrefix::parse(path)));
    let provider = provider(raw.provider.as_deref(), &at.key("provider"), around.providers);
    let named = provider.as_ref().map(|(_, named)| *named);
    let upstream = upstream(raw.upstream.as_deref(), named, &at.key("upstream"));
    let set_headers = set_headers(raw.set_headers.as_ref(), named, &at.key("set_headers"), around);
    let roots = around.sources.roots(raw.ca_file.as_deref(), &at.key("ca_file"));
    let identity = match &raw.client_certificate {
        None => Some(None),
        Some(raw) => {
            let at = at.key("client_certificate");
            around.sources.identity(raw.certificate.as_ref(), raw.key.as_ref(), &at).map(Some)
        }
    };
    let is_public_client = named.is_some_and(|named| named.is_public_client);
    let routes = routes::parse(raw.routes.as_deref(), &at.key("routes"), is_public_client);
    let identity: Option<Identity> = identity?;
    let scope_rules = named.map(|named| named.scope_rules.clone()).unwrap_or_default();
    let quotas = named.map(|named| named.quotas.clone()).unwrap_or_default();
    Some(Api {
        name: name.to_owned(),
        prefix: prefix?,
        upstream: upstream?,
        provider: provider?.0,
        set_headers: set_headers?,
        forward_cookies: raw.forward_cookies.unwrap_or(false),
        roots: roots?,
        reachable: super::reachable(raw.refuse_private_addresses),
        identity: identity.map(Arc::new),
        routes: routes?,
        scope_rules,
        quotas,
    })
}

fn provider<'p>(name: Option<&str>, at: &At<'_>, providers: &'p Providers) -> Option<(ProviderId, &'p Named)> {
    let name = at.need(name)?;
    let found = providers.get(name);
    if found.is_none() {
        let names: Vec<&str> = providers.names().map(ProviderId::as_str).collect();
        match nearest(name, &names) {
            Some(near) => at.fault(format_args!("there is no provider {name:?}; did you mean {near}?")),
            None => at.fault(format_args!("there is no provider {name:?} under providers")),
        }
    }
    found
}

/// The api's own, else the profile's.
fn upstream(own: Option<&str>, provider: Option<&Named>, at: &At<'_>) -> Option<UpstreamBase> {
    let text = match (own, provider) {
        (Some(own), _) => own,
        (None, Some(named)) if named.has_unknown_profile => return None,
        (None, Some(named)) => at.need(named.upstream.as_deref())?,
        // Whether one is needed depends on the provider, which is at fault already.
        (None, None) => return None,
    };
    at.take(value::endpoint(text))?;
    at.take(UpstreamBase::parse(text))
}

fn set_headers(
    raw: Option<&BTreeMap<String, RawSource>>,
    provider: Option<&Named>,
    at: &At<'_>,
    around: &Surroundings<'_>,
) -> Option<Vec<(HeaderName, HeaderSecret)>> {
    let mut seen: Vec<HeaderName> = Vec::new();
    let set = raw.into_iter().flatten().map(|(name, source)| {
        let at = at.key(name);
        let header = headers::name(name, &at).filter(|header| {
            let taken = if seen.contains(header) {
                Some("this header is set already, in other letters")
            } else if around.consent_header == Some(header) {
                Some("this header names the consent")
            } else if provider.is_some_and(|provider| provider.request_id_headers.contains(header)) {
                Some("this header carries the request's id")
            } else if provider.is_some_and(|provider| provider.psu_headers.contains(header)) {
                Some("this header says that the customer is there, and only the app can know that")
            } else {
                None
            };
            taken.inspect(|taken| at.fault(taken)).is_none()
        });
        seen.extend(header.clone());
        let secret = around.sources.secret(Some(source), &at).map(HeaderSecret::new);
        let secret = secret.filter(|secret| at.take(secret.to_header_value()).is_some());
        Some((header?, secret?))
    });
    // Every one is looked at before the first that failed ends the whole.
    let set: Vec<Option<_>> = set.collect();
    set.into_iter().collect()
}
