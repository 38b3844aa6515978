//! The health listener: probes and metrics.
//!
//! It answers as long as the runtime turns, and says of the rest only what an orchestrator can do something about. A
//! store or a bank that is away shows in `/readyz?verbose` and in the metrics, not in a status: taking the app out of
//! service would mend neither. A process that is ending is not ready, and answers here until the last of it is through.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::problem::{AdminProblem, Refusal};
use super::readiness::Readiness;
use super::service;
use crate::net::serve::{Application, ServeSettings};
use crate::words::ids::ProviderId;
use crate::words::problem::ProblemType;

/// The service of the health listener. `vitals` is asked for each verbose answer.
#[derive(Debug)]
pub struct Health<F> {
    readiness: Readiness,
    registry: Arc<Registry>,
    vitals: F,
}

/// How the process is doing at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vitals {
    /// Whether changes arrive from the store.
    pub store_linked: bool,
    /// Tokens that are being fetched or committed.
    pub tokens_under_way: usize,
    /// Spills that wait for the store; `None` where nothing is spilled.
    pub spills_waiting: Option<usize>,
    /// Providers at which nothing is refreshed, and why, a word. That keeps nobody from being ready.
    pub frozen: Vec<(ProviderId, &'static str)>,
    /// Whether the process is ending.
    pub draining: bool,
}

impl<F: Fn() -> Vitals + Send + Sync + 'static> Health<F> {
    /// Serves the probes of `readiness` and the metrics of `registry`.
    pub const fn new(readiness: Readiness, registry: Arc<Registry>, vitals: F) -> Self {
        Self { readiness, registry, vitals }
    }

    /// The limits that its listener should have.
    pub fn serve_settings() -> ServeSettings {
        service::serve_settings()
    }

    /// The service. It answers `GET` and `HEAD` of `/livez`, `/readyz` (`?verbose`), `/startupz` and `/metrics`.
    pub fn into_service(self) -> impl Application<Body = Full<Bytes>> {
        let health = Arc::new(self);
        hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
            let answer = health.answer(&request).unwrap_or_else(Refusal::into_response);
            std::future::ready(Ok::<_, Infallible>(answer))
        })
    }

    fn answer<B>(&self, request: &Request<B>) -> Result<Response<Full<Bytes>>, Refusal> {
        let verbose = request.uri().query().is_some_and(|query| query.split('&').any(is_verbose));
        let resource: fn(&Self) -> Response<Full<Bytes>> = match request.uri().path() {
            "/livez" => |_| text(StatusCode::OK, PLAIN, "alive\n".to_owned()),
            "/readyz" if verbose => Self::ready_verbosely,
            "/readyz" => Self::ready,
            "/startupz" => Self::started,
            "/metrics" => Self::metrics,
            _ => return Err(Refusal::new(AdminProblem::NoSuchResource, "nothing is here")),
        };
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            return Ok(resource(self));
        }
        let allowed = vec![Method::GET, Method::HEAD];
        Err(Refusal::new(ProblemType::MethodNotAllowed, "this listener is for reading").allow(allowed))
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        if (self.vitals)().draining {
            return text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "not ready, ending\n".to_owned());
        }
        self.started()
    }

    fn started(&self) -> Response<Full<Bytes>> {
        let missing = self.readiness.missing();
        if missing.is_empty() {
            text(StatusCode::OK, PLAIN, "ready\n".to_owned())
        } else {
            text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("not ready, waiting for: {}\n", missing.join(", ")))
        }
    }

    fn ready_verbosely(&self) -> Response<Full<Bytes>> {
        let missing = self.readiness.missing();
        let Vitals { store_linked, tokens_under_way, spills_waiting, frozen, draining } = (self.vitals)();
        let (status, first) = if missing.is_empty() && !draining {
            (StatusCode::OK, "ready")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready")
        };
        let waiting = if missing.is_empty() { "nothing".to_owned() } else { missing.join(", ") };
        let link = if store_linked { "up" } else { "down" };
        let spills = spills_waiting.map_or_else(|| "off".to_owned(), |waiting| waiting.to_string());
        let frozen: Vec<_> = frozen.iter().map(|(provider, why)| format!("{} ({why})", provider.as_str())).collect();
        let frozen = if frozen.is_empty() { "nothing".to_owned() } else { frozen.join(", ") };
        let draining = if draining { "yes" } else { "no" };
        let told = format!(
            "{first}\nwaiting for: {waiting}\nstore link: {link}\ntokens under way: {tokens_under_way}\n\
             spills waiting: {spills}\nfrozen: {frozen}\ndraining: {draining}\n"
        );
        text(status, PLAIN, told)
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let mut encoded = String::new();
        match encode(&mut encoded, &self.registry) {
            Ok(()) => text(StatusCode::OK, OPEN_METRICS, encoded),
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, "the metrics cannot be written\n".to_owned()),
        }
    }
}

/// `verbose`, alone or with a value that does not say no.
fn is_verbose(parameter: &str) -> bool {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    name == "verbose" && !matches!(value, "0" | "false")
}

fn text(status: StatusCode, kind: HeaderValue, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
