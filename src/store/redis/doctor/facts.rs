//! What a server says about itself.
//!
//! HELLO is open to every user and knows version, mode and role; INFO knows nearly all the rest and shows no secret;
//! CONFIG GET alone knows how often the append-only file is synced. A user may be allowed any of them or none.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::Value;
use tokio::time::Instant;

use super::ask;
use crate::store::contract::StoreError;
use crate::store::redis::address::Endpoint;
use crate::store::redis::connection::Live;
use crate::words::clock::{Clock, millis};

const SECTIONS: [&str; 5] = ["server", "memory", "persistence", "replication", "cluster"];
const SETTINGS: [&str; 5] = ["maxmemory-policy", "maxmemory", "appendonly", "appendfsync", "min-replicas-to-write"];
/// How often the time is asked for. The quickest answer counts, because it places the server's time best.
const SAMPLES: usize = 5;

pub(super) type Lines = BTreeMap<String, String>;

/// The answers.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) hello: Lines,
    /// `None`: it may not be asked.
    pub(super) info: Option<Lines>,
    /// `None`: it may not be asked.
    pub(super) config: Option<Lines>,
    /// `None`: it may not be asked.
    pub(super) clock: Option<ClockSample>,
    /// How many replicas said in time that they have all that was written; `None`: it was not asked, or may not be.
    pub(super) acknowledging: Option<u32>,
    /// The server's word for not letting us in at all.
    pub(super) turned_away: Option<&'static str>,
}

/// The server's clock against this machine's calendar clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClockSample {
    pub(super) round_trip: Duration,
    /// Milliseconds by which the server's clock is ahead; negative if it is behind.
    pub(super) ahead_ms: i64,
}

/// A replica as the primary sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Replicas {
    pub(super) connected: u32,
    /// Those that follow the stream of writes.
    pub(super) online: u32,
}

impl Facts {
    pub(super) async fn ask<C: Clock>(live: &mut Live, clock: &C) -> Result<Self, StoreError> {
        let mut questions = redis::pipe();
        // The protocol's version is the connection's own, so this changes nothing.
        questions.cmd("HELLO").arg(2);
        for section in SECTIONS {
            questions.cmd("INFO").arg(section);
        }
        for setting in SETTINGS {
            questions.cmd("CONFIG").arg("GET").arg(setting);
        }
        let mut replies = ask(live, &questions, 1 + SECTIONS.len() + SETTINGS.len()).await?.into_iter();
        let hello = replies.next();
        let turned_away = hello.as_ref().and_then(closed_door);
        let info = all(replies.by_ref().take(SECTIONS.len()), info_lines);
        let config = all(replies, pairs);
        let clock = clock_sample(live, clock).await?;
        let hello = hello.and_then(pairs).unwrap_or_default();
        Ok(Self { hello, info, config, clock, acknowledging: None, turned_away })
    }

    /// The program's name and version, where they are told.
    pub(super) fn program(&self) -> (Option<&str>, Option<&str>) {
        let name = self.info("server_name").or(self.hello("server"));
        // Others say here which Redis they are like, and their own version beside it.
        let own = self.info("valkey_version").or(self.hello("version")).or(self.info("redis_version"));
        (name, own)
    }

    pub(super) fn is_replica(&self) -> Option<bool> {
        let role = self.info("role").or(self.hello("role"))?;
        Some(matches!(role, "slave" | "replica"))
    }

    pub(super) fn mode(&self) -> Option<&str> {
        if self.info("cluster_enabled") == Some("1") {
            return Some("cluster");
        }
        self.info("redis_mode").or(self.info("server_mode")).or(self.hello("mode"))
    }

    pub(super) fn eviction(&self) -> Option<&str> {
        self.config("maxmemory-policy").or(self.info("maxmemory_policy"))
    }

    pub(super) fn memory_limit(&self) -> Option<u64> {
        self.config("maxmemory").or(self.info("maxmemory"))?.parse().ok()
    }

    pub(super) fn keeps_append_only_file(&self) -> Option<bool> {
        let by_config = self.config("appendonly").map(|word| word == "yes");
        by_config.or_else(|| self.info("aof_enabled").map(|word| word == "1"))
    }

    pub(super) fn append_sync(&self) -> Option<&str> {
        self.config("appendfsync")
    }

    /// How many replicas a write needs; 0 is none. Without CONFIG it is only known whether any.
    pub(super) fn replicas_to_write(&self) -> Option<u32> {
        let by_config = self.config("min-replicas-to-write").and_then(|number| number.parse().ok());
        // This line is there only where replicas are needed.
        by_config.or_else(|| self.info.as_ref().map(|info| u32::from(info.contains_key("min_slaves_good_slaves"))))
    }

    /// The replicas of a primary.
    pub(super) fn replicas(&self) -> Option<Replicas> {
        let connected = self.info("connected_slaves")?.parse().ok()?;
        let info = self.info.as_ref()?;
        let online = info.iter().filter(|(name, line)| is_replica_line(name) && line.contains("state=online")).count();
        Some(Replicas { connected, online: u32::try_from(online).unwrap_or(u32::MAX) })
    }

    /// Where the replicas of a primary are, by its word.
    pub(super) fn replica_endpoints(&self) -> Vec<Endpoint> {
        let lines = self.info.iter().flatten().filter(|(name, _)| is_replica_line(name));
        let field = |line: &'_ str, name: &str| {
            line.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
        };
        lines.filter_map(|(_, line)| Endpoint::parse(&field(line, "ip")?, &field(line, "port")?)).collect()
    }

    /// Asks the replicas for a sign that they have what was written until here. What is published for it is no change that
    /// a follower would understand.
    pub(super) async fn ask_replicas(
        &mut self,
        live: &mut Live,
        channel: &str,
        wait: Duration,
    ) -> Result<(), StoreError> {
        let Some(connected) = self.replicas().map(|replicas| replicas.connected).filter(|count| *count > 0) else {
            return Ok(());
        };
        let mut question = redis::pipe();
        question.cmd("PUBLISH").arg(channel).arg("-");
        question.cmd("WAIT").arg(connected).arg(millis(wait));
        self.acknowledging = match ask(live, &question, 2).await?.as_slice() {
            [Value::Int(_), Value::Int(count)] => u32::try_from(*count).ok(),
            _ => None,
        };
        Ok(())
    }

    /// Whether it can say that a write is on disk; see `peer`.
    pub(super) fn has_waitaof(&self) -> bool {
        let version = self.hello("version").or(self.info("redis_version"));
        let mut numbers = version.unwrap_or_default().split('.').map(|part| part.parse::<u32>().ok());
        numbers.next().flatten().zip(numbers.next().flatten()).is_none_or(|version| version >= (7, 2))
    }

    pub(super) fn info(&self, name: &str) -> Option<&str> {
        self.info.as_ref()?.get(name).map(String::as_str)
    }

    fn config(&self, name: &str) -> Option<&str> {
        self.config.as_ref()?.get(name).map(String::as_str)
    }

    fn hello(&self, name: &str) -> Option<&str> {
        self.hello.get(name).map(String::as_str)
    }
}

/// `slave0`, `slave1` and so on.
fn is_replica_line(name: &str) -> bool {
    name.strip_prefix("slave").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

fn closed_door(reply: &Value) -> Option<&'static str> {
    let Value::ServerError(error) = reply else { return None };
    ["NOAUTH", "WRONGPASS", "DENIED"].into_iter().find(|code| *code == error.code())
}

/// All replies put together; `None` if one of them is a refusal.
fn all(replies: impl Iterator<Item = Value>, read: impl Fn(Value) -> Option<Lines>) -> Option<Lines> {
    let mut lines = Lines::new();
    for reply in replies {
        lines.extend(read(reply)?);
    }
    Some(lines)
}

/// The `name:value` lines of INFO.
fn info_lines(reply: Value) -> Option<Lines> {
    let text = text(reply)?;
    let line = |line: &str| line.trim_end().split_once(':').map(|(name, value)| (name.to_owned(), value.to_owned()));
    Some(text.lines().filter_map(line).collect())
}

/// Names and values in turn. What is neither text nor a number is left out.
fn pairs(reply: Value) -> Option<Lines> {
    let Value::Array(parts) = reply else { return None };
    let mut lines = Lines::new();
    let mut parts = parts.into_iter();
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        if let (Some(name), Some(value)) = (text(name), text(value)) {
            lines.insert(name, value);
        }
    }
    Some(lines)
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

async fn clock_sample<C: Clock>(live: &mut Live, clock: &C) -> Result<Option<ClockSample>, StoreError> {
    let mut question = redis::pipe();
    question.cmd("TIME");
    let mut best: Option<ClockSample> = None;
    for _ in 0..SAMPLES {
        let (before, asked) = (clock.wall(), Instant::now());
        let reply = ask(live, &question, 1).await?.into_iter().next();
        let round_trip = asked.elapsed();
        let Some(server) = reply.and_then(server_time) else { return Ok(None) };
        let here = before.as_millis().saturating_add(millis(round_trip / 2));
        let sample = ClockSample { round_trip, ahead_ms: signed(server).saturating_sub(signed(here)) };
        if best.is_none_or(|best| sample.round_trip < best.round_trip) {
            best = Some(sample);
        }
    }
    Ok(best)
}

/// Milliseconds since the Unix epoch.
fn server_time(reply: Value) -> Option<u64> {
    let Value::Array(parts) = reply else { return None };
    let mut parts = parts.into_iter().filter_map(text).map(|part| part.parse::<u64>().ok());
    let (seconds, micros) = (parts.next()??, parts.next()??);
    Some(seconds.saturating_mul(1_000).saturating_add(micros / 1_000))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
