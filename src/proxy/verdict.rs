//! What an answer of the bank says about the token and the consent, besides what it says to the app.
//!
//! Banks say "this token is not accepted" in the status, in a challenge or in the body, and some say with the same
//! status that the consent has ended. Reading a body for that is bounded in size and time, and what was read goes on to
//! the app.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::{self, HeaderMap, HeaderValue};
use hyper::body::Body as _;

use super::body::{Rest, peek};
use super::plan::Signs;
use crate::words::bank::Matcher;

/// The bank's answer on its way to the app.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its head, and what is still to come of its body.
    pub(super) response: Box<Response<Rest>>,
    /// What was read of its body.
    pub(super) front: Option<Bytes>,
    /// The credential that was sent to get it.
    pub(super) bearer: Option<HeaderValue>,
}

/// What an answer means for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Passes,
    /// The bank did not accept the access token, and so did not process the call.
    TokenRejected,
    /// The consent has ended.
    ConsentDead,
}

/// How much of a body is read to tell. Error bodies of banks are a few hundred bytes.
const LONGEST: usize = 16 * 1024;
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells what an answer means. That a consent has ended is looked for first: a refresh would not bring it back.
pub(super) async fn judge(signs: &Signs, answer: &mut Answer) -> Verdict {
    let status = answer.response.status();
    if !signs.concern(status) {
        return Verdict::Passes;
    }
    let all = signs.consent_dead.iter().chain(&signs.token_rejected);
    let undecided = |matcher: &Matcher| matcher.needs_body() && matcher.head_matches(status, answer.response.headers());
    let body = if all.into_iter().any(undecided) { read(answer).await } else { None };
    let holds = |matcher: &Matcher| {
        matcher.head_matches(status, answer.response.headers())
            && (!matcher.needs_body() || body.as_deref().is_some_and(|body| matcher.body_matches(body)))
    };
    if signs.consent_dead.iter().any(holds) {
        Verdict::ConsentDead
    } else if signs.token_rejected.iter().any(holds) {
        Verdict::TokenRejected
    } else {
        Verdict::Passes
    }
}

/// The whole body, if it is short and can be read as it is.
async fn read(answer: &mut Answer) -> Option<Bytes> {
    let Rest::Coming(body) = answer.response.body() else { return None };
    let too_long = body.size_hint().lower() > LONGEST as u64;
    if too_long || is_encoded(answer.response.headers()) {
        return None;
    }
    let (front, whole) = peek(answer.response.body_mut(), LONGEST, PATIENCE).await;
    answer.front.clone_from(&front);
    front.filter(|front| whole && front.len() <= LONGEST)
}

fn is_encoded(headers: &HeaderMap) -> bool {
    let plain = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"identity");
    !headers.get_all(header::CONTENT_ENCODING).iter().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::bank::BodyMatcher;
    use http::StatusCode;

    fn matcher(status: StatusCode, error: &str) -> Matcher {
        let body = BodyMatcher { pointer: "/error".to_owned(), any_of: vec![error.to_owned()] };
        Matcher { status, bearer_error: None, body: Some(body) }
    }

    async fn verdict(status: StatusCode) -> Verdict {
        let signs = Signs {
            token_rejected: [Matcher::status(StatusCode::UNAUTHORIZED), matcher(StatusCode::FORBIDDEN, "bad token")]
                .into(),
            consent_dead: [matcher(StatusCode::UNAUTHORIZED, "ended"), matcher(StatusCode::FORBIDDEN, "ended")].into(),
        };
        let mut response = Box::new(Response::new(Rest::Ended));
        *response.status_mut() = status;
        let mut answer = Answer { response, front: None, bearer: None };
        judge(&signs, &mut answer).await
    }

    #[tokio::test]
    async fn without_a_body_only_matchers_that_need_none_hold() {
        assert_eq!(verdict(StatusCode::UNAUTHORIZED).await, Verdict::TokenRejected);
        assert_eq!(verdict(StatusCode::FORBIDDEN).await, Verdict::Passes);
        assert_eq!(verdict(StatusCode::OK).await, Verdict::Passes);
    }

    #[test]
    fn a_body_in_any_coding_but_identity_is_not_read() {
        let mut headers = HeaderMap::new();
        assert!(!is_encoded(&headers));
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("Identity"));
        assert!(!is_encoded(&headers));
        headers.append(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(is_encoded(&headers));
    }
}
