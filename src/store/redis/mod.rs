//! The store that replicas share: one hash per record in Redis, and one Lua script per step.
//!
//! Read [`settings`] for what it is told, `lua/` for the steps, `scripts` for how they are called, `connection` for how
//! the server is reached and given up, and `follow` for how changes are heard of. This file is what one step does: send
//! it, and repeat it while the connection breaks and time is left. Every step may be repeated, so a lost reply costs a
//! round trip and nothing else.
//!
//! An ACL user needs no more than this, with the prefix in place of `consentry`:
//!
//! ```text
//! user app on >… resetkeys ~consentry:* resetchannels &consentry:changes -@all +hello +auth +select +ping +evalsha
//!   +script|load +time +hgetall +hset +hdel +pexpire +persist +publish +subscribe +wait
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::contract::{
    Arm, ArmOutcome, Begin, BeginOutcome, Change, Commit, CommitOutcome, End, EndOutcome, Fail, FailOutcome, FailTo,
    Lease, Renew, RenewOutcome, Restore, RestoreOutcome, Sealed, Seed, SeedOutcome, Snapshot, Store, StoreError,
    Waiting,
};
use super::keys::{self, KeyLayout};
use super::record::Record;
use super::steps::{date, span, tombstone_state};
use crate::words::clock::millis;
use crate::words::ids::{GrantId, TokenKey, Version};
use crate::words::token_set::Scope;

mod connection;
mod follow;
mod scripts;
pub mod settings;
mod tls;

use connection::{Connector, Link, Live, server_error};
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
    /// The steps that wait for replicas, apart from the rest: WAIT holds up its whole connection.
    durable: Link,
    replicas_required: u32,
    replica_wait: Duration,
    command_timeout: Duration,
}

impl RedisStore {
    /// Makes the store. Nothing is connected yet, so that a server that is down does not keep us from starting; only
    /// settings that can never work are an error.
    pub fn connect(settings: &RedisSettings) -> Result<Self, TlsSettingsError> {
        let connector = Arc::new(Connector::new(settings)?);
        let link = |timeout| Link::new(Arc::clone(&connector), timeout);
        Ok(Self(Arc::new(Inner {
            keys: KeyLayout::new(&settings.key_prefix),
            scripts: Scripts::new(),
            reads: link(settings.command_timeout),
            steps: link(settings.command_timeout),
            durable: link(settings.command_timeout + settings.replica_wait),
            connector,
            replicas_required: settings.replicas_required,
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
            Ok(Some(Value::ServerError(error))) => Err(server_error(error.code(), "PING")),
            Ok(_) => Ok(()),
            Err(_) => {
                self.0.reads.give_up(&live).await;
                Err(StoreError::Unavailable("redis does not answer PING".into()))
            }
        }
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

    /// A step that counts only when as many replicas as required have it. Tells how many acknowledged.
    async fn durable_step(
        &self,
        script: &LuaScript,
        key: &TokenKey,
        arguments: Arguments,
    ) -> Result<(Reply, u32), StoreError> {
        self.run(&self.0.durable, script, key, arguments, self.0.replicas_required > 0).await
    }

    async fn run(
        &self,
        link: &Link,
        script: &LuaScript,
        key: &TokenKey,
        arguments: Arguments,
        wait: bool,
    ) -> Result<(Reply, u32), StoreError> {
        let call = script.call(&self.0.keys.record(key), &arguments);
        let started = Instant::now();
        let mut repeats = 0;
        loop {
            let mut live = link.get().await?;
            let broken = match self.send(&mut live, script, &call, wait).await {
                Ok((value, acknowledged)) => return Ok((understood(value, script, key)?, acknowledged)),
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
        let count = 1 + usize::from(wait);
        let mut replies = live.send(&commands, count).await.map_err(|_| Unanswered::Broken)?;
        if is_unknown_script(replies.first()) {
            let mut load = redis::pipe();
            load.add_command(script.load());
            let loaded = live.send(&load, 1).await.map_err(|_| Unanswered::Broken)?;
            replies_without_error(loaded, script)?;
            replies = live.send(&commands, count).await.map_err(|_| Unanswered::Broken)?;
        }
        let mut replies = replies_without_error(replies, script)?.into_iter();
        let value = replies.next().ok_or(Unanswered::Broken)?;
        let acknowledged = replies.next().as_ref().and_then(number).unwrap_or_default();
        Ok((value, u32::try_from(acknowledged).unwrap_or(u32::MAX)))
    }

    /// A new grant or an end that too few replicas have is not known to have happened.
    fn require(&self, acknowledged: u32, script: &LuaScript) -> Result<(), StoreError> {
        let required = self.0.replicas_required;
        if acknowledged >= required {
            return Ok(());
        }
        let name = script.name;
        let text = format!("{acknowledged} of {required} required redis replicas acknowledged {name} in time");
        Err(StoreError::Unavailable(text))
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
            let meaning = server_error(error.code(), script.name);
            return Err(match error.code() {
                "READONLY" => Unanswered::Demoted(meaning),
                _ => Unanswered::Error(meaning),
            });
        }
    }
    Ok(replies)
}

fn understood(value: Value, script: &LuaScript, key: &TokenKey) -> Result<Reply, StoreError> {
    Reply::parse(value, script)?.map_err(|field| unreadable(&field, key))
}

fn unreadable(field: &str, key: &TokenKey) -> StoreError {
    StoreError::Unreadable(format!("the field {field} of a {} record", keys::kind(key)))
}

fn record(reply: &Reply, key: &TokenKey) -> Result<(Record, u64), StoreError> {
    reply.record().map_err(|field| unreadable(field, key))
}

fn snapshot(reply: &Reply, key: &TokenKey) -> Result<Snapshot, StoreError> {
    record(reply, key).map(|(record, now)| record.snapshot(now))
}

fn current(reply: &Reply, key: &TokenKey) -> Result<Version, StoreError> {
    record(reply, key).map(|(record, _)| record.version)
}

fn unexpected(script: &LuaScript) -> StoreError {
    StoreError::Refused(format!("redis answers {} with an outcome it does not have", script.name))
}

impl Store for RedisStore {
    async fn read(&self, key: &TokenKey) -> Result<Option<Snapshot>, StoreError> {
        let script = &self.0.scripts.read;
        let reply = self.step(&self.0.reads, script, key, self.arguments(key)).await?;
        match reply.word.as_str() {
            "NONE" => Ok(None),
            "RECORD" => snapshot(&reply, key).map(Some),
            _ => Err(unexpected(script)),
        }
    }

    async fn begin(&self, key: &TokenKey, begin: &Begin) -> Result<BeginOutcome, StoreError> {
        let script = &self.0.scripts.begin;
        let arguments = self
            .arguments(key)
            .text(begin.attempt.as_str())
            .text(begin.provider.as_str())
            .number(span(begin.wanted))
            .optional_text(begin.rejected)
            .number(span(begin.rejection_pause))
            .number(span(begin.lease))
            .number(span(begin.quarantine))
            .flag(begin.hold)
            .optional_text(begin.create);
        let reply = self.step(&self.0.steps, script, key, arguments).await?;
        let wait = |why| Ok(BeginOutcome::Wait(why, Duration::from_millis(reply.first), snapshot(&reply, key)?));
        match reply.word.as_str() {
            "UNKNOWN" => Ok(BeginOutcome::Unknown),
            "REFUSED" => Ok(BeginOutcome::Refused(snapshot(&reply, key)?)),
            "FRESH" => Ok(BeginOutcome::Fresh(snapshot(&reply, key)?)),
            "BUSY" => wait(Waiting::Busy),
            "BACKOFF" => wait(Waiting::Backoff),
            "QUARANTINE" => wait(Waiting::Quarantine),
            "HOLD" => wait(Waiting::Hold),
            "GRANTED" => {
                let (record, now) = record(&reply, key)?;
                let (fence, probe) = (reply.first, reply.second == 1);
                let lease = Lease { fence, base: record.version, probe, alt: record.alt.clone() };
                Ok(BeginOutcome::Granted(lease, record.snapshot(now)))
            }
            _ => Err(unexpected(script)),
        }
    }

    async fn arm(&self, key: &TokenKey, arm: &Arm) -> Result<ArmOutcome, StoreError> {
        let script = &self.0.scripts.arm;
        let arguments = self
            .arguments(key)
            .text(arm.attempt.as_str())
            .number(arm.fence)
            .text(&arm.base.grant.to_string())
            .number(arm.base.generation)
            .number(span(arm.lease))
            .flag(arm.probe);
        let (reply, acknowledged) = self.durable_step(script, key, arguments).await?;
        let required = self.0.replicas_required;
        match reply.word.as_str() {
            "ARMED" if acknowledged < required => Ok(ArmOutcome::NotDurable { acknowledged, required }),
            "ARMED" => Ok(ArmOutcome::Armed),
            "LOST" => Ok(ArmOutcome::Lost),
            "PROBE_NEEDED" => Ok(ArmOutcome::ProbeNeeded),
            _ => Err(unexpected(script)),
        }
    }

    async fn renew(&self, key: &TokenKey, renew: &Renew) -> Result<RenewOutcome, StoreError> {
        let script = &self.0.scripts.renew;
        let arguments = self.arguments(key).text(renew.attempt.as_str()).number(renew.fence).number(span(renew.lease));
        match self.step(&self.0.steps, script, key, arguments).await?.word.as_str() {
            "RENEWED" => Ok(RenewOutcome::Renewed),
            "LOST" => Ok(RenewOutcome::Lost),
            _ => Err(unexpected(script)),
        }
    }

    async fn commit(&self, key: &TokenKey, commit: &Commit) -> Result<CommitOutcome, StoreError> {
        let script = &self.0.scripts.commit;
        let arguments = self
            .arguments(key)
            .text(commit.attempt.as_str())
            .text(&commit.base.grant.to_string())
            .number(commit.base.generation)
            .sealed(&commit.access)
            .optional(commit.refresh.as_ref().map(Sealed::as_bytes))
            .optional_text(commit.refresh_fingerprint)
            .optional_text(commit.spent)
            .number(span(commit.remaining))
            .number(span(commit.life))
            .optional(commit.scope.as_ref().map(Scope::as_str))
            .optional(commit.certificate.as_ref())
            .flag(commit.forced);
        let reply = self.step(&self.0.steps, script, key, arguments).await?;
        match reply.word.as_str() {
            "STORED" => {
                let version = Version { generation: reply.first, ..commit.base };
                Ok(CommitOutcome::Stored { version, rolled_back: reply.second == 1 })
            }
            "SUPERSEDED" => Ok(CommitOutcome::Superseded { current: current(&reply, key)? }),
            "GONE" => Ok(CommitOutcome::Gone),
            "MISSING" => Ok(CommitOutcome::Missing),
            _ => Err(unexpected(script)),
        }
    }

    async fn fail(&self, key: &TokenKey, fail: &Fail) -> Result<FailOutcome, StoreError> {
        let script = &self.0.scripts.fail;
        let (to, backoff) = match fail.to {
            FailTo::Active { backoff } => ("active", backoff),
            FailTo::Uncertain => ("uncertain", Duration::ZERO),
            FailTo::ReauthorizationRequired => ("reauthorization_required", Duration::ZERO),
        };
        let arguments = self
            .arguments(key)
            .text(fail.attempt.as_str())
            .number(fail.fence)
            .text(&fail.base.grant.to_string())
            .number(fail.base.generation)
            .text(to)
            .number(span(backoff))
            .text(fail.why);
        match self.step(&self.0.steps, script, key, arguments).await?.word.as_str() {
            "RECORDED" => Ok(FailOutcome::Recorded),
            "LOST" => Ok(FailOutcome::Lost),
            _ => Err(unexpected(script)),
        }
    }

    async fn restore(&self, key: &TokenKey, restore: &Restore) -> Result<RestoreOutcome, StoreError> {
        let script = &self.0.scripts.restore;
        let arguments = self
            .arguments(key)
            .text(restore.attempt.as_str())
            .text(restore.provider.as_str())
            .text(&restore.version.grant.to_string())
            .number(restore.version.generation)
            .sealed(&restore.access)
            .optional(restore.refresh.as_ref().map(Sealed::as_bytes))
            .optional_text(restore.refresh_fingerprint)
            .number(span(restore.remaining))
            .number(span(restore.life))
            .optional(restore.scope.as_ref().map(Scope::as_str))
            .optional(restore.bank_consent_id.as_ref())
            .optional_text(restore.consent_expires_at.map(date))
            .optional(restore.certificate.as_ref());
        let reply = self.step(&self.0.steps, script, key, arguments).await?;
        match reply.word.as_str() {
            "RESTORED" => Ok(RestoreOutcome::Restored),
            "NOT_NEEDED" => Ok(RestoreOutcome::NotNeeded { current: current(&reply, key)? }),
            "GONE" => Ok(RestoreOutcome::Gone),
            _ => Err(unexpected(script)),
        }
    }

    async fn seed(&self, key: &TokenKey, seed: &Seed) -> Result<SeedOutcome, StoreError> {
        let script = &self.0.scripts.seed;
        let arguments = self
            .arguments(key)
            .text(seed.provider.as_str())
            .text(&seed.grant.to_string())
            .optional_text(seed.expected)
            .sealed(&seed.access)
            .optional(seed.refresh.as_ref().map(Sealed::as_bytes))
            .optional_text(seed.refresh_fingerprint)
            .number(span(seed.remaining))
            .number(span(seed.life))
            .optional(seed.scope.as_ref().map(Scope::as_str))
            .optional(seed.bank_consent_id.as_ref())
            .optional_text(seed.consent_expires_at.map(date))
            .optional(seed.certificate.as_ref());
        let (reply, acknowledged) = self.durable_step(script, key, arguments).await?;
        if reply.word == "MISSING" {
            return Ok(SeedOutcome::Missing);
        }
        let current = current(&reply, key)?;
        match reply.word.as_str() {
            "CREATED" => self.require(acknowledged, script).map(|()| SeedOutcome::Created(current)),
            "REPLACED" => self.require(acknowledged, script).map(|()| SeedOutcome::Replaced(current)),
            "EXISTS" => Ok(SeedOutcome::Exists(current)),
            "MISMATCH" => Ok(SeedOutcome::Mismatch(current)),
            "SPENT" => Ok(SeedOutcome::Spent(current)),
            _ => Err(unexpected(script)),
        }
    }

    async fn end(&self, key: &TokenKey, end: &End) -> Result<EndOutcome, StoreError> {
        let script = &self.0.scripts.end;
        let arguments = self
            .arguments(key)
            .optional_text(end.grant.as_ref().map(GrantId::to_string))
            .text(tombstone_state(end.state).as_str())
            .text(end.why);
        let (reply, acknowledged) = self.durable_step(script, key, arguments).await?;
        match reply.word.as_str() {
            "ENDED" => self.require(acknowledged, script).map(|()| EndOutcome::Ended),
            "NOT_FOUND" => Ok(EndOutcome::NotFound),
            _ => Err(unexpected(script)),
        }
    }

    async fn follow(&self, changes: mpsc::Sender<Change>) {
        follow::follow(&self.0.connector, &self.0.keys.changes(), &changes).await;
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("keys", &self.0.keys).finish_non_exhaustive()
    }
}
