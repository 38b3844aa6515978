//! What follows from what a server says about itself.
//!
//! A refusal is for a server with which consents are lost or nothing works; a warning is for a risk that an operator may
//! take knowingly. Too few replicas is a warning: no refresh is sent while they are away, so nothing is lost, and a
//! process that starts in such a minute can still serve valid tokens.

use std::time::Duration;

use super::facts::{ClockSample, Facts};
use super::{Finding, Severity, Terms, Topology};
use crate::words::clock::millis;

mod replicas;
pub(super) mod servers;

/// The scripts' first line, with their flags, is understood from this version on.
const OLDEST_MAJOR: u32 = 7;
/// More than clocks that are kept by NTP ever differ.
const MOST_SKEW_MS: u64 = 2_000;
/// As long as a write may wait for the next sync with appendfsync everysec, and a little more.
const LONGEST_SYNC: Duration = Duration::from_millis(1_200);

/// All that can be said from the answers.
pub(super) fn judge(facts: &Facts, terms: &Terms) -> Vec<Finding> {
    let findings = [
        Some(version(facts)),
        mode(facts, terms),
        role(facts),
        may_ask(facts),
        Some(eviction(facts, terms)),
        persistence(facts),
        append_sync(facts, terms),
        disk(facts),
        facts.replicas().map(|replicas| replicas::count(replicas, terms)),
        facts.replicas().and_then(replicas::link),
        replicas::acknowledging(facts, terms),
        replicas::fewest(facts),
        facts.clock.map(clock),
        facts.clock.map(|sample| round_trip(sample, terms)),
        Some(replicas::acknowledged_writes(facts, terms)),
    ];
    findings.into_iter().flatten().collect()
}

/// The server does not let us in.
pub(super) fn turned_away(why: &str) -> Finding {
    refuse(
        "login",
        format!("{why}: no record can be read or written; check username, password and the ACL of the user"),
    )
}

pub(super) fn let_in() -> Finding {
    fine("login", "the server lets us in")
}

/// What our user may not do.
pub(super) fn rights(missing: &[String], prefix: &str) -> Finding {
    if missing.is_empty() {
        return fine("rights", "the user may do all that is needed");
    }
    let is_history = |need: &&String| ["LRANGE", "LTRIM", "RPUSH"].iter().any(|command| need.starts_with(command));
    let is_list = |need: &&String| need.starts_with("SCAN");
    if missing.iter().all(|need| is_history(&need) || is_list(&need)) {
        let (history, list) = (missing.iter().any(|need| is_history(&need)), missing.iter().any(|need| is_list(&need)));
        let (what, rights) = match (history, list) {
            (true, true) => ("the history and the list of consents", "+rpush +ltrim +lrange +scan"),
            (true, false) => ("the history of consents", "+rpush +ltrim +lrange"),
            (false, _) => ("the list of consents", "+scan"),
        };
        let missing = missing.join(", ");
        return warn("rights", format!("the user may not do {missing}: everything works but {what}; give it {rights}"));
    }
    let text = format!(
        "the user may not do {}: a token set that the bank has just replaced could not be stored; give it ~{prefix}:* \
         &{prefix}:changes +evalsha +script|load +ping +time +hgetall +hset +hdel +pexpire +persist +rpush +ltrim +lrange \
         +publish +subscribe +wait +scan, in a cluster also +cluster|slots +cluster|info +asking, and +waitaof for \
         fsync_required",
        missing.join(", ")
    );
    refuse("rights", text)
}

pub(super) fn scripts_run() -> Finding {
    fine("scripts", "the server runs our scripts")
}

pub(super) fn scripts_do_not_run(why: &str) -> Finding {
    refuse("scripts", format!("{why}: every step is a script, so nothing works here; look into the server's log"))
}

fn version(facts: &Facts) -> Finding {
    let (name, version) = facts.program();
    let (name, Some(version)) = (name.map_or("redis", plain), version.map(plain)) else {
        return warn("version", "which server this is could not be learned; Redis 7 or later is needed");
    };
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < OLDEST_MAJOR) {
        let text = format!(
            "{name} {version} does not understand scripts that may write when the memory is full, without which a token \
             set that the bank has just replaced could be lost; use Redis 7 or later"
        );
        return refuse("version", text);
    }
    if name != "redis" {
        let text = format!("{name} {version}: consentry is tested with Redis, so try a failover before relying on it");
        return warn("version", text);
    }
    fine("version", format!("redis {version}"))
}

fn mode(facts: &Facts, terms: &Terms) -> Option<Finding> {
    let text = match (facts.mode()?, terms.topology) {
        ("cluster", Topology::Cluster) => return Some(fine("mode", "a node of a cluster")),
        ("cluster", Topology::One | Topology::Sentinel) => {
            "the server is part of a cluster: records would live on nodes that are not asked; name its nodes under \
             store.redis.cluster"
        }
        ("sentinel", _) => "the server is a Sentinel and keeps no records; name it under store.redis.sentinel",
        (_, Topology::Cluster) => {
            "the server is no node of a cluster, so it knows no slots; name it under store.redis.url"
        }
        (_, Topology::One | Topology::Sentinel) => return Some(fine("mode", "a server of its own")),
    };
    Some(refuse("mode", text))
}

fn role(facts: &Facts) -> Option<Finding> {
    if facts.is_replica()? {
        let text = "the server is a replica, which takes no writes or loses them when it next synchronises; name the \
                    primary, under an address that follows it in a failover";
        return Some(refuse("role", text));
    }
    Some(fine("role", "a primary"))
}

/// What may not be asked cannot be judged, and that is said.
fn may_ask(facts: &Facts) -> Option<Finding> {
    if facts.info.is_none() {
        let text = "INFO may not be asked by this user, so eviction, persistence and replicas are not examined, and a \
                    server that restarted, took over or came back from an old backup is not told from the one before; \
                    +info shows no secret";
        return Some(warn("asking", text));
    }
    if facts.config.is_none() {
        let text = "CONFIG GET could not be asked, so how often the append-only file is synced is not known; look for \
                    appendfsync yourself, or give the user +config|get, which shows passwords of the server too";
        return Some(warn("asking", text));
    }
    facts.clock.is_some().then(|| fine("asking", "the server answers every question"))
}

fn eviction(facts: &Facts, terms: &Terms) -> Finding {
    let Some(policy) = facts.eviction().map(plain) else {
        let text = "maxmemory-policy could not be learned; a policy of allkeys-… would throw consents away when memory \
                    is full, so make sure that it is noeviction";
        return warn("eviction", text);
    };
    if policy == "noeviction" {
        return fine("eviction", "noeviction: no consent is thrown away, and our writes work even when memory is full");
    }
    if policy.starts_with("volatile-") {
        let text = format!("{policy}: living consents have no time to live, so none is thrown away");
        return fine("eviction", text);
    }
    let limit = match facts.memory_limit() {
        Some(0) => "as soon as maxmemory is set and reached",
        Some(_) | None => "when maxmemory is reached",
    };
    let text = format!("maxmemory-policy is {policy}: the server throws consents away {limit}, each lost for good");
    if terms.accept_eviction {
        return warn("eviction", format!("{text}; accept_eviction takes that risk knowingly"));
    }
    refuse("eviction", format!("{text}; set it to noeviction, or store.redis.accept_eviction if you must"))
}

fn persistence(facts: &Facts) -> Option<Finding> {
    if facts.keeps_append_only_file()? {
        return Some(fine("persistence", "an append-only file is kept"));
    }
    let text = "no append-only file is kept, so a restart forgets every token set since the last snapshot, if there is \
                one (window W7), and a replica that takes over is all that is left (W3, a commit lost by a failover); \
                set appendonly yes";
    Some(warn("persistence", text))
}

fn append_sync(facts: &Facts, terms: &Terms) -> Option<Finding> {
    if terms.fsync_required && !facts.has_waitaof() {
        let text = "fsync_required is set and this server has no WAITAOF, so no intent counts and no refresh is sent; use \
                    Redis 7.2 or Valkey, or appendfsync always without fsync_required";
        return Some(refuse("fsync", text));
    }
    if !facts.keeps_append_only_file()? {
        return terms.fsync_required.then(|| {
            let text = "fsync_required is set and no append-only file is kept, so no intent counts and no refresh is sent; \
                        set appendonly yes";
            refuse("fsync", text)
        });
    }
    if terms.fsync_required {
        let slow = facts.append_sync() != Some("always") && terms.replica_wait < LONGEST_SYNC;
        let text = "replica_wait is shorter than the second that appendfsync everysec may take, so many refreshes are \
                    not sent; give it 1500ms and command_timeout 3s, or set appendfsync always";
        let sure = "WAITAOF makes sure that every intent and outcome is on disk before it counts";
        return Some(if slow { warn("fsync", text) } else { fine("fsync", sure) });
    }
    match plain(facts.append_sync()?) {
        "always" => Some(fine("fsync", "every write is on disk before it is acknowledged")),
        often => {
            let lost = if often == "everysec" { "up to a second" } else { "up to half a minute" };
            let text = format!(
                "appendfsync is {often}: if the server's machine fails, {lost} of acknowledged writes is gone, each a \
                 token set whose predecessor the bank no longer takes (window W7); set appendfsync always, which a few \
                 refreshes a second do not feel, or fsync_required on a server with WAITAOF"
            );
            Some(warn("fsync", text))
        }
    }
}

fn disk(facts: &Facts) -> Option<Finding> {
    facts.info("rdb_last_bgsave_status")?;
    let failing = [
        ("aof_last_write_status", "the last write to the append-only file"),
        ("aof_last_bgrewrite_status", "the last rewrite of the append-only file"),
        ("rdb_last_bgsave_status", "the last snapshot"),
    ];
    let failed = failing.iter().filter(|(name, _)| facts.info(name) == Some("err")).map(|(_, what)| *what);
    let failed: Vec<_> = failed.collect();
    if failed.is_empty() {
        return Some(fine("disk", "what was written to disk last succeeded"));
    }
    let text = format!(
        "{} failed: the server may refuse writes until it succeeds, and forgets them if it restarts; look into its log \
         and at the space on its disk",
        failed.join(" and ")
    );
    Some(warn("disk", text))
}

fn clock(sample: ClockSample) -> Finding {
    let apart = sample.ahead_ms.unsigned_abs();
    let direction = if sample.ahead_ms < 0 { "behind" } else { "ahead of" };
    // Anywhere within the round trip the server may have looked at its clock.
    let surely = apart.saturating_sub(millis(sample.round_trip) / 2);
    if surely > MOST_SKEW_MS {
        let text = format!(
            "the server's clock is {apart} ms {direction} this machine's: leases and token lives are counted on the \
             server's clock alone and do not suffer, but the day on which a consent ends does, and so do leases if a \
             failover moves to another clock; keep both with NTP"
        );
        return warn("clock", text);
    }
    fine("clock", format!("the server's clock is {apart} ms {direction} this machine's"))
}

fn round_trip(sample: ClockSample, terms: &Terms) -> Finding {
    let took = format!("{:.1} ms", sample.round_trip.as_secs_f64() * 1_000.0);
    if sample.round_trip > terms.command_timeout / 4 {
        let text = format!(
            "a round trip takes {took}, more than a quarter of command_timeout: a step that takes several, or a slow \
             moment, is given up; raise command_timeout or bring the server closer"
        );
        return warn("round-trip", text);
    }
    fine("round-trip", format!("a round trip takes {took}"))
}

/// The server's own words are repeated only where they are plain.
fn plain(word: &str) -> &str {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if (1..=32).contains(&word.len()) && word.bytes().all(allowed) { word } else { "unknown" }
}

fn refuse(check: &'static str, sentence: impl Into<String>) -> Finding {
    Finding { severity: Severity::Refuse, check, sentence: sentence.into() }
}

fn warn(check: &'static str, sentence: impl Into<String>) -> Finding {
    Finding { severity: Severity::Warn, check, sentence: sentence.into() }
}

fn fine(check: &'static str, sentence: impl Into<String>) -> Finding {
    Finding { severity: Severity::Fine, check, sentence: sentence.into() }
}

#[cfg(test)]
mod tests;
