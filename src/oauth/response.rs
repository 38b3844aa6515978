//! What a token endpoint's answer means, and above all: was the refresh token spent?
//!
//! Only a definite word of the bank counts as "not processed". An error page, a gateway's 5xx or a broken answer says
//! nothing about what the bank did, so it is unknown. Of a successful answer only a few members matter here, and they
//! are read leniently, because the answer cannot be had twice. JSON says by itself where it ends, so an object that is
//! whole counts even if the connection did not end as it should.

use std::fmt;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use zeroize::{Zeroize, Zeroizing};

use super::{Revocation, TokenOutcome};
use crate::http::retry_after::retry_after;
use crate::net::courier::Answer;
use crate::words::clock::WallTime;
use crate::words::failure::FailureClass;
use crate::words::said::{BankRequestId, Said};
use crate::words::secrets::{AccessToken, RefreshToken};
use crate::words::token_set::{Scope, TokenSet};

/// How the answers of one bank are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// The life of an access token whose answer names none.
    pub(super) default_expires_in: Duration,
    /// Whether a 5xx proves that nothing was processed.
    pub(super) trust_5xx: bool,
    /// For a `Retry-After` that is a date.
    pub(super) now: WallTime,
}

/// The longest life that is believed.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3_600);

/// A body, as far as it came.
#[derive(Debug, Default)]
pub(super) struct Body {
    /// What was read.
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// Why there may be more of it, a word.
    pub(super) cut: Option<&'static str>,
}

/// Classifies an answer.
pub(super) fn classify(status: StatusCode, headers: &HeaderMap, body: Body, reading: Reading) -> TokenOutcome {
    // A proxy on the way may have made another 2xx of it (RFC 9110 §15.3.4).
    if status == StatusCode::OK || status.is_success() && !body.bytes.is_empty() {
        return granted(body, reading.default_expires_in);
    }
    let error = read::<ErrorAnswer>(&body.bytes).map(|answer| answer.error).unwrap_or_default();
    let retry_after = retry_after(headers, reading.now, LONGEST);
    if status.is_server_error() {
        return if reading.trust_5xx {
            TokenOutcome::NotProcessed { why: "server_error", retry_after }
        } else {
            TokenOutcome::Unknown { why: "server_error" }
        };
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        // A gateway that throttles says when to come back or speaks OAuth; an error page says nothing.
        return if retry_after.is_some() || !error.is_empty() {
            TokenOutcome::NotProcessed { why: "rate_limited", retry_after }
        } else {
            TokenOutcome::Unknown { why: "rate_limited" }
        };
    }
    if status.is_redirection() {
        return TokenOutcome::Misconfigured { why: "redirect" };
    }
    if !status.is_client_error() {
        return TokenOutcome::Unknown { why: "unexpected_status" };
    }
    match error.as_str() {
        "invalid_grant" => TokenOutcome::InvalidGrant,
        "invalid_client" => TokenOutcome::Misconfigured { why: "invalid_client" },
        "unauthorized_client" => TokenOutcome::Misconfigured { why: "unauthorized_client" },
        "unsupported_grant_type" => TokenOutcome::Misconfigured { why: "unsupported_grant_type" },
        "invalid_scope" => TokenOutcome::Misconfigured { why: "invalid_scope" },
        // ORY Hydra answers a lost race so, and asks to be tried again.
        "invalid_request" => TokenOutcome::NotProcessed { why: "invalid_request", retry_after },
        "use_dpop_nonce" => TokenOutcome::NotProcessed { why: "use_dpop_nonce", retry_after },
        "server_error" | "temporarily_unavailable" => TokenOutcome::Unknown { why: "server_error" },
        _ => TokenOutcome::Unknown { why: body.cut.unwrap_or("unexpected_answer") },
    }
}

/// What the answer to a revocation means (RFC 7009 §2.2). A token that the server did not know is of no use either.
pub(super) fn read_revocation(answer: &Answer) -> Revocation {
    let said = said(answer.status, &answer.headers);
    let error = read::<ErrorAnswer>(&answer.body).map(|answer| answer.error).unwrap_or_default();
    let refused = |why| Revocation::Refused { why, said: said.clone() };
    match (answer.status, error.as_str()) {
        (status, _) if status.is_success() => Revocation::Revoked,
        // The token must be taken to live (RFC 7009 §2.2.1).
        (StatusCode::SERVICE_UNAVAILABLE, _) => refused(FailureClass::ServerError),
        (status, _) if status.is_server_error() => Revocation::Unknown { why: FailureClass::ServerError, said },
        (StatusCode::TOO_MANY_REQUESTS, _) => refused(FailureClass::RateLimited),
        (status, _) if status.is_redirection() => refused(FailureClass::Redirect),
        (_, "unsupported_token_type") => Revocation::Unsupported,
        (_, "invalid_client") => refused(FailureClass::InvalidClient),
        (_, "unauthorized_client") => refused(FailureClass::UnauthorizedClient),
        (_, "invalid_request") => refused(FailureClass::InvalidRequest),
        (_, _) => refused(FailureClass::UnexpectedAnswer),
    }
}

/// What a head tells that a person could ask the bank about.
pub fn said(status: StatusCode, headers: &HeaderMap) -> Said {
    let named = |name| headers.get(name).and_then(|value: &HeaderValue| BankRequestId::parse(value.as_bytes()));
    let request_id = REQUEST_IDS.into_iter().find_map(named);
    Said { status: Some(status.as_u16()), request_id, late: false }
}

/// Where banks say what they call a request, the usual names first.
const REQUEST_IDS: [&str; 5] = ["x-request-id", "x-fapi-interaction-id", "x-trace-id", "trace-id", "x-correlation-id"];

/// Whether a body is a JSON object from its first byte to its last. An object says by itself where it ends, so that
/// nothing that comes or fails to come after it changes what it says.
pub(super) fn is_whole_object(bytes: &[u8]) -> bool {
    let text = without_mark(bytes).trim_ascii();
    text.starts_with(b"{") && text.ends_with(b"}") && serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

/// The JSON value that a body begins with. A byte order mark before it and whatever follows it are passed over.
pub(super) fn read<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> serde_json::Result<T> {
    T::deserialize(&mut serde_json::Deserializer::from_slice(without_mark(bytes)))
}

/// A body without the byte order mark that some servers put before it (RFC 8259 §8.1).
fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes)
}

#[derive(Deserialize)]
pub(super) struct ErrorAnswer {
    #[serde(default)]
    pub(super) error: String,
}

/// The members that matter. Of a member that is there twice the last counts, as with most readers of JSON.
#[derive(Default)]
struct Granted {
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Value,
    scope: Value,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Member {
    AccessToken,
    RefreshToken,
    ExpiresIn,
    Scope,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Granted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Granted;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a token response")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Granted, A::Error> {
                let mut granted = Granted::default();
                while let Some(member) = members.next_key()? {
                    match member {
                        Member::AccessToken => replace(&mut granted.access_token, members.next_value()?),
                        Member::RefreshToken => replace(&mut granted.refresh_token, members.next_value()?),
                        Member::ExpiresIn => granted.expires_in = members.next_value()?,
                        Member::Scope => granted.scope = members.next_value()?,
                        Member::Other => drop(members.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(granted)
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// Nothing replaces something only where there is something.
fn replace(slot: &mut Option<String>, secret: Option<String>) {
    if secret.is_some()
        && let Some(mut before) = std::mem::replace(slot, secret)
    {
        before.zeroize();
    }
}

fn granted(body: Body, default_expires_in: Duration) -> TokenOutcome {
    let Body { bytes, cut } = body;
    let Ok(Granted { access_token: Some(mut access_token), refresh_token, expires_in, scope }) = read(&bytes) else {
        return TokenOutcome::Unreadable { why: cut.unwrap_or("unreadable_answer"), body: bytes };
    };
    if access_token.is_empty() {
        access_token.zeroize();
        return TokenOutcome::Unreadable { why: "empty_access_token", body: bytes };
    }
    TokenOutcome::Granted(TokenSet {
        access: AccessToken::new(access_token),
        expires_in: life(&expires_in).unwrap_or(default_expires_in),
        refresh: refresh_token.filter(|token| !token.is_empty()).map(RefreshToken::new),
        scope: scope.as_str().and_then(Scope::parse).filter(|scope| !scope.as_str().is_empty()),
    })
}

/// Seconds as a number or a string, as banks send both. `None` for what names no positive life: absent, zero, negative.
fn life(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::Number(number) => number.as_u64().or_else(|| number.as_f64().filter(|n| *n >= 1.0).map(truncated)),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    seconds.filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds).min(LONGEST))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 30 days and positive")]
fn truncated(seconds: f64) -> u64 {
    seconds.min(LONGEST.as_secs_f64()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::RETRY_AFTER;
    use proptest::prelude::*;

    const READING: Reading = Reading {
        default_expires_in: Duration::from_secs(60),
        trust_5xx: false,
        now: WallTime::from_millis(1_763_773_200_000),
    };

    fn whole(bytes: &[u8]) -> Body {
        Body { bytes: Zeroizing::new(bytes.to_vec()), cut: None }
    }

    fn answer(status: u16, body: &str) -> TokenOutcome {
        let status = StatusCode::from_u16(status).expect("a status");
        classify(status, &HeaderMap::new(), whole(body.as_bytes()), READING)
    }

    fn word(outcome: &TokenOutcome) -> (&'static str, &'static str) {
        match outcome {
            TokenOutcome::Granted(_) => ("granted", ""),
            TokenOutcome::NotSent(_) => ("not_sent", ""),
            TokenOutcome::NotProcessed { why, .. } => ("not_processed", why),
            TokenOutcome::InvalidGrant => ("invalid_grant", ""),
            TokenOutcome::Misconfigured { why } => ("misconfigured", why),
            TokenOutcome::Unknown { why } => ("unknown", why),
            TokenOutcome::Unreadable { why, .. } => ("unreadable", why),
        }
    }

    #[test]
    fn a_revocation_has_happened_only_where_the_server_says_so() {
        let cases = [
            (200, "", "revoked"),
            (204, "", "revoked"),
            (400, r#"{"error":"unsupported_token_type"}"#, "unsupported"),
            (503, "", "refused server_error"),
            (500, "", "unknown server_error"),
            (429, "", "refused rate_limited"),
            (302, "", "refused redirect"),
            (401, r#"{"error":"invalid_client"}"#, "refused invalid_client"),
            (404, "<html>", "refused unexpected_answer"),
        ];
        for (status, body, expected) in cases {
            let status = StatusCode::from_u16(status).expect("a status");
            let body = Zeroizing::new(body.as_bytes().to_vec());
            let found = match read_revocation(&Answer { status, headers: HeaderMap::new(), body }) {
                Revocation::Revoked => "revoked".to_owned(),
                Revocation::Unsupported => "unsupported".to_owned(),
                Revocation::Refused { why, said } => {
                    assert_eq!(said.status, Some(status.as_u16()));
                    format!("refused {}", why.as_str())
                }
                Revocation::Unknown { why, .. } => format!("unknown {}", why.as_str()),
            };
            assert_eq!(found, expected, "{status}");
        }
    }

    #[test]
    fn every_kind_of_answer_has_its_class() {
        let abn = r#"{"error_description":"unknown, invalid, or expired refresh token","error":"invalid_grant"}"#;
        let table = [
            (400, abn, ("invalid_grant", "")),
            (401, r#"{"error":"invalid_client"}"#, ("misconfigured", "invalid_client")),
            (400, r#"{"error":"unauthorized_client"}"#, ("misconfigured", "unauthorized_client")),
            (400, r#"{"error":"unsupported_grant_type"}"#, ("misconfigured", "unsupported_grant_type")),
            (400, r#"{"error":"invalid_scope"}"#, ("misconfigured", "invalid_scope")),
            (400, r#"{"error":"invalid_request"}"#, ("not_processed", "invalid_request")),
            (400, r#"{"error":"use_dpop_nonce"}"#, ("not_processed", "use_dpop_nonce")),
            (400, r#"{"error":"server_error"}"#, ("unknown", "server_error")),
            (400, "<html>bad request</html>", ("unknown", "unexpected_answer")),
            (403, r#"{"message":"blocked by the firewall"}"#, ("unknown", "unexpected_answer")),
            (429, r#"{"error":"slow_down"}"#, ("not_processed", "rate_limited")),
            (429, "<html>", ("unknown", "rate_limited")),
            (500, r#"{"error":"invalid_grant"}"#, ("unknown", "server_error")),
            (503, "", ("unknown", "server_error")),
            (302, "", ("misconfigured", "redirect")),
            (204, "", ("unknown", "unexpected_status")),
            (203, r#"{"access_token":"a"}"#, ("granted", "")),
            (201, "<html>made</html>", ("unreadable", "unreadable_answer")),
            (200, "<html>welcome</html>", ("unreadable", "unreadable_answer")),
            (200, r#"{"access_token":"a","refre"#, ("unreadable", "unreadable_answer")),
            (200, r#"{"access_token":7}"#, ("unreadable", "unreadable_answer")),
            (200, r#"{"access_token":""}"#, ("unreadable", "empty_access_token")),
            (200, r#"{"access_token":"a"}"#, ("granted", "")),
        ];
        for (status, body, class) in table {
            assert_eq!(word(&answer(status, body)), class, "{status} {body}");
        }
    }

    #[test]
    fn an_object_is_whole_at_its_closing_brace_and_not_before() {
        let answer = r#" {"access_token":"a}","x":{"y":[1]}} "#;
        let end = answer.trim_end().len();
        for at in 0..answer.len() {
            assert_eq!(is_whole_object(&answer.as_bytes()[..at]), at >= end, "{}", &answer[..at]);
        }
        for none in ["", "[]", "null", "{}{}", "<html>{}", "{\"a\":}"] {
            assert!(!is_whole_object(none.as_bytes()), "{none}");
        }
        assert!(is_whole_object("\u{feff}{}\n".as_bytes()));
    }

    #[test]
    fn a_bank_that_may_be_trusted_with_5xx_did_not_process_it() {
        let reading = Reading { trust_5xx: true, ..READING };
        let outcome = classify(StatusCode::BAD_GATEWAY, &HeaderMap::new(), Body::default(), reading);
        assert_eq!(word(&outcome), ("not_processed", "server_error"));
    }

    #[test]
    fn a_throttling_gateway_is_believed_when_it_says_when_to_come_back() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "17".parse().expect("a value"));
        let outcome = classify(StatusCode::TOO_MANY_REQUESTS, &headers, Body::default(), READING);
        let TokenOutcome::NotProcessed { retry_after, .. } = outcome else { panic!("not processed") };
        assert_eq!(retry_after, Some(Duration::from_secs(17)));
    }

    #[test]
    fn a_life_is_read_from_numbers_and_strings_and_never_lengthened() {
        let life = |expires_in: &str| {
            let body = format!(r#"{{"access_token":"a","expires_in":{expires_in}}}"#);
            let TokenOutcome::Granted(set) = answer(200, &body) else { panic!("granted: {body}") };
            set.expires_in.as_secs()
        };
        assert_eq!(life("7193"), 7_193);
        assert_eq!(life("\"3600\""), 3_600);
        assert_eq!(life("1"), 1);
        assert_eq!(life("59.9"), 59);
        for none in ["0", "-1", "null", "\"soon\"", "[]", "0.5"] {
            assert_eq!(life(none), 60, "{none} names no life");
        }
        for absurd in ["1e18", "99999999999999999999", "\"99999999999\""] {
            assert_eq!(life(absurd), 30 * 86_400, "{absurd}");
        }
    }

    #[test]
    fn an_answer_without_a_refresh_token_keeps_the_old_one() {
        let TokenOutcome::Granted(set) = answer(200, r#"{"access_token":"a","token_type":"bearer"}"#) else {
            panic!("granted")
        };
        assert!(set.refresh.is_none() && set.scope.is_none());
        let body = r#"{"access_token":"a","refresh_token":"r","scope":"x  y","id_token":"broken","expires_in":5}"#;
        let TokenOutcome::Granted(set) = answer(200, body) else { panic!("granted") };
        assert_eq!(set.refresh.expect("given").expose(), "r");
        assert_eq!(set.scope.expect("given").as_str(), "x y");
    }

    #[test]
    fn what_a_bank_calls_a_request_is_found_under_any_of_its_names() {
        let head = |lines: &[(&'static str, &str)]| {
            let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).expect("a value");
            let headers = lines.iter().map(|(name, text)| (http::HeaderName::from_static(name), value(text))).collect();
            said(StatusCode::BAD_GATEWAY, &headers).request_id.map(|id| id.as_str().to_owned())
        };
        assert_eq!(head(&[]), None);
        for name in REQUEST_IDS {
            assert_eq!(head(&[(name, "abc-1")]).as_deref(), Some("abc-1"));
        }
        assert_eq!(head(&[("trace-id", "b"), ("x-request-id", "a")]).as_deref(), Some("a"));
        assert_eq!(head(&[("trace-id", "b"), ("x-request-id", &"long".repeat(40))]).as_deref(), Some("b"));
        assert_eq!(said(StatusCode::BAD_GATEWAY, &HeaderMap::new()).status, Some(502));
    }

    #[test]
    fn odd_but_whole_json_does_not_cost_the_tokens_in_it() {
        let odd = [
            r#"{"scope":"x","access_token":"a","refresh_token":"r","scope":"x","expires_in":5,"expires_in":5}"#,
            r#"{"access_token":"a","refresh_token":"old","refresh_token":"r"}"#,
            r#"{"access_token":"a","refresh_token":"r","refresh_token":null}"#,
            "\u{feff}{\"access_token\":\"a\",\"refresh_token\":\"r\"}",
            "{\"access_token\":\"a\",\"refresh_token\":\"r\"}\0\r\n--",
            r#"{"access_token":"a","refresh_token":"r","scope":["x"],"expires_in":{},"x":[[{}]]}"#,
        ];
        for body in odd {
            let TokenOutcome::Granted(set) = answer(200, body) else { panic!("granted: {body}") };
            assert_eq!(set.refresh.expect("given").expose(), "r", "{body}");
        }
        for null in [r#"{"access_token":"a","refresh_token":null}"#, r#"{"access_token":"a","refresh_token":""}"#] {
            let TokenOutcome::Granted(set) = answer(200, null) else { panic!("granted: {null}") };
            assert!(set.refresh.is_none(), "{null}");
        }
        for unreadable in [r#"{"access_token":"a","refresh_token":7}"#, "{}", "[]", r#"["a","r",5,"x"]"#] {
            assert_eq!(word(&answer(200, unreadable)).0, "unreadable", "{unreadable}");
        }
    }

    #[test]
    fn of_an_answer_that_was_cut_off_only_a_whole_object_counts() {
        let cut = |status, bytes: &str| {
            let body = Body { cut: Some("truncated_answer"), ..whole(bytes.as_bytes()) };
            classify(StatusCode::from_u16(status).expect("a status"), &HeaderMap::new(), body, READING)
        };
        assert_eq!(word(&cut(200, r#"{"access_token":"a"}"#)), ("granted", ""));
        assert_eq!(word(&cut(200, r#"{"access_token":"a","#)), ("unreadable", "truncated_answer"));
        assert_eq!(word(&cut(400, r#"{"error":"invalid_grant"}"#)), ("invalid_grant", ""));
        assert_eq!(word(&cut(400, r#"{"error":"invalid_gra"#)), ("unknown", "truncated_answer"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_a_yes_is_never_unspent(status in 200_u16..600, body: Vec<u8>) {
            let status = StatusCode::from_u16(status).expect("a status");
            let readable = status == StatusCode::OK || status.is_success() && !body.is_empty();
            let outcome = classify(status, &HeaderMap::new(), whole(&body), READING);
            if readable {
                prop_assert!(matches!(word(&outcome).0, "granted" | "unreadable"));
            } else {
                prop_assert!(!matches!(word(&outcome).0, "granted" | "unreadable"));
            }
        }
    }
}
