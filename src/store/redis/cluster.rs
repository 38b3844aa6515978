//! Which node of a cluster has a slot, and the connections to each.
//!
//! A small router of our own. The map is learnt from CLUSTER SLOTS and kept until a node sends us elsewhere or does not
//! answer; then the slot in question is known at once and the rest is learnt again, one question at a time and not more
//! often than a few times a second. Each node has the same links as a server without a cluster, so a step, its ASKING and its
//! WAIT stay on one connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::address::Endpoint;
use super::connection::Live;
use super::link::{Kit, Lane, Node, Origin};
use super::slots::{self, SLOTS, Shard};
use crate::store::contract::StoreError;

/// How old a map has to be before it is asked for again.
const YOUNGEST: Duration = Duration::from_millis(200);
/// More nodes than a cluster has; what is beyond is forgotten and connected anew.
const MOST_NODES: usize = 1_000;

/// A cluster.
pub(super) struct Cluster {
    seeds: Vec<Endpoint>,
    kit: Arc<Kit>,
    map: Mutex<Map>,
    nodes: Mutex<HashMap<Endpoint, Arc<Node>>>,
}

#[derive(Default)]
struct Map {
    shards: Vec<Shard>,
    /// What redirections said since the map was learnt.
    moved: HashMap<u16, Endpoint>,
    learnt: Option<Instant>,
    is_doubted: bool,
    turn: usize,
}

impl Map {
    fn owner(&self, slot: u16) -> Option<&Endpoint> {
        let by_map = || self.shards.iter().find(|shard| (shard.first..=shard.last).contains(&slot));
        self.moved.get(&slot).or_else(|| by_map().map(|shard| &shard.primary))
    }

    fn primaries(&self) -> Vec<Endpoint> {
        let mut primaries: Vec<_> = self.shards.iter().map(|shard| shard.primary.clone()).collect();
        primaries.extend(self.moved.values().cloned());
        primaries.sort();
        primaries.dedup();
        primaries
    }

    fn is_due(&self) -> bool {
        let old = self.learnt.is_none_or(|learnt| learnt.elapsed() > YOUNGEST);
        old && (self.shards.is_empty() || self.is_doubted)
    }
}

impl Cluster {
    pub(super) fn new(seeds: Vec<Endpoint>, kit: Arc<Kit>) -> Self {
        Self { seeds, kit, map: Mutex::default(), nodes: Mutex::default() }
    }

    /// The node that owns a slot, as far as is known.
    pub(super) async fn owner(&self, slot: u16) -> Result<Arc<Node>, StoreError> {
        let mut map = self.map.lock().await;
        let learnt = self.learn(&mut map).await;
        let owner = map.owner(slot).cloned();
        drop(map);
        let Some(owner) = owner else {
            learnt?;
            return Err(StoreError::Unavailable(format!("no node of the redis cluster has slot {slot}")));
        };
        Ok(self.node(owner).await)
    }

    /// The connections to one node.
    pub(super) async fn node(&self, endpoint: Endpoint) -> Arc<Node> {
        let mut nodes = self.nodes.lock().await;
        if nodes.len() >= MOST_NODES {
            nodes.clear();
        }
        let make = || Arc::new(Node::new(Origin::Fixed(endpoint.clone()), &self.kit));
        Arc::clone(nodes.entry(endpoint.clone()).or_insert_with(make))
    }

    /// A node said who has the slot instead.
    pub(super) async fn moved(&self, slot: u16, to: Endpoint) {
        let mut map = self.map.lock().await;
        map.moved.insert(slot % SLOTS, to);
        map.is_doubted = true;
    }

    /// A node did not answer or does not take writes: the map may be out of date.
    pub(super) async fn doubt(&self) {
        self.map.lock().await.is_doubted = true;
    }

    /// Every shard, learnt anew.
    pub(super) async fn shards(&self) -> Result<Vec<Shard>, StoreError> {
        let mut map = self.map.lock().await;
        map.is_doubted = true;
        map.learnt = None;
        self.learn(&mut map).await?;
        Ok(map.shards.clone())
    }

    /// A primary to listen at; another one each time.
    pub(super) async fn any(&self) -> Result<Endpoint, StoreError> {
        let mut map = self.map.lock().await;
        self.learn(&mut map).await?;
        map.turn = map.turn.wrapping_add(1);
        let primaries = map.primaries();
        let turn = map.turn % primaries.len().max(1);
        primaries.into_iter().nth(turn).ok_or_else(|| StoreError::Unavailable("the redis cluster has no node".into()))
    }

    /// Learns the map if that is due, from the first node that has it. Nobody waits longer than for a step.
    async fn learn(&self, map: &mut Map) -> Result<(), StoreError> {
        if !map.is_due() {
            return Ok(());
        }
        map.learnt = Some(Instant::now());
        map.turn = map.turn.wrapping_add(1);
        let mut known = map.primaries();
        known.extend(self.seeds.iter().filter(|seed| !known.contains(seed)).cloned().collect::<Vec<_>>());
        // Another one is asked first each time, so that one that is cut off is not asked for ever.
        let first = map.turn % known.len().max(1);
        known.rotate_left(first);
        let asking = async {
            let mut last = StoreError::Unavailable("the redis cluster has no node to ask".into());
            for endpoint in known {
                match self.ask(endpoint).await {
                    Ok(shards) => return Ok(shards),
                    Err(error) => last = error,
                }
            }
            Err(last)
        };
        let late = |_| StoreError::Unavailable("no node of the redis cluster tells its map in time".into());
        let shards = timeout(self.kit.command_timeout, asking).await.map_err(late)??;
        map.shards = shards;
        map.moved.clear();
        map.is_doubted = false;
        let primaries = map.primaries();
        self.nodes.lock().await.retain(|endpoint, _| primaries.contains(endpoint));
        Ok(())
    }

    async fn ask(&self, endpoint: Endpoint) -> Result<Vec<Shard>, StoreError> {
        let node = self.node(endpoint.clone()).await;
        let link = node.link(Lane::Reads);
        let mut live = link.get().await?;
        let mut questions = redis::pipe();
        questions.cmd("CLUSTER").arg("SLOTS");
        questions.cmd("CLUSTER").arg("INFO");
        let Ok(replies) = live.send(&questions, 2).await else {
            link.give_up(&live).await;
            return Err(StoreError::Unavailable(format!("redis at {endpoint} does not tell the cluster's map")));
        };
        let [slots, info] = replies.as_slice() else {
            return Err(StoreError::Unavailable(format!("redis at {endpoint} does not tell the cluster's map")));
        };
        if let Value::ServerError(error) = slots {
            return Err(super::connection::server_error(error.code(), error.details(), "CLUSTER SLOTS"));
        }
        let shards = slots::shards(slots, &endpoint);
        if shards.is_empty() || is_cut_off(info) {
            return Err(StoreError::Unavailable(format!("redis at {endpoint} is not in touch with its cluster")));
        }
        Ok(shards)
    }
}

/// Whether a node that listens is still in touch with the others, through which it hears of changes.
pub(super) async fn hears(live: &mut Live) -> bool {
    let mut question = redis::pipe();
    question.cmd("CLUSTER").arg("INFO");
    let reply = live.send(&question, 1).await;
    reply.is_ok_and(|replies| replies.first().is_some_and(|info| !is_cut_off(info)))
}

/// By its reply to CLUSTER INFO; one that may not be asked is taken at its word.
fn is_cut_off(info: &Value) -> bool {
    match info {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).contains("cluster_state:fail"),
        Value::VerbatimString { text, .. } => text.contains("cluster_state:fail"),
        _ => false,
    }
}
