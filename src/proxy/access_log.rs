//! One line and one set of numbers per call, from its outcome.
//!
//! The line holds what is on the list below and nothing else: no path, no query, no header, no consent id in clear. It
//! is put together only if somebody listens at target `consentry::access`. A call whose app hung up before there was an
//! answer is counted, too, when its future is dropped.

use http::{HeaderName, HeaderValue, Method, StatusCode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use super::plan::ServedApi;
use crate::words::ids::ConsentId;
use crate::words::metrics::{CallLabels, Metrics};
use crate::words::problem::ProblemType;

/// A call from its head to the head of its answer, filled in as more of it is known.
#[derive(Debug)]
pub(super) struct Call<'p> {
    metrics: &'p Metrics,
    /// When its head was there.
    pub(super) started: Instant,
    method: Method,
    underway: Option<Underway>,
    /// The API it is for.
    pub(super) api: Option<&'p ServedApi>,
    /// The route's position among the API's.
    pub(super) route: Option<usize>,
    /// The consent it names.
    pub(super) consent: Option<ConsentId>,
    /// The header that names the call, and the name.
    pub(super) request_id: Option<(HeaderName, HeaderValue)>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The bank answered with this status.
    Bank(StatusCode),
    /// We answered with this problem.
    Ours(ProblemType),
    /// The app hung up before there was an answer.
    Abandoned,
}

impl<'p> Call<'p> {
    /// A call that begins.
    pub(super) fn begin(metrics: &'p Metrics, method: Method) -> Self {
        let underway = Some(Underway::begin(&metrics.calls_in_flight));
        Self {
            metrics,
            started: Instant::now(),
            method,
            underway,
            api: None,
            route: None,
            consent: None,
            request_id: None,
        }
    }

    /// The head of the answer is known. What is given back says that its body is not yet through.
    pub(super) fn answered(&mut self, outcome: Outcome) -> Underway {
        self.record(outcome);
        self.underway.take().unwrap_or_else(|| Underway::begin(&self.metrics.calls_in_flight))
    }

    fn record(&self, outcome: Outcome) {
        let seconds = self.started.elapsed().as_secs_f64();
        self.metrics.call_seconds.observe(seconds);
        match (outcome, self.api) {
            (Outcome::Bank(status), Some(api)) => {
                api.answered.of(status).inc();
            }
            (Outcome::Bank(_) | Outcome::Ours(_) | Outcome::Abandoned, api) => {
                let labels = CallLabels {
                    api: api.map_or("-", |api| &api.name).to_owned(),
                    answered_by: outcome.answered_by(),
                    outcome: outcome.word(),
                };
                self.metrics.calls.get_or_create(&labels).inc();
            }
        }
        if tracing::enabled!(target: TARGET, tracing::Level::INFO) {
            tracing::info!(
                target: TARGET,
                method = self.method.as_str(),
                api = self.api.map_or("-", |api| &api.name),
                route = self.route,
                status = outcome.status().map(|status| status.as_u16()),
                answered_by = outcome.answered_by(),
                outcome = outcome.word(),
                milliseconds = seconds * 1_000.0,
                consent = self.consent.as_ref().map(ConsentId::fingerprint),
                request_id = self.request_id.as_ref().and_then(|(_, id)| printable(id)),
                "call"
            );
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if self.underway.is_some() {
            self.record(Outcome::Abandoned);
        }
    }
}

impl Outcome {
    fn answered_by(self) -> &'static str {
        match self {
            Self::Bank(_) => "bank",
            Self::Ours(_) | Self::Abandoned => "consentry",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Bank(status) => class(status),
            Self::Ours(problem) => problem.slug(),
            Self::Abandoned => "abandoned",
        }
    }

    fn status(self) -> Option<StatusCode> {
        match self {
            Self::Bank(status) => Some(status),
            Self::Ours(problem) => Some(problem.status()),
            Self::Abandoned => None,
        }
    }
}

/// A request id as it may stand in a log and in a problem: visible, and of a size that ids have.
pub(super) fn printable(id: &HeaderValue) -> Option<&str> {
    const LONGEST: usize = 128;
    id.to_str().ok().filter(|text| text.len() <= LONGEST)
}

/// Counts a call as under way until it is dropped.
#[derive(Debug)]
pub(super) struct Underway(Gauge);

impl Underway {
    /// From here on.
    pub(super) fn begin(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The counters of one API's answers, looked up once.
#[derive(Debug)]
pub(super) struct Answered([Counter; 5]);

impl Answered {
    /// Those of the API of this name.
    pub(super) fn new(metrics: &Metrics, api: &str) -> Self {
        Self(CLASSES.map(|outcome| {
            let labels = CallLabels { api: api.to_owned(), answered_by: "bank", outcome };
            metrics.calls.get_or_create_owned(&labels)
        }))
    }

    fn of(&self, status: StatusCode) -> &Counter {
        let [informational, success, redirection, client, server] = &self.0;
        match status.as_u16() / 100 {
            1 => informational,
            2 => success,
            3 => redirection,
            4 => client,
            _ => server,
        }
    }
}

const TARGET: &str = "consentry::access";
/// Codes from 600 up mean nothing to anybody and count with the errors of servers (RFC 9110 §15).
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

fn class(status: StatusCode) -> &'static str {
    let [informational, success, redirection, client, server] = CLASSES;
    match status.as_u16() / 100 {
        1 => informational,
        2 => success,
        3 => redirection,
        4 => client,
        _ => server,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::Registry;

    fn count(metrics: &Metrics, answered_by: &'static str, outcome: &'static str) -> u64 {
        metrics.calls.get_or_create(&CallLabels { api: "-".to_owned(), answered_by, outcome }).get()
    }

    #[test]
    fn a_call_is_counted_once_by_its_outcome() {
        let metrics = Metrics::new(&mut Registry::default());
        let mut call = Call::begin(&metrics, Method::GET);
        let underway = call.answered(Outcome::Ours(ProblemType::NoSuchApi));
        drop(call);
        assert_eq!(count(&metrics, "consentry", "no-such-api"), 1);
        assert_eq!(metrics.calls_in_flight.get(), 1);
        drop(underway);
        assert_eq!(metrics.calls_in_flight.get(), 0);
        assert_eq!(count(&metrics, "consentry", "abandoned"), 0);
    }

    #[test]
    fn a_call_that_is_dropped_was_abandoned() {
        let metrics = Metrics::new(&mut Registry::default());
        drop(Call::begin(&metrics, Method::GET));
        assert_eq!(count(&metrics, "consentry", "abandoned"), 1);
        assert_eq!(metrics.calls_in_flight.get(), 0);
    }

    #[test]
    fn the_bank_s_answers_are_counted_by_class() {
        let metrics = Metrics::new(&mut Registry::default());
        let answered = Answered::new(&metrics, "-");
        for status in [StatusCode::OK, StatusCode::NO_CONTENT, StatusCode::NOT_FOUND] {
            answered.of(status).inc();
        }
        assert_eq!(count(&metrics, "bank", "2xx"), 2);
        assert_eq!(count(&metrics, "bank", "4xx"), 1);
        assert_eq!(class(StatusCode::from_u16(999).expect("a code")), "5xx");
    }

    #[test]
    fn only_a_visible_request_id_of_usual_size_is_printed() {
        assert_eq!(printable(&HeaderValue::from_static("id-1")), Some("id-1"));
        assert_eq!(printable(&HeaderValue::from_str(&"x".repeat(129)).expect("a value")), None);
        assert_eq!(printable(&HeaderValue::from_bytes(b"\xff").expect("a value")), None);
    }
}
