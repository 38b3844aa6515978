//! A replica of the program: the real token path, put together as `app/mod.rs` does, on a machine of the simulation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use consentry::net::tls::Roots;
use consentry::oauth::HttpTokenEndpoint;
use consentry::oauth::settings::{ClientAuth, Registration};
use consentry::simulation::{Host, within};
use consentry::store::redis::{RedisAddress, RedisSettings, RedisStore};
use consentry::store::seal::{Keyring, SealKey};
use consentry::store::spill::SpillDirectory;
use consentry::store::{Seed, SeedOutcome, Store as _};
use consentry::token::settings::{ProviderSettings, TokenSettings};
use consentry::token::timing::Timing;
use consentry::token::{Ask, Parts, Tokens, Vault};
use consentry::words::bank::BankBehaviour;
use consentry::words::ids::{ConsentId, GrantId, ProviderId, TokenKey, Version};
use consentry::words::metrics::Metrics;
use consentry::words::secrets::{AccessToken, ClientSecret, RefreshToken, Renewable};
use prometheus_client::registry::Registry;
use tokio::time::sleep;

use crate::chance::Chance;
use crate::machine::{Machine, MachineClock, Process, Servers};
use crate::trace::{Pid, Trace, What};

/// The two banks' names in the configuration.
pub(crate) const PROVIDERS: [&str; 2] = ["bank-a", "bank-b"];

pub(crate) type SimulatedTokens = Tokens<RedisStore, HttpTokenEndpoint<MachineClock>, MachineClock>;

/// What a replica is told that a scenario may vary.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) timing: Timing,
    pub(crate) spill: bool,
    pub(crate) replicas_required: u32,
}

/// A replica: a machine, and the process on it while one lives.
pub(crate) struct Replica {
    pub(crate) machine: Arc<Machine>,
    settings: Settings,
    servers: Arc<dyn Servers>,
    trace: Arc<Trace>,
    chance: Chance,
    life: Mutex<Life>,
}

#[derive(Default)]
struct Life {
    number: u32,
    process: Option<Arc<Process>>,
    /// Once it takes calls.
    tokens: Option<SimulatedTokens>,
}

impl Replica {
    pub(crate) fn new(
        machine: Arc<Machine>,
        settings: Settings,
        servers: Arc<dyn Servers>,
        trace: Arc<Trace>,
        chance: Chance,
    ) -> Arc<Self> {
        Arc::new(Self { machine, settings, servers, trace, chance, life: Mutex::default() })
    }

    pub(crate) fn process(&self) -> Option<Arc<Process>> {
        self.life.lock().expect("one thread").process.clone()
    }

    pub(crate) fn running(&self) -> Option<(Arc<Process>, SimulatedTokens)> {
        let life = self.life.lock().expect("one thread");
        life.process.clone().zip(life.tokens.clone())
    }

    /// Starts a process. It takes calls once it has replayed what it found, or has tried for a while.
    pub(crate) fn start(self: &Arc<Self>) {
        let process = {
            let mut life = self.life.lock().expect("one thread");
            life.number += 1;
            let pid = Pid { replica: self.machine.replica, life: life.number };
            let chance = self.chance.fork(u64::from(life.number));
            let (machine, servers, trace) = (&self.machine, &self.servers, &self.trace);
            let process = Process::new(pid, Arc::clone(machine), Arc::clone(servers), Arc::clone(trace), chance);
            life.process = Some(Arc::clone(&process));
            process
        };
        let (replica, host) = (Arc::clone(self), Arc::clone(&process) as Arc<dyn Host>);
        tokio::spawn(within(Arc::clone(&host), async move {
            let tokens = build(&replica.machine, replica.settings, process.pid);
            let (following, reuniting) = (tokens.clone(), tokens.clone());
            tokio::spawn(within(Arc::clone(&host), async move { following.follow().await }));
            tokio::spawn(within(host, async move { reuniting.reunite().await }));
            let replay = tokens.recover(Duration::from_secs(5)).await;
            if replay.found + replay.unreadable + replay.salvaged > 0 {
                replica.trace.add(What::Machine(format!("{:?} found {replay:?}", process.pid)));
            }
            replica.life.lock().expect("one thread").tokens = Some(tokens);
        }));
    }

    /// Ends the process, without a word or by a loss of power.
    pub(crate) fn kill(&self, power: bool) {
        let (process, tokens) = {
            let mut life = self.life.lock().expect("one thread");
            (life.process.take(), life.tokens.take())
        };
        drop(tokens);
        if let Some(process) = process {
            process.kill(power);
        }
    }

    /// Ends the process and starts another after `down`.
    pub(crate) async fn bounce(self: Arc<Self>, power: bool, down: Duration) {
        self.kill(power);
        sleep(down.max(Duration::from_millis(5))).await;
        self.start();
    }
}

fn build(machine: &Arc<Machine>, settings: Settings, pid: Pid) -> SimulatedTokens {
    let mut redis = RedisSettings::new(RedisAddress::parse("redis://redis.sim:6379").expect("an address"));
    redis.replicas_required = settings.replicas_required;
    let behaviour = BankBehaviour::default();
    let endpoint = |name: &str| {
        let registration = Registration {
            provider: provider(name),
            token_endpoint: format!("http://{name}.sim/token").parse().expect("a URI"),
            revocation_endpoint: None,
            pushed_authorization_request_endpoint: None,
            client_id: "us".to_owned(),
            client_auth: ClientAuth::SecretBasic(Renewable::new(ClientSecret::new("secret"))),
            identity: None,
            roots: Roots::Pem(Vec::new()),
            reachable: consentry::net::names::Reachable::Everything,
            connect_timeout: Registration::CONNECT_TIMEOUT,
        };
        HttpTokenEndpoint::new(registration, &behaviour, machine.clock.clone()).expect("a usable endpoint")
    };
    let each = |name: &str| ProviderSettings {
        behaviour: behaviour.clone(),
        client_id: name.to_owned(),
        max_in_flight: ProviderSettings::MAX_IN_FLIGHT,
        max_per_second: ProviderSettings::MAX_PER_SECOND,
    };
    let spill = settings.spill.then(|| SpillDirectory::open(&machine.directory).expect("its process is dead"));
    Tokens::new(Parts {
        store: RedisStore::connect(&redis).expect("no TLS to set up"),
        clock: machine.clock.clone(),
        endpoints: PROVIDERS.iter().map(|name| (provider(name), endpoint(name))).collect::<BTreeMap<_, _>>(),
        vault: vault(),
        spill,
        spill_required: false,
        settings: TokenSettings {
            providers: PROVIDERS.iter().map(|name| (provider(name), each(name))).collect(),
            cache_capacity: 1_000,
            max_flights: 1_000,
        },
        timing: settings.timing,
        metrics: Metrics::new(&mut Registry::default()),
        replica: format!("{pid:?}"),
    })
}

fn vault() -> Vault {
    let keyring = Keyring::new(vec![SealKey::from_bytes("k", &[7; 32]).expect("32 bytes")]).expect("one key");
    let clients = PROVIDERS.iter().map(|name| (provider(name), (*name).to_owned())).collect();
    Vault::new(keyring, "consentry".to_owned(), clients)
}

fn provider(name: &str) -> ProviderId {
    ProviderId::parse(name).expect("a valid name")
}

/// Where a consent was granted.
pub(crate) const fn home(consent: usize) -> &'static str {
    PROVIDERS[consent % 2]
}

pub(crate) fn key(consent: usize) -> TokenKey {
    TokenKey::Consent(ConsentId::parse(&format!("c{consent}")).expect("a valid id"))
}

/// What a call got: the consent and the serial number in the access token, or why there is none.
pub(crate) async fn call(
    tokens: &SimulatedTokens,
    consent: usize,
    at: &str,
    wait: Duration,
) -> Result<(usize, u64), String> {
    let ask = Ask { key: &key(consent), provider: &provider(at), client: None, wait };
    let held = tokens.token(&ask).await.map_err(|error| format!("{error:?}"))?;
    let token = held.bearer.to_str().ok().and_then(|bearer| bearer.strip_prefix("Bearer at."));
    let parts = token.and_then(|token| token.split_once('.'));
    let parts = parts.and_then(|(consent, serial)| Some((consent.parse().ok()?, serial.parse().ok()?)));
    parts.ok_or_else(|| "a bearer that no bank of ours issued".to_owned())
}

/// Brings a consent into the store, expired, so that its first use refreshes it.
pub(crate) async fn import(tokens: &SimulatedTokens, consent: usize, refresh: &str, access: &str, life: Duration) {
    let (key, at) = (key(consent), provider(home(consent)));
    let grant = GrantId::random();
    let (refresh, access) = (RefreshToken::new(refresh), AccessToken::new(access));
    let vault = tokens.vault();
    let sealed = vault.seal(&key, &at, Version::first(grant), &access, Some(&refresh)).expect("it seals");
    let seed = Seed {
        provider: at.clone(),
        grant,
        expected: None,
        age: None,
        access: sealed.0,
        refresh: sealed.1,
        refresh_fingerprint: Some(vault.fingerprint(&at, &refresh).expect("a known provider")),
        remaining: Duration::ZERO,
        life,
        scope: None,
        bank_consent_id: None,
        consent_expires_at: None,
        certificate: None,
    };
    // A replica of the store that lags may take it too long the first time.
    for _ in 0..20 {
        if let Ok(SeedOutcome::Created(_)) = tokens.store().seed(&key, &seed).await {
            // As the program does after an import: this process remembers the consent, whatever the store forgets.
            return remember(tokens, &key).await;
        }
    }
    panic!("before any fault, a consent cannot be imported");
}

async fn remember(tokens: &SimulatedTokens, key: &TokenKey) {
    let TokenKey::Consent(consent) = key else { return };
    for _ in 0..20 {
        if tokens.remember(consent).await.is_ok() {
            return;
        }
    }
    panic!("before any fault, a consent cannot be read");
}
