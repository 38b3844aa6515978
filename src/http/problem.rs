//! Our own answers: `application/problem+json` (RFC 9457) under a `Proxy-Status` line (RFC 9209).
//!
//! An app can always tell who spoke: answers of the bank never carry `error` in a `Proxy-Status`, and ours always do. The
//! detail goes to the app, so it never holds a token, a secret or a body.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Response};
use serde_json::{Map, Value};

use crate::words::problem::{ProblemType, WhoActs};

/// One answer of ours, to be completed and turned into a response.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Which of the problem types, and with it status, title and who has to act.
    pub kind: ProblemType,
    /// What happened this time, for a person.
    pub detail: String,
    /// After which time a retry makes sense; sent in whole seconds, rounded up.
    pub retry_after: Option<Duration>,
    /// The methods to name in `Allow` (RFC 9110 §15.5.6).
    pub allow: Option<Vec<Method>>,
    /// Further members, `start_url` for one. They cannot replace those below.
    pub extra: Map<String, Value>,
}

impl Problem {
    /// A problem with nothing but a detail.
    pub fn new(kind: ProblemType, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), retry_after: None, allow: None, extra: Map::new() }
    }

    /// Says after which time a retry makes sense.
    #[must_use]
    pub fn retry_after(self, after: Duration) -> Self {
        Self { retry_after: Some(after), ..self }
    }

    /// Says which methods are allowed.
    #[must_use]
    pub fn allow(self, methods: Vec<Method>) -> Self {
        Self { allow: Some(methods), ..self }
    }

    /// Adds a member of its own.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(member.to_owned(), value.into());
        self
    }

    /// The response. `request_id` is the id that was sent, or would have been, to the bank.
    pub fn into_response(self, request_id: Option<&str>) -> Response<Bytes> {
        let retry_after = self.retry_after.map(whole_seconds);
        let proxy_status = proxy_status(self.kind, &self.detail);
        let allow = self.allow.as_deref().map(allow_line);
        let kind = self.kind;
        let body = Bytes::from(self.into_json(retry_after, request_id).to_string());

        let mut response = Response::new(body);
        *response.status_mut() = kind.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
        headers.insert(header::CACHE_CONTROL, NO_STORE);
        headers.insert(PROXY_STATUS, proxy_status);
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = allow {
            headers.insert(header::ALLOW, allow);
        }
        response
    }

    fn into_json(self, retry_after: Option<u64>, request_id: Option<&str>) -> Value {
        let who = self.kind.who_acts();
        let may_retry = who == WhoActs::Retry || retry_after.is_some();
        let who_acts = match who {
            WhoActs::Caller => "caller",
            WhoActs::Retry => "nobody",
            WhoActs::Operator => "operator",
        };
        let mut members = self.extra;
        let mut set = |name: &str, value: Value| members.insert(name.to_owned(), value);
        set("type", self.kind.uri().into());
        set("title", self.kind.title().into());
        set("status", self.kind.status().as_u16().into());
        set("detail", self.detail.into());
        set("retry", if may_retry { "yes" } else { "no" }.into());
        set("who_acts", who_acts.into());
        if let Some(seconds) = retry_after {
            set("retry_after", seconds.into());
        }
        if let Some(id) = request_id {
            set("request_id", id.into());
        }
        Value::Object(members)
    }
}

/// `consentry; error=…; details="…"` (RFC 9209 §2).
pub fn proxy_status(kind: ProblemType, detail: &str) -> HeaderValue {
    let mut line = String::with_capacity(64 + detail.len().min(LONGEST_DETAILS));
    line.push_str("consentry; error=");
    line.push_str(kind.proxy_status_error());
    line.push_str("; details=\"");
    // A string of RFC 8941 §3.3.3 holds visible ASCII and spaces.
    for character in detail.chars().take(LONGEST_DETAILS) {
        match character {
            '"' | '\\' => line.extend(['\\', character]),
            ' '..='~' => line.push(character),
            _ => line.push('?'),
        }
    }
    line.push('"');
    HeaderValue::try_from(line).unwrap_or(BARE_PROXY_STATUS)
}

fn allow_line(methods: &[Method]) -> HeaderValue {
    let line = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    HeaderValue::try_from(line).unwrap_or(EMPTY)
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

const LONGEST_DETAILS: usize = 256;
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const BARE_PROXY_STATUS: HeaderValue = HeaderValue::from_static("consentry; error=proxy_internal_error");
const EMPTY: HeaderValue = HeaderValue::from_static("");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json(response: &Response<Bytes>) -> Value {
        serde_json::from_slice(response.body()).expect("JSON")
    }

    #[test]
    fn a_problem_carries_what_an_app_needs_in_body_and_headers() {
        let problem = Problem::new(ProblemType::TokenWaitTimeout, "the refresh took \"long\"")
            .retry_after(Duration::from_millis(1_001))
            .with("start_url", "https://x.example/start/1");
        let response = problem.into_response(Some("id-1"));
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.headers()["retry-after"], "2");
        assert_eq!(
            response.headers()["proxy-status"],
            r#"consentry; error=connection_timeout; details="the refresh took \"long\"""#
        );
        let wanted = serde_json::json!({
            "type": "https://consentry.example/problems/token-wait-timeout",
            "title": ProblemType::TokenWaitTimeout.title(),
            "status": 503,
            "detail": "the refresh took \"long\"",
            "retry": "yes",
            "retry_after": 2,
            "who_acts": "nobody",
            "request_id": "id-1",
            "start_url": "https://x.example/start/1",
        });
        assert_eq!(json(&response), wanted);
    }

    #[test]
    fn a_retry_is_promised_only_where_it_can_help() {
        let retry = |problem: Problem| json(&problem.into_response(None))["retry"].clone();
        assert_eq!(retry(Problem::new(ProblemType::ConsentRevoked, "")), "no");
        assert_eq!(retry(Problem::new(ProblemType::UpstreamTimeout, "")), "yes");
        let quota = Problem::new(ProblemType::QuotaExhausted, "");
        assert_eq!(retry(quota.retry_after(Duration::from_secs(60))), "yes");
    }

    #[test]
    fn a_refused_method_names_those_allowed() {
        let problem = Problem::new(ProblemType::MethodNotAllowed, "not here");
        let response = problem.allow(vec![Method::GET, Method::DELETE]).into_response(None);
        assert_eq!(response.headers()["allow"], "GET, DELETE");
    }

    #[test]
    fn further_members_cannot_replace_the_standard_ones() {
        let problem = Problem::new(ProblemType::BadRequest, "x");
        let response = problem.with("status", 200).with("type", "y").into_response(None);
        assert_eq!(json(&response)["status"], 400);
        assert_eq!(json(&response)["type"], ProblemType::BadRequest.uri());
    }

    #[test]
    fn every_problem_type_can_be_answered() {
        for kind in ProblemType::ALL {
            let response = Problem::new(*kind, kind.title()).into_response(None);
            assert_eq!(response.status(), kind.status());
            assert!(response.headers().contains_key("proxy-status"));
        }
    }

    proptest! {
        #[test]
        fn any_detail_makes_one_valid_quoted_string(detail in "\\PC{0,40}|[\"\\\\\\r\\n\\x00 é]{0,40}") {
            let line = proxy_status(ProblemType::BadRequest, &detail);
            let line = line.to_str().expect("visible ASCII");
            let quoted = line.strip_prefix("consentry; error=http_request_error; details=\"");
            let inner = quoted.and_then(|text| text.strip_suffix('"')).expect("a quoted string");
            let mut bytes = inner.bytes();
            while let Some(byte) = bytes.next() {
                prop_assert!(byte != b'"' && matches!(byte, b' '..=b'~'));
                if byte == b'\\' {
                    prop_assert!(matches!(bytes.next(), Some(b'"' | b'\\')));
                }
            }
        }
    }
}
