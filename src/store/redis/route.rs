//! The way from a record to the server that has it, in each topology.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redis::AsyncConnectionConfig;

use super::address::Endpoint;
use super::cluster::{self, Cluster};
use super::connection::{Dialer, Live};
use super::identity::Gate;
use super::link::{Kit, Lane, Node, Origin};
use super::sentinel::Sentinels;
use super::settings::{RedisSettings, Servers};
use super::tls::TlsSettingsError;
use crate::store::contract::StoreError;

/// All the servers, and how one is chosen.
pub(super) struct Route {
    kit: Arc<Kit>,
    servers: Ways,
}

enum Ways {
    /// One server, or the one that sentinels name.
    One(Arc<Node>),
    Cluster(Box<Cluster>),
}

/// How the servers are joined, for whoever looks at each of them.
pub(super) enum Shape<'r> {
    /// One server at this address.
    One(&'r Endpoint),
    /// A primary with replicas, by the word of these.
    Watched(&'r Sentinels),
    /// Primaries that share the slots.
    Cluster(&'r Cluster),
}

impl Route {
    pub(super) fn new(settings: &RedisSettings, gate: &Gate) -> Result<Self, TlsSettingsError> {
        let kit = Arc::new(Kit {
            dialer: Dialer::new(settings)?,
            gate: gate.clone(),
            command_timeout: settings.command_timeout,
            replica_wait: settings.replica_wait,
        });
        let one = |origin| Ways::One(Arc::new(Node::new(origin, &kit)));
        let servers = match &settings.servers {
            Servers::One(address) => one(Origin::Fixed(address.into())),
            Servers::Sentinel(sentinel) => {
                let dialer = kit.dialer.to_sentinels(sentinel);
                one(Origin::Sentinels(Arc::new(Sentinels::new(sentinel, dialer, settings.command_timeout))))
            }
            Servers::Cluster(seeds) => {
                let seeds = seeds.iter().map(Endpoint::from).collect();
                Ways::Cluster(Box::new(Cluster::new(seeds, Arc::clone(&kit))))
            }
        };
        Ok(Self { kit, servers })
    }

    /// The server that has a slot.
    pub(super) async fn owner(&self, slot: u16) -> Result<Arc<Node>, StoreError> {
        match &self.servers {
            Ways::One(node) => Ok(Arc::clone(node)),
            Ways::Cluster(cluster) => cluster.owner(slot).await,
        }
    }

    /// A node that another one named; `None` where there is no cluster.
    pub(super) async fn node(&self, endpoint: &Endpoint) -> Option<Arc<Node>> {
        match &self.servers {
            Ways::One(_) => None,
            Ways::Cluster(cluster) => Some(cluster.node(endpoint.clone()).await),
        }
    }

    /// Takes note of where a slot went. `false`: there is no cluster, so nobody can be sent anywhere.
    pub(super) async fn moved(&self, slot: u16, to: Endpoint) -> bool {
        match &self.servers {
            Ways::One(_) => false,
            Ways::Cluster(cluster) => {
                cluster.moved(slot, to).await;
                true
            }
        }
    }

    /// A server cannot be reached. Whether another one is known to have the slot by now.
    pub(super) async fn has_another(&self, slot: u16, than: &Node) -> bool {
        let Ways::Cluster(cluster) = &self.servers else { return false };
        cluster.doubt().await;
        let owner = cluster.owner(slot).await;
        owner.is_ok_and(|owner| !owner.is_same(than))
    }

    /// A server does not take writes, or not at the moment. Whether asking again may lead to one that does.
    pub(super) async fn depose(&self, node: &Node, live: &Live) -> bool {
        match &self.servers {
            Ways::One(_) => node.origin.depose(live),
            Ways::Cluster(cluster) => {
                cluster.doubt().await;
                true
            }
        }
    }

    /// Whether a server that cannot do a step at the moment may be followed by another one that can.
    pub(super) fn can_change(&self) -> bool {
        match &self.servers {
            Ways::One(node) => matches!(node.origin, Origin::Sentinels(_)),
            Ways::Cluster(_) => true,
        }
    }

    /// The server may have been the wrong one to ask.
    pub(super) async fn doubt(&self) {
        match &self.servers {
            Ways::One(_) => {}
            Ways::Cluster(cluster) => cluster.doubt().await,
        }
    }

    /// Of the servers that have no lower slot than this one, that with the lowest, and which slot that is. Whoever asks for
    /// slot 0, and then each time for the next one, comes to all servers.
    pub(super) async fn from(&self, slot: u16) -> Result<Option<(u16, Arc<Node>)>, StoreError> {
        let cluster = match &self.servers {
            Ways::One(node) => return Ok((slot == 0).then(|| (0, Arc::clone(node)))),
            Ways::Cluster(cluster) => cluster,
        };
        let mut lowest: BTreeMap<Endpoint, u16> = BTreeMap::new();
        for shard in cluster.shards().await? {
            let own = lowest.entry(shard.primary).or_insert(shard.first);
            *own = shard.first.min(*own);
        }
        let next = lowest.into_iter().filter(|(_, first)| *first >= slot).min_by_key(|(_, first)| *first);
        Ok(match next {
            Some((endpoint, first)) => Some((first, cluster.node(endpoint).await)),
            None => None,
        })
    }

    /// Every server that takes writes.
    pub(super) async fn primaries(&self) -> Result<Vec<Arc<Node>>, StoreError> {
        let cluster = match &self.servers {
            Ways::One(node) => return Ok(vec![Arc::clone(node)]),
            Ways::Cluster(cluster) => cluster,
        };
        let mut endpoints: Vec<Endpoint> = cluster.shards().await?.into_iter().map(|shard| shard.primary).collect();
        endpoints.sort();
        endpoints.dedup();
        let mut nodes = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            nodes.push(cluster.node(endpoint).await);
        }
        Ok(nodes)
    }

    /// How the servers are joined.
    pub(super) fn shape(&self) -> Shape<'_> {
        match &self.servers {
            Ways::One(node) => match &node.origin {
                Origin::Fixed(endpoint) => Shape::One(endpoint),
                Origin::Sentinels(sentinels) => Shape::Watched(sentinels),
            },
            Ways::Cluster(cluster) => Shape::Cluster(cluster),
        }
    }

    /// A connection of the caller's own to any server that has the records, or hears of all changes to them.
    pub(super) async fn dial_any(&self, config: AsyncConnectionConfig, resp3: bool) -> Result<Live, StoreError> {
        match &self.servers {
            Ways::One(node) => node.origin.dial(&self.kit.dialer, config, resp3).await,
            Ways::Cluster(cluster) => self.kit.dialer.dial(&cluster.any().await?, config, resp3).await,
        }
    }

    /// A connection of the caller's own to one server.
    pub(super) async fn dial(&self, to: &Endpoint, resp3: bool) -> Result<Live, StoreError> {
        self.kit.dialer.dial(to, patient(self.kit.command_timeout), resp3).await
    }

    /// Whether a connection that listens still hears of changes to all records.
    pub(super) async fn still_hears(&self, live: &mut Live) -> bool {
        match &self.servers {
            Ways::One(node) => {
                let mut ping = redis::pipe();
                ping.cmd("PING");
                node.origin.is_current(live) && live.send(&ping, 1).await.is_ok()
            }
            Ways::Cluster(_) => cluster::hears(live).await,
        }
    }

    /// The shared connection for reading to any server.
    pub(super) async fn any(&self) -> Result<(Arc<Node>, Live), StoreError> {
        let node = match &self.servers {
            Ways::One(node) => Arc::clone(node),
            Ways::Cluster(cluster) => cluster.node(cluster.any().await?).await,
        };
        let live = node.link(Lane::Reads).get().await?;
        Ok((node, live))
    }
}

/// A connection that waits so long for a reply.
pub(super) fn patient(reply_timeout: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_response_timeout(Some(reply_timeout)).set_connection_timeout(None)
}
