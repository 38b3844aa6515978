//! The admin listener: a request's way from its head to its handler.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::access::{Access, Writes};
use super::body::BodyLimits;
use super::consents;
use super::endings;
use super::events::{self, Listeners};
use super::infos;
use super::lists;
use super::logins;
use super::problem::{AdminProblem, Refusal};
use super::providers::{self, Change};
use super::settings::AdminSettings;
use super::starts;
use super::stream::AdminBody;
use crate::consent::settings::AskSettings;
use crate::consent::{Desks, Suspects};
use crate::http::host::{HostNames, NotAHostName};
use crate::http::request_guard::{HeadLimits, RequestGuard};
use crate::http::segment::Segment;
use crate::http::target::CheckedPath;
use crate::net::serve::{Application, Peer, ServeSettings};
use crate::net::shutdown::Shutdown;
use crate::oauth::TokenEndpoint;
use crate::store::{Feeds, Listing};
use crate::token::Tokens;
use crate::words::clock::Clock;
use crate::words::ids::{ConsentId, ProviderId};
use crate::words::problem::ProblemType;

/// The service of the admin listener.
#[derive(Debug)]
pub struct Admin<S, E, C> {
    tokens: Tokens<S, E, C>,
    clock: C,
    guard: RequestGuard,
    access: Access,
    /// How customers are asked, where consents can be started.
    asking: Option<Arc<AskSettings>>,
    /// Where banks are asked about consents.
    desks: Desks,
    listeners: Listeners,
    pub(super) limits: Limits,
}

/// What bounds one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) body: BodyLimits,
    /// From its head to its answer.
    pub(super) whole: Duration,
}

/// Bytes of a request's target.
const LONGEST_TARGET: usize = 2 * 1024;

/// The limits of the listeners for operators: callers are few, small and patient.
pub(super) fn serve_settings() -> ServeSettings {
    ServeSettings { max_connections: 64, idle_timeout: Duration::from_secs(75), ..ServeSettings::default() }
}

impl<S: Feeds + Listing, E: TokenEndpoint, C: Clock> Admin<S, E, C> {
    /// Serves these consents under the names of this machine and those of `settings`, whose `bind` is not looked at.
    pub fn new(
        tokens: Tokens<S, E, C>,
        clock: C,
        settings: AdminSettings,
        writes: Writes,
    ) -> Result<Self, NotAHostName> {
        let names = HostNames::parse(settings.hosts.iter().map(String::as_str))?;
        let guard = RequestGuard::new(HostNames::loopback(None).and(names), HeadLimits::default());
        let limits = Limits { body: BodyLimits::default(), whole: Duration::from_secs(30) };
        Ok(Self {
            tokens,
            clock,
            guard,
            access: Access::new(writes, settings.key),
            asking: None,
            desks: Desks::new(),
            listeners: Listeners::new(Shutdown::new()),
            limits,
        })
    }

    /// The same, where consents can be started, too.
    #[must_use]
    pub fn starting(self, asking: Option<Arc<AskSettings>>) -> Self {
        Self { asking, ..self }
    }

    /// The same, where banks can be asked about consents, too.
    #[must_use]
    pub fn with_desks(self, desks: Desks) -> Self {
        Self { desks, ..self }
    }

    /// The same; who listens to events is sent away when this shutdown begins.
    #[must_use]
    pub fn ending_with(self, stop: Shutdown) -> Self {
        Self { listeners: Listeners::new(stop), ..self }
    }

    /// The limits that its listener should have.
    pub fn serve_settings() -> ServeSettings {
        serve_settings()
    }

    /// The service. It answers `POST` and `GET /v1/consents`; `POST /v1/logins` and `…/return`; `GET` and `DELETE /v1/consents/{id}`, `GET …/history` and `…/info`,
    /// `PUT …/tokens` and `POST …/revive`; `GET /v1/events`; `GET /v1/providers` and `…/{name}`, `POST …/{name}/freeze` and `…/thaw`.
    pub fn into_service(self) -> impl Application<Body = AdminBody> {
        let admin = Arc::new(self);
        hyper::service::service_fn(move |request: Request<Incoming>| {
            let admin = Arc::clone(&admin);
            async move { Ok::<_, Infallible>(admin.answer(request).await) }
        })
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<AdminBody> {
        let answer = timeout(self.limits.whole, self.handle(request)).await.unwrap_or_else(|_| {
            let detail = "this took too long and was given up; whether it happened is not known";
            Err(Refusal::new(ProblemType::StoreUnavailable, detail).retry_after(Duration::from_secs(1)))
        });
        answer.unwrap_or_else(|refusal| refusal.into_response().map(AdminBody::Whole))
    }

    async fn handle(&self, request: Request<Incoming>) -> Result<Response<AdminBody>, Refusal> {
        self.guard.check(&request).map_err(|refused| match refused.problem() {
            ProblemType::MethodNotAllowed => {
                method_not_allowed(&[Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::DELETE])
            }
            other => Refusal::new(other, refused.to_string()),
        })?;
        let path = CheckedPath::check(request.uri(), LONGEST_TARGET)
            .map_err(|error| Refusal::new(error.problem(), error.to_string()))?;
        let whole = match Resource::find(&path)? {
            Resource::Events => {
                check_method(request.method(), &[Method::GET])?;
                // Whoever hears of all consents learns their ids.
                self.access.check_write(request.headers(), request.extensions().get::<Peer>())?;
                return events::listen(&self.tokens, &self.listeners, request.headers());
            }
            Resource::Consents if matches!(*request.method(), Method::GET | Method::HEAD) => {
                // One consent is shown to whoever knows its id; a list of ids is for those who may write.
                self.access.check_write(request.headers(), request.extensions().get::<Peer>())?;
                lists::list_consents(&self.tokens, &self.clock, path.query()).await
            }
            Resource::Consents => {
                check_method(request.method(), &[Method::GET, Method::HEAD, Method::POST])?;
                self.access.check_write(request.headers(), request.extensions().get::<Peer>())?;
                let asking = self.asking.as_deref();
                starts::start_consent(&self.tokens, asking, &self.clock, request, self.limits.body).await
            }
            Resource::Consent(consent) if *request.method() == Method::DELETE => {
                self.access.check_write(request.headers(), request.extensions().get::<Peer>())?;
                let asked = (request.headers(), path.query());
                endings::revoke_consent(&self.tokens, &self.desks, &consent, asked).await
            }
            Resource::Consent(consent) => {
                check_method(request.method(), &[Method::GET, Method::HEAD, Method::DELETE])?;
                consents::show_consent(&self.tokens, &self.clock, &consent).await
            }
            Resource::History(consent) => {
                check_method(request.method(), &[Method::GET, Method::HEAD])?;
                consents::show_history(&self.tokens, &self.clock, &consent).await
            }
            Resource::Info(consent) => {
                check_method(request.method(), &[Method::GET, Method::HEAD])?;
                // The bank is asked in the customer's name, and names the account.
                self.access.check_write(request.headers(), request.extensions().get::<Peer>())?;
                infos::show_info(&self.tokens, &self.desks, &self.clock, &consent).await
            }
            Resource::Revive(consent) => {
                check_method(request.method(), &[Method::POST])?;
                self.access.check_write(request.headers(), request.extensions().get::<Peer>())?;
                consents::revive_consent(&self.tokens, &self.clock, &consent, request, self.limits.body).await
            }
            Resource::Logins => {
                check_method(request.method(), &[Method::POST])?;
                self.access.check_write(request.headers(), request.extensions().get::<Peer>())?;
                let asking = self.asking.as_deref();
                logins::start_login(&self.tokens, asking, &self.clock, request, self.limits.body).await
            }
            Resource::LoginReturn => {
                check_method(request.method(), &[Method::POST])?;
                self.access.check_write(request.headers(), request.extensions().get::<Peer>())?;
                let asking = self.asking.as_deref();
                logins::return_login(&self.tokens, asking, &self.clock, request, self.limits.body).await
            }
            Resource::Providers => {
                check_method(request.method(), &[Method::GET, Method::HEAD])?;
                providers::show_providers(&self.tokens, &self.clock, self.suspects_for(&request)).await
            }
            Resource::Provider(provider) => {
                check_method(request.method(), &[Method::GET, Method::HEAD])?;
                providers::show_provider(&self.tokens, &self.clock, &provider, self.suspects_for(&request)).await
            }
            Resource::Change(provider, change) => {
                check_method(request.method(), &[Method::POST])?;
                self.access.check_write(request.headers(), request.extensions().get::<Peer>())?;
                let change = (&provider, change);
                providers::change_provider(&self.tokens, &self.clock, change, request, self.limits.body).await
            }
            Resource::Tokens(consent) => {
                check_method(request.method(), &[Method::PUT])?;
                self.access.check_write(request.headers(), request.extensions().get::<Peer>())?;
                consents::import_tokens(&self.tokens, &self.clock, &consent, request, self.limits.body).await
            }
        };
        whole.map(|response| response.map(AdminBody::Whole))
    }

    /// A consent is shown to whoever knows its id; a list of ids is for those who may write.
    fn suspects_for<B>(&self, request: &Request<B>) -> Suspects {
        match self.access.check_write(request.headers(), request.extensions().get::<Peer>()) {
            Ok(()) => Suspects::Named,
            Err(_) => Suspects::Counted,
        }
    }
}

/// What can be asked for.
enum Resource {
    /// `/v1/events`
    Events,
    /// `/v1/consents`
    Consents,
    /// `/v1/consents/{id}`
    Consent(ConsentId),
    /// `/v1/consents/{id}/tokens`
    Tokens(ConsentId),
    /// `/v1/consents/{id}/history`
    History(ConsentId),
    /// `/v1/consents/{id}/info`
    Info(ConsentId),
    /// `/v1/consents/{id}/revive`
    Revive(ConsentId),
    /// `/v1/logins`
    Logins,
    /// `/v1/logins/return`
    LoginReturn,
    /// `/v1/providers`
    Providers,
    /// `/v1/providers/{name}`
    Provider(ProviderId),
    /// `/v1/providers/{name}/freeze` and `/thaw`
    Change(ProviderId, Change),
}

impl Resource {
    fn find(path: &CheckedPath) -> Result<Self, Refusal> {
        let segments: Vec<_> = path.segments().take(5).collect();
        let nowhere = || Refusal::new(AdminProblem::NoSuchResource, "nothing is under this path");
        let provider = |name: &Segment<'_>| ProviderId::parse(&name.decoded());
        let [version, collection, rest @ ..] = segments.as_slice() else { return Err(nowhere()) };
        if version.is("v1") && collection.is("logins") {
            return match rest {
                [] => Ok(Self::Logins),
                [back] if back.is("return") => Ok(Self::LoginReturn),
                _ => Err(nowhere()),
            };
        }
        if version.is("v1") && collection.is("providers") {
            return match rest {
                [] => Some(Self::Providers),
                [name] => provider(name).map(Self::Provider),
                [name, freeze] if freeze.is("freeze") => provider(name).map(|name| Self::Change(name, Change::Freeze)),
                [name, thaw] if thaw.is("thaw") => provider(name).map(|name| Self::Change(name, Change::Thaw)),
                _ => None,
            }
            .ok_or_else(nowhere);
        }
        if version.is("v1") && collection.is("events") && rest.is_empty() {
            return Ok(Self::Events);
        }
        let [id, rest @ ..] = rest else {
            let all = version.is("v1") && collection.is("consents");
            return if all { Ok(Self::Consents) } else { Err(nowhere()) };
        };
        if !version.is("v1") || !collection.is("consents") || id.raw().is_empty() {
            return Err(nowhere());
        }
        let parse = || {
            ConsentId::parse(&id.decoded()).map_err(|error| {
                Refusal::new(ProblemType::ConsentIdInvalid, format!("the consent id is wrong: {error}"))
            })
        };
        match rest {
            [] => parse().map(Self::Consent),
            [tokens] if tokens.is("tokens") => parse().map(Self::Tokens),
            [history] if history.is("history") => parse().map(Self::History),
            [info] if info.is("info") => parse().map(Self::Info),
            [revive] if revive.is("revive") => parse().map(Self::Revive),
            _ => Err(nowhere()),
        }
    }
}

fn check_method(method: &Method, allowed: &[Method]) -> Result<(), Refusal> {
    if allowed.contains(method) { Ok(()) } else { Err(method_not_allowed(allowed)) }
}

fn method_not_allowed(allowed: &[Method]) -> Refusal {
    Refusal::new(ProblemType::MethodNotAllowed, "this cannot be done with this resource").allow(allowed.to_vec())
}
