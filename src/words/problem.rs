//! Every answer that is ours and not the bank's: the problem types of RFC 9457, their status, and who should act.
//!
//! This is the one list. A fault anywhere in the program ends as one of these, and the `proxy` floor turns it into a
//! response in one place.

use http::StatusCode;

/// Where problem types live; the last segment is the [`ProblemType::slug`]. A name, not an address to fetch.
pub const BASE: &str = "https://consentry.example/problems/";

/// Who has to do something before the same request can succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhoActs {
    /// The app that called: its request is at fault, or it has to follow up with the customer.
    Caller,
    /// Nobody: a retry after a while is expected to succeed.
    Retry,
    /// The operator of this installation.
    Operator,
}

macro_rules! problems {
    ($($(#[$doc:meta])* $variant:ident = $slug:literal, $status:literal, $who:ident, $error:literal, $title:literal;)*) => {
        /// A kind of failure that an app can tell from every other. Variants are documented by their titles.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ProblemType { $($(#[$doc])* #[doc = $title] $variant,)* }

        impl ProblemType {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The last segment of the problem's `type`.
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$variant => $slug,)* }
            }

            /// The status code it is answered with.
            ///
            /// # Panics
            /// Never: the codes are literals above, and a test asks for each.
            pub fn status(self) -> StatusCode {
                let code: u16 = match self { $(Self::$variant => $status,)* };
                StatusCode::from_u16(code).expect("the table above holds status codes only")
            }

            /// Who has to act.
            pub const fn who_acts(self) -> WhoActs {
                match self { $(Self::$variant => WhoActs::$who,)* }
            }

            /// The `error` parameter of our `Proxy-Status` line (RFC 9209 §2.3).
            pub const fn proxy_status_error(self) -> &'static str {
                match self { $(Self::$variant => $error,)* }
            }

            /// A short sentence for people.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

problems! {
    ConsentIdMissing = "consent-id-missing", 400, Caller, "http_request_error", "The request names no consent";
    ConsentIdInvalid = "consent-id-invalid", 400, Caller, "http_request_error", "The consent id is malformed, doubled or contradictory";
    NoSuchApi = "no-such-api", 404, Caller, "destination_not_found", "No API is configured under this path";
    RouteNotAllowed = "route-not-allowed", 403, Caller, "http_request_denied", "No route of this API allows this path";
    MethodNotAllowed = "method-not-allowed", 405, Caller, "http_request_denied", "No route of this API allows this method here";
    ConsentUnknown = "consent-unknown", 404, Caller, "http_request_denied", "There is no such consent for this API";
    ConsentPending = "consent-pending", 403, Caller, "http_request_denied", "The customer has not finished consenting";
    ConsentDenied = "consent-denied", 403, Caller, "http_request_denied", "The customer refused the consent";
    ConsentRevoked = "consent-revoked", 403, Caller, "http_request_denied", "The consent was revoked";
    ConsentExpired = "consent-expired", 403, Caller, "http_request_denied", "The consent has expired";
    ConsentReauthorizationRequired = "consent-reauthorization-required", 403, Caller, "http_request_denied", "The customer has to consent again";
    ScopeInsufficient = "scope-insufficient", 403, Caller, "http_request_denied", "The consent lacks a scope that this route needs";
    TokenWaitTimeout = "token-wait-timeout", 503, Retry, "connection_timeout", "A refresh is running and took longer than this request could wait";
    TokenRefreshUncertain = "token-refresh-uncertain", 503, Operator, "proxy_internal_error", "The outcome of a refresh is unknown and no valid token is left";
    TokenEndpointUnavailable = "token-endpoint-unavailable", 503, Retry, "destination_unavailable", "The bank's token endpoint is not available";
    ProviderFrozen = "provider-frozen", 503, Operator, "http_request_denied", "Refreshing at this provider is frozen";
    ProviderMisconfigured = "provider-misconfigured", 502, Operator, "proxy_configuration_error", "The bank's token endpoint cannot be used with our settings";
    StoreUnavailable = "store-unavailable", 503, Retry, "proxy_internal_error", "The token store cannot be reached and no valid token is in memory";
    ConsentUnreadable = "consent-unreadable", 503, Operator, "proxy_internal_error", "The stored record cannot be opened; it was left untouched";
    QuotaExhausted = "quota-exhausted", 429, Caller, "http_request_denied", "The unattended-access quota of this consent is spent";
    UpstreamUnreachable = "upstream-unreachable", 502, Retry, "destination_unavailable", "The bank's API cannot be reached";
    UpstreamTimeout = "upstream-timeout", 504, Retry, "http_response_timeout", "The bank's API did not answer in time";
    UpstreamProtocol = "upstream-protocol", 502, Operator, "http_protocol_error", "The bank's API answered with something that is not HTTP";
    BadRequest = "bad-request", 400, Caller, "http_request_error", "The request is not acceptable HTTP";
    RequestTimeout = "request-timeout", 408, Caller, "connection_read_timeout", "The request did not arrive in time";
    RequestTooLarge = "request-too-large", 413, Caller, "http_request_error", "The request body is larger than allowed";
    TargetTooLong = "target-too-long", 414, Caller, "http_request_error", "The request target is longer than allowed";
    ExpectationFailed = "expectation-failed", 417, Caller, "http_request_error", "Only the expectation 100-continue is understood";
    HeadersTooLarge = "headers-too-large", 431, Caller, "http_request_error", "The request's headers are larger than allowed";
    NotSupported = "not-supported", 501, Caller, "http_request_error", "This feature of HTTP is not supported here";
    LoopDetected = "loop-detected", 508, Operator, "proxy_loop_detected", "The request came back to this proxy";
    Overloaded = "overloaded", 503, Retry, "proxy_internal_error", "More requests are under way than this proxy takes";
    Draining = "draining", 503, Retry, "proxy_internal_error", "This proxy is shutting down";
}

impl ProblemType {
    /// The whole `type`.
    pub fn uri(self) -> String {
        format!("{BASE}{}", self.slug())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_has_an_error_status_and_a_name_of_its_own() {
        let mut slugs = std::collections::BTreeSet::new();
        for problem in ProblemType::ALL {
            assert!(problem.status().is_client_error() || problem.status().is_server_error(), "{problem:?}");
            assert_ne!(problem.status(), StatusCode::UNAUTHORIZED, "an app would take it for the bank's");
            assert!(slugs.insert(problem.slug()));
            assert!(problem.uri().ends_with(problem.slug()));
        }
    }
}
