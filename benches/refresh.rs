//! What a refresh costs besides the bank: from the call that needs a token to its answer, and to the commit, at a bank
//! that answers at once. A real Redis with one replica, syncing every write or every second; with and without WAIT for
//! the replica; with and without a spill. All variants take turns, so that the machine's moods hit them alike.
//!
//! Run with `cargo bench --bench refresh`.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on should stop where it is")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

// A Redis of its own.
#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use consentry::oauth::{NotSent, Reply, TokenEndpoint, TokenOutcome, TokenRequest};
use consentry::store::redis::RedisSettings;
use consentry::store::seal::{Keyring, SealKey};
use consentry::store::spill::SpillDirectory;
use consentry::store::{RedisStore, Seed, SeedOutcome, Store as _};
use consentry::token::settings::{ProviderSettings, TokenSettings};
use consentry::token::timing::Timing;
use consentry::token::{Ask, Parts, Tokens, Vault};
use consentry::words::bank::BankBehaviour;
use consentry::words::clock::SystemClock;
use consentry::words::ids::{ConsentId, GrantId, ProviderId, TokenKey, Version};
use consentry::words::metrics::Metrics;
use consentry::words::secrets::{AccessToken, RefreshToken};
use consentry::words::token_set::TokenSet;
use support::redis::{RedisOptions, RedisServer};
use tokio::time::Instant;

const ROUNDS: usize = 500;
const LIFE: Duration = Duration::from_secs(600);

/// A bank that answers at once.
#[derive(Debug)]
struct Prompt;

impl TokenEndpoint for Prompt {
    type Connection = ();

    async fn connect(&self) -> Result<(), NotSent> {
        Ok(())
    }

    async fn send(&self, (): (), _: &TokenRequest<'_>) -> Reply {
        let refresh = Some(RefreshToken::new("a refresh token of a usual length, about as long as this one is"));
        let access = AccessToken::new("an access token of a usual length");
        TokenOutcome::Granted(TokenSet { access, expires_in: LIFE, refresh, scope: None }).into()
    }

    fn certificate(&self) -> Option<String> {
        None
    }
}

/// One way to be set up, and what was measured with it.
struct Variant {
    name: String,
    tokens: Tokens<RedisStore, Prompt, SystemClock>,
    served: Vec<Duration>,
    committed: Vec<Duration>,
    _home: tempfile::TempDir,
}

fn provider() -> ProviderId {
    ProviderId::parse("bank").unwrap()
}

impl Variant {
    #[expect(clippy::zero_sized_map_values, reason = "the bank of a benchmark knows nothing")]
    fn new(server: &RedisServer, fsync: &str, wait: bool, spill: bool) -> Self {
        let name = format!("{fsync} | {} | {}", if wait { "one" } else { "none" }, if spill { "yes" } else { "no" });
        let home = tempfile::tempdir().unwrap();
        let settings = RedisSettings {
            key_prefix: format!("bench-{wait}-{spill}"),
            replicas_required: u32::from(wait),
            // A disk that others keep busy may hold a sync up for a second.
            replica_wait: Duration::from_secs(4),
            ..server.settings()
        };
        let key_prefix = settings.key_prefix.clone();
        let keyring = Keyring::new(vec![SealKey::from_bytes("bench", &[7; 32]).unwrap()]).unwrap();
        let bank = ProviderSettings {
            behaviour: BankBehaviour::default(),
            client_id: "tpp".to_owned(),
            max_in_flight: ProviderSettings::MAX_IN_FLIGHT,
            max_per_second: 1_000_000,
        };
        let tokens = Tokens::new(Parts {
            store: RedisStore::connect(&settings).unwrap(),
            clock: SystemClock,
            endpoints: BTreeMap::from([(provider(), Prompt)]),
            vault: Vault::new(keyring, key_prefix, [(provider(), "tpp".to_owned())].into()),
            spill: spill.then(|| SpillDirectory::open(&home.path().join("spill")).unwrap()),
            spill_required: false,
            settings: TokenSettings {
                providers: BTreeMap::from([(provider(), bank)]),
                cache_capacity: TokenSettings::CACHE_CAPACITY,
                max_flights: TokenSettings::MAX_FLIGHTS,
            },
            timing: Timing::STANDARD,
            metrics: Metrics::new(&mut prometheus_client::registry::Registry::default()),
            replica: "bench".to_owned(),
        });
        for background in [true, false] {
            let tokens = tokens.clone();
            tokio::spawn(async move { if background { tokens.follow().await } else { tokens.reunite().await } });
        }
        Self { name, tokens, served: Vec::new(), committed: Vec::new(), _home: home }
    }

    /// One refresh of a consent that was just stored with an expired token.
    async fn refresh(&mut self, nth: usize) {
        let key = TokenKey::Consent(ConsentId::parse(&format!("c-{nth}")).unwrap());
        let grant = GrantId::random();
        let (vault, provider) = (self.tokens.vault(), provider());
        let (access, refresh) =
            (AccessToken::new("an access token"), RefreshToken::new(format!("refresh token {nth}")));
        let (access, sealed) = vault.seal(&key, &provider, Version::first(grant), &access, Some(&refresh)).unwrap();
        let seed = Seed {
            provider: provider.clone(),
            grant,
            expected: None,
            age: None,
            access,
            refresh: sealed,
            refresh_fingerprint: Some(vault.fingerprint(&provider, &refresh).unwrap()),
            remaining: Duration::ZERO,
            life: LIFE,
            scope: None,
            bank_consent_id: None,
            consent_expires_at: None,
            certificate: None,
        };
        assert!(matches!(self.tokens.store().seed(&key, &seed).await.unwrap(), SeedOutcome::Created(_)));
        let ask = Ask { key: &key, provider: &provider, client: None, wait: Duration::from_secs(10) };
        let begun = Instant::now();
        let held = self.tokens.token(&ask).await.unwrap();
        self.served.push(begun.elapsed());
        assert_eq!(held.version.generation, 2);
        while self.tokens.under_way() > 0 {
            tokio::task::yield_now().await;
        }
        self.committed.push(begun.elapsed());
    }
}

fn main() {
    // `cargo test --benches` only asks whether it runs.
    let rounds = if std::env::args().any(|argument| argument == "--bench") { ROUNDS } else { 2 };
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(measure(rounds));
}

async fn measure(rounds: usize) {
    let mut servers = Vec::new();
    for fsync in ["always", "everysec"] {
        let options = || RedisOptions::default().with("appendonly", "yes").with("appendfsync", fsync);
        let primary = RedisServer::start_with(options()).await;
        let replica =
            RedisServer::start_with(options().with("replicaof", &format!("127.0.0.1 {}", primary.port()))).await;
        support::redis::until("it is followed", async || {
            primary.cli(&["INFO", "replication"]).contains("state=online")
        })
        .await;
        servers.push((fsync, primary, replica));
    }
    let mut variants = Vec::new();
    for (fsync, primary, _) in &servers {
        for wait in [false, true] {
            for spill in [false, true] {
                variants.push(Variant::new(primary, fsync, wait, spill));
            }
        }
    }
    let linked = async || variants.iter().all(|variant| variant.tokens.is_linked());
    support::redis::until("changes arrive", linked).await;
    for nth in 0..rounds {
        // Not always after the same one.
        for turn in 0..variants.len() {
            let at = (turn * 3 + nth) % variants.len();
            variants[at].refresh(nth).await;
        }
    }
    println!("a refresh besides the bank, n = {rounds} each, taking turns; p50 / p99");
    println!("| appendfsync | replicas waited for | spill | until the call has its token | until it is committed |");
    println!("| --- | --- | --- | --- | --- |");
    for variant in &mut variants {
        println!("| {} | {} | {} |", variant.name, spread(&mut variant.served), spread(&mut variant.committed));
    }
}

fn spread(measured: &mut [Duration]) -> String {
    measured.sort_unstable();
    let at = |percent: usize| measured[(measured.len() - 1) * percent / 100];
    format!("{:.2?} / {:.2?}", at(50), at(99))
}
