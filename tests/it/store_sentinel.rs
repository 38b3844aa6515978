//! A primary that sentinels name: failovers in the middle of a refresh, and sentinels that are away, wrong or shut.

use std::time::Duration;

use consentry::store::redis::{RedisAddress, RedisSettings, SentinelSettings, Servers};
use consentry::store::{
    ArmOutcome, BeginOutcome, Change, CommitOutcome, RecordState, RedisStore, Store as _, StoreError,
};
use consentry::words::secrets::StorePassword;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::store_contract::{arm, begin, commit, consent, granted, read, seed, seeded};
use crate::support::authority::Authority;
use crate::support::redis::{RedisOptions, until};
use crate::support::redis_sentinel::{NAME, Sentinels};

/// Settings for a store whose intents and outcomes a replica has to have.
fn demanding(servers: &Sentinels) -> RedisSettings {
    RedisSettings { replicas_required: 1, replica_wait: Duration::from_secs(4), ..servers.settings() }
}

#[tokio::test]
async fn a_failover_in_good_order_in_the_middle_of_a_refresh_costs_nothing_but_time() {
    let servers = Sentinels::start(2).await;
    let store = RedisStore::connect(&demanding(&servers)).unwrap();
    let (sender, mut changes) = mpsc::channel(64);
    let follower = tokio::spawn({
        let store = store.clone();
        async move { store.follow(sender).await }
    });
    assert_eq!(heard(&mut changes).await, Change::Connected);
    let key = consent();
    let version = seeded(&store, &key, 1).await;
    assert_eq!(heard(&mut changes).await, Change::Moved { key: key.clone(), version });
    let before = store.primaries().await.unwrap();
    let (lease, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
    assert_eq!(store.arm(&key, &arm(1, lease.fence, version)).await.unwrap(), ArmOutcome::Armed);
    store.gate().guard();

    servers.fail_over().await;

    let stored = CommitOutcome::Stored { version: version.next(), rolled_back: false };
    until("the commit is stored", async || match store.commit(&key, &commit(1, version)).await {
        Ok(outcome) => outcome == stored,
        Err(StoreError::Unavailable(_)) => false,
        Err(error) => panic!("{error}"),
    })
    .await;
    assert_eq!(read(&store, &key).await.version, version.next());
    let after = store.primaries().await.unwrap();
    assert_ne!(after[0].address, before[0].address);
    assert_eq!(after[0].address, format!("127.0.0.1:{}", servers.primary_port()));
    let error = store.begin(&key, &begin(2)).await.unwrap_err();
    assert_eq!(error, StoreError::Reuniting);
    store.gate().open(&after[0].identity);
    assert!(matches!(store.begin(&key, &begin(2)).await.unwrap(), BeginOutcome::Granted(..)));
    // Whatever was told while nobody listened, the follower says that it was blind, and then hears from the new primary.
    while heard(&mut changes).await != Change::Lost {}
    while heard(&mut changes).await != Change::Connected {}
    let version = seeded(&store, &consent(), 3).await;
    let told =
        async { while !matches!(heard(&mut changes).await, Change::Moved { version: it, .. } if it == version) {} };
    timeout(Duration::from_secs(10), told).await.unwrap();
    follower.abort();
}

async fn heard(changes: &mut mpsc::Receiver<Change>) -> Change {
    loop {
        match timeout(Duration::from_secs(30), changes.recv()).await.unwrap().unwrap() {
            Change::Happened(_) => {}
            change => break change,
        }
    }
}

#[tokio::test]
async fn a_primary_that_dies_takes_nothing_acknowledged_with_it() {
    let mut servers = Sentinels::start(2).await;
    let store = RedisStore::connect(&demanding(&servers)).unwrap();
    let key = consent();
    // Whichever of the two takes over has to have it.
    let careful = RedisStore::connect(&RedisSettings { replicas_required: 2, ..demanding(&servers) }).unwrap();
    let version = seeded(&careful, &key, 1).await;
    let (lease, _) = granted(careful.begin(&key, &begin(1)).await.unwrap());
    assert_eq!(careful.arm(&key, &arm(1, lease.fence, version)).await.unwrap(), ArmOutcome::Armed);
    assert_eq!(read(&store, &key).await.state, RecordState::Armed);
    let before = servers.primary_port();
    servers.server(before).stop();

    // Nobody is kept waiting for what only a failover can bring.
    let asked = Instant::now();
    let error = store.read(&key).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());

    servers.until_primary_is_not(before).await;
    until("the new primary is found", async || store.read(&key).await.is_ok()).await;
    assert_eq!(read(&store, &key).await.state, RecordState::Armed, "the intent was acknowledged, so it is there");
    let stored = CommitOutcome::Stored { version: version.next(), rolled_back: false };
    until("the commit is stored", async || store.commit(&key, &commit(1, version)).await == Ok(stored)).await;

    servers.server(before).start_again().await;
    // What the old primary says does not count, before it follows and after. The sentinels would have it follow in their own
    // time, which is long on a busy machine.
    for _ in 0..20 {
        assert_eq!(read(&store, &key).await.version, version.next());
        sleep(Duration::from_millis(100)).await;
    }
    let primary = servers.primary_port().to_string();
    servers.server(before).cli(&["replicaof", "127.0.0.1", &primary]);
    until("the old primary follows", async || {
        servers.servers.iter().any(|it| it.port() == before && it.cli(&["role"]).contains("slave"))
    })
    .await;
    assert_eq!(read(&store, &key).await.version, version.next());
}

#[tokio::test]
async fn a_primary_that_falls_silent_is_left_for_the_one_that_takes_over() {
    let mut servers = Sentinels::start(1).await;
    let quick = Duration::from_millis(800);
    let store =
        RedisStore::connect(&RedisSettings { command_timeout: quick, connect_timeout: quick, ..servers.settings() });
    let store = store.unwrap();
    let key = consent();
    let version = seeded(&store, &key, 1).await;
    let before = servers.primary_port();
    until("the replica has it, and its history", async || servers.servers[1].cli(&["dbsize"]).contains("(integer) 2"))
        .await;
    servers.server(before).signal("STOP");
    servers.until_primary_is_not(before).await;
    until("the new primary is found", async || store.read(&key).await.is_ok()).await;
    let (lease, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
    assert_eq!(store.arm(&key, &arm(1, lease.fence, version)).await.unwrap(), ArmOutcome::Armed);
    servers.server(before).signal("CONT");
    until("the old primary follows", async || servers.servers[0].cli(&["role"]).contains("slave")).await;
    let stored = CommitOutcome::Stored { version: version.next(), rolled_back: false };
    assert_eq!(store.commit(&key, &commit(1, version)).await.unwrap(), stored);
}

#[tokio::test]
async fn a_primary_that_is_demoted_with_its_connections_open_is_left() {
    let mut servers = Sentinels::start(1).await;
    let (store, key) = (servers.store(), consent());
    seeded(&store, &key, 1).await;
    let (primary, replica) = (servers.primary_port(), servers.servers[1].port());
    assert_ne!(primary, replica);
    // The sentinels do not hear of it for some seconds.
    servers.server(primary).cli(&["replicaof", "127.0.0.1", &replica.to_string()]);
    let asked = Instant::now();
    let error = store.begin(&key, &begin(1)).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable(text) if text.contains("no primary yet")), "{error}");
    assert!(asked.elapsed() < Duration::from_secs(10));
    servers.server(primary).cli(&["replicaof", "no", "one"]);
    until("it is the primary again", async || {
        matches!(store.begin(&key, &begin(1)).await, Ok(BeginOutcome::Granted(..)))
    })
    .await;
}

#[tokio::test]
async fn sentinels_that_are_away_matter_only_when_a_connection_is_made() {
    let mut servers = Sentinels::start(1).await;
    let (store, key) = (servers.store(), consent());
    seeded(&store, &key, 1).await;
    read(&store, &key).await;
    for nth in [0, 1] {
        servers.watchers[nth].stop();
        assert!(servers.store().read(&key).await.unwrap().is_some(), "the others know");
    }
    servers.watchers[2].stop();
    assert!(store.read(&key).await.unwrap().is_some(), "a connection that there is goes on");
    let error = servers.store().read(&key).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn a_name_that_the_sentinels_do_not_know_is_said() {
    let servers = Sentinels::start(1).await;
    let Servers::Sentinel(sentinel) = servers.servers_setting() else { panic!("not sentinels") };
    let servers_setting = Servers::Sentinel(SentinelSettings { name: "another".into(), ..sentinel });
    let store = RedisStore::connect(&RedisSettings { servers: servers_setting, ..servers.settings() }).unwrap();
    let error = store.ping().await.unwrap_err();
    assert!(matches!(&error, StoreError::Refused(text) if text.contains("another")), "{error}");
    // A server that is no sentinel is not taken for one.
    let nodes = vec![RedisAddress::parse(&format!("redis://127.0.0.1:{}", servers.servers[0].port())).unwrap()];
    let Servers::Sentinel(sentinel) = servers.servers_setting() else { panic!("not sentinels") };
    let servers_setting = Servers::Sentinel(SentinelSettings { nodes, ..sentinel });
    let store = RedisStore::connect(&RedisSettings { servers: servers_setting, ..servers.settings() }).unwrap();
    assert!(matches!(store.ping().await.unwrap_err(), StoreError::Refused(_)));
}

/// The rights that the front page of the store's folder documents.
const RIGHTS: &str = "resetkeys ~consentry:* resetchannels &consentry:changes -@all +hello +auth +select +ping \
    +evalsha +script|load +time +hgetall +hset +hdel +pexpire +persist +publish +subscribe +wait";
const RIGHTS_AT_SENTINELS: &str = "-@all +hello +auth +sentinel|get-master-addr-by-name";

#[tokio::test]
async fn the_documented_rights_over_tls_are_enough() {
    let authority = Authority::new();
    let files = authority.server_files("127.0.0.1");
    let acl = files.path().join("users.acl");
    // The servers and the sentinels go on using the default user among themselves.
    std::fs::write(&acl, format!("user default on nopass ~* &* +@all\nuser app on >CANARY-app {RIGHTS}\n")).unwrap();
    let port = || crate::support::redis::free_port().to_string();
    let file = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    let options = || {
        RedisOptions::default()
            .with("tls-port", &port())
            .with("tls-cert-file", &file("server.pem"))
            .with("tls-key-file", &file("server.key"))
            .with("tls-ca-cert-file", &file("ca.pem"))
            .with("tls-auth-clients", "no")
            .with("tls-replication", "yes")
            .with("aclfile", &file("users.acl"))
    };
    let lines = format!(
        "tls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\ntls-auth-clients no\ntls-replication yes\n\
         user app on >CANARY-watch {RIGHTS_AT_SENTINELS}",
        file("server.pem"),
        file("server.key"),
        file("ca.pem")
    );
    let servers = Sentinels::start_with(1, &options, &lines, |server| {
        server.option("tls-port").and_then(|port| port.parse().ok()).expect("it has one")
    })
    .await;
    let settings = |at_sentinels: &str| {
        let nodes = servers.watchers.iter().map(|watcher| RedisAddress {
            tls: true,
            host: "127.0.0.1".into(),
            port: watcher.tls_port.expect("it has one"),
            database: 0,
        });
        let sentinel = SentinelSettings {
            name: NAME.into(),
            nodes: nodes.collect(),
            username: Some("app".into()),
            password: Some(StorePassword::new(at_sentinels)),
            database: 0,
        };
        RedisSettings {
            servers: Servers::Sentinel(sentinel),
            username: Some("app".into()),
            password: Some(StorePassword::new("CANARY-app")),
            ca_pem: Some(authority.pem.clone().into_bytes()),
            ..servers.settings()
        }
    };
    let store = RedisStore::connect(&settings("CANARY-watch")).unwrap();
    let key = consent();
    let version = seeded(&store, &key, 1).await;
    let (lease, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
    assert_eq!(store.arm(&key, &arm(1, lease.fence, version)).await.unwrap(), ArmOutcome::Armed);
    let (sender, mut changes) = mpsc::channel(16);
    tokio::select! {
        () = store.follow(sender) => panic!("it stopped following"),
        change = heard(&mut changes) => assert_eq!(change, Change::Connected),
    }
    let wrong = RedisStore::connect(&settings("CANARY-wrong")).unwrap();
    let error = wrong.seed(&consent(), &seed(2)).await.unwrap_err();
    assert!(matches!(&error, StoreError::Refused(text) if !text.contains("CANARY")), "{error}");
}
