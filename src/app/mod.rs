//! The composition root: a configuration in, running listeners out.
//!
//! Read [`App::start`] as the list of parts and the order they come up in: store and spill, then the tokens, then every
//! listener bound before anything is served, so that a port that is taken is told before a request is accepted. Then
//! [`App::run`]: replay what an earlier process left, serve, and end in two stages. Softly, nothing new is taken on and
//! what is under way finishes, refreshes above all; after the grace period, hard.

mod error;
mod reload;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

pub use error::StartError;
pub use reload::Replaceable;

use crate::admin::{Admin, Health, Latch, Readiness, Vitals, Writes};
use crate::callback::Callback;
use crate::config::renewal::{self, Watched};
use crate::config::{Config, StoreConfig, StoreKind};
use crate::consent::{Desk, DeskSettings, Desks, read_feed};
use crate::net::serve::{Bind, Listener, serve, unhurried};
use crate::net::shutdown::Shutdown;
use crate::net::workers;
use crate::oauth::HttpTokenEndpoint;
use crate::oauth::settings::Registration;
use crate::proxy::Proxy;
use crate::store::Store;
use crate::store::any::AnyStore;
use crate::store::embedded::EmbeddedStore;
use crate::store::redis::RedisStore;
use crate::store::spill::SpillDirectory;
use crate::telemetry::registry;
use crate::token::settings::TokenSettings;
use crate::token::timing::Timing;
use crate::token::{Parts, Replay, Tokens, Vault};
use crate::words::clock::SystemClock;
use crate::words::ids::{ConsentId, ProviderId, TokenKey};
use crate::words::metrics::Metrics;

/// The tokens of a running program.
pub type AppTokens = Tokens<AnyStore<SystemClock>, HttpTokenEndpoint<SystemClock>, SystemClock>;

type AppProxy = Proxy<AnyStore<SystemClock>, HttpTokenEndpoint<SystemClock>, SystemClock>;
type AppCallback = Callback<AnyStore<SystemClock>, HttpTokenEndpoint<SystemClock>, SystemClock>;
type AppAdmin = Admin<AnyStore<SystemClock>, HttpTokenEndpoint<SystemClock>, SystemClock>;

/// Everything, bound and ready to serve.
pub struct App {
    tokens: AppTokens,
    proxy: (Arc<Listener>, AppProxy),
    health: (Arc<Listener>, Health<VitalsNow>),
    admin: Option<(Arc<Listener>, AppAdmin)>,
    callback: Option<(Arc<Listener>, AppCallback)>,
    readiness: Readiness,
    serving: Latch,
    reached: Latch,
    renewals: Vec<Watched>,
    more_renewals: (mpsc::Sender<Vec<Watched>>, mpsc::Receiver<Vec<Watched>>),
    desks: Desks,
    metrics: Metrics,
    shutdown: Shutdown,
    grace: Duration,
}

type VitalsNow = Box<dyn Fn() -> Vitals + Send + Sync>;

/// Where a running program listens.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// For apps.
    pub proxy: Bind,
    /// For probes and metrics.
    pub health: Bind,
    /// For administration, where there is one.
    pub admin: Option<Bind>,
    /// For customers' browsers, where there is such a listener.
    pub callback: Option<Bind>,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("addresses", &self.addresses()).finish_non_exhaustive()
    }
}

/// How long the listeners wait for spills to be replayed. A store that is away longer does not keep them closed.
const REPLAY: Duration = Duration::from_secs(5);

/// How often a Redis is asked whether it is still fit to keep consents. A little less than a minute: Redis puts what it
/// denies a user into one line of its ACL log if it happens again within one.
const EXAMINED_EVERY: Duration = Duration::from_secs(55);

/// How often the store is asked what is frozen, for those who look at this process.
const FREEZES_EVERY: Duration = Duration::from_secs(5);

impl App {
    /// Opens the store, binds every listener, and serves nothing yet.
    pub async fn start(config: Config, writes: Writes, shutdown: Shutdown) -> Result<Self, StartError> {
        let Config {
            proxy,
            health,
            admin,
            callback,
            store,
            tokens: settings,
            registrations,
            desks: desk_settings,
            shutdown: ending,
            replica,
            renewals,
            ..
        } = config;
        let behaviours: BTreeMap<_, _> =
            settings.providers.iter().map(|(id, settings)| (id.clone(), settings.behaviour.clone())).collect();
        let spill = store.spill.as_ref().map(|spill| SpillDirectory::open(&spill.directory)).transpose()?;
        let (registry, metrics) = registry();
        let tokens = tokens(store, settings, registrations, replica, spill.clone(), metrics.clone())?;
        let bind = async |listener, bind: &Bind| {
            Listener::bind(bind).await.map(Arc::new).map_err(|cause| StartError::Listen { listener, cause })
        };
        let (readiness, [serving, reached]) = Readiness::new(["the listeners", "the token store"]);
        let proxy_listener = bind("proxy", &proxy.bind).await?;
        let health_listener = bind("health", &health.bind).await?;
        let (callback, asking) = match callback {
            Some((settings, asking)) => {
                let (listener, asking) = (bind("callback", &settings.bind).await?, Arc::new(asking));
                let callback = Callback::new(tokens.clone(), SystemClock, &settings, Arc::clone(&asking));
                (Some((listener, callback.map_err(StartError::CallbackHosts)?)), Some(asking))
            }
            None => (None, None),
        };
        let desks = desks(desk_settings)?;
        let admin = match admin {
            Some(settings) => {
                let listener = bind("admin", &settings.bind).await?;
                let admin =
                    Admin::new(tokens.clone(), SystemClock, settings, writes).map_err(StartError::AdminHosts)?;
                Some((listener, admin.starting(asking).with_desks(desks.clone()).ending_with(shutdown.clone())))
            }
            None => None,
        };
        let proxy = Proxy::new(proxy, tokens.clone(), &behaviours, metrics.clone(), SystemClock)?;
        let (told, ending_told) = (tokens.clone(), shutdown.clone());
        let vitals = move || Vitals {
            store_linked: told.is_linked(),
            tokens_under_way: told.under_way(),
            spills_waiting: spill.as_ref().map(SpillDirectory::len),
            frozen: told.frozen().into_iter().map(|(provider, reason)| (provider, reason.as_str())).collect(),
            draining: ending_told.is_draining(),
        };
        let health = Health::new(readiness.clone(), Arc::new(registry), Box::new(vitals) as VitalsNow);
        let (proxy, health) = ((proxy_listener, proxy), (health_listener, health));
        let grace = ending.grace;
        Ok(Self {
            tokens,
            proxy,
            health,
            admin,
            callback,
            readiness,
            serving,
            reached,
            renewals,
            more_renewals: mpsc::channel(1),
            desks,
            metrics,
            shutdown,
            grace,
        })
    }

    /// Where it listens, with the real ports.
    pub fn addresses(&self) -> Addresses {
        Addresses {
            proxy: self.proxy.0.local().clone(),
            health: self.health.0.local().clone(),
            admin: self.admin.as_ref().map(|(listener, _)| listener.local().clone()),
            callback: self.callback.as_ref().map(|(listener, _)| listener.local().clone()),
        }
    }

    /// Whether everything has happened that has to before it serves.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// What can be replaced while it runs.
    pub fn replaceable(&self) -> Replaceable {
        Replaceable { proxy: self.proxy.1.clone(), renewals: self.more_renewals.0.clone() }
    }

    /// Where its counts are.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Serves until the shutdown begins and everything under way has finished, or the grace period is over.
    pub async fn run(self) {
        let Self {
            tokens,
            proxy,
            health,
            admin,
            callback,
            serving,
            reached,
            renewals,
            more_renewals,
            desks,
            metrics,
            shutdown,
            grace,
            ..
        } = self;
        let tasks = TaskTracker::new();
        let follower = tokens.clone();
        let following = tokio::spawn(async move { follower.follow().await });
        // From here on: a lease that is granted before the store was looked at cannot be taken back.
        if let AnyStore::Redis(store) = tokens.store() {
            store.gate().guard();
        }
        let reuniter = tokens.clone();
        let reuniting = tokio::spawn(async move { reuniter.reunite().await });
        let watcher = tokens.clone();
        let watching = tokio::spawn(async move { watcher.watch_freezes(FREEZES_EVERY).await });
        let renewing = tokio::spawn(renewal::watch(renewals, more_renewals.1, SystemClock, metrics));
        let reacher = tokens.clone();
        let reaching = tokio::spawn(async move {
            match reacher.store() {
                AnyStore::Redis(store) => store.watch(&SystemClock, EXAMINED_EVERY, || reached.release()).await,
                AnyStore::Embedded(_) => {
                    reach_store(&reacher).await;
                    reached.release();
                }
            }
        });
        // The health listener first: probes are answered while spills are replayed.
        // And the last: whoever looks on is told how far the end is.
        let (listener, service) = health;
        let over = Shutdown::new();
        let last = over.clone();
        let answering = tokio::spawn(async move {
            let settings = Health::<VitalsNow>::serve_settings();
            serve(listener, None, &settings, unhurried(service.into_service()), last).await;
        });
        let replay = tokens.recover(REPLAY).await;
        if replay != Replay::default() {
            tracing::info!(?replay, "Looked through the spill.");
        }
        let (listener, proxy) = proxy;
        tasks.spawn(serve_calls(listener, proxy, shutdown.clone()));
        if let Some((listener, service)) = admin {
            let stop = shutdown.clone();
            let settings = AppAdmin::serve_settings();
            tasks.spawn(async move { serve(listener, None, &settings, unhurried(service.into_service()), stop).await });
        }
        if let Some((listener, service)) = callback {
            let stop = shutdown.clone();
            let settings = AppCallback::serve_settings();
            tasks.spawn(async move { serve(listener, None, &settings, unhurried(service.into_service()), stop).await });
        }
        for (provider, desk) in desks.into_iter().filter(|(_, desk)| desk.feed().is_some()) {
            tasks.spawn(read_feed(tokens.clone(), provider, desk, SystemClock, shutdown.clone()));
        }
        serving.release();
        shutdown.soft().await;
        tracing::info!(under_way = tokens.under_way(), "Ending: what is under way finishes first.");
        tasks.close();
        let finish = async {
            tasks.wait().await;
            tokens.settled().await;
        };
        tokio::select! {
            () = shutdown.hard() => tracing::warn!("Ended at once."),
            finished = timeout(grace, finish) => {
                if finished.is_err() {
                    tracing::warn!(under_way = tokens.under_way(), "The grace period is over.");
                }
                shutdown.force();
            }
        }
        following.abort();
        reuniting.abort();
        reaching.abort();
        watching.abort();
        renewing.abort();
        over.force();
        // A panic in it has been told of, and there is nothing more to answer.
        let _ended = answering.await;
    }
}

/// Serves calls, on threads of their own, until all that began before the soft shutdown are through.
async fn serve_calls(listener: Arc<Listener>, proxy: AppProxy, shutdown: Shutdown) {
    let count = proxy.workers();
    let settings = proxy.serve_settings();
    let (service, stop) = (proxy.service(), shutdown.clone());
    let serving = move || async move { serve(listener, None, &settings, service, stop).await };
    match workers::run(count, serving).await {
        Ok(()) if shutdown.is_draining() => {}
        // A process that serves nobody is better restarted.
        Ok(()) => {
            tracing::error!("The threads that serve calls have died.");
            shutdown.begin();
        }
        Err(error) => {
            tracing::error!(%error, "The threads that serve calls could not be started.");
            shutdown.begin();
        }
    }
}

/// The tokens of this configuration. Nothing is served, followed or replayed yet, so this also serves a command that
/// works on records.
pub fn tokens(
    store: StoreConfig,
    settings: TokenSettings,
    registrations: BTreeMap<ProviderId, Registration>,
    replica: String,
    spill: Option<SpillDirectory>,
    metrics: Metrics,
) -> Result<AppTokens, StartError> {
    let timing = Timing::at_pace();
    timing.check().map_err(StartError::Timing)?;
    if timing != Timing::STANDARD {
        tracing::warn!(?timing, "The protocol's time runs at a pace for tests.");
    }
    let clock = SystemClock;
    let mut endpoints = BTreeMap::new();
    for (provider, registration) in registrations {
        let behaviour = settings.providers.get(&provider).map(|settings| settings.behaviour.clone());
        let endpoint = HttpTokenEndpoint::new(registration, &behaviour.unwrap_or_default(), clock)
            .map_err(|cause| StartError::Endpoint { provider: provider.clone(), cause })?;
        endpoints.insert(provider, endpoint);
    }
    let client_ids = settings.providers.iter().map(|(id, settings)| (id.clone(), settings.client_id.clone())).collect();
    let StoreConfig { kind, key_prefix, spill: spill_settings, keyring } = store;
    let store = match kind {
        StoreKind::Redis(settings) => AnyStore::Redis(RedisStore::connect(&settings)?),
        StoreKind::Embedded { path } => AnyStore::Embedded(EmbeddedStore::open(&path, clock)?),
    };
    Ok(Tokens::new(Parts {
        store,
        clock,
        endpoints,
        vault: Vault::new(keyring, key_prefix, client_ids),
        spill,
        spill_required: spill_settings.is_some_and(|spill| spill.required),
        settings,
        timing,
        metrics,
        replica,
    }))
}

/// The banks' APIs for consents, ready to be asked.
pub fn desks(settings: BTreeMap<ProviderId, DeskSettings>) -> Result<Desks, StartError> {
    let ready = settings.into_iter().map(|(provider, settings)| match Desk::new(settings) {
        Ok(desk) => Ok((provider, Arc::new(desk))),
        Err(cause) => Err(StartError::Desk { provider, cause }),
    });
    ready.collect()
}

/// Asks the store for a record that no consent has, until it answers.
async fn reach_store(tokens: &AppTokens) {
    let Ok(nobody) = ConsentId::parse("~readiness~") else { return };
    let key = TokenKey::Consent(nobody);
    let mut pause = Duration::from_millis(50);
    while let Err(error) = tokens.store().read(&key).await {
        tracing::warn!(%error, "The token store has not been reached yet.");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}
