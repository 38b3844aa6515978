//! Every fault that a server can tell of, one at a time.

use std::time::Duration;

use super::*;
use crate::store::redis::doctor::facts::Lines;

const TERMS: Terms = Terms {
    topology: Topology::One,
    replicas_required: 0,
    fsync_required: false,
    replica_wait: Duration::from_millis(250),
    accept_eviction: false,
    command_timeout: Duration::from_secs(1),
};

/// A server with which all is well but for what a test changes.
fn sound() -> Facts {
    let info = lines(&[
        ("redis_version", "7.0.15"),
        ("redis_mode", "standalone"),
        ("cluster_enabled", "0"),
        ("role", "master"),
        ("maxmemory_policy", "noeviction"),
        ("maxmemory", "0"),
        ("aof_enabled", "1"),
        ("aof_last_write_status", "ok"),
        ("aof_last_bgrewrite_status", "ok"),
        ("rdb_last_bgsave_status", "ok"),
        ("connected_slaves", "1"),
        ("slave0", "ip=10.0.0.2,port=6379,state=online,offset=7,lag=0"),
    ]);
    let config = lines(&[("appendfsync", "always"), ("min-replicas-to-write", "0")]);
    let hello = lines(&[("server", "redis"), ("version", "7.0.15"), ("mode", "standalone"), ("role", "master")]);
    let clock = ClockSample { round_trip: Duration::from_millis(1), ahead_ms: -3 };
    Facts {
        hello,
        info: Some(info),
        config: Some(config),
        clock: Some(clock),
        acknowledging: Some(1),
        turned_away: None,
    }
}

fn lines(pairs: &[(&str, &str)]) -> Lines {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

impl Facts {
    fn with_info(mut self, name: &str, value: &str) -> Self {
        self.info.get_or_insert_default().insert(name.to_owned(), value.to_owned());
        self
    }

    fn with_config(mut self, name: &str, value: &str) -> Self {
        self.config.get_or_insert_default().insert(name.to_owned(), value.to_owned());
        self
    }
}

const DEMANDING: Terms = Terms { replicas_required: 1, ..TERMS };

fn of(facts: &Facts, terms: &Terms, check: &str) -> Finding {
    let found: Vec<_> = judge(facts, terms).into_iter().filter(|finding| finding.check == check).collect();
    assert_eq!(found.len(), 1, "{check}: {found:?}");
    found.into_iter().next().expect("one")
}

#[test]
fn a_sound_server_is_fine_in_everything() {
    for finding in judge(&sound(), &DEMANDING) {
        assert_eq!(finding.severity, Severity::Fine, "{finding:?}");
    }
}

#[test]
fn every_fault_has_its_finding_and_its_weight() {
    use Severity::{Refuse, Warn};
    let skewed = |ahead_ms| Facts { clock: Some(ClockSample { ahead_ms, round_trip: Duration::ZERO }), ..sound() };
    let far = ClockSample { ahead_ms: 0, round_trip: Duration::from_millis(300) };
    let cases = [
        (sound().with_info("maxmemory_policy", "allkeys-lru"), "eviction", Refuse, "noeviction"),
        (sound().with_info("maxmemory_policy", "allkeys-of-a-later-version"), "eviction", Refuse, "noeviction"),
        (sound().with_info("role", "slave"), "role", Refuse, "primary"),
        (sound().with_info("cluster_enabled", "1"), "mode", Refuse, "cluster"),
        (sound().with_info("redis_mode", "sentinel"), "mode", Refuse, "store.redis.sentinel"),
        (Facts { acknowledging: Some(0), ..sound() }, "acknowledging", Warn, "0 of 1"),
        (sound().with_info("aof_enabled", "0"), "persistence", Warn, "W7"),
        (sound().with_config("appendfsync", "everysec"), "fsync", Warn, "up to a second"),
        (sound().with_config("appendfsync", "no"), "fsync", Warn, "half a minute"),
        (sound().with_info("aof_last_write_status", "err"), "disk", Warn, "append-only file"),
        (sound().with_info("rdb_last_bgsave_status", "err"), "disk", Warn, "snapshot"),
        (sound().with_info("slave0", "ip=10.0.0.2,port=6379,state=wait_bgsave"), "replica-link", Warn, "1 of 1"),
        (
            sound().with_info("slave0", "ip=10.0.0.2,port=6379,state=wait_bgsave"),
            "replicas",
            Warn,
            "no refresh is sent",
        ),
        (sound().with_config("min-replicas-to-write", "1"), "min-replicas", Warn, "replicas_required"),
        (skewed(2_500), "clock", Warn, "2500 ms ahead"),
        (skewed(-2_500), "clock", Warn, "2500 ms behind"),
        (Facts { clock: Some(far), ..sound() }, "round-trip", Warn, "300.0 ms"),
        (Facts { config: None, ..sound() }, "asking", Warn, "appendfsync"),
        (Facts { info: None, ..sound() }, "asking", Warn, "+info"),
        (Facts { info: None, config: None, ..sound() }, "eviction", Warn, "could not be learned"),
    ];
    for (facts, check, severity, says) in cases {
        let finding = of(&facts, &DEMANDING, check);
        assert_eq!(finding.severity, severity, "{finding:?}");
        assert!(finding.sentence.contains(says), "{finding:?}");
    }
}

#[test]
fn eviction_is_a_refusal_unless_told() {
    let facts = sound().with_info("maxmemory_policy", "allkeys-lfu").with_info("maxmemory", "1000000");
    let accepted = Terms { accept_eviction: true, ..TERMS };
    assert_eq!(of(&facts, &TERMS, "eviction").severity, Severity::Refuse);
    assert_eq!(of(&facts, &accepted, "eviction").severity, Severity::Warn);
    let volatile = sound().with_info("maxmemory_policy", "volatile-ttl").with_info("maxmemory", "1000000");
    assert_eq!(of(&volatile, &TERMS, "eviction").severity, Severity::Fine);
}

#[test]
fn only_a_program_that_understands_the_scripts_will_do() {
    let old = sound().with_info("redis_version", "6.2.14");
    let old = Facts { hello: lines(&[("server", "redis"), ("version", "6.2.14")]), ..old };
    let finding = of(&old, &TERMS, "version");
    assert_eq!(finding.severity, Severity::Refuse, "{finding:?}");
    let valkey = sound().with_info("server_name", "valkey").with_info("valkey_version", "8.0.1");
    let finding = of(&valkey.with_info("redis_version", "7.2.4"), &TERMS, "version");
    assert_eq!(finding.severity, Severity::Warn);
    assert!(finding.sentence.contains("valkey 8.0.1"), "{finding:?}");
    let silent = Facts { hello: Lines::new(), info: None, ..sound() };
    assert_eq!(of(&silent, &TERMS, "version").severity, Severity::Warn);
}

#[test]
fn w7_is_closed_only_by_a_synced_file_and_every_replica() {
    let w7 = |facts: &Facts, terms: &Terms| of(facts, terms, "acknowledged-writes");
    assert_eq!(w7(&sound(), &DEMANDING).severity, Severity::Fine);
    let alone = sound().with_info("connected_slaves", "0");
    assert_eq!(w7(&alone, &TERMS).severity, Severity::Fine, "nothing can be promoted");
    for (facts, terms, because) in [
        (sound(), TERMS, "1 of 1 need not"),
        (sound().with_info("connected_slaves", "2"), DEMANDING, "1 of 2 need not"),
        (sound().with_config("appendfsync", "everysec"), DEMANDING, "not synced"),
        (sound().with_info("aof_enabled", "0"), DEMANDING, "a restart"),
        (Facts { config: None, ..sound() }, DEMANDING, "cannot be told"),
        (Facts { info: None, ..sound() }, DEMANDING, "cannot be told"),
    ] {
        let finding = w7(&facts, &terms);
        assert_eq!(finding.severity, Severity::Warn, "{finding:?}");
        assert!(finding.sentence.contains(because), "{finding:?}");
    }
}

#[test]
fn a_node_of_a_cluster_is_asked_for_as_one() {
    let clustered = Terms { topology: Topology::Cluster, ..DEMANDING };
    let node = sound().with_info("cluster_enabled", "1");
    assert_eq!(of(&node, &clustered, "mode").severity, Severity::Fine);
    assert_eq!(of(&sound(), &clustered, "mode").severity, Severity::Refuse);
    assert_eq!(of(&node, &Terms { topology: Topology::Sentinel, ..TERMS }, "mode").severity, Severity::Refuse);
}

#[test]
fn required_disks_take_a_server_that_can_say_so_and_time_for_it() {
    let disks = Terms { fsync_required: true, ..DEMANDING };
    let newer = || Facts { hello: lines(&[("server", "redis"), ("version", "7.2.4")]), ..sound() };
    assert_eq!(of(&newer(), &disks, "fsync").severity, Severity::Fine);
    assert_eq!(of(&sound(), &disks, "fsync").severity, Severity::Refuse, "7.0 has no WAITAOF");
    let none = of(&newer().with_info("aof_enabled", "0"), &disks, "fsync");
    assert!(none.severity == Severity::Refuse && none.sentence.contains("appendonly"), "{none:?}");
    let everysec = || newer().with_config("appendfsync", "everysec");
    let hasty = of(&everysec(), &disks, "fsync");
    assert!(hasty.severity == Severity::Warn && hasty.sentence.contains("replica_wait"), "{hasty:?}");
    let patient = Terms { replica_wait: Duration::from_millis(1_500), ..disks };
    assert_eq!(of(&everysec(), &patient, "fsync").severity, Severity::Fine);
    assert_eq!(of(&everysec(), &patient, "acknowledged-writes").severity, Severity::Fine, "which closes W7");
    assert_eq!(of(&everysec(), &DEMANDING, "acknowledged-writes").severity, Severity::Warn);
}

#[test]
fn odd_words_of_a_server_are_not_repeated() {
    let odd = sound().with_info("maxmemory_policy", "allkeys-\u{1b}[2J CANARY");
    let finding = of(&odd, &TERMS, "eviction");
    assert!(!finding.sentence.contains("CANARY") && !finding.sentence.contains('\u{1b}'), "{finding:?}");
    assert_ne!(finding.severity, Severity::Fine, "what is not understood is not called fine");
}
