//! How our client proves itself at a token endpoint.

use super::{Sources, not_one_of, quantities};
use crate::config::fault::At;
use crate::config::raw::{RawClientAuth, RawProvider};
use crate::net::tls::Identity;
use crate::oauth::assertion::Asserting;
use crate::oauth::settings::ClientAuth;

const METHODS: &[&str] = &["tls_client_auth", "client_secret_basic", "client_secret_post", "private_key_jwt", "none"];

/// The method and its secret, and the certificate that is shown, where one is. `None` after a fault.
pub(super) fn client_auth(
    provider: &RawProvider,
    at: &At<'_>,
    sources: &Sources<'_>,
) -> Option<(ClientAuth, Option<Identity>)> {
    let auth_at = at.key("client_auth");
    let raw = auth_at.need(provider.client_auth.as_ref())?;
    let method = auth_at.key("method").need(raw.method.as_deref())?;
    let takes_secret = matches!(method, "client_secret_basic" | "client_secret_post");
    if raw.secret.is_some() && !takes_secret && METHODS.contains(&method) {
        auth_at.key("secret").fault(format_args!("the method {method} takes no secret"));
    }
    let signs = [
        ("signing_key", raw.signing_key.is_some()),
        ("signing_key_id", raw.signing_key_id.is_some()),
        ("assertion_audience", raw.assertion_audience.is_some()),
        ("assertion_life", raw.assertion_life.is_some()),
    ];
    for (key, _) in signs.into_iter().filter(|(_, given)| *given && method != "private_key_jwt") {
        auth_at.key(key).fault("it is for the method private_key_jwt alone");
    }
    let secret = || sources.client_secret(raw.secret.as_ref(), &auth_at.key("secret"));
    let auth = match method {
        "tls_client_auth" => Some(ClientAuth::TlsClientAuth),
        "client_secret_basic" => secret().map(ClientAuth::SecretBasic),
        "client_secret_post" => secret().map(ClientAuth::SecretPost),
        "private_key_jwt" => asserting(provider, raw, &auth_at, sources).map(ClientAuth::PrivateKeyJwt),
        "none" => Some(ClientAuth::None),
        other => {
            auth_at.key("method").fault(not_one_of(other, METHODS));
            None
        }
    };
    let needs_certificate = method == "tls_client_auth" || raw.certificate.is_some() || raw.key.is_some();
    let identity = if needs_certificate {
        Some(sources.identity(raw.certificate.as_ref(), raw.key.as_ref(), &auth_at)?)
    } else {
        None
    };
    Some((auth?, identity))
}

/// How assertions are signed, and whom they name.
fn asserting(provider: &RawProvider, raw: &RawClientAuth, at: &At<'_>, sources: &Sources<'_>) -> Option<Asserting> {
    let key = sources.signing_key(raw.signing_key.as_ref(), &at.key("signing_key"));
    let audience_at = at.key("assertion_audience");
    let audience = match raw.assertion_audience.as_deref() {
        // What is wrong with it is told at its own place.
        None | Some("token_endpoint") => provider.token_endpoint.clone(),
        Some("issuer") => {
            if provider.issuer.is_none() {
                audience_at.fault("it is to be the issuer, and the provider has none");
            }
            provider.issuer.clone()
        }
        Some("") => {
            audience_at.fault("it is empty");
            None
        }
        Some(literal) => Some(literal.to_owned()),
    };
    if raw.signing_key_id.as_deref() == Some("") {
        at.key("signing_key_id").fault("it is empty");
    }
    let life_at = at.key("assertion_life");
    let life = quantities::duration(raw.assertion_life.as_ref(), &life_at, Asserting::LIFE, "10s", "5m");
    Some(Asserting { key: key?, key_id: raw.signing_key_id.clone(), audience: audience?, life })
}
