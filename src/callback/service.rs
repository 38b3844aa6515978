//! A browser's request, from its head to a redirect or a page.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;

use super::cookie;
use super::language::Language;
use super::page::{Page, redirect};
use super::settings::CallbackSettings;
use crate::consent::settings::AskSettings;
use crate::consent::{
    ATTEMPT_LIFE, Arrival, Departure, Held, Parameters, Return, Stay, Way, attempt_of, come_back, depart,
};
use crate::http::host::{HostNames, NotAHostName};
use crate::http::request_guard::{HeadLimits, RequestGuard};
use crate::http::target::CheckedPath;
use crate::net::serve::{Application, ServeSettings};
use crate::oauth::TokenEndpoint;
use crate::store::Attempts;
use crate::token::Tokens;
use crate::words::clock::Clock;
use crate::words::secrets::Ticket;

/// The service of the callback listener.
#[derive(Debug)]
pub struct Callback<S, E, C> {
    tokens: Tokens<S, E, C>,
    clock: C,
    guard: RequestGuard,
    asking: Arc<AskSettings>,
}

/// Bytes of a request's target: codes of some banks are long.
const LONGEST_TARGET: usize = 8 * 1024;
/// Characters of a ticket.
const LONGEST_TICKET: usize = 128;

impl<S: Attempts, E: TokenEndpoint, C: Clock> Callback<S, E, C> {
    /// Serves the customers of these consents under the name of the public address and those of `settings`, whose `bind` is
    /// not looked at.
    pub fn new(
        tokens: Tokens<S, E, C>,
        clock: C,
        settings: &CallbackSettings,
        asking: Arc<AskSettings>,
    ) -> Result<Self, NotAHostName> {
        let not_a_name = || NotAHostName(asking.public_url.clone());
        let public: Uri = asking.public_url.parse().map_err(|_| not_a_name())?;
        // Whatever terminates TLS before this listener may or may not name a port.
        let host = public.host().ok_or_else(not_a_name)?;
        let names = settings.hosts.iter().map(String::as_str).chain([host]);
        let guard = RequestGuard::new(HostNames::parse(names)?, HeadLimits::default());
        Ok(Self { tokens, clock, guard, asking })
    }

    /// The limits that its listener should have.
    pub fn serve_settings() -> ServeSettings {
        ServeSettings { max_connections: 256, idle_timeout: Duration::from_secs(30), ..ServeSettings::default() }
    }

    /// The service. It answers `GET /start/{ticket}` and `GET` of the callback's path.
    pub fn into_service(self) -> impl Application<Body = Full<Bytes>> {
        let callback = Arc::new(self);
        hyper::service::service_fn(move |request: Request<Incoming>| {
            let callback = Arc::clone(&callback);
            async move { Ok::<_, Infallible>(callback.answer(&request).await) }
        })
    }

    pub(super) async fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let headers = request.headers();
        let language = Language::of(headers);
        self.visit(request).await.unwrap_or_else(|page| page.into_response(language))
    }

    async fn visit<B>(&self, request: &Request<B>) -> Result<Response<Full<Bytes>>, Page> {
        self.guard.check_navigation(request).map_err(|refused| Page::Refused(refused.problem().status()))?;
        let path = CheckedPath::check(request.uri(), LONGEST_TARGET)
            .map_err(|error| Page::Refused(error.problem().status()))?;
        let mut segments = path.segments();
        let is_start = segments.next().is_some_and(|first| first.is("start"));
        let ticket = segments.next().filter(|_| is_start && segments.next().is_none());
        let is_return = path.path() == self.asking.path;
        if ticket.is_none() && !is_return {
            return Err(Page::NotFound);
        }
        if *request.method() != Method::GET {
            return Err(Page::Method);
        }
        match ticket {
            Some(ticket) => self.leave(&ticket.decoded(), request.headers()).await,
            None => self.arrive(path.query().unwrap_or_default(), request.headers()).await,
        }
    }

    /// `GET /start/{ticket}`
    async fn leave(&self, ticket: &str, headers: &HeaderMap) -> Result<Response<Full<Bytes>>, Page> {
        if ticket.is_empty() || ticket.len() > LONGEST_TICKET {
            return Err(Page::Unknown);
        }
        let ticket = Ticket::new(ticket);
        let secure = self.asking.is_secure();
        let presented = cookie::find(headers, &cookie::name(&attempt_of(&ticket), secure));
        let Departure { to, state, browser } =
            depart(&self.tokens, &self.asking, &ticket, presented).await.map_err(|stay| match stay {
                Stay::Unknown => Page::Unknown,
                Stay::Foreign => Page::Foreign,
                Stay::Used => Page::Used,
                Stay::StoreUnavailable => Page::Unavailable,
                Stay::Misconfigured => Page::Misconfigured,
            })?;
        let name = cookie::name(&state, secure);
        let line = cookie::set(&name, &browser, secure, ATTEMPT_LIFE).ok_or(Page::Misconfigured)?;
        // Whoever has to wait comes again with the same cookie: to any other the attempt is closed from now on.
        let mut response = match to {
            Ok(url) => redirect(&url).ok_or(Page::Misconfigured)?,
            Err(Held::BankUnavailable) => Page::Unavailable.into_response(Language::of(headers)),
            Err(Held::Refused) => Page::Misconfigured.into_response(Language::of(headers)),
        };
        response.headers_mut().insert(header::SET_COOKIE, line);
        Ok(response)
    }

    /// `GET /callback`
    async fn arrive(&self, query: &str, headers: &HeaderMap) -> Result<Response<Full<Bytes>>, Page> {
        let Parameters { state, issuer, answer } = Parameters::parse(query).ok_or(Page::Malformed)?;
        let browser = cookie::find(headers, &cookie::name(&state, self.asking.is_secure()));
        let returned = Return { state, way: Way::Callback, browser, issuer, answer };
        match come_back(&self.tokens, &self.asking, &self.clock, returned).await {
            Arrival::Over { consent, return_url, ending } => {
                // A list that was changed meanwhile counts.
                let known = return_url.filter(|url| self.asking.return_urls.contains(url)).and_then(|url| {
                    let joint = if url.contains('?') { '&' } else { '?' };
                    redirect(&format!("{url}{joint}consent_id={}&status={}", consent.as_str(), ending.as_str()))
                });
                known.ok_or(Page::of(ending))
            }
            Arrival::Busy => Err(Page::Working),
            Arrival::Foreign => Err(Page::Foreign),
            Arrival::Unknown => Err(Page::Unknown),
            Arrival::WrongIssuer => Err(Page::Malformed),
            Arrival::BankUnavailable | Arrival::StoreUnavailable => Err(Page::Unavailable),
        }
    }
}
