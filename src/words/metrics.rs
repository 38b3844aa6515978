//! Every number the program counts, as plain handles that any floor may hold.
//!
//! A metric is recorded once, from the outcome, where a use case ends. Labels are bounded: provider names come from the
//! configuration, everything else from an enum. No consent id is ever a label.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Labels of a proxied call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallLabels {
    /// The api's name in the configuration; `-` where no api matched.
    pub api: String,
    /// Who answered: `bank` or `consentry`.
    pub answered_by: &'static str,
    /// The status code's class (`2xx`) for the bank's answers, the problem's slug for ours.
    pub outcome: &'static str,
}

/// Labels of a call under a quota.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct QuotaLabels {
    /// The api's name in the configuration.
    pub api: String,
    /// Whether it was counted, and why not.
    pub outcome: &'static str,
}

/// Labels of what was done for a provider, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// The provider's name in the configuration.
    pub provider: String,
    /// A word from an outcome enum.
    pub outcome: &'static str,
}

/// Labels of a lost consent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LossLabels {
    /// The provider's name in the configuration.
    pub provider: String,
    /// Why the consent could not be kept.
    pub cause: &'static str,
}

/// Labels of what is counted for each provider.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ProviderLabels {
    /// The provider's name in the configuration.
    pub provider: String,
}

/// Labels of what is counted for each API.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ApiLabels {
    /// The api's name in the configuration.
    pub api: String,
}

/// Labels of what is known of a certificate of ours.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CertificateLabels {
    /// Where the configuration names it: `providers.abn-amro.client_auth`.
    pub certificate: String,
}

/// Labels of what is known of a secret of ours.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SecretLabels {
    /// Where the configuration names it: `providers.abn-amro.client_auth`.
    pub secret: String,
}

/// Labels of an event that needs only its kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabels {
    /// What kind.
    pub kind: &'static str,
}

/// The handles. Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Calls answered by the proxy listener.
    pub calls: Family<CallLabels, Counter>,
    /// Seconds from a request's head to its response's head.
    pub call_seconds: Histogram,
    /// Calls whose response is not finished.
    pub calls_in_flight: Gauge,
    /// Calls to routes with a quota, by whether they were counted.
    pub quota_calls: Family<QuotaLabels, Counter>,
    /// Headers of banks' answers that repeated the access token, and were dropped.
    pub token_echoes: Family<ApiLabels, Counter>,
    /// Answers whose `Location` leads away from the bank's API.
    pub foreign_redirects: Family<ApiLabels, Counter>,
    /// Token requests sent, by outcome.
    pub token_requests: Family<OutcomeLabels, Counter>,
    /// Attempts to have a customer consent, by what became of them.
    pub attempts: Family<OutcomeLabels, Counter>,
    /// Requests to revoke a consent, by what became of them at the bank.
    pub revocations: Family<OutcomeLabels, Counter>,
    /// Looks at a bank's feed of events, by how they came out.
    pub feed_reads: Family<OutcomeLabels, Counter>,
    /// Ends of consents that a bank's feed told of, by what they led to.
    pub feed_events: Family<OutcomeLabels, Counter>,
    /// When this replica last read a bank's feed to its end, in seconds since 1970.
    pub feed_read_at: Family<ProviderLabels, Gauge>,
    /// Who listens to events now.
    pub event_listeners: Gauge,
    /// Streams of events that have ended, by why.
    pub event_streams: Family<KindLabels, Counter>,
    /// Seconds a token endpoint took to answer.
    pub token_request_seconds: Histogram,
    /// Consents that the customer has to give again, for a reason that is not the bank's or the customer's own.
    pub consents_lost: Family<LossLabels, Counter>,
    /// Token requests that left, or were answered, after the right to send them had gone to somebody else.
    pub late_sends: Family<ProviderLabels, Counter>,
    /// Seconds a refresh took besides the bank's part: from asking for the right to it until its result was kept.
    pub refresh_overhead_seconds: Histogram,
    /// Seconds that flights waited for another holder's lease.
    pub lease_wait_seconds: Histogram,
    /// Seconds that flights stood in line for leave to send to a provider.
    pub permit_wait_seconds: Histogram,
    /// Flights that stand in that line.
    pub permit_queue: Family<ProviderLabels, Gauge>,
    /// What this replica heard last of a provider: 0 requests pass, 1 its breaker is open, 2 it is frozen.
    pub provider_state: Family<ProviderLabels, Gauge>,
    /// Seconds from when the outcome of a refresh was found to be unknown until somebody could try once more.
    pub quarantine_seconds: Histogram,
    /// Records of which the store had forgotten generations, by what brought them back.
    pub store_rollbacks: Family<KindLabels, Counter>,
    /// Requests that were answered from memory, or had to wait for the store or a refresh.
    pub token_lookups: Family<KindLabels, Counter>,
    /// Operations of the store that failed, by operation.
    pub store_errors: Family<KindLabels, Counter>,
    /// 1 while the store's change subscription is up.
    pub store_connected: Gauge,
    /// 1 for a provider that was frozen when the store was last asked.
    pub provider_frozen: Family<ProviderLabels, Gauge>,
    /// Spills written, replayed, unreadable, or failed to write.
    pub spills: Family<KindLabels, Counter>,
    /// Consents and client tokens held in memory.
    pub tokens_cached: Gauge,
    /// 1 while the files of a certificate hold nothing that can be used, and the one that was goes on.
    pub certificates_refused: Family<CertificateLabels, Gauge>,
    /// 1 while the file of a secret or signing key holds nothing that can be used, and the one that was goes on.
    pub secrets_refused: Family<SecretLabels, Gauge>,
    /// Configurations that were read again, by what came of it.
    pub reloads: Family<KindLabels, Counter>,
    /// 1 while the configuration's files say something that is not in use.
    pub config_stale: Gauge,
}

impl Metrics {
    /// Makes the handles and registers them under their names.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            calls: Family::default(),
            call_seconds: Histogram::new(exponential_buckets(0.001, 2.5, 12)),
            calls_in_flight: Gauge::default(),
            quota_calls: Family::default(),
            token_echoes: Family::default(),
            foreign_redirects: Family::default(),
            token_requests: Family::default(),
            attempts: Family::default(),
            revocations: Family::default(),
            feed_reads: Family::default(),
            feed_events: Family::default(),
            feed_read_at: Family::default(),
            event_listeners: Gauge::default(),
            event_streams: Family::default(),
            token_request_seconds: Histogram::new(exponential_buckets(0.01, 2.5, 11)),
            consents_lost: Family::default(),
            late_sends: Family::default(),
            refresh_overhead_seconds: Histogram::new(exponential_buckets(0.001, 2.5, 12)),
            lease_wait_seconds: Histogram::new(exponential_buckets(0.005, 2.5, 11)),
            permit_wait_seconds: Histogram::new(exponential_buckets(0.005, 2.5, 11)),
            permit_queue: Family::default(),
            provider_state: Family::default(),
            quarantine_seconds: Histogram::new(exponential_buckets(5.0, 2.0, 12)),
            store_rollbacks: Family::default(),
            token_lookups: Family::default(),
            store_errors: Family::default(),
            store_connected: Gauge::default(),
            provider_frozen: Family::default(),
            spills: Family::default(),
            tokens_cached: Gauge::default(),
            certificates_refused: Family::default(),
            secrets_refused: Family::default(),
            reloads: Family::default(),
            config_stale: Gauge::default(),
        };
        registry.register("calls", "Calls answered by the proxy listener", metrics.calls.clone());
        registry.register_with_unit(
            "call_duration",
            "From a request's head to its response's head",
            Unit::Seconds,
            metrics.call_seconds.clone(),
        );
        registry.register("calls_in_flight", "Calls whose response is not finished", metrics.calls_in_flight.clone());
        registry.register(
            "quota_calls",
            "Calls to routes with a quota, by whether they were counted",
            metrics.quota_calls.clone(),
        );
        registry.register(
            "token_echoes",
            "Headers of banks' answers that repeated the access token, and were dropped",
            metrics.token_echoes.clone(),
        );
        registry.register(
            "foreign_redirects",
            "Answers whose Location leads away from the bank's API",
            metrics.foreign_redirects.clone(),
        );
        registry.register("token_requests", "Requests sent to a token endpoint", metrics.token_requests.clone());
        registry.register(
            "attempts",
            "Attempts to have a customer consent, by what became of them",
            metrics.attempts.clone(),
        );
        registry.register(
            "revocations",
            "Requests to revoke a consent, by what became of it at the bank",
            metrics.revocations.clone(),
        );
        registry.register("feed_reads", "Looks at a bank's feed of events", metrics.feed_reads.clone());
        registry.register(
            "feed_events",
            "Ends of consents that a bank's feed told of, by what they led to",
            metrics.feed_events.clone(),
        );
        registry.register("event_listeners", "Who listens to events now", metrics.event_listeners.clone());
        registry.register(
            "event_streams_ended",
            "Streams of events that have ended, by why",
            metrics.event_streams.clone(),
        );
        registry.register_with_unit(
            "feed_read_timestamp",
            "When this replica last read a bank's feed to its end",
            Unit::Seconds,
            metrics.feed_read_at.clone(),
        );
        registry.register_with_unit(
            "token_request_duration",
            "How long a token endpoint took to answer",
            Unit::Seconds,
            metrics.token_request_seconds.clone(),
        );
        registry.register(
            "consents_lost",
            "Consents that have to be given again because of a loss on our side of the bank's answer",
            metrics.consents_lost.clone(),
        );
        registry.register(
            "late_send_detected",
            "Token requests that left, or were answered, after the right to send them was somebody else's",
            metrics.late_sends.clone(),
        );
        registry.register_with_unit(
            "refresh_overhead",
            "What a refresh took besides the bank's part, until its result was kept",
            Unit::Seconds,
            metrics.refresh_overhead_seconds.clone(),
        );
        registry.register_with_unit(
            "lease_wait",
            "How long a flight waited for another holder's lease",
            Unit::Seconds,
            metrics.lease_wait_seconds.clone(),
        );
        registry.register_with_unit(
            "permit_wait",
            "How long a flight stood in line for leave to send to a provider",
            Unit::Seconds,
            metrics.permit_wait_seconds.clone(),
        );
        registry.register(
            "permit_queue",
            "Flights that stand in line for leave to send to a provider",
            metrics.permit_queue.clone(),
        );
        registry.register(
            "provider_state",
            "0 while requests to a provider pass, 1 while its breaker is open, 2 while it is frozen",
            metrics.provider_state.clone(),
        );
        registry.register_with_unit(
            "quarantine",
            "From an unknown outcome until a probe was granted",
            Unit::Seconds,
            metrics.quarantine_seconds.clone(),
        );
        registry.register(
            "store_rollback",
            "Records of which the store had forgotten generations, by what brought them back",
            metrics.store_rollbacks.clone(),
        );
        registry.register("token_lookups", "How a call came by its token", metrics.token_lookups.clone());
        registry.register("store_errors", "Operations of the store that failed", metrics.store_errors.clone());
        registry.register("store_connected", "1 while changes arrive from the store", metrics.store_connected.clone());
        registry.register(
            "provider_frozen",
            "1 while nothing is refreshed at a provider",
            metrics.provider_frozen.clone(),
        );
        registry.register("spills", "What became of spilled token answers", metrics.spills.clone());
        registry.register("tokens_cached", "Token sets held in memory", metrics.tokens_cached.clone());
        registry.register(
            "certificate_renewal_refused",
            "1 while the files of a certificate cannot be used and the one that was goes on",
            metrics.certificates_refused.clone(),
        );
        registry.register(
            "secret_renewal_refused",
            "1 while the file of a secret or signing key cannot be used and the one that was goes on",
            metrics.secrets_refused.clone(),
        );
        registry.register("config_reloads", "Configurations read again, by what came of it", metrics.reloads.clone());
        registry.register(
            "config_stale",
            "1 while the configuration's files say something that is not in use",
            metrics.config_stale.clone(),
        );
        metrics
    }
}
