//! How a bank behaves, as data.
//!
//! Everything in which banks differ and on which a decision of ours depends is a field here, filled in by a provider
//! profile or by the operator. The strictest reading is the default everywhere: a wrong guess in that direction costs a
//! pause, in the other a consent.

use std::time::Duration;

use http::StatusCode;
use serde_json::Value;

/// What a provider profile says about an authorization server and the APIs behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BankBehaviour {
    /// Whether a refresh replaces the refresh token.
    pub rotation: Rotation,
    /// How long after its first use the bank still accepts a spent refresh token. `None`: reuse kills the grant.
    pub reuse_grace: Option<Duration>,
    /// What a refresh does to the access token before it.
    pub old_access_token: OldAccessToken,
    /// Whether a 5xx of the token endpoint proves that nothing was processed. Real banks have shown that it does not.
    pub trust_5xx: bool,
    /// The life of an access token whose answer does not name one.
    pub default_expires_in: Duration,
    /// Whether a refresh repeats the consent's scope.
    pub send_scope_on_refresh: bool,
    /// Answers of the API that mean "this access token is not accepted".
    pub token_rejected: Vec<Matcher>,
    /// Answers of the API that mean "this consent has ended".
    pub consent_dead: Vec<Matcher>,
    /// Headers of which one is sent with every call; generated where the app sent none.
    pub request_id_headers: Vec<http::HeaderName>,
    /// Headers of which one says that the customer (PSU) is there. They are the app's to send, and never made here.
    pub psu_headers: Vec<http::HeaderName>,
    /// Whether it has a feed of events, which names consents as the bank does.
    pub tells_by_feed: bool,
}

/// Whether a refresh replaces the refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// The refresh token stays the same.
    Never,
    /// A refresh may give a new refresh token, and then the one used is dead.
    Rotates,
}

/// What a refresh does to the access token before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldAccessToken {
    /// It lives until its own expiry: it may be served while a refresh is under way.
    Valid,
    /// The bank kills it in the same step: it must not be served once a refresh was sent.
    Revoked,
}

impl Default for BankBehaviour {
    /// What is assumed of a bank of which nothing is known.
    fn default() -> Self {
        Self {
            rotation: Rotation::Rotates,
            reuse_grace: None,
            old_access_token: OldAccessToken::Valid,
            trust_5xx: false,
            default_expires_in: Duration::from_secs(60),
            send_scope_on_refresh: false,
            token_rejected: vec![Matcher::status(StatusCode::UNAUTHORIZED)],
            consent_dead: Vec::new(),
            request_id_headers: vec![http::HeaderName::from_static("x-request-id")],
            psu_headers: ["psu-ip-address", "x-fapi-customer-ip-address"].map(http::HeaderName::from_static).to_vec(),
            tells_by_feed: false,
        }
    }
}

/// Recognises an answer of a bank. All the conditions that are set must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    /// The status code.
    pub status: StatusCode,
    /// The `error` parameter of a `WWW-Authenticate: Bearer` challenge (RFC 6750 §3).
    pub bearer_error: Option<String>,
    /// Where in a JSON body to look, and for what.
    pub body: Option<BodyMatcher>,
}

/// A place in a JSON body and the values that match there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyMatcher {
    /// A JSON pointer (RFC 6901) in which `*` stands for every element of an array.
    pub pointer: String,
    /// Strings that match, compared without regard to ASCII case.
    pub any_of: Vec<String>,
}

impl Matcher {
    /// Matches any answer of this status.
    pub const fn status(status: StatusCode) -> Self {
        Self { status, bearer_error: None, body: None }
    }

    /// Whether the status and headers match, the body aside.
    pub fn head_matches(&self, status: StatusCode, headers: &http::HeaderMap) -> bool {
        status == self.status
            && self.bearer_error.as_deref().is_none_or(|wanted| {
                headers
                    .get_all(http::header::WWW_AUTHENTICATE)
                    .iter()
                    .filter_map(|value| value.to_str().ok())
                    .any(|challenge| bearer_error(challenge).is_some_and(|found| found.eq_ignore_ascii_case(wanted)))
            })
    }

    /// Whether the body has to be read to decide.
    pub const fn needs_body(&self) -> bool {
        self.body.is_some()
    }

    /// Whether the body matches, given that the head did. A body that is not JSON matches only where none is asked for.
    pub fn body_matches(&self, body: &[u8]) -> bool {
        let Some(wanted) = &self.body else { return true };
        let Ok(json) = serde_json::from_slice::<Value>(body) else { return false };
        let mut found = Vec::new();
        collect(&json, wanted.pointer.split('/').skip(1).collect::<Vec<_>>().as_slice(), &mut found);
        found.iter().any(|text| wanted.any_of.iter().any(|any| any.eq_ignore_ascii_case(text)))
    }
}

/// The `error` parameter of a Bearer challenge, in any order and case of the parameters.
fn bearer_error(challenge: &str) -> Option<&str> {
    let lower = challenge.to_ascii_lowercase();
    let at = lower.find("bearer")?;
    let mut rest = challenge.get(at + "bearer".len()..)?;
    loop {
        let key_at = rest.to_ascii_lowercase().find("error")?;
        let boundary = key_at == 0 || matches!(rest.as_bytes()[key_at - 1], b' ' | b',' | b'\t');
        rest = rest.get(key_at + "error".len()..)?;
        let value = rest.trim_start().strip_prefix('=').map(str::trim_start);
        if let (true, Some(value)) = (boundary, value) {
            return match value.strip_prefix('"') {
                Some(quoted) => quoted.split('"').next(),
                None => value.split([',', ' ']).next(),
            };
        }
    }
}

fn collect<'v>(value: &'v Value, path: &[&str], found: &mut Vec<&'v str>) {
    let Some((step, rest)) = path.split_first() else {
        found.extend(value.as_str());
        return;
    };
    match value {
        Value::Array(items) if *step == "*" => items.iter().for_each(|item| collect(item, rest, found)),
        Value::Array(items) => {
            if let Some(item) = step.parse::<usize>().ok().and_then(|index| items.get(index)) {
                collect(item, rest, found);
            }
        }
        Value::Object(members) => {
            if let Some(member) = members.get(&step.replace("~1", "/").replace("~0", "~")) {
                collect(member, rest, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};

    fn body(pointer: &str, any_of: &[&str]) -> Matcher {
        let any_of = any_of.iter().map(ToString::to_string).collect();
        let body = Some(BodyMatcher { pointer: pointer.to_owned(), any_of });
        Matcher { status: StatusCode::FORBIDDEN, bearer_error: None, body }
    }

    #[test]
    fn norsk_gjeld_says_rejected_in_the_body_of_a_403_in_either_case() {
        let rejected = body("/error", &["invalid access token"]);
        assert!(rejected.body_matches(br#"{"error":"Invalid access token","trace_id":"1"}"#));
        assert!(!rejected.body_matches(br#"{"error":"invalid consent"}"#));
        assert!(!rejected.body_matches(b"<html>invalid access token</html>"));
    }

    #[test]
    fn a_star_looks_at_every_element() {
        let rejected = body("/errors/*/code", &["ERR_2002_002"]);
        assert!(rejected.body_matches(br#"{"errors":[{"code":"X"},{"code":"ERR_2002_002"}]}"#));
        assert!(!rejected.body_matches(br#"{"errors":{"code":"ERR_2002_002"}}"#));
        assert!(!rejected.body_matches(br#"{"errors":[]}"#));
    }

    #[test]
    fn a_bearer_challenge_is_read_in_any_order() {
        let matcher =
            Matcher { bearer_error: Some("invalid_token".into()), ..Matcher::status(StatusCode::UNAUTHORIZED) };
        let read = |challenge| {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            matcher.head_matches(StatusCode::UNAUTHORIZED, &headers)
        };
        assert!(read(r#"Bearer realm="x", error="invalid_token", error_description="expired""#));
        assert!(read(r#"bearer error_description="it is", error = "invalid_token""#));
        assert!(read("Basic realm=\"a\", Bearer error=invalid_token"));
        assert!(!read(r#"Bearer realm="x", error="insufficient_scope""#));
        assert!(!read("Bearer"));
        assert!(!matcher.head_matches(StatusCode::UNAUTHORIZED, &HeaderMap::new()));
    }
}
