//! A store with a way to let its clock move on.

use std::time::Duration;

use consentry::store::{EmbeddedStore, Feeds, Listing, Quotas, RedisStore};
use consentry::words::clock::{ManualClock, WallTime};

use super::redis::RedisServer;
use super::redis_cluster::RedisCluster;
use super::redis_sentinel::Sentinels;

pub(crate) trait Bench {
    fn store(&self) -> &(impl Feeds + Quotas + Listing);
    /// Lets so much time and a little more pass on the store's clock.
    async fn pass(&self, time: Duration);
}

pub(crate) struct Embedded {
    store: EmbeddedStore<ManualClock>,
    clock: ManualClock,
    _home: tempfile::TempDir,
}

impl Embedded {
    pub(crate) fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let clock = ManualClock::new(WallTime::from_millis(1_760_000_000_000));
        let store = EmbeddedStore::open(&home.path().join("store.redb"), clock.clone()).unwrap();
        Self { store, clock, _home: home }
    }
}

impl Bench for Embedded {
    fn store(&self) -> &(impl Feeds + Quotas + Listing) {
        &self.store
    }

    async fn pass(&self, time: Duration) {
        self.clock.advance(time + Duration::from_millis(2));
    }
}

pub(crate) struct Redis {
    store: RedisStore,
    _server: RedisServer,
}

impl Redis {
    pub(crate) async fn start() -> Self {
        let server = RedisServer::start().await;
        Self { store: server.store(), _server: server }
    }
}

impl Bench for Redis {
    fn store(&self) -> &(impl Feeds + Quotas + Listing) {
        &self.store
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time + Duration::from_millis(2)).await;
    }
}

/// A primary that sentinels name.
pub(crate) struct Watched {
    store: RedisStore,
    _servers: Sentinels,
}

impl Watched {
    pub(crate) async fn start() -> Self {
        let servers = Sentinels::start(1).await;
        Self { store: servers.store(), _servers: servers }
    }
}

impl Bench for Watched {
    fn store(&self) -> &(impl Feeds + Quotas + Listing) {
        &self.store
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time + Duration::from_millis(2)).await;
    }
}

/// A cluster.
pub(crate) struct Clustered {
    store: RedisStore,
    _servers: RedisCluster,
}

impl Clustered {
    pub(crate) async fn start() -> Self {
        let servers = RedisCluster::start().await;
        Self { store: servers.store(), _servers: servers }
    }
}

impl Bench for Clustered {
    fn store(&self) -> &(impl Feeds + Quotas + Listing) {
        &self.store
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time + Duration::from_millis(2)).await;
    }
}
