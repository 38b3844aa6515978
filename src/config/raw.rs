//! The YAML as it stands, key by key. No logic: whatever is absent is `None`, whatever has a unit is text.
//!
//! `config.example.yaml` explains every key; a test keeps the two together.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

macro_rules! raw {
    ($($(#[$doc:meta])* struct $name:ident: $expecting:literal { $($key:ident: $type:ty,)* })*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
        #[serde(deny_unknown_fields, expecting = $expecting)]
        pub(super) struct $name { $(pub(super) $key: Option<$type>,)* }

        impl Over for $name {
            fn over(self, base: Self) -> Self {
                Self { $($key: self.$key.or(base.$key),)* }
            }
        }
    )* };
}

/// Keys over other keys.
pub(super) trait Over {
    /// These keys, and where one is absent, that of `base`.
    fn over(self, base: Self) -> Self;
}

raw! {
    /// The whole file.
    struct RawConfig: "a mapping" {
        proxy: RawProxy,
        health: RawHealth,
        admin: RawAdmin,
        callback: RawCallback,
        store: RawStore,
        tokens: RawTokens,
        providers: BTreeMap<String, RawProvider>,
        apis: BTreeMap<String, RawApi>,
        shutdown: RawShutdown,
        log: RawLog,
        replica: String,
    }

    struct RawProxy: "a mapping" {
        listen: String,
        hosts: Vec<String>,
        http2: bool,
        consent_header: String,
        token_wait: RawDuration,
        workers: u64,
        limits: RawLimits,
    }

    struct RawLimits: "a mapping" {
        max_connections: u64,
        max_connections_per_caller: u64,
        max_in_flight: u64,
        max_in_flight_per_api: u64,
        max_streams: u64,
        max_headers: u64,
        max_head_size: RawSize,
        max_target_size: RawSize,
        max_body_size: RawSize,
        replay_buffer_size: RawSize,
        header_read_timeout: RawDuration,
        idle_timeout: RawDuration,
        body_idle_timeout: RawDuration,
        request_timeout: RawDuration,
        upstream_connect_timeout: RawDuration,
        upstream_response_timeout: RawDuration,
        upstream_idle_timeout: RawDuration,
    }

    struct RawHealth: "a mapping" {
        listen: String,
    }

    struct RawAdmin: "a mapping" {
        listen: String,
        hosts: Vec<String>,
        key: RawSource,
    }

    struct RawCallback: "a mapping with public_url:" {
        listen: String,
        hosts: Vec<String>,
        public_url: String,
        path: String,
        return_urls: Vec<String>,
    }

    /// Exactly one of `redis` and `embedded`.
    struct RawStore: "a mapping with redis: or embedded:" {
        redis: RawRedis,
        embedded: RawEmbedded,
        spill: RawSpill,
        seal: RawSeal,
    }

    /// Exactly one of `url`, `sentinel` and `cluster`.
    struct RawRedis: "a mapping" {
        url: String,
        sentinel: RawSentinel,
        cluster: RawCluster,
        database: u64,
        username: String,
        password: RawSource,
        ca_file: String,
        client_certificate: RawClientCertificate,
        key_prefix: String,
        replicas_required: u64,
        fsync_required: bool,
        replica_wait: RawDuration,
        accept_eviction: bool,
        command_timeout: RawDuration,
        connect_timeout: RawDuration,
    }

    struct RawSentinel: "a mapping with name: and nodes:" {
        name: String,
        nodes: Vec<String>,
        username: String,
        password: RawSource,
    }

    struct RawCluster: "a mapping with nodes:" {
        nodes: Vec<String>,
    }

    struct RawEmbedded: "a mapping" {
        path: String,
        key_prefix: String,
    }

    struct RawSpill: "a mapping" {
        directory: String,
        required: bool,
    }

    struct RawSeal: "a mapping" {
        keys: Vec<RawSealKey>,
    }

    struct RawSealKey: "a mapping with id: and key:" {
        id: String,
        key: RawSource,
    }

    struct RawTokens: "a mapping" {
        cache_capacity: u64,
        max_flights: u64,
    }

    struct RawProvider: "a mapping" {
        profile: String,
        token_endpoint: String,
        revocation_endpoint: String,
        authorization_endpoint: String,
        pushed_authorization_request_endpoint: String,
        authorize_parameters: BTreeMap<String, String>,
        pasted_redirect_uri: String,
        default_scope: RawWords,
        pkce: String,
        issuer: String,
        exclusive_scopes: Vec<Vec<String>>,
        one_scope_of: Vec<String>,
        scope_days: bool,
        consent_life: RawDuration,
        denied_by: Vec<String>,
        client_id: String,
        client_auth: RawClientAuth,
        ca_file: String,
        refuse_private_addresses: bool,
        connect_timeout: RawDuration,
        max_in_flight: u64,
        max_per_second: u64,
        rotation: String,
        reuse_grace: RawDuration,
        old_access_token: String,
        trust_5xx: bool,
        default_expires_in: RawDuration,
        send_scope_on_refresh: bool,
        token_rejected: Vec<RawMatcher>,
        consent_dead: Vec<RawMatcher>,
        request_id_headers: Vec<String>,
        psu_headers: Vec<String>,
        scope_rules: Vec<RawScopeRule>,
        quotas: Vec<RawQuotaRule>,
        consent_api: String,
        revoke_by: RawBankCall,
        consent_info: RawConsentInfo,
        feed: RawFeed,
    }

    struct RawFeed: "a mapping with call:" {
        read: bool,
        call: String,
        audience: String,
        scope: RawWords,
        from: String,
        limit: String,
        events: String,
        number: String,
        consent: String,
        kind: String,
        ended: Vec<String>,
        every: RawDuration,
        kept: RawDuration,
    }

    struct RawConsentInfo: "a mapping with call:" {
        call: String,
        token: String,
        audience: String,
        scope: RawWords,
        status: String,
        active: Vec<String>,
        covers: String,
        consent_expires_at: String,
        consent_expires_in: String,
        token_expires_at: String,
    }

    struct RawBankCall: "a mapping with call:" {
        call: String,
        token: String,
        audience: String,
        scope: RawWords,
    }

    struct RawScopeRule: "a mapping with match: and needs: or needs_one_of:" {
        r#match: String,
        needs: RawWords,
        needs_one_of: Vec<RawWords>,
    }

    struct RawQuotaRule: "a mapping with match: and calls:" {
        r#match: String,
        calls: u64,
        per: String,
        day_begins: String,
        continued_by: Vec<String>,
    }

    struct RawQuota: "a mapping with calls:" {
        calls: u64,
        per: String,
        day_begins: String,
        continued_by: Vec<String>,
    }

    struct RawClientAuth: "a mapping with method:" {
        method: String,
        secret: RawSource,
        certificate: RawSource,
        key: RawSource,
        signing_key: RawSource,
        signing_key_id: String,
        assertion_audience: String,
        assertion_life: RawDuration,
    }

    struct RawMatcher: "a mapping with status:" {
        status: u64,
        bearer_error: String,
        json: String,
        any_of: Vec<String>,
    }

    struct RawApi: "a mapping" {
        path: String,
        upstream: String,
        provider: String,
        set_headers: BTreeMap<String, RawSource>,
        forward_cookies: bool,
        refuse_private_addresses: bool,
        ca_file: String,
        client_certificate: RawClientCertificate,
        routes: Vec<RawRoute>,
    }

    struct RawClientCertificate: "a mapping with certificate: and key:" {
        certificate: RawSource,
        key: RawSource,
    }

    struct RawRoute: "a mapping with match:" {
        r#match: String,
        token: String,
        audience: String,
        scope: RawWords,
        needs: RawWords,
        quota: RawQuota,
        consent: String,
        single_use: bool,
        replay_on_rejection: bool,
        resend_on_lost_reply: bool,
        forward_consent_header: bool,
    }

    struct RawShutdown: "a mapping" {
        grace: RawDuration,
    }

    struct RawLog: "a mapping" {
        format: String,
        level: String,
    }

    /// A built-in profile: what a provider starts from, and where its API is.
    struct RawProfile: "a mapping" {
        upstream: String,
        provider: RawProvider,
    }

    /// Where a secret, a certificate or a key comes from.
    struct RawSource: "{file: path} or {env: NAME}, since secrets are not written into this file" {
        file: String,
        env: String,
    }
}

/// A time with its unit, unread.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RawDuration(pub(super) String);

/// A size with its unit, unread.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RawSize(pub(super) String);

/// Words, as one text with spaces or as a list.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RawWords(pub(super) String);

struct Text(&'static str);

impl Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

struct Words;

impl<'de> Visitor<'de> for Words {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("words, as one text or as a list")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<String, A::Error> {
        let mut words = Vec::new();
        while let Some(word) = list.next_element::<String>()? {
            words.push(word);
        }
        Ok(words.join(" "))
    }
}

impl<'de> Deserialize<'de> for RawDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text("a duration with its unit, as in 30s")).map(Self)
    }
}

impl<'de> Deserialize<'de> for RawSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text("a size with its unit, as in 64KiB")).map(Self)
    }
}

impl<'de> Deserialize<'de> for RawWords {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Words).map(Self)
    }
}
