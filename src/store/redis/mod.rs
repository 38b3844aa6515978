//! The store that replicas share: one hash per record in Redis, and one Lua script per step.
//!
//! Read [`settings`] for what it is told, `lua/` for the steps, `scripts` for how they are called, `outcomes` for what
//! their answers mean, `connection` for how the server is reached and given up, `follow` for how changes are heard of,
//! `identity` for which incarnation of a server is spoken to, and [`doctor`] for whether a server is fit for this at all. This file is what every step does: send it, and repeat it
//! while the connection breaks and time is left. Every step may be repeated, so a lost reply costs a round trip and
//! nothing else.
//!
//! An ACL user needs no more than this, with the prefix in place of `consentry`:
//!
//! ```text
//! user app on >… resetkeys ~consentry:* resetchannels &consentry:changes -@all +hello +auth +select +ping +evalsha
//!   +script|load +time +hgetall +hset +hdel +pexpire +persist +publish +subscribe +wait
//! ```
//!
//! With `+info`, which shows no secret, the server can be examined: eviction, persistence, replicas. And it tells one
//! incarnation of the server from the next; without it a server that restarted or was promoted grants leases at once,
//! whatever it may have forgotten. `+config|get` adds how often the append-only file is
//! synced, but shows passwords of the server too; `+acl|whoami +acl|dryrun` let missing rights be found without trying
//! each command.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::time::Instant;

use super::contract::StoreError;
use super::keys::{self, KeyLayout};
use crate::words::clock::millis;
use crate::words::ids::TokenKey;

mod connection;
pub mod doctor;
mod follow;
mod identity;
mod outcomes;
mod reunion;
mod scripts;
pub mod settings;
mod tls;

use connection::{Connector, Link, Live, server_error};
pub use identity::{Gate, Identity, Primary};
use scripts::{Arguments, LuaScript, Reply, Scripts, number};
pub use settings::{AddressError, ClientIdentity, RedisAddress, RedisSettings};
pub use tls::TlsSettingsError;

/// How often a step is sent again after its connection broke.
const REPEATS: u32 = 2;

/// The store in a Redis server. Clones share its connections.
#[derive(Clone)]
pub struct RedisStore(Arc<Inner>);

struct Inner {
    keys: KeyLayout,
    scripts: Scripts,
    connector: Arc<Connector>,
    reads: Link,
    steps: Link,
    /// The steps that wait for replicas, apart from the rest and intents apart from outcomes: WAIT holds up its whole
    /// connection. Used only where replicas are required.
    intents: Link,
    outcomes: Link,
    gate: Gate,
    replicas_required: u32,
    accept_eviction: bool,
    replica_wait: Duration,
    command_timeout: Duration,
}

impl RedisStore {
    /// Makes the store. Nothing is connected yet, so that a server that is down does not keep us from starting; only
    /// settings that can never work are an error.
    pub fn connect(settings: &RedisSettings) -> Result<Self, TlsSettingsError> {
        let gate = Gate::default();
        let connector = Arc::new(Connector::new(settings, &gate)?);
        let link = |timeout| Link::new(Arc::clone(&connector), timeout);
        Ok(Self(Arc::new(Inner {
            keys: KeyLayout::new(&settings.key_prefix),
            scripts: Scripts::new(),
            reads: link(settings.command_timeout),
            steps: link(settings.command_timeout),
            intents: link(settings.command_timeout + settings.replica_wait),
            outcomes: link(settings.command_timeout + settings.replica_wait),
            connector,
            gate,
            replicas_required: settings.replicas_required,
            accept_eviction: settings.accept_eviction,
            replica_wait: settings.replica_wait,
            command_timeout: settings.command_timeout,
        })))
    }

    /// Whether the server answers. For readiness.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let mut live = self.0.reads.get().await?;
        let mut ping = redis::pipe();
        ping.cmd("PING");
        match live.send(&ping, 1).await.map(|replies| replies.into_iter().next()) {
            Ok(Some(Value::ServerError(error))) => Err(server_error(error.code(), error.details(), "PING")),
            Ok(_) => Ok(()),
            Err(_) => {
                self.0.reads.give_up(&live).await;
                Err(StoreError::Unavailable("redis does not answer PING".into()))
            }
        }
    }

    /// What holds up BEGIN and ARM on servers that may have forgotten an intent; open unless it is guarded.
    pub fn gate(&self) -> &Gate {
        &self.0.gate
    }

    /// The servers that take writes now, each with the incarnation that it says it is at this moment.
    ///
    /// Takes two round trips for each. `Err`: one of them cannot be reached.
    pub async fn primaries(&self) -> Result<Vec<Primary>, StoreError> {
        let inner = &self.0;
        let address = inner.connector.address();
        for _ in 0..=REPEATS {
            let mut live = inner.steps.get().await?;
            if matches!(live.is_unchanged().await, Ok(true)) {
                return Ok(vec![Primary { address, identity: live.identity().clone() }]);
            }
            inner.steps.give_up(&live).await;
        }
        Err(StoreError::Unavailable(format!("redis at {address} does not keep its identity")))
    }

    /// Turns a step away that gives rights, on a server that may not know every intent.
    fn admit(&self, script: &LuaScript, live: &Live) -> Result<(), StoreError> {
        // Without INFO no incarnation can be told from the next, and nobody could say which one he has told.
        if !script.grants || !live.identity().is_named() || self.0.gate.is_open(live.identity()) {
            return Ok(());
        }
        Err(StoreError::Reuniting)
    }

    async fn step(
        &self,
        link: &Link,
        script: &LuaScript,
        key: &TokenKey,
        arguments: Arguments,
    ) -> Result<Reply, StoreError> {
        self.run(link, script, key, arguments, false).await.map(|(reply, _)| reply)
    }

    /// An ARM, and how many replicas acknowledged it.
    async fn intent(&self, script: &LuaScript, key: &TokenKey, args: Arguments) -> Result<(Reply, u32), StoreError> {
        let wait = self.0.replicas_required > 0;
        let link = if wait { &self.0.intents } else { &self.0.steps };
        self.run(link, script, key, args, wait).await
    }

    /// A step that changes what the record holds. Where replicas are required its outcome is not known before enough of
    /// them have it: the caller repeats it, and meanwhile keeps what it has.
    async fn outcome(&self, script: &LuaScript, key: &TokenKey, args: Arguments) -> Result<Reply, StoreError> {
        let required = self.0.replicas_required;
        let link = if required > 0 { &self.0.outcomes } else { &self.0.steps };
        let (reply, acknowledged) = self.run(link, script, key, args, required > 0).await?;
        // These changed nothing that a replica could lack. Any other answer is acted on, and what it rests on has to last.
        let changed = !matches!(reply.word.as_str(), "MISSING" | "EXISTS" | "MISMATCH" | "SPENT" | "NOT_FOUND");
        if acknowledged >= required || !changed {
            return Ok(reply);
        }
        let name = script.name;
        let text = format!("{acknowledged} of {required} required redis replicas acknowledged {name} in time");
        Err(StoreError::Unavailable(text))
    }

    async fn run(
        &self,
        link: &Link,
        script: &LuaScript,
        key: &TokenKey,
        arguments: Arguments,
        wait: bool,
    ) -> Result<(Reply, u32), StoreError> {
        let (value, acknowledged) =
            self.call_and_wait(link, script, &self.0.keys.record(key), &arguments, wait).await?;
        Ok((understood(value, script, key)?, acknowledged))
    }

    /// Runs a script on one key that is no record.
    async fn call(
        &self,
        link: &Link,
        script: &LuaScript,
        key: &str,
        arguments: &Arguments,
    ) -> Result<Value, StoreError> {
        self.call_and_wait(link, script, key, arguments, false).await.map(|(value, _)| value)
    }

    async fn call_and_wait(
        &self,
        link: &Link,
        script: &LuaScript,
        key: &str,
        arguments: &Arguments,
        wait: bool,
    ) -> Result<(Value, u32), StoreError> {
        let call = script.call(key, arguments);
        let started = Instant::now();
        let mut repeats = 0;
        loop {
            let mut live = link.get().await?;
            self.admit(script, &live)?;
            let broken = match self.send(&mut live, script, &call, wait).await {
                Ok(answer) => return Ok(answer),
                Err(Unanswered::Error(error)) => return Err(error),
                Err(Unanswered::Demoted(error)) => Some(error),
                Err(Unanswered::Broken) => None,
            };
            link.give_up(&live).await;
            if let Some(error) = broken {
                return Err(error);
            }
            repeats += 1;
            if repeats > REPEATS || started.elapsed() > self.0.command_timeout {
                return Err(StoreError::Unavailable(format!("redis does not answer {}", script.name)));
            }
        }
    }

    /// Sends a step, and with it, on the same connection, the wait for replicas.
    async fn send(
        &self,
        live: &mut Live,
        script: &LuaScript,
        call: &redis::Cmd,
        wait: bool,
    ) -> Result<(Value, u32), Unanswered> {
        let mut commands = redis::pipe();
        commands.add_command(call.clone());
        if wait {
            commands.cmd("WAIT").arg(self.0.replicas_required).arg(millis(self.0.replica_wait));
        }
        // A server that was demoted and promoted again keeps its connections, and is another incarnation all the same.
        let recheck = script.grants && live.identity().is_named();
        if recheck {
            commands.cmd("INFO").arg("replication");
        }
        let count = 1 + usize::from(wait) + usize::from(recheck);
        let mut replies = live.send(&commands, count).await.map_err(|_| Unanswered::Broken)?;
        if is_unknown_script(replies.first()) {
            let mut load = redis::pipe();
            load.add_command(script.load());
            let loaded = live.send(&load, 1).await.map_err(|_| Unanswered::Broken)?;
            replies_without_error(loaded, script)?;
            replies = live.send(&commands, count).await.map_err(|_| Unanswered::Broken)?;
        }
        if recheck && replies.pop().is_none_or(|info| !live.identity().is_in_stream(&info)) {
            return Err(Unanswered::Broken);
        }
        let mut replies = replies_without_error(replies, script)?.into_iter();
        let value = replies.next().ok_or(Unanswered::Broken)?;
        let acknowledged = replies.next().as_ref().and_then(number).unwrap_or_default();
        Ok((value, u32::try_from(acknowledged).unwrap_or(u32::MAX)))
    }

    /// What every script is told first.
    fn arguments(&self, key: &TokenKey) -> Arguments {
        Arguments::default().text(&self.0.keys.changes()).text(&keys::short_name(key))
    }
}

/// Why there is no reply.
enum Unanswered {
    /// The connection broke or fell silent; the step may or may not have happened.
    Broken,
    /// The server became a replica, which keeps its connections.
    Demoted(StoreError),
    /// The server said no.
    Error(StoreError),
}

fn is_unknown_script(reply: Option<&Value>) -> bool {
    matches!(reply, Some(Value::ServerError(error)) if error.code() == "NOSCRIPT")
}

fn replies_without_error(replies: Vec<Value>, script: &LuaScript) -> Result<Vec<Value>, Unanswered> {
    for reply in &replies {
        if let Value::ServerError(error) = reply {
            let meaning = server_error(error.code(), error.details(), script.name);
            return Err(match error.code() {
                "READONLY" => Unanswered::Demoted(meaning),
                _ => Unanswered::Error(meaning),
            });
        }
    }
    Ok(replies)
}

fn understood(value: Value, script: &LuaScript, key: &TokenKey) -> Result<Reply, StoreError> {
    Reply::parse(value, script)?.map_err(|field| outcomes::unreadable(&field, key))
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("keys", &self.0.keys).finish_non_exhaustive()
    }
}
