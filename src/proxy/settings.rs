//! What the request path has to be told.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use crate::consent::Quota;
use crate::http::prefix::PathPrefix;
use crate::http::route::RouteMatch;
use crate::http::upstream_uri::UpstreamBase;
use crate::net::names::Reachable;
use crate::net::serve::Bind;
use crate::net::tls::{Identity, Roots};
use crate::words::ids::{ConsentId, ProviderId};
use crate::words::secrets::HeaderSecret;
use crate::words::token_set::{Needs, Scope};

/// The listener that apps call, and what is served there.
#[derive(Debug)]
pub struct ProxySettings {
    /// Where it listens: this machine or a unix socket.
    pub bind: Bind,
    /// Names that a request's `Host` may carry besides those of this machine.
    pub hosts: Vec<String>,
    /// Whether apps may speak HTTP/2, in clear text with prior knowledge (RFC 9113 §3.3).
    pub http2: bool,
    /// The header that names the consent.
    pub consent_header: HeaderName,
    /// The APIs, no two under the same prefix.
    pub apis: Vec<Api>,
    /// How long a request waits for a token.
    pub token_wait: Duration,
    /// Threads that serve calls.
    pub workers: usize,
    /// Sizes and times.
    pub limits: Limits,
}

impl ProxySettings {
    /// How long a request waits for a token unless the operator says otherwise.
    pub const TOKEN_WAIT: Duration = Duration::from_secs(10);
}

/// What bounds a request, a connection and the listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// Connections of one caller; further ones are closed. `None` lets one have them all.
    pub max_connections_per_caller: Option<usize>,
    /// Requests at once; further ones are answered with `overloaded`.
    pub max_in_flight: usize,
    /// Requests at once for one API; further ones are answered with `overloaded`. `None` is three quarters of
    /// `max_in_flight` where several APIs are served, so that one bank that stands still leaves room for the others.
    pub max_in_flight_per_api: Option<usize>,
    /// Requests at once on one HTTP/2 connection.
    pub max_streams: u32,
    /// Bytes in a request's head.
    pub max_head_bytes: usize,
    /// Header fields in a request's head.
    pub max_headers: usize,
    /// Bytes in a request's target.
    pub max_target_bytes: usize,
    /// Bytes in a request's body; bodies are streamed, so `None` costs no memory.
    pub max_body_bytes: Option<u64>,
    /// Bytes of a request's body that are kept in case it has to be sent again with another token.
    pub replay_buffer_bytes: usize,
    /// How long a request's head may take from its first byte on.
    pub header_read_timeout: Duration,
    /// How long a connection of an app may say nothing between requests.
    pub idle_timeout: Duration,
    /// How long a body, either way, may stand still, whoever is the cause.
    pub body_idle_timeout: Duration,
    /// How long a request may take from its head to the end of its answer, however much its bodies move.
    pub request_timeout: Duration,
    /// How long name resolution, TCP and TLS to the upstream may take together.
    pub upstream_connect_timeout: Duration,
    /// How long the upstream may take from the request to the head of its answer.
    pub upstream_response_timeout: Duration,
    /// How long an unused connection to the upstream is kept. Shorter than the upstream's own time is better: a
    /// connection that it closes just as a request is sent is a lost reply.
    pub upstream_idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            max_connections_per_caller: None,
            max_in_flight: 1536,
            max_in_flight_per_api: None,
            max_streams: 64,
            max_head_bytes: 16 * 1024,
            max_headers: 64,
            max_target_bytes: 8 * 1024,
            max_body_bytes: None,
            replay_buffer_bytes: 64 * 1024,
            header_read_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(120),
            body_idle_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(60 * 60),
            upstream_connect_timeout: Duration::from_secs(5),
            upstream_response_timeout: Duration::from_secs(60),
            upstream_idle_timeout: Duration::from_secs(15),
        }
    }
}

impl Limits {
    /// Requests at once for each of so many APIs.
    pub(super) const fn places_of_an_api(&self, apis: usize) -> usize {
        match self.max_in_flight_per_api {
            Some(places) => places,
            None if apis > 1 => self.max_in_flight - self.max_in_flight / 4,
            None => self.max_in_flight,
        }
    }
}

/// A bank's API, served under a local path prefix.
#[derive(Debug)]
pub struct Api {
    /// Its name in the configuration.
    pub name: String,
    /// Where apps find it.
    pub prefix: PathPrefix,
    /// Where the bank has it.
    pub upstream: UpstreamBase,
    /// Whose tokens it takes.
    pub provider: ProviderId,
    /// Headers set on every call, such as `API-Key`, whatever the app sent under these names.
    pub set_headers: Vec<(HeaderName, HeaderSecret)>,
    /// Whether `Cookie` and `Set-Cookie` pass.
    pub forward_cookies: bool,
    /// Whom the upstream's certificate must descend from.
    pub roots: Roots,
    /// Which of the addresses that the upstream's name leads to may be called.
    pub reachable: Reachable,
    /// The client certificate shown to the upstream.
    pub identity: Option<Arc<Identity>>,
    /// What may be called, tried in order. Never empty.
    pub routes: Vec<Route>,
    /// What the bank's calls need of a consent, tried in order; for routes with a consent's token that say nothing themselves.
    pub scope_rules: Vec<ScopeRule>,
    /// How often the bank lets a consent be used without its customer, tried in order; for routes with a consent's token
    /// that say nothing themselves.
    pub quotas: Vec<QuotaRule>,
}

/// How often a consent may be used without its customer for one kind of call, as the bank says.
#[derive(Clone, Debug)]
pub struct QuotaRule {
    /// Which methods and paths, from the root of the bank's host on.
    pub matcher: RouteMatch,
    /// How often.
    pub quota: Quota,
}

/// What a consent has to cover for one kind of call, as the bank says.
#[derive(Clone, Debug)]
pub struct ScopeRule {
    /// Which methods and paths, from the root of the bank's host on.
    pub matcher: RouteMatch,
    /// What they need.
    pub needs: Needs,
}

/// One kind of call that an API allows.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the configuration and independent of the others")]
pub struct Route {
    /// Which methods and paths, behind the prefix.
    pub matcher: RouteMatch,
    /// Whose token is added.
    pub source: TokenSource,
    /// The scope a consent must have for it.
    pub needs: Option<Scope>,
    /// How often a consent may be used for it without its customer.
    pub quota: Option<Quota>,
    /// A consent used for every call, whatever the app names. For development.
    pub consent: Option<ConsentId>,
    /// Whether the bank lets a consent be used once here, so that a call may not be sent twice.
    pub single_use: bool,
    /// Whether a call that was rejected for its token is sent again with a new one.
    pub replay_on_rejection: bool,
    /// Whether an idempotent call without a body is sent again when its answer was lost. Never with `single_use`.
    pub resend_on_lost_reply: bool,
    /// Whether the bank gets the header that names the consent.
    pub forward_consent_header: bool,
}

/// Whose token a call carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// The one of the consent that the call names.
    Consent,
    /// Our own, by client credentials (RFC 6749 §4.4).
    Client {
        /// Which API it is for, where the authorization server has several.
        audience: Option<String>,
        /// What it is for.
        scope: Option<Scope>,
    },
    /// None.
    None,
}
