//! What is prepared once, so that a call has only to look it up.
//!
//! An [`Api`] of the settings becomes a [`ServedApi`]: header values made, matchers and counters at hand, the names of
//! client tokens computed, connections ready to be opened. Everything that can be wrong with it is said here.

use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use prometheus_client::metrics::counter::Counter;

use super::access_log::Answered;
use super::places::Places;
use super::settings::{Api, Limits, QuotaRule, Route, ScopeRule, TokenSource};
use super::upstream::Upstream;
use crate::consent::Quota;
use crate::http::forwarding::ForwardRules;
use crate::http::hop_by_hop::is_hop_by_hop;
use crate::http::prefix::{PathPrefix, Rest};
use crate::http::route::{Choice, RouteMatch, choose};
use crate::http::upstream_uri::UpstreamBase;
use crate::net::tls::TlsError;
use crate::token::ClientGrant;
use crate::words::bank::{BankBehaviour, Matcher};
use crate::words::ids::{ClientKey, ConsentId, ProviderId, TokenKey};
use crate::words::metrics::{ApiLabels, Metrics};
use crate::words::secrets::NotAHeaderValue;
use crate::words::token_set::{Needs, Scope};

/// An API, ready to be called.
#[derive(Debug)]
pub(super) struct ServedApi {
    pub(super) name: String,
    pub(super) prefix: PathPrefix,
    pub(super) base: UpstreamBase,
    pub(super) provider: ProviderId,
    pub(super) set_headers: Box<[(HeaderName, HeaderValue)]>,
    pub(super) request_id_headers: Box<[HeaderName]>,
    pub(super) psu_headers: Box<[HeaderName]>,
    pub(super) signs: Signs,
    pub(super) upstream: Upstream,
    pub(super) answered: Answered,
    pub(super) places: Places,
    /// Headers of its answers that repeated a token.
    pub(super) echoes: Counter,
    /// Its answers that lead elsewhere.
    pub(super) foreign_redirects: Counter,
    routes: Box<[ServedRoute]>,
    scope_rules: Box<[ScopeRule]>,
    quotas: Box<[QuotaRule]>,
}

/// A route, ready to be taken.
#[derive(Debug)]
pub(super) struct ServedRoute {
    matcher: RouteMatch,
    pub(super) source: Source,
    needs: Option<Needs>,
    quota: Option<Quota>,
    pub(super) consent: Option<ConsentId>,
    pub(super) rules: ForwardRules,
    /// Whether a call that the bank rejected for its token may be sent again.
    pub(super) replays: bool,
    /// Whether a call whose answer was lost may be sent again, if its method and body allow it.
    resends: bool,
}

/// Whose token a call carries.
#[derive(Debug)]
pub(super) enum Source {
    /// The one of the consent that the call names.
    Consent,
    /// Our own: its name, and what it is asked for.
    Client(TokenKey, Arc<ClientGrant>),
    /// None.
    None,
}

/// The signs by which a bank's answers are recognised.
#[derive(Debug)]
pub(super) struct Signs {
    pub(super) token_rejected: Box<[Matcher]>,
    pub(super) consent_dead: Box<[Matcher]>,
}

/// What is wrong with an API.
#[derive(Debug, thiserror::Error)]
pub enum ApiFault {
    /// It names a provider of which nothing is known.
    #[error("its provider {0} is not configured")]
    UnknownProvider(ProviderId),
    /// A route may resend a call that the bank lets be made only once.
    #[error("route {} is single-use, so that lost replies may not be resent", .0 + 1)]
    SingleUseResend(usize),
    /// A header that frames or routes the message, or that carries the token.
    #[error("the header {0} cannot be set")]
    Header(HeaderName),
    /// A header that says that the customer is there, which only the app can know.
    #[error("the header {0} says that the customer is there, and is the app's to send")]
    PsuHeader(HeaderName),
    /// A value that would split the header.
    #[error("the value of the header {0} is not usable: {1}")]
    HeaderValue(HeaderName, NotAHeaderValue),
    /// Its certificates do not make a TLS configuration.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl ServedApi {
    /// Prepares `api`, at a bank that behaves like this.
    pub(super) fn new(
        api: Api,
        behaviour: &BankBehaviour,
        consent_header: &HeaderName,
        limits: &Limits,
        metrics: &Metrics,
    ) -> Result<Self, ApiFault> {
        let carries_token = api.routes.iter().any(|route| route.source != TokenSource::None);
        let mut set_headers = Vec::with_capacity(api.set_headers.len());
        for (name, secret) in &api.set_headers {
            if !is_free(name) || (*name == header::AUTHORIZATION && carries_token) {
                return Err(ApiFault::Header(name.clone()));
            }
            if behaviour.psu_headers.contains(name) {
                return Err(ApiFault::PsuHeader(name.clone()));
            }
            let value = secret.to_header_value().map_err(|error| ApiFault::HeaderValue(name.clone(), error))?;
            set_headers.push((name.clone(), value));
        }
        if let Some(name) = behaviour.request_id_headers.iter().find(|name| behaviour.psu_headers.contains(name)) {
            return Err(ApiFault::PsuHeader(name.clone()));
        }
        let upstream = Upstream::new(&api, limits)?;
        let injected: Vec<_> = set_headers.iter().map(|(name, _)| name.clone()).collect();
        let rules = ForwardRules::new(consent_header.clone(), injected).forward_cookies(api.forward_cookies);
        let routes = api.routes.into_iter().enumerate().map(|(at, route)| {
            let rules = rules.clone().forward_consent_header(route.forward_consent_header);
            ServedRoute::new(route, &api.provider, rules).ok_or(ApiFault::SingleUseResend(at))
        });
        let label = ApiLabels { api: api.name.clone() };
        Ok(Self {
            routes: routes.collect::<Result<_, _>>()?,
            answered: Answered::new(metrics, &api.name),
            echoes: metrics.token_echoes.get_or_create(&label).clone(),
            foreign_redirects: metrics.foreign_redirects.get_or_create(&label).clone(),
            places: Places::new(limits.max_in_flight_per_api.unwrap_or(limits.max_in_flight)),
            name: api.name,
            prefix: api.prefix,
            base: api.upstream,
            provider: api.provider,
            set_headers: set_headers.into(),
            request_id_headers: behaviour.request_id_headers.clone().into(),
            psu_headers: behaviour.psu_headers.clone().into(),
            signs: Signs {
                token_rejected: behaviour.token_rejected.clone().into(),
                consent_dead: behaviour.consent_dead.clone().into(),
            },
            upstream,
            scope_rules: api.scope_rules.into(),
            quotas: api.quotas.into(),
        })
    }

    /// Finds the route that a call takes.
    pub(super) fn choose<'p>(&self, method: &Method, rest: Rest<'p>) -> Choice<'p> {
        choose(self.routes.iter().map(|route| &route.matcher), method, rest)
    }

    /// What a call by this route needs its consent to cover: what the route says, else what the bank says of such calls.
    pub(super) fn needs<'a>(&'a self, route: &'a ServedRoute, method: &Method, rest: Rest<'_>) -> Option<&'a Needs> {
        let is_it = |rule: &&ScopeRule| {
            rule.matcher.allows(method) && rule.matcher.pattern().fits_under(self.base.path(), rest)
        };
        match (&route.needs, &route.source) {
            (Some(needs), _) => Some(needs),
            (None, Source::Consent) => self.scope_rules.iter().find(is_it).map(|rule| &rule.needs),
            (None, Source::Client(..) | Source::None) => None,
        }
    }

    /// How often a consent may be used by this route without its customer: what the route says, else what the bank says of
    /// such calls.
    pub(super) fn quota<'a>(&'a self, route: &'a ServedRoute, method: &Method, rest: Rest<'_>) -> Option<&'a Quota> {
        let is_it = |rule: &&QuotaRule| {
            rule.matcher.allows(method) && rule.matcher.pattern().fits_under(self.base.path(), rest)
        };
        match (&route.quota, &route.source) {
            (Some(quota), Source::Consent) => Some(quota),
            (None, Source::Consent) => self.quotas.iter().find(is_it).map(|rule| &rule.quota),
            (Some(_) | None, Source::Client(..) | Source::None) => None,
        }
    }

    /// The route at a position that [`ServedApi::choose`] gave.
    pub(super) fn route(&self, at: usize) -> Option<&ServedRoute> {
        self.routes.get(at)
    }
}

impl ServedRoute {
    /// `None` where a single-use route is to be resent.
    fn new(route: Route, provider: &ProviderId, rules: ForwardRules) -> Option<Self> {
        if route.single_use && route.resend_on_lost_reply {
            return None;
        }
        let source = match route.source {
            TokenSource::Consent => Source::Consent,
            TokenSource::Client { audience, scope } => {
                let key = ClientKey::new(provider.clone(), audience.as_deref(), scope.as_ref().map(Scope::as_str));
                Source::Client(TokenKey::Client(key), Arc::new(ClientGrant { audience, scope }))
            }
            TokenSource::None => Source::None,
        };
        Some(Self {
            matcher: route.matcher,
            replays: route.replay_on_rejection && !matches!(source, Source::None),
            source,
            needs: route.needs.map(|scope| Needs::one_of([scope])),
            quota: route.quota,
            consent: route.consent,
            rules,
            resends: route.resend_on_lost_reply,
        })
    }

    /// Whether a call of this method, without a body, may be sent again when its answer was lost (RFC 9110 §9.2.2).
    pub(super) fn resends(&self, method: &Method) -> bool {
        self.resends && matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
    }
}

impl Signs {
    /// Whether an answer of this status could mean anything but itself.
    pub(super) fn concern(&self, status: StatusCode) -> bool {
        self.token_rejected.iter().chain(&self.consent_dead).any(|matcher| matcher.status == status)
    }
}

/// Whether a header of this name is the operator's to set, or the app's to use.
pub(super) fn is_free(name: &HeaderName) -> bool {
    let framing = [header::HOST, header::CONTENT_LENGTH, header::EXPECT, header::VIA];
    !is_hop_by_hop(name.as_str()) && !framing.contains(name)
}
