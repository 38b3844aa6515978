//! The request path: an app's call without a token goes in, a bank's answer comes out.
//!
//! [`Proxy::new`] checks and prepares the settings, [`Proxy::service`] is the stack that a listener runs. One function
//! tells the story of a call (`handler`): guard and target refuse what two servers could read differently, the prefix
//! finds the API and the pattern the route, `identify` finds the consent, [`Tokens`] has its
//! token, `forward` sends the call on and decides whether it is sent again, and `respond` is the one place where the
//! bank's answer or a problem of ours becomes a response. Beside them: `plan` is what is prepared once, `upstream` the
//! connections to one API, `verdict` reads from an answer what it says about token and consent, `body` carries both
//! bodies, `access_log` counts and logs each call once, and `places` is the room there is for
//! calls, in all and to one API. `quota` counts a call of a customer who is not there.

mod access_log;
mod body;
mod forward;
mod handler;
mod identify;
mod places;
mod plan;
mod quota;
mod respond;
pub mod settings;
#[cfg(test)]
mod tests;
mod upstream;
mod verdict;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderName, Request};
use hyper::body::Incoming;
use hyper::service::service_fn;

pub use body::{BodyFault, ResponseBody};
pub use plan::ApiFault;

use self::places::Places;
use self::plan::{ServedApi, is_free};
use self::settings::{Limits, ProxySettings};
use crate::consent::Counter;
use crate::http::host::{HostNames, NotAHostName};
use crate::http::prefix::{DuplicatePrefix, PrefixTable};
use crate::http::request_guard::{HeadLimits, RequestGuard};
use crate::http::via::{NotAPseudonym, Via};
use crate::net::serve::{Application, Bind, ServeSettings};
use crate::oauth::TokenEndpoint;
use crate::store::Quotas;
use crate::token::Tokens;
use crate::words::bank::BankBehaviour;
use crate::words::clock::Clock;
use crate::words::ids::ProviderId;
use crate::words::metrics::Metrics;

/// The request path, ready to be served. Cheap to clone; a change of settings reaches every clone.
pub struct Proxy<S, E, C> {
    current: Arc<ArcSwap<Inner<S, E, C>>>,
}

/// What a call is answered from, from its beginning to its end.
struct Inner<S, E, C> {
    guard: RequestGuard,
    via: Via,
    apis: PrefixTable<ServedApi>,
    http2: bool,
    consent_header: HeaderName,
    token_wait: Duration,
    limits: Limits,
    workers: usize,
    /// A call holds one until the head of its answer; bodies are bounded by the limit on connections. Without one it is
    /// turned away at once: in a queue it would wait behind banks that do not answer.
    places: Places,
    tokens: Tokens<S, E, C>,
    /// By what the answers of each provider are recognised.
    behaviours: Arc<BTreeMap<ProviderId, BankBehaviour>>,
    counter: Counter,
    metrics: Arc<Metrics>,
    clock: C,
}

/// Why a proxy cannot be made of its settings.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// An API is not usable.
    #[error("the API {api}: {fault}")]
    Api {
        /// Its name in the configuration.
        api: String,
        /// What is wrong with it.
        fault: ApiFault,
    },
    /// Two APIs are served under the same prefix.
    #[error(transparent)]
    Prefix(#[from] DuplicatePrefix),
    /// A name of the listener is no host name.
    #[error("a name of the proxy's listener: {0}")]
    Host(#[from] NotAHostName),
    /// The header that names the consent frames or routes messages, or belongs to one connection.
    #[error("the header {0} cannot name the consent")]
    ConsentHeader(HeaderName),
    /// Our name in `Via` is no token.
    #[error(transparent)]
    Via(#[from] NotAPseudonym),
}

impl<S: Quotas, E: TokenEndpoint, C: Clock> Proxy<S, E, C> {
    /// Prepares the request path. `behaviours` says of every provider by what its answers are recognised.
    pub fn new(
        settings: ProxySettings,
        tokens: Tokens<S, E, C>,
        behaviours: &BTreeMap<ProviderId, BankBehaviour>,
        metrics: Metrics,
        clock: C,
    ) -> Result<Self, ProxyError> {
        let inner = Inner::new(settings, tokens, Arc::new(behaviours.clone()), Arc::new(metrics), clock)?;
        Ok(Self { current: Arc::new(ArcSwap::from_pointee(inner)) })
    }

    /// Answers calls that begin from now on by other settings; those under way end as they began. Providers, and what the
    /// listener was told when it was opened ([`Proxy::serve_settings`], [`Proxy::workers`]), stay as they are. After an
    /// error everything does.
    pub fn replace(&self, settings: ProxySettings) -> Result<(), ProxyError> {
        let current = self.current.load_full();
        let (behaviours, metrics) = (Arc::clone(&current.behaviours), Arc::clone(&current.metrics));
        let inner = Inner::new(settings, current.tokens.clone(), behaviours, metrics, current.clock.clone())?;
        self.current.store(Arc::new(inner));
        Ok(())
    }

    /// Answers calls. It never fails: every failure is a response. A panic in it ends the task of its connection (over
    /// HTTP/2: of its stream) and nothing else.
    pub fn service(&self) -> impl Application<Body = ResponseBody> + use<S, E, C> {
        let current = Arc::clone(&self.current);
        service_fn(move |request: Request<Incoming>| {
            let (inner, (app, body)) = (current.load_full(), request.into_parts());
            // In a box, so that an idle connection does not carry the room for a call. The head stays where it is, and
            // what works on it borrows it: to hand it on would be to copy it each time.
            Box::pin(async move { Ok::<_, Infallible>(inner.handle(&app, body).await) })
        })
    }

    /// How many threads are to serve calls, at least one.
    pub fn workers(&self) -> usize {
        self.current.load().workers.max(1)
    }

    /// The limits of the listener. Its limits on heads are wider than ours, so that a head that is a little too large
    /// is answered with a problem; hyper's own answers are bare.
    pub fn serve_settings(&self) -> ServeSettings {
        let current = self.current.load();
        let limits = &current.limits;
        ServeSettings {
            max_connections: limits.max_connections,
            max_connections_per_caller: limits.max_connections_per_caller,
            header_read_timeout: limits.header_read_timeout,
            idle_timeout: limits.idle_timeout,
            write_stall_timeout: limits.body_idle_timeout,
            max_headers: limits.max_headers.max(MOST_HEADERS_IN_PLACE.min(limits.max_headers.saturating_mul(2))),
            max_head_bytes: limits.max_head_bytes.saturating_mul(2).saturating_add(limits.max_target_bytes),
            http2: current.http2,
            // Nothing depends on who calls: whoever reaches the listener may.
            tells_peer: false,
            max_streams: limits.max_streams,
            ..ServeSettings::default()
        }
    }
}

impl<S: Quotas, E: TokenEndpoint, C: Clock> Inner<S, E, C> {
    fn new(
        settings: ProxySettings,
        tokens: Tokens<S, E, C>,
        behaviours: Arc<BTreeMap<ProviderId, BankBehaviour>>,
        metrics: Arc<Metrics>,
        clock: C,
    ) -> Result<Self, ProxyError> {
        let ProxySettings { bind, hosts, http2, consent_header, apis, token_wait, workers, limits } = settings;
        if !is_free(&consent_header) || consent_header == http::header::AUTHORIZATION {
            return Err(ProxyError::ConsentHeader(consent_header));
        }
        let mut table = Vec::with_capacity(apis.len());
        let limits = Limits { max_in_flight_per_api: Some(limits.places_of_an_api(apis.len())), ..limits };
        for api in apis {
            let (name, prefix) = (api.name.clone(), api.prefix.clone());
            let served = match behaviours.get(&api.provider) {
                Some(behaviour) => ServedApi::new(api, behaviour, &consent_header, &limits, &metrics),
                None => Err(ApiFault::UnknownProvider(api.provider)),
            };
            table.push((prefix, served.map_err(|fault| ProxyError::Api { api: name, fault })?));
        }
        let head = HeadLimits { lines: limits.max_headers, bytes: limits.max_head_bytes };
        let guard = RequestGuard::new(names(&bind, &hosts)?, head);
        let apis = PrefixTable::new(table)?;
        let via = Via::new(PSEUDONYM)?;
        let places = Places::new(limits.max_in_flight);
        Ok(Self {
            guard,
            via,
            apis,
            http2,
            consent_header,
            token_wait,
            limits,
            workers,
            places,
            tokens,
            behaviours,
            counter: Counter::default(),
            metrics,
            clock,
        })
    }
}

impl<S, E, C> Clone for Proxy<S, E, C> {
    fn clone(&self) -> Self {
        Self { current: Arc::clone(&self.current) }
    }
}

impl<S, E, C> fmt::Debug for Proxy<S, E, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("limits", &self.current.load().limits).finish_non_exhaustive()
    }
}

/// The names that a request's `Host` may carry. Any port will do: it may have been mapped to another, and a web page
/// that was rebound to this machine is known by its name.
fn names(bind: &Bind, hosts: &[String]) -> Result<HostNames, NotAHostName> {
    let mut texts: Vec<String> = hosts.to_vec();
    match bind {
        Bind::Tcp(address) if !address.ip().is_unspecified() => texts.push(match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        }),
        Bind::Tcp(_) | Bind::Unix(_) => {}
    }
    Ok(HostNames::loopback(None).and(HostNames::parse(texts.iter().map(String::as_str))?))
}

/// Our name in `Via` and `Proxy-Status`.
const PSEUDONYM: &str = "consentry";
/// As many headers hyper parses without a heap allocation.
const MOST_HEADERS_IN_PLACE: usize = 100;
