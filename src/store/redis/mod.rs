//! The store that replicas share: one hash per record in Redis, and one Lua script per step.
//!
//! Read [`settings`] for what it is told, `lua/` for the steps, `scripts` for how they are called, `outcomes` and
//! `providers`, `attempts`, `quotas` and `feeds` for what their answers mean; `route` for the way to the server that has a record, be it the one there is, the one that
//! sentinels name (`sentinel`) or a node of a cluster (`cluster`, `slots`); `link` and `connection` for how a server is
//! reached and given up, `peer` and `identity` for what is learnt of it then, `exchange` for one step over one connection,
//! `durability` for what has to have a write; `listing` for a walk over all consents; `follow` for how changes are heard of, and [`doctor`] for whether a server is
//! fit for this at all. This file is what every step does: send it, and repeat it while the connection breaks or the server
//! changes and time is left. Every step may be repeated, so a lost reply costs a round trip and nothing else.
//!
//! An ACL user needs no more than this, with the prefix in place of `consentry`:
//!
//! ```text
//! user app on >… resetkeys ~consentry:* resetchannels &consentry:changes -@all +hello +auth +select +ping +evalsha
//!   +script|load +time +hgetall +hset +hdel +pexpire +persist +rpush +ltrim +lrange +publish +subscribe +wait +scan
//! ```
//!
//! Without `+rpush +ltrim +lrange` everything works but the history of consents, which is then not written; without `+scan`,
//! everything but the list of consents. SCAN knows no patterns of keys: a user who may run it learns the names of all keys of
//! the server, and nothing of what they hold.
//!
//! With `+info`, which shows no secret, the server can be examined: eviction, persistence, replicas. And it tells one
//! incarnation of the server from the next; without it a server that restarted or was promoted grants leases at once,
//! whatever it may have forgotten, and one that was put back from an old backup is not noticed. `+config|get` adds how often the append-only file is synced, but shows passwords of the
//! server too; `+acl|whoami +acl|dryrun` let missing rights be found without trying each command.
//!
//! Users and their rights are not copied from a primary to its replicas or from node to node: every server that may take
//! over needs them. In a cluster the user also needs `+cluster|slots +cluster|info +asking`, at every node. With
//! `fsync_required` it needs `+waitaof` in place of `+wait`. At the sentinels, where they have users, it needs no more than
//!
//! ```text
//! user app on >… -@all +hello +auth +sentinel|get-master-addr-by-name
//! ```
//!
//! TLS is spoken to sentinels and to the servers that they name, or to neither; sentinels need `tls-replication yes` to
//! know their servers by the ports that speak it, and the nodes of a cluster `tls-cluster yes`. Certificates have to name
//! the servers as sentinels and nodes do, which is by address unless they announce names.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::Value;
use tokio::time::{Instant, sleep};

use super::contract::StoreError;
use super::keys::{self, KeyLayout};
use crate::words::ids::TokenKey;

mod address;
mod attempts;
mod cluster;
mod connection;
pub mod doctor;
mod durability;
mod exchange;
mod feeds;
mod follow;
mod identity;
mod link;
mod listing;
mod outcomes;
mod peer;
mod providers;
mod quotas;
mod reunion;
mod route;
mod scripts;
mod sentinel;
pub mod settings;
mod slots;
mod tls;

pub use address::{AddressError, RedisAddress};
use connection::{Live, server_error};
use durability::Durability;
use exchange::{Exchange, Unanswered};
pub use identity::{Gate, Identity, Primary};
use link::{Lane, Node};
use route::Route;
use scripts::{Arguments, LuaScript, Reply, Scripts};
pub use settings::{ClientIdentity, RedisSettings, SentinelSettings, Servers};
pub use tls::TlsSettingsError;

/// How often a step is sent again after its connection broke.
const REPEATS: u32 = 2;
/// How long to wait for a server, or for those that choose it, to make up its mind.
const PAUSE: Duration = Duration::from_millis(25);
/// After so many redirections in a row there is a pause before the next: nodes that point at each other do not agree yet.
const REDIRECTIONS: u32 = 4;

/// The store in a Redis server. Clones share its connections.
#[derive(Clone)]
pub struct RedisStore(Arc<Inner>);

struct Inner {
    keys: KeyLayout,
    scripts: Scripts,
    route: Route,
    gate: Gate,
    /// Steps taken since the last beat that a backup from before would lack.
    taken: AtomicU64,
    durability: Durability,
    replicas_required: u32,
    fsync_required: bool,
    accept_eviction: bool,
    replica_wait: Duration,
    command_timeout: Duration,
}

impl RedisStore {
    /// Makes the store. Nothing is connected yet, so that a server that is down does not keep us from starting; only
    /// settings that can never work are an error.
    pub fn connect(settings: &RedisSettings) -> Result<Self, TlsSettingsError> {
        let gate = Gate::default();
        Ok(Self(Arc::new(Inner {
            keys: KeyLayout::new(&settings.key_prefix),
            scripts: Scripts::new(),
            route: Route::new(settings, &gate)?,
            gate,
            taken: AtomicU64::new(0),
            durability: Durability::new(settings),
            replicas_required: settings.replicas_required,
            fsync_required: settings.fsync_required,
            accept_eviction: settings.accept_eviction,
            replica_wait: settings.replica_wait,
            command_timeout: settings.command_timeout,
        })))
    }

    /// Whether a server answers. For readiness.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let (node, mut live) = self.0.route.any().await?;
        let mut ping = redis::pipe();
        ping.cmd("PING");
        match live.send(&ping, 1).await.map(|replies| replies.into_iter().next()) {
            Ok(Some(Value::ServerError(error))) => Err(server_error(error.code(), error.details(), "PING")),
            Ok(_) => Ok(()),
            Err(_) => {
                node.link(Lane::Reads).give_up(&live).await;
                Err(StoreError::Unavailable("redis does not answer PING".into()))
            }
        }
    }

    /// What holds up BEGIN and ARM on servers that may have forgotten an intent; open unless it is guarded.
    pub fn gate(&self) -> &Gate {
        &self.0.gate
    }

    /// The servers that take writes now, each with the incarnation that it says it is at this moment: one, or in a
    /// cluster every primary.
    ///
    /// Takes two round trips for each. `Err`: one of them cannot be reached.
    pub async fn primaries(&self) -> Result<Vec<Primary>, StoreError> {
        let mut primaries = Vec::new();
        for node in self.0.route.primaries().await? {
            primaries.push(self.primary(&node).await?);
        }
        Ok(primaries)
    }

    async fn primary(&self, node: &Node) -> Result<Primary, StoreError> {
        let link = node.link(Lane::Steps);
        for _ in 0..=REPEATS {
            let mut live = link.get().await?;
            if matches!(live.is_unchanged().await, Ok(true)) {
                let peer = live.peer();
                return Ok(Primary { address: peer.endpoint.to_string(), identity: peer.identity.clone() });
            }
            link.give_up(&live).await;
        }
        Err(StoreError::Unavailable("redis does not keep its identity".into()))
    }

    /// Turns a step away that gives rights, on a server that may not know every intent.
    fn admit(&self, script: &LuaScript, live: &Live) -> Result<(), StoreError> {
        let identity = &live.peer().identity;
        // Without INFO no incarnation can be told from the next, and nobody could say which one he has told.
        if !script.grants || !identity.is_named() || self.0.gate.is_open(identity) {
            return Ok(());
        }
        Err(StoreError::Reuniting)
    }

    async fn step(
        &self,
        lane: Lane,
        script: &LuaScript,
        key: &TokenKey,
        arguments: Arguments,
    ) -> Result<Reply, StoreError> {
        self.run(lane, script, key, arguments, None).await.map(|(reply, _)| reply)
    }

    /// An ARM, and how many acknowledged it of those that have to.
    async fn intent(&self, script: &LuaScript, key: &TokenKey, args: Arguments) -> Result<(Reply, u32), StoreError> {
        let wait = Some(self.0.durability).filter(|durability| durability.waits());
        let lane = if wait.is_some() { Lane::Intents } else { Lane::Steps };
        self.run(lane, script, key, args, wait).await
    }

    /// A step that changes what the record holds. Where replicas or disks are required its outcome is not known before
    /// enough of them have it: the caller repeats it, and meanwhile keeps what it has.
    async fn outcome(&self, script: &LuaScript, key: &TokenKey, args: Arguments) -> Result<Reply, StoreError> {
        let required = self.0.durability.required();
        let wait = Some(self.0.durability).filter(|durability| durability.waits());
        let lane = if wait.is_some() { Lane::Outcomes } else { Lane::Steps };
        let (reply, acknowledged) = self.run(lane, script, key, args, wait).await?;
        // These changed nothing that a replica could lack. Any other answer is acted on, and what it rests on has to last.
        let changed = !matches!(
            reply.word.as_str(),
            "MISSING" | "EXISTS" | "MISMATCH" | "SPENT" | "NOT_FOUND" | "NOT_SUSPENDED" | "NOTHING" | "ELSEWHERE"
        );
        if acknowledged >= required || !changed {
            return Ok(reply);
        }
        let (name, what) = (script.name, if self.0.fsync_required { "disks" } else { "replicas" });
        let text = format!("{acknowledged} of {required} required redis {what} acknowledged {name} in time");
        Err(StoreError::Unavailable(text))
    }

    async fn run(
        &self,
        lane: Lane,
        script: &LuaScript,
        key: &TokenKey,
        arguments: Arguments,
        durability: Option<Durability>,
    ) -> Result<(Reply, u32), StoreError> {
        let keys = [self.0.keys.record(key)];
        let (value, acknowledged) = self.call_and_wait(lane, script, &keys, &arguments, durability).await?;
        let reply = understood(value, script, key)?;
        if is_lasting(key, &reply.word) {
            self.0.taken.fetch_add(1, Ordering::Relaxed);
        }
        Ok((reply, acknowledged))
    }

    /// Runs a script on one key that is no record.
    async fn call(
        &self,
        lane: Lane,
        script: &LuaScript,
        key: &str,
        arguments: &Arguments,
    ) -> Result<Value, StoreError> {
        self.call_and_wait(lane, script, &[key.to_owned()], arguments, None).await.map(|(value, _)| value)
    }

    /// Sends a script to the server that has the key, and again while that may change its answer and time is left.
    async fn call_and_wait(
        &self,
        lane: Lane,
        script: &LuaScript,
        keys: &[String],
        arguments: &Arguments,
        durability: Option<Durability>,
    ) -> Result<(Value, u32), StoreError> {
        let inner = &self.0;
        let slot = keys.first().map_or(0, |key| slots::of_key(key));
        let exchange = Exchange { script, call: script.call(keys, arguments), durability };
        let started = Instant::now();
        let silent = || StoreError::Unavailable(format!("redis does not answer {}", script.name));
        let (mut broken, mut redirected, mut asked) = (0, 0, None);
        loop {
            let asking = asked.take();
            let node = match &asking {
                Some(endpoint) => inner.route.node(endpoint).await.ok_or_else(silent)?,
                None => inner.route.owner(slot).await?,
            };
            let link = node.link(lane);
            let mut live = match link.get().await {
                Ok(live) => live,
                Err(error) if started.elapsed() > inner.command_timeout => return Err(error),
                Err(_) if inner.route.has_another(slot, &node).await => continue,
                Err(error) => return Err(error),
            };
            self.admit(script, &live)?;
            let (error, pause) = match exchange.send(&mut live, asking.is_some()).await {
                Ok(answer) => return Ok(answer),
                Err(Unanswered::Error(error)) => return Err(error),
                Err(Unanswered::Broken) => {
                    link.give_up(&live).await;
                    broken += 1;
                    if broken > REPEATS {
                        return Err(silent());
                    }
                    (silent(), false)
                }
                Err(Unanswered::Demoted(error)) => {
                    link.give_up(&live).await;
                    if !inner.route.depose(&node, &live).await {
                        return Err(error);
                    }
                    (error, true)
                }
                Err(Unanswered::Later(error)) => {
                    if !inner.route.can_change() {
                        return Err(error);
                    }
                    (error, true)
                }
                Err(Unanswered::Moved(to)) => {
                    if !inner.route.moved(slot, to).await {
                        return Err(server_error("MOVED", None, script.name));
                    }
                    redirected += 1;
                    (silent(), redirected > REDIRECTIONS)
                }
                Err(Unanswered::Ask(to)) => {
                    if !inner.route.can_change() {
                        return Err(server_error("ASK", None, script.name));
                    }
                    asked = Some(to);
                    redirected += 1;
                    (silent(), redirected > REDIRECTIONS)
                }
            };
            if started.elapsed() > inner.command_timeout {
                return Err(error);
            }
            if pause {
                sleep(PAUSE).await;
            }
        }
    }

    /// What every script is told first.
    fn arguments(&self, key: &TokenKey) -> Arguments {
        Arguments::default().text(&self.0.keys.changes()).text(&keys::short_name(key))
    }
}

/// Whether an older copy of the store would be wrong about a consent for want of this step. What is put back was taken
/// before, and of our client's own tokens none can be spent.
fn is_lasting(key: &TokenKey, answered: &str) -> bool {
    matches!(key, TokenKey::Consent(_)) && matches!(answered, "ARMED" | "STORED" | "CREATED" | "REPLACED" | "ENDED")
}

fn understood(value: Value, script: &LuaScript, key: &TokenKey) -> Result<Reply, StoreError> {
    Reply::parse(value, script)?.map_err(|field| outcomes::unreadable(&field, key))
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("keys", &self.0.keys).finish_non_exhaustive()
    }
}
