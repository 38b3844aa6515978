//! The proxy listener's own settings: the header that names the consent, waits and limits.

use std::time::Duration;

use http::HeaderName;

use super::{headers, listeners, quantities};
use crate::config::fault::At;
use crate::config::raw::{RawLimits, RawProxy};
use crate::net::serve::Bind;
use crate::net::workers;
use crate::proxy::settings::{Api, Limits, ProxySettings};

/// All of the proxy but its APIs, which need to know the consent header.
pub(super) struct Proxy {
    /// `None` after a fault.
    pub(super) consent_header: Option<HeaderName>,
    hosts: Vec<String>,
    http2: bool,
    token_wait: Duration,
    workers: usize,
    limits: Limits,
}

pub(super) fn parse(raw: Option<&RawProxy>, at: &At<'_>) -> Proxy {
    let raw = raw.cloned().unwrap_or_default();
    let header = raw.consent_header.as_deref().unwrap_or("Consent-ID");
    Proxy {
        consent_header: headers::name(header, &at.key("consent_header")),
        hosts: listeners::hosts(raw.hosts.as_ref(), &at.key("hosts")),
        http2: raw.http2.unwrap_or(false),
        token_wait: quantities::duration(
            raw.token_wait.as_ref(),
            &at.key("token_wait"),
            ProxySettings::TOKEN_WAIT,
            "100ms",
            "5m",
        ),
        workers: quantities::count(raw.workers, &at.key("workers"), 1, 1, workers::MOST),
        limits: limits(&raw.limits.unwrap_or_default(), &at.key("limits")),
    }
}

impl Proxy {
    pub(super) fn finish(self, bind: Bind, apis: Vec<Api>) -> Option<ProxySettings> {
        Some(ProxySettings {
            bind,
            hosts: self.hosts,
            http2: self.http2,
            consent_header: self.consent_header?,
            apis,
            token_wait: self.token_wait,
            workers: self.workers,
            limits: self.limits,
        })
    }
}

fn limits(raw: &RawLimits, at: &At<'_>) -> Limits {
    let own = Limits::default();
    let count = |key: &str, value, default| quantities::count(value, &at.key(key), default, 1, 1_000_000);
    let bytes = |key: &str, value: Option<&_>, default: usize, least: &str, most: &str| {
        let size = quantities::size(value, &at.key(key), least, most);
        size.and_then(|size| usize::try_from(size).ok()).unwrap_or(default)
    };
    let time =
        |key: &str, value: Option<&_>, default| quantities::duration(value, &at.key(key), default, "100ms", "1h");
    let limits = Limits {
        max_connections: count("max_connections", raw.max_connections, own.max_connections),
        max_connections_per_caller: raw
            .max_connections_per_caller
            .map(|own| count("max_connections_per_caller", Some(own), 1)),
        max_in_flight: count("max_in_flight", raw.max_in_flight, own.max_in_flight),
        max_in_flight_per_api: raw.max_in_flight_per_api.map(|own| count("max_in_flight_per_api", Some(own), 1)),
        max_streams: u32::try_from(count("max_streams", raw.max_streams, 64)).unwrap_or(own.max_streams),
        max_headers: count("max_headers", raw.max_headers, own.max_headers),
        // hyper keeps a buffer of 8 KiB at the least.
        max_head_bytes: bytes("max_head_size", raw.max_head_size.as_ref(), own.max_head_bytes, "8KiB", "1MiB"),
        max_target_bytes: bytes("max_target_size", raw.max_target_size.as_ref(), own.max_target_bytes, "64B", "64KiB"),
        max_body_bytes: quantities::size(raw.max_body_size.as_ref(), &at.key("max_body_size"), "0B", "1048576GiB"),
        replay_buffer_bytes: bytes(
            "replay_buffer_size",
            raw.replay_buffer_size.as_ref(),
            own.replay_buffer_bytes,
            "0B",
            "16MiB",
        ),
        header_read_timeout: time("header_read_timeout", raw.header_read_timeout.as_ref(), own.header_read_timeout),
        idle_timeout: time("idle_timeout", raw.idle_timeout.as_ref(), own.idle_timeout),
        body_idle_timeout: time("body_idle_timeout", raw.body_idle_timeout.as_ref(), own.body_idle_timeout),
        request_timeout: quantities::duration(
            raw.request_timeout.as_ref(),
            &at.key("request_timeout"),
            own.request_timeout,
            "1s",
            "90d",
        ),
        upstream_connect_timeout: time(
            "upstream_connect_timeout",
            raw.upstream_connect_timeout.as_ref(),
            own.upstream_connect_timeout,
        ),
        upstream_response_timeout: time(
            "upstream_response_timeout",
            raw.upstream_response_timeout.as_ref(),
            own.upstream_response_timeout,
        ),
        upstream_idle_timeout: time(
            "upstream_idle_timeout",
            raw.upstream_idle_timeout.as_ref(),
            own.upstream_idle_timeout,
        ),
    };
    if limits.max_target_bytes >= limits.max_head_bytes {
        at.key("max_target_size").fault("the target is part of the head, so it has to be smaller than max_head_size");
    }
    limits
}
