//! What a bank says to an authorization request that is pushed to it (RFC 9126).
//!
//! Nothing is spent by pushing, so it may be done again: what matters is whether that could help.

use http::StatusCode;
use serde::Deserialize;

use super::response::{ErrorAnswer, read, said};
use crate::net::courier::Answer;
use crate::words::failure::FailureClass;
use crate::words::said::Said;
use crate::words::secrets::RequestUri;

/// What became of an authorization request that was pushed.
#[derive(Debug)]
pub enum Push {
    /// The bank has it, and knows it by this name for a while.
    Taken(RequestUri),
    /// It was not reached, or is busy, or nobody knows. Pushing once more may help.
    Away {
        /// The class.
        why: FailureClass,
    },
    /// It said no, or yes in a way that cannot be read. Our registration or the request is at fault.
    Refused {
        /// The class.
        why: FailureClass,
        /// What a person could ask the bank about.
        said: Said,
    },
}

/// Bytes of a name that is believed. It goes into an address that a browser is sent to.
const LONGEST_NAME: usize = 2 * 1024;

#[derive(Deserialize)]
struct Named {
    request_uri: String,
}

/// What an answer of the endpoint means (RFC 9126 §2.2, §2.3).
pub(super) fn read_push(answer: &Answer) -> Push {
    let said = said(answer.status, &answer.headers);
    if answer.status.is_success() {
        let named = read::<Named>(&answer.body).map(|named| named.request_uri).unwrap_or_default();
        return if (1..=LONGEST_NAME).contains(&named.len()) {
            Push::Taken(RequestUri::new(named))
        } else {
            Push::Refused { why: FailureClass::UnreadableAnswer, said }
        };
    }
    let error = read::<ErrorAnswer>(&answer.body).map(|answer| answer.error).unwrap_or_default();
    let refused = |why| Push::Refused { why, said: said.clone() };
    match (answer.status, error.as_str()) {
        (status, _) if status.is_server_error() => Push::Away { why: FailureClass::ServerError },
        (StatusCode::TOO_MANY_REQUESTS, _) => Push::Away { why: FailureClass::RateLimited },
        (status, _) if status.is_redirection() => refused(FailureClass::Redirect),
        (_, "server_error" | "temporarily_unavailable") => Push::Away { why: FailureClass::ServerError },
        (_, "invalid_client") => refused(FailureClass::InvalidClient),
        (_, "unauthorized_client") => refused(FailureClass::UnauthorizedClient),
        (_, "invalid_scope") => refused(FailureClass::InvalidScope),
        (_, "invalid_request") => refused(FailureClass::InvalidRequest),
        (_, _) => refused(FailureClass::UnexpectedAnswer),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn push(status: u16, body: &str) -> (&'static str, String) {
        let status = StatusCode::from_u16(status).expect("a status");
        match read_push(&Answer { status, headers: HeaderMap::new(), body: body.as_bytes().to_vec().into() }) {
            Push::Taken(name) => ("taken", name.expose().to_owned()),
            Push::Away { why } => ("away", why.as_str().to_owned()),
            Push::Refused { why, .. } => ("refused", why.as_str().to_owned()),
        }
    }

    #[test]
    fn every_answer_says_whether_pushing_again_may_help() {
        let taken = r#"{"request_uri": "urn:ietf:params:oauth:request_uri:6esc", "expires_in": 60}"#;
        let endless = format!(r#"{{"request_uri": "{}"}}"#, "x".repeat(LONGEST_NAME + 1));
        for (status, body, kind, word) in [
            (201, taken, "taken", "urn:ietf:params:oauth:request_uri:6esc"),
            (200, taken, "taken", "urn:ietf:params:oauth:request_uri:6esc"),
            (201, "{}", "refused", "unreadable_answer"),
            (201, r#"{"request_uri": ""}"#, "refused", "unreadable_answer"),
            (201, r#"{"request_uri": 7}"#, "refused", "unreadable_answer"),
            (201, endless.as_str(), "refused", "unreadable_answer"),
            (201, "<html>", "refused", "unreadable_answer"),
            (503, "", "away", "server_error"),
            (429, "", "away", "rate_limited"),
            (302, "", "refused", "redirect"),
            (400, r#"{"error": "temporarily_unavailable"}"#, "away", "server_error"),
            (401, r#"{"error": "invalid_client"}"#, "refused", "invalid_client"),
            (400, r#"{"error": "unauthorized_client"}"#, "refused", "unauthorized_client"),
            (400, r#"{"error": "invalid_scope"}"#, "refused", "invalid_scope"),
            (400, r#"{"error": "invalid_request"}"#, "refused", "invalid_request"),
            (400, r#"{"error": "invalid_redirect_uri"}"#, "refused", "unexpected_answer"),
            (404, "nothing here", "refused", "unexpected_answer"),
        ] {
            assert_eq!(push(status, body), (kind, word.to_owned()), "{status} {body}");
        }
    }
}
