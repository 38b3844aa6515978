//! Whether a server is fit to keep consents: real servers with real faults, and what is found about them.

use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use consentry::store::redis::RedisSettings;
use consentry::store::redis::doctor::Severity::{Fine, Refuse, Warn};
use consentry::store::redis::doctor::{Examination, Finding};
use consentry::store::{RedisStore, StoreError};
use consentry::words::clock::SystemClock;
use consentry::words::secrets::StorePassword;
use http::StatusCode;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::support::bank::Bank;
use crate::support::program::consentry;
use crate::support::redis::{RedisOptions, RedisServer, free_port, settings};
use crate::support::redis_cluster::RedisCluster;
use crate::support::redis_sentinel::Sentinels;
use crate::support::sidecar::Replica;

/// Long enough for a busy machine; what is waited for comes in milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

async fn examine(settings: &RedisSettings) -> Examination {
    RedisStore::connect(settings).unwrap().examine(&SystemClock).await.unwrap()
}

fn found(examination: &Examination, check: &str) -> Finding {
    let found = examination.findings().iter().find(|finding| finding.check == check);
    found.unwrap_or_else(|| panic!("nothing about {check} in {examination:#?}")).clone()
}

fn refusals(examination: &Examination) -> Vec<&'static str> {
    examination.refusals().map(|finding| finding.check).collect()
}

fn durable() -> RedisOptions {
    RedisOptions::default().with("appendonly", "yes").with("appendfsync", "always")
}

#[tokio::test]
async fn a_server_that_evicts_consents_is_refused_unless_told() {
    let server = RedisServer::start_with(durable().with("maxmemory-policy", "allkeys-lru")).await;
    let examination = examine(&server.settings()).await;
    assert_eq!(refusals(&examination), ["eviction"]);
    let told = RedisSettings { accept_eviction: true, ..server.settings() };
    let examination = examine(&told).await;
    assert!(!examination.is_refused());
    assert_eq!(found(&examination, "eviction").severity, Warn);
    server.cli(&["config", "set", "maxmemory-policy", "volatile-lru"]);
    assert_eq!(found(&examine(&server.settings()).await, "eviction").severity, Fine);
}

#[tokio::test]
async fn a_server_that_forgets_is_warned_of_with_its_windows() {
    let server = RedisServer::start().await;
    let examination = examine(&server.settings()).await;
    assert!(!examination.is_refused(), "{examination:#?}");
    let persistence = found(&examination, "persistence");
    assert!(persistence.severity == Warn && persistence.sentence.contains("W7") && persistence.sentence.contains("W3"));
    assert_eq!(found(&examination, "acknowledged-writes").severity, Warn);

    server.cli(&["config", "set", "appendonly", "yes"]);
    let examination = examine(&server.settings()).await;
    assert_eq!(found(&examination, "persistence").severity, Fine);
    let fsync = found(&examination, "fsync");
    assert!(fsync.severity == Warn && fsync.sentence.contains("up to a second"), "{fsync:?}");
    assert_eq!(found(&examination, "acknowledged-writes").severity, Warn);

    server.cli(&["config", "set", "appendfsync", "always"]);
    let examination = examine(&server.settings()).await;
    for check in ["fsync", "acknowledged-writes", "version", "mode", "role", "rights", "scripts", "disk", "clock"] {
        assert_eq!(found(&examination, check).severity, Fine, "{check}");
    }
    let replicas = found(&examination, "replicas");
    assert!(replicas.severity == Warn && replicas.sentence.contains("no replica"), "{replicas:?}");
}

#[tokio::test]
async fn replicas_are_counted_and_a_replica_is_no_target() {
    let primary = RedisServer::start_with(durable()).await;
    let demanding = RedisSettings { replicas_required: 1, ..primary.settings() };
    let examination = examine(&demanding).await;
    let replicas = found(&examination, "replicas");
    assert!(replicas.severity == Warn && replicas.sentence.contains("no refresh is sent"), "{replicas:?}");
    assert!(!examination.is_refused(), "valid tokens can be served all the same");

    let follows = format!("127.0.0.1 {}", primary.port());
    let replica = RedisServer::start_with(RedisOptions::default().with("replicaof", &follows)).await;
    let deadline = Instant::now() + PATIENCE;
    while found(&examine(&demanding).await, "replicas").severity != Fine {
        assert!(Instant::now() < deadline, "the replica did not connect");
        sleep(Duration::from_millis(20)).await;
    }
    let examination = examine(&demanding).await;
    for check in ["replica-link", "acknowledged-writes"] {
        assert_eq!(found(&examination, check).severity, Fine, "{check}");
    }
    let relaxed = examine(&primary.settings()).await;
    let w7 = found(&relaxed, "acknowledged-writes");
    assert!(w7.severity == Warn && w7.sentence.contains("promote"), "{w7:?}");
    assert_eq!(refusals(&examine(&replica.settings()).await), ["role"]);
}

#[tokio::test]
async fn a_member_of_a_cluster_is_refused() {
    let server = RedisServer::start_with(RedisOptions::default().with("cluster-enabled", "yes")).await;
    assert_eq!(refusals(&examine(&server.settings()).await), ["mode"]);
}

#[tokio::test]
async fn behind_sentinels_every_server_is_examined() {
    let mut servers = Sentinels::start_with(1, &durable, "", RedisServer::port).await;
    let demanding = RedisSettings { replicas_required: 1, replica_wait: Duration::from_secs(4), ..servers.settings() };
    let (primary, replica) = (servers.servers[0].port(), servers.servers[1].port());
    let examination = examine(&demanding).await;
    for check in
        ["sentinels", "eviction", "fsync", "replicas", "acknowledging", "acknowledged-writes", "rights", "mode"]
    {
        assert_eq!(found(&examination, check).severity, Fine, "{check}: {examination:#?}");
    }
    assert!(found(&examination, "sentinels").sentence.contains("3 of 3 sentinels"));

    servers.server(replica).cli(&["config", "set", "maxmemory-policy", "allkeys-lru"]);
    servers.server(replica).cli(&["config", "set", "appendonly", "no"]);
    let examination = examine(&demanding).await;
    assert_eq!(refusals(&examination), ["eviction"], "it may be the next primary");
    let named = format!("replica 127.0.0.1:{replica}: ");
    assert!(found(&examination, "eviction").sentence.starts_with(&named), "{examination:#?}");
    assert!(found(&examination, "persistence").sentence.starts_with(&named), "{examination:#?}");
    servers.server(replica).cli(&["config", "set", "maxmemory-policy", "noeviction"]);

    // Users are not copied to replicas.
    let rights: Vec<_> = RIGHTS.split_whitespace().chain(["+info"]).collect();
    servers.server(primary).cli(&[&["acl", "setuser", "app"], rights.as_slice()].concat());
    let password = Some(StorePassword::new("CANARY-password"));
    let examination = examine(&RedisSettings { username: Some("app".into()), password, ..demanding }).await;
    let access = found(&examination, "replica-access");
    assert!(access.severity == Warn && access.sentence.contains(&replica.to_string()), "{access:?}");
    assert_eq!(found(&examination, "login").severity, Fine);

    servers.watchers[0].stop();
    let one_away = found(&examine(&servers.settings()).await, "sentinels");
    assert!(one_away.severity == Warn && one_away.sentence.contains("2 of 3"), "{one_away:?}");
}

#[tokio::test]
async fn in_a_cluster_every_node_is_examined() {
    let cluster = RedisCluster::start_with(1, &durable).await;
    let demanding = RedisSettings { replicas_required: 1, replica_wait: Duration::from_secs(4), ..cluster.settings() };
    let examination = examine(&demanding).await;
    for check in ["cluster", "mode", "eviction", "fsync", "replicas", "acknowledging", "acknowledged-writes", "rights"]
    {
        assert_eq!(found(&examination, check).severity, Fine, "{check}: {examination:#?}");
    }
    cluster.nodes[1].cli(&["config", "set", "maxmemory-policy", "allkeys-lru"]);
    cluster.nodes[5].cli(&["config", "set", "appendfsync", "everysec"]);
    let examination = examine(&demanding).await;
    assert_eq!(refusals(&examination), ["eviction"]);
    let (evicting, hasty) = (cluster.nodes[1].port(), cluster.nodes[5].port());
    assert!(found(&examination, "eviction").sentence.starts_with(&format!("127.0.0.1:{evicting}: ")));
    assert!(found(&examination, "fsync").sentence.starts_with(&format!("replica 127.0.0.1:{hasty}: ")));
    let accepting = RedisSettings { accept_eviction: true, ..demanding };
    assert!(!examine(&accepting).await.is_refused());
}

#[tokio::test]
async fn in_a_cluster_a_right_that_is_missing_at_one_node_is_named() {
    let cluster = RedisCluster::start().await;
    let rights = format!("{RIGHTS} +cluster|slots +cluster|info +asking");
    for node in &cluster.nodes {
        let rights: Vec<_> = rights.split_whitespace().collect();
        let said = node.cli(&[&["acl", "setuser", "app"], rights.as_slice()].concat());
        assert_eq!(said.trim(), "OK");
    }
    let user = || {
        let password = Some(StorePassword::new("CANARY-password"));
        RedisSettings { username: Some("app".into()), password, ..cluster.settings() }
    };
    let examination = examine(&user()).await;
    assert!(!examination.is_refused(), "{examination:#?}");
    assert_eq!(found(&examination, "rights").severity, Fine);
    assert_eq!(found(&examination, "cluster").severity, Fine);
    cluster.nodes[2].cli(&["acl", "setuser", "app", "-asking"]);
    let examination = examine(&user()).await;
    let rights = found(&examination, "rights");
    assert!(rights.severity == Refuse && rights.sentence.contains("ASKING"), "{rights:?}");
    assert!(rights.sentence.starts_with(&format!("127.0.0.1:{}: ", cluster.nodes[2].port())), "{rights:?}");
}

#[tokio::test]
async fn writes_that_hang_on_replicas_are_warned_of() {
    let server = RedisServer::start_with(RedisOptions::default().with("min-replicas-to-write", "1")).await;
    let examination = examine(&server.settings()).await;
    assert_eq!(found(&examination, "min-replicas").severity, Warn);
    assert!(!examination.is_refused(), "{examination:#?}");
}

/// The rights that the front page of the store's folder documents.
const RIGHTS: &str = "on >CANARY-password resetkeys ~consentry:* resetchannels &consentry:changes -@all +hello +auth \
    +select +ping +evalsha +script|load +time +hgetall +hset +hdel +pexpire +persist +rpush +ltrim +lrange +publish \
    +subscribe +wait +scan";

/// A server with a user of these rights, and the settings to be that user.
async fn with_user(rights: &[&str]) -> (RedisServer, RedisSettings) {
    let server = RedisServer::start().await;
    let rights: Vec<_> = rights.iter().flat_map(|rights| rights.split_whitespace()).collect();
    let said = server.cli(&[&["acl", "setuser", "app"], rights.as_slice()].concat());
    assert_eq!(said.trim(), "OK");
    let password = Some(StorePassword::new("CANARY-password"));
    let settings = RedisSettings { username: Some("app".into()), password, ..server.settings() };
    (server, settings)
}

#[tokio::test]
async fn the_documented_rights_are_enough_and_what_may_not_be_asked_is_said() {
    let (server, user) = with_user(&[RIGHTS]).await;
    let examination = examine(&user).await;
    assert!(!examination.is_refused(), "{examination:#?}");
    assert_eq!(found(&examination, "rights").severity, Fine);
    assert_eq!(found(&examination, "role").severity, Fine, "every user is told the role");
    for check in ["asking", "eviction", "acknowledged-writes"] {
        assert_eq!(found(&examination, check).severity, Warn, "{check}");
    }
    assert_eq!(server.cli(&["dbsize"]).trim(), "(integer) 0", "trying leaves nothing behind");

    server.cli(&["acl", "setuser", "app", "+info"]);
    let examination = examine(&user).await;
    let asking = found(&examination, "asking");
    assert!(asking.severity == Warn && asking.sentence.contains("CONFIG GET"), "{asking:?}");
    assert_eq!(found(&examination, "eviction").severity, Fine);
    assert_eq!(found(&examination, "persistence").severity, Warn);

    server.cli(&["acl", "setuser", "app", "+config|get"]);
    assert_eq!(found(&examine(&user).await, "asking").severity, Fine);
}

#[tokio::test]
async fn a_right_that_is_missing_is_named_whether_it_is_asked_for_or_tried() {
    for (dry, extra) in [(false, ""), (true, "+acl|whoami +acl|dryrun")] {
        for (taken, told) in [
            ("-evalsha", "EVALSHA on consentry:c:*"),
            ("-hset", "HSET on consentry:c:*"),
            ("-hdel", "HDEL on consentry:k:*"),
            ("-pexpire", "PEXPIRE on consentry:c:*"),
            ("-script|load", "SCRIPT LOAD"),
            ("-time", "TIME"),
            ("-wait", "WAIT"),
            ("-publish", "PUBLISH on consentry:changes"),
            ("-subscribe", "SUBSCRIBE on consentry:changes"),
            ("resetchannels", "SUBSCRIBE on consentry:changes"),
            ("resetkeys ~consentry:c:*", "HGETALL on consentry:k:*"),
        ] {
            let (server, user) = with_user(&[RIGHTS, extra, taken]).await;
            let examination = examine(&RedisSettings { replicas_required: 1, ..user }).await;
            assert_eq!(refusals(&examination), ["rights"], "{taken} {dry}");
            let rights = found(&examination, "rights").sentence;
            let (missing, _) = rights.split_once(": a token set").unwrap();
            assert!(missing.contains(told), "{taken} {dry}: {rights}");
            assert!(!missing.contains("PERSIST") || taken.starts_with("resetkeys"), "nothing else is: {rights}");
            assert_eq!(server.cli(&["dbsize"]).trim(), "(integer) 0");
        }
    }
}

#[tokio::test]
async fn rights_to_the_history_or_the_list_that_are_missing_are_a_warning() {
    for (extra, taken, told) in [
        ("", "-lrange", "LRANGE on consentry:c:*:ev"),
        ("", "-ltrim", "LTRIM on consentry:c:*:ev"),
        ("+acl|whoami +acl|dryrun", "-rpush", "RPUSH on consentry:c:*:ev"),
        ("", "-scan", "SCAN"),
        ("+acl|whoami +acl|dryrun", "-scan", "everything works but the list of consents"),
    ] {
        let (server, user) = with_user(&[RIGHTS, extra, taken]).await;
        let examination = examine(&user).await;
        assert!(!examination.is_refused(), "{examination:#?}");
        let rights = found(&examination, "rights");
        assert!(rights.severity == Warn && rights.sentence.contains(told), "{rights:?}");
        assert_eq!(server.cli(&["dbsize"]).trim(), "(integer) 0");
    }
}

#[tokio::test]
async fn a_server_that_turns_us_away_is_a_finding_and_one_that_is_away_is_not() {
    let (_server, user) = with_user(&[RIGHTS]).await;
    let wrong = RedisSettings { password: Some(StorePassword::new("CANARY-wrong")), ..user };
    let examination = examine(&wrong).await;
    assert_eq!(refusals(&examination), ["login"]);
    assert!(!format!("{examination:?}").contains("CANARY"));

    let guarded = RedisServer::start_with(RedisOptions::default().with("requirepass", "CANARY")).await;
    assert_eq!(refusals(&examine(&guarded.settings()).await), ["login"]);

    let away = RedisStore::connect(&settings(free_port())).unwrap();
    assert!(matches!(away.examine(&SystemClock).await, Err(StoreError::Unavailable(_))));

    let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let limit = Duration::from_millis(200);
    let port = silent.local_addr().unwrap().port();
    let impatient = RedisSettings { command_timeout: limit, connect_timeout: limit, ..settings(port) };
    let started = Instant::now();
    let outcome = RedisStore::connect(&impatient).unwrap().examine(&SystemClock).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    assert!(started.elapsed() < limit * 5, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_server_that_is_put_right_is_found_sound_without_a_restart() {
    let server = RedisServer::start_with(RedisOptions::default().with("maxmemory-policy", "allkeys-lru")).await;
    let sound = Arc::new(AtomicBool::new(false));
    let watching = tokio::spawn({
        let (store, sound) = (server.store(), Arc::clone(&sound));
        async move {
            let tell = || sound.store(true, Ordering::SeqCst);
            store.watch(&SystemClock, Duration::from_millis(20), tell).await;
        }
    });
    // Each examination says HELLO once, and a few of them have to have refused it.
    let deadline = Instant::now() + PATIENCE;
    while asked(&server) < 3 {
        assert!(Instant::now() < deadline, "it does not examine");
        sleep(Duration::from_millis(20)).await;
    }
    assert!(!sound.load(Ordering::SeqCst), "refused");
    server.cli(&["config", "set", "maxmemory-policy", "noeviction"]);
    while !sound.load(Ordering::SeqCst) {
        assert!(Instant::now() < deadline, "it does not heal");
        sleep(Duration::from_millis(20)).await;
    }
    assert!(!watching.is_finished(), "it goes on");
    watching.abort();
}

/// How many examinations the server has answered.
fn asked(server: &RedisServer) -> usize {
    let stats = server.cli(&["info", "commandstats"]);
    let calls = stats.split("cmdstat_hello:calls=").nth(1).and_then(|rest| rest.split(',').next());
    calls.and_then(|calls| calls.parse().ok()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_is_not_ready_with_a_server_that_evicts_consents() {
    let (bank, server) = (
        Bank::start().await,
        RedisServer::start_with(RedisOptions::default().with("maxmemory-policy", "allkeys-lru")).await,
    );
    let mut sidecar = Replica::with_redis(&bank, &server).start().await;
    let refused = sidecar.program.logged("The token store is refused.").await;
    assert_eq!((refused["check"].as_str(), refused["level"].as_str()), (Some("eviction"), Some("ERROR")), "{refused}");
    assert!(refused["sentence"].as_str().unwrap().contains("noeviction"), "{refused}");
    sidecar.program.logged("The token store is at risk.").await;
    let ready = sidecar.app.get(&sidecar.health_url("/readyz"), &[]).await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(String::from_utf8_lossy(&ready.body).contains("the token store"), "{ready:?}");
    assert_eq!(sidecar.app.get(&sidecar.health_url("/livez"), &[]).await.status, StatusCode::OK);

    let url = format!("redis://127.0.0.1:{}/0\"", server.port());
    let told = Replica::with_redis(&bank, &server).change(&url, &format!("{url}, accept_eviction: true"));
    let sidecar = told.start().await;
    sidecar
        .until("it is ready", async || {
            sidecar.app.get(&sidecar.health_url("/readyz"), &[]).await.status == StatusCode::OK
        })
        .await;
}

fn doctor(config: &PathBuf, more: &[&str]) -> Output {
    consentry().args(["store", "doctor", "--config"]).arg(config).args(more).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_says_what_it_found_and_ends_accordingly() {
    let bank = Bank::start().await;
    let mut server = RedisServer::start().await;
    let config = Replica::with_redis(&bank, &server);
    let path = config.write();

    let output = doctor(&path, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    let first = table.lines().next().unwrap();
    assert!(first.starts_with("warn    persistence "), "the heaviest first: {table}");
    assert!(table.lines().any(|line| line.starts_with("fine    eviction ")), "{table}");

    server.cli(&["config", "set", "maxmemory-policy", "allkeys-random"]);
    let output = doctor(&path, &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((found["store"].as_str(), found["usable"].as_bool()), (Some("redis"), Some(false)), "{found}");
    let first = &found["findings"][0];
    assert_eq!((first["severity"].as_str(), first["check"].as_str()), (Some("refuse"), Some("eviction")), "{found}");
    assert!(first["sentence"].as_str().unwrap().contains("allkeys-random"), "{found}");

    server.stop();
    let output = doctor(&path, &["--json"]);
    assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
    assert!(output.stdout.is_empty() && text(&output.stderr).contains("connection refused"));
    assert_eq!(doctor(&"/nowhere/consentry.yaml".into(), &[]).status.code(), Some(78));
    assert_eq!(consentry().args(["store", "physician"]).output().unwrap().status.code(), Some(64));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_says_whether_an_old_backup_would_be_noticed() {
    let (bank, server) = (Bank::start().await, RedisServer::start().await);
    let config = Replica::with_redis(&bank, &server);
    let path = config.write();
    let severity = || {
        let found: Value = serde_json::from_slice(&doctor(&path, &["--json"]).stdout).unwrap();
        let findings = found["findings"].as_array().unwrap();
        let finding = findings.iter().find(|finding| finding["check"] == "old-backup").unwrap();
        finding["severity"].as_str().unwrap().to_owned()
    };
    assert_eq!(severity(), "warn", "nothing is known of the store yet");
    let sidecar = config.start().await;
    sidecar.until("the replica has written down what it knows", async || severity() == "fine").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_looks_at_a_file_whoever_holds_it() {
    let bank = Bank::start().await;
    let replica = Replica::embedded(&bank);
    let (path, file) = (replica.write(), replica.home().join("tokens.redb"));
    let says = |sentence: &str, code| {
        let output = doctor(&path, &[]);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains(sentence), "{}", text(&output.stdout));
    };
    says("is not there yet", 0);
    assert!(!file.exists(), "looking leaves nothing behind");
    let mut sidecar = replica.start().await;
    says("held by another process", 0);
    sidecar.program.kill();
    says("no process holds it", 0);
    fs::write(&file, "something else").unwrap();
    says("refuse  file", 1);
}
