//! What the app is answered: the bank's answer, cleaned, or a problem of ours.
//!
//! This is the one place where a failure becomes a response. A [`Refusal`] says what is wrong and, by its problem type,
//! who has to act; nothing in it repeats a token, a header or a path of the request.

use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Response, Version};

use super::access_log::{Call, Outcome, printable};
use super::body::{BodyFault, Patience, ResponseBody};
use super::forward;
use super::identify::Unidentified;
use super::plan::{ServedApi, ServedRoute};
use super::upstream::UpstreamFault;
use super::verdict::Answer;
use crate::http::forwarding::Echoes;
use crate::http::hop_by_hop::ConnectionError;
use crate::http::location::{self, LocationFate};
use crate::http::problem::Problem;
use crate::http::request_guard::Refused;
use crate::http::target::TargetError;
use crate::http::via::Loop;
use crate::token::TokenError;
use crate::words::ids::random;
use crate::words::problem::ProblemType;
use crate::words::token_set::{Needs, Scope};

/// Why a call does not get the bank's answer.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Its head is not acceptable.
    Guard(Refused),
    /// It was here before.
    Loop,
    /// Its target is not acceptable.
    Target(TargetError),
    /// Its target is too long under the upstream's base.
    TargetTooLong,
    /// Its `Connection` header cannot be honoured.
    Connection(ConnectionError),
    /// No API is served there.
    NoSuchApi,
    /// No route of this API takes this path.
    PathNotAllowed(String),
    /// No route of this API takes this method there; these would be taken.
    MethodNotAllowed(String, Vec<Method>),
    /// It is not known which consent it is for; an example of a call that would be.
    Unidentified(Unidentified, Example),
    /// The consent lacks what the call needs.
    ScopeInsufficient(Needs),
    /// There is no token.
    Token(TokenError),
    /// Its consent was used as often as it may be without its customer.
    QuotaExhausted {
        /// How often that is.
        calls: u32,
        /// When it may be again, from here.
        until: Duration,
        /// The headers of which one says that the customer is there.
        psu_headers: Vec<HeaderName>,
    },
    /// Its body is known to be larger than this many bytes.
    BodyTooLarge(u64),
    /// Its body failed before it was forwarded.
    Body(BodyFault),
    /// The bank gave no answer.
    Upstream(UpstreamFault),
    /// Too many calls are under way.
    Overloaded,
    /// Too many calls of this API are under way.
    ApiOverloaded(String),
}

/// How an app names a consent to an API.
#[derive(Debug)]
pub(super) struct Example {
    pub(super) header: HeaderName,
    pub(super) prefix: String,
}

impl Refusal {
    fn into_problem(self) -> Problem {
        match self {
            Self::Guard(refused) => {
                let problem = Problem::new(refused.problem(), refused.to_string());
                if refused == Refused::Method { problem.allow(Vec::new()) } else { problem }
            }
            Self::Loop => Problem::new(ProblemType::LoopDetected, Loop.to_string()),
            Self::Target(error) => Problem::new(error.problem(), error.to_string()),
            Self::TargetTooLong => Problem::new(ProblemType::TargetTooLong, "the target is too long for the upstream"),
            Self::Connection(error) => Problem::new(error.problem(), error.to_string()),
            Self::NoSuchApi => Problem::new(ProblemType::NoSuchApi, "no API is served under this path"),
            Self::PathNotAllowed(api) => {
                Problem::new(ProblemType::RouteNotAllowed, format!("no route of the API {api} takes this path"))
            }
            Self::MethodNotAllowed(api, methods) => {
                let detail = format!("no route of the API {api} takes this method on this path");
                Problem::new(ProblemType::MethodNotAllowed, detail).allow(methods)
            }
            Self::Unidentified(reason, Example { header, prefix }) => {
                let detail = format!("{reason}; name one consent in one header: {header}: <consent id>");
                let example = format!("curl -H '{header}: <consent id>' http://localhost:<port>{prefix}/…");
                Problem::new(reason.problem(), detail).with("example", example)
            }
            Self::ScopeInsufficient(needs) => {
                let detail = format!("this call needs a consent with the scope {needs}");
                let problem = Problem::new(ProblemType::ScopeInsufficient, detail);
                match needs.scopes() {
                    [one] => problem.with("needs", one.as_str()),
                    several => problem.with("needs_one_of", several.iter().map(Scope::as_str).collect::<Vec<_>>()),
                }
            }
            Self::Token(error) => {
                let problem = Problem::new(error.problem(), error.to_string());
                match error.retry_after() {
                    Some(after) => problem.retry_after(after),
                    None => problem,
                }
            }
            Self::QuotaExhausted { calls, until, psu_headers } => {
                let detail = format!(
                    "the bank lets this consent be used for such calls {calls} times in a day while the customer is away, \
                     and so it was"
                );
                let names: Vec<_> = psu_headers.iter().map(HeaderName::as_str).collect();
                Problem::new(ProblemType::QuotaExhausted, detail)
                    .retry_after(until)
                    .with("calls", calls)
                    .with("customer_is_told_of_by", names)
            }
            Self::BodyTooLarge(limit) => {
                Problem::new(ProblemType::RequestTooLarge, format!("the body is larger than {limit} bytes"))
            }
            Self::Body(fault) | Self::Upstream(UpstreamFault::Body(fault)) => {
                let kind = match fault {
                    BodyFault::TooLarge => ProblemType::RequestTooLarge,
                    BodyFault::Idle | BodyFault::Overdue => ProblemType::RequestTimeout,
                    BodyFault::Broken => ProblemType::BadRequest,
                };
                Problem::new(kind, fault.to_string())
            }
            Self::Upstream(fault) => {
                let (kind, processed) = match fault {
                    UpstreamFault::Unreachable(_) => (ProblemType::UpstreamUnreachable, "no"),
                    UpstreamFault::Lost => (ProblemType::UpstreamUnreachable, "unknown"),
                    UpstreamFault::Timeout => (ProblemType::UpstreamTimeout, "unknown"),
                    UpstreamFault::Protocol(_) => (ProblemType::UpstreamProtocol, "unknown"),
                    UpstreamFault::Body(_) => (ProblemType::BadRequest, "unknown"),
                };
                Problem::new(kind, fault.to_string()).with("processed", processed)
            }
            Self::Overloaded => {
                Problem::new(ProblemType::Overloaded, "more requests are under way than this proxy takes")
                    .retry_after(Duration::from_secs(1))
            }
            Self::ApiOverloaded(api) => {
                let detail = format!("more requests for the API {api} are under way than it may have here");
                Problem::new(ProblemType::Overloaded, detail).retry_after(Duration::from_secs(1))
            }
        }
    }

    /// Whether what follows on the connection may not be what it seems to be.
    const fn ends_connection(&self) -> bool {
        matches!(self, Self::Guard(_) | Self::Connection(_) | Self::Target(_))
    }
}

/// Answers with a problem.
pub(super) fn refuse(mut call: Call<'_>, refusal: Refusal, version: Version) -> Response<ResponseBody> {
    let ends_connection = refusal.ends_connection() && version < Version::HTTP_2;
    let problem = refusal.into_problem();
    let kind = problem.kind;
    if call.request_id.is_none() {
        call.request_id = forward::request_id(&[REQUEST_ID], &HeaderMap::new(), random());
    }
    let shown = call.request_id.as_ref().and_then(|(_, id)| printable(id));
    let mut response = problem.into_response(shown).map(ResponseBody::ours);
    if let Some((name, id)) = &call.request_id {
        response.headers_mut().insert(name, id.clone());
    }
    if kind == ProblemType::QuotaExhausted {
        response.headers_mut().insert(QUOTA_REMAINING, HeaderValue::from(0));
    }
    if ends_connection {
        response.headers_mut().insert(header::CONNECTION, CLOSE);
    }
    drop(call.answered(Outcome::Ours(kind)));
    response
}

/// Hands the bank's answer back. `remaining` is how many more calls a quota has room for, where this one was counted.
pub(super) fn pass_on(
    call: &mut Call<'_>,
    answer: Answer,
    (api, route): (&ServedApi, &ServedRoute),
    remaining: Option<u32>,
    patience: Patience,
) -> Response<ResponseBody> {
    let Answer { mut response, front, bearer } = answer;
    let token = bearer.as_ref().map(|bearer| bearer.as_bytes().strip_prefix(b"Bearer ").unwrap_or_default());
    let Echoes(echoes) = route.rules.clean_response(response.headers_mut(), token.as_slice());
    for name in echoes {
        api.echoes.inc();
        tracing::error!(api = api.name, header = %name, "The bank repeated the access token in a header; it was dropped.");
    }
    if location::rewrite(response.headers_mut(), &api.base, &api.prefix) == LocationFate::Foreign {
        api.foreign_redirects.inc();
    }
    response.headers_mut().insert(PROXY_STATUS, CONSENTRY);
    if let Some(remaining) = remaining {
        response.headers_mut().insert(QUOTA_REMAINING, remaining.into());
    }
    if let Some((name, id)) = call.request_id.as_ref().filter(|(name, _)| !response.headers().contains_key(name)) {
        response.headers_mut().insert(name, id.clone());
    }
    *response.version_mut() = Version::HTTP_11;
    response.extensions_mut().clear();
    let underway = call.answered(Outcome::Bank(response.status()));
    response.map(|rest| ResponseBody::bank(front, rest, patience, underway))
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
/// Without `error`: it passed here, and we have nothing to say about it (RFC 9209 §2).
const CONSENTRY: HeaderValue = HeaderValue::from_static("consentry");
/// A name of our own: nothing of a bank passes under it, so that an app knows who counted.
const QUOTA_REMAINING: HeaderName = HeaderName::from_static("consentry-quota-remaining");
const CLOSE: HeaderValue = HeaderValue::from_static("close");

macro_rules! refused_by {
    ($($error:ty => $variant:ident,)*) => {
        $(impl From<$error> for Refusal {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        })*
    };
}

refused_by! {
    Refused => Guard,
    TargetError => Target,
    ConnectionError => Connection,
    TokenError => Token,
    BodyFault => Body,
    UpstreamFault => Upstream,
}

impl From<Loop> for Refusal {
    fn from(_: Loop) -> Self {
        Self::Loop
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::upstream::NoConnection;

    fn kind(refusal: Refusal) -> ProblemType {
        refusal.into_problem().kind
    }

    #[test]
    fn a_body_s_fault_is_the_app_s_wherever_it_shows() {
        for (fault, wanted) in [
            (BodyFault::TooLarge, ProblemType::RequestTooLarge),
            (BodyFault::Idle, ProblemType::RequestTimeout),
            (BodyFault::Overdue, ProblemType::RequestTimeout),
            (BodyFault::Broken, ProblemType::BadRequest),
        ] {
            assert_eq!(kind(Refusal::Body(fault)), wanted);
            assert_eq!(kind(Refusal::Upstream(UpstreamFault::Body(fault))), wanted);
        }
    }

    #[test]
    fn an_app_is_told_whether_the_bank_may_have_processed_its_call() {
        let told = |fault| Refusal::Upstream(fault).into_problem().extra["processed"].clone();
        assert_eq!(told(UpstreamFault::Unreachable(NoConnection::Refused)), "no");
        assert_eq!(told(UpstreamFault::Lost), "unknown");
        assert_eq!(told(UpstreamFault::Timeout), "unknown");
    }

    #[test]
    fn every_reason_for_no_token_is_a_problem_that_says_when_to_retry() {
        let after = Duration::from_secs(7);
        let why = || "x".to_owned();
        for (error, wanted, retry_after) in [
            (TokenError::Unknown, ProblemType::ConsentUnknown, None),
            (TokenError::Pending, ProblemType::ConsentPending, None),
            (TokenError::Denied, ProblemType::ConsentDenied, None),
            (TokenError::Revoked, ProblemType::ConsentRevoked, None),
            (TokenError::Expired, ProblemType::ConsentExpired, None),
            (TokenError::ReauthorizationRequired, ProblemType::ConsentReauthorizationRequired, None),
            (TokenError::Uncertain { retry_after: after }, ProblemType::TokenRefreshUncertain, Some(after)),
            (
                TokenError::EndpointUnavailable { why: why(), retry_after: after },
                ProblemType::TokenEndpointUnavailable,
                Some(after),
            ),
            (TokenError::Misconfigured { why: why() }, ProblemType::ProviderMisconfigured, None),
            (TokenError::Unreadable { why: why() }, ProblemType::ConsentUnreadable, None),
        ] {
            let problem = Refusal::from(error).into_problem();
            assert_eq!((problem.kind, problem.retry_after), (wanted, retry_after));
        }
        for error in [TokenError::StoreUnavailable, TokenError::WaitTimeout, TokenError::Overloaded] {
            assert!(Refusal::from(error).into_problem().retry_after.is_some());
        }
    }

    #[test]
    fn a_missing_consent_is_answered_with_the_header_to_send() {
        let example = Example { header: HeaderName::from_static("consent-id"), prefix: "/accounts".to_owned() };
        let problem = Refusal::Unidentified(Unidentified::Missing, example).into_problem();
        assert!(problem.detail.contains("consent-id: <consent id>"), "{}", problem.detail);
        assert_eq!(problem.extra["example"], "curl -H 'consent-id: <consent id>' http://localhost:<port>/accounts/…");
    }

    #[test]
    fn no_answer_of_ours_is_a_bare_401() {
        assert_ne!(kind(Refusal::Overloaded).status(), 401);
    }
}
