//! What the listeners for operators answer when they do not do what was asked: `application/problem+json` (RFC 9457),
//! in the shape that apps know from the proxy.
//!
//! Where a problem type of the proxy fits it is used. [`AdminProblem`] has the others; they are apart because an app that
//! calls a bank never meets them, and a 401 among its problem types would look like the bank's.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Map, Value};

use crate::http::problem::Problem;
use crate::words::ids::Version;
use crate::words::problem::{BASE, ProblemType, WhoActs};

macro_rules! problems {
    ($($variant:ident = $slug:literal, $status:ident, $who:ident, $title:literal;)*) => {
        /// A kind of failure that only an operator meets. Variants are documented by their titles.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum AdminProblem { $(#[doc = $title] $variant,)* }

        impl AdminProblem {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The last segment of the problem's `type`.
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$variant => $slug,)* }
            }

            /// The status code it is answered with.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }

            /// Who has to act.
            pub const fn who_acts(self) -> WhoActs {
                match self { $(Self::$variant => WhoActs::$who,)* }
            }

            /// A short sentence for people.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

problems! {
    CredentialsNeeded = "admin-key-needed", UNAUTHORIZED, Caller, "This needs the admin key";
    WriteForbidden = "write-forbidden", FORBIDDEN, Operator, "This listener lets nobody write from here";
    NoSuchResource = "no-such-resource", NOT_FOUND, Caller, "There is no such resource";
    ConsentElsewhere = "consent-elsewhere", CONFLICT, Caller, "The consent is in use at another provider";
    RefreshTokenSpent = "refresh-token-spent", CONFLICT, Caller, "The refresh token was spent here already, or is being spent";
    NotSuspended = "consent-not-suspended", CONFLICT, Caller, "The consent is in no state to be revived";
    NothingToRevive = "nothing-to-revive", CONFLICT, Caller, "No refresh token is kept that could be tried again";
    RevocationImpossible = "revocation-impossible", CONFLICT, Operator, "The bank cannot be asked to revoke this consent; nothing was changed";
    InfoNotOffered = "info-not-offered", UNPROCESSABLE_ENTITY, Operator, "This bank cannot be asked about a consent with this configuration";
    InfoFailed = "info-failed", BAD_GATEWAY, Retry, "The bank tells nothing of the consent";
    RevocationFailed = "revocation-failed", BAD_GATEWAY, Retry, "The bank did not revoke the consent, or did not say so; here nothing was changed";
    PreconditionFailed = "precondition-failed", PRECONDITION_FAILED, Caller, "The consent is not what the request takes it to be";
    ProviderUnreadable = "provider-unreadable", INTERNAL_SERVER_ERROR, Operator, "What is stored of the provider cannot be understood";
    MediaTypeUnsupported = "media-type-unsupported", UNSUPPORTED_MEDIA_TYPE, Caller, "The body has to be application/json";
    ImportInvalid = "import-invalid", UNPROCESSABLE_ENTITY, Caller, "The body is not a token set to import";
    StartInvalid = "start-invalid", UNPROCESSABLE_ENTITY, Caller, "The body is not a request to start a consent";
    StartNotOffered = "start-not-offered", UNPROCESSABLE_ENTITY, Operator, "No consent can be started here with this configuration";
    LoginInvalid = "login-invalid", UNPROCESSABLE_ENTITY, Caller, "This address and key finish no login";
    LoginUnknown = "login-unknown", NOT_FOUND, Caller, "No login that waits is finished by this address and key";
    ProviderUnknown = "provider-unknown", UNPROCESSABLE_ENTITY, Caller, "The configuration has no such provider";
    PreconditionRequired = "precondition-required", PRECONDITION_REQUIRED, Caller, "The consent exists; the request has to name the version it replaces";
    SealFailed = "seal-failed", INTERNAL_SERVER_ERROR, Operator, "The tokens could not be sealed";
}

/// A problem on its way out.
#[derive(Debug)]
pub(super) struct Refusal(Box<Parts>);

#[derive(Debug)]
struct Parts {
    kind: Kind,
    detail: String,
    allow: Option<Vec<Method>>,
    retry_after: Option<Duration>,
    current: Option<Version>,
    extra: Map<String, Value>,
}

/// Which table a problem is from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Shared(ProblemType),
    Own(AdminProblem),
}

impl From<ProblemType> for Kind {
    fn from(kind: ProblemType) -> Self {
        Self::Shared(kind)
    }
}

impl From<AdminProblem> for Kind {
    fn from(kind: AdminProblem) -> Self {
        Self::Own(kind)
    }
}

impl Refusal {
    /// A problem with nothing but a detail, which goes to the caller: no secret, no body.
    pub(super) fn new(kind: impl Into<Kind>, detail: impl Into<String>) -> Self {
        let (kind, detail) = (kind.into(), detail.into());
        Self(Box::new(Parts { kind, detail, allow: None, retry_after: None, current: None, extra: Map::new() }))
    }

    /// Names the methods that are allowed (RFC 9110 §15.5.6).
    pub(super) fn allow(mut self, methods: Vec<Method>) -> Self {
        self.0.allow = Some(methods);
        self
    }

    /// Says after which time a retry makes sense.
    pub(super) fn retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// Names what the record holds: as `ETag`, and as the members `current` and `generation`.
    pub(super) fn current(self, version: Version) -> Self {
        let mut told = self.with("current", version.to_string()).with("generation", version.generation);
        told.0.current = Some(version);
        told
    }

    /// Adds a member.
    pub(super) fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.0.extra.insert(member.to_owned(), value.into());
        self
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let Parts { kind, detail, allow, retry_after, current, extra } = *self.0;
        let mut response = match kind {
            Kind::Shared(kind) => {
                let mut response = Problem { kind, detail, retry_after, allow, extra }.into_response(None);
                // Nothing is proxied here.
                response.headers_mut().remove("proxy-status");
                response.map(Full::new)
            }
            Kind::Own(kind) => own(kind, &detail, extra),
        };
        if let Some(version) = current {
            set_etag(response.headers_mut(), version);
        }
        response
    }
}

fn own(kind: AdminProblem, detail: &str, mut members: Map<String, Value>) -> Response<Full<Bytes>> {
    let who_acts = match kind.who_acts() {
        WhoActs::Caller => "caller",
        WhoActs::Retry => "nobody",
        WhoActs::Operator => "operator",
    };
    let mut set = |name: &str, value: Value| members.insert(name.to_owned(), value);
    set("type", format!("{BASE}{}", kind.slug()).into());
    set("title", kind.title().into());
    set("status", kind.status().as_u16().into());
    set("detail", detail.into());
    set("retry", "no".into());
    set("who_acts", who_acts.into());
    let mut response = Response::new(Full::from(Value::Object(members).to_string()));
    *response.status_mut() = kind.status();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if kind == AdminProblem::CredentialsNeeded {
        // RFC 9110 §11.6.1
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// `"{grant}.{generation}"` (RFC 9110 §8.8.3).
pub(super) fn set_etag(headers: &mut HeaderMap, version: Version) {
    if let Ok(tag) = HeaderValue::try_from(format!("\"{version}\"")) {
        headers.insert(header::ETAG, tag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_problems_of_either_table_share_a_name() {
        let own = AdminProblem::ALL.iter().map(|problem| problem.slug());
        let shared = ProblemType::ALL.iter().map(|problem| problem.slug());
        let all: Vec<_> = own.chain(shared).collect();
        let mut distinct = all.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(all.len(), distinct.len());
    }

    #[test]
    fn only_a_401_asks_for_credentials() {
        for problem in AdminProblem::ALL {
            let response = Refusal::new(*problem, "x").into_response();
            assert_eq!(response.status(), problem.status());
            let asks = response.headers().contains_key(header::WWW_AUTHENTICATE);
            assert_eq!(asks, response.status() == StatusCode::UNAUTHORIZED, "{problem:?}");
        }
    }
}
