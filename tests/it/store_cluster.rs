//! A cluster: every record at its node, slots that move in the middle of a refresh, and nodes that fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use consentry::store::redis::{RedisAddress, RedisSettings, Servers};
use consentry::store::{
    ArmOutcome, BeginOutcome, Change, CommitOutcome, Occasion, Pace, RecordState, RedisStore, Store as _, StoreError,
};
use consentry::words::ids::TokenKey;
use consentry::words::secrets::StorePassword;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::store_contract::{arm, begin, commit, consent, granted, read, seeded};
use crate::support::authority::Authority;
use crate::support::redis::{RedisOptions, RedisServer, free_port, until};
use crate::support::redis_cluster::RedisCluster;

fn stored_key(key: &TokenKey) -> String {
    let TokenKey::Consent(id) = key else { panic!("not a consent") };
    format!("consentry:c:{{{}}}", id.as_str())
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
async fn every_record_is_at_its_node_and_one_connection_hears_of_all() {
    let cluster = RedisCluster::start().await;
    let store = cluster.store();
    let (sender, mut changes) = mpsc::channel(256);
    let follower = tokio::spawn({
        let store = store.clone();
        async move { store.follow(sender).await }
    });
    assert_eq!(heard(&mut changes).await, Change::Connected);
    let mut untold = Vec::new();
    for _ in 0..60 {
        let key = consent();
        let version = seeded(&store, &key, 1).await;
        untold.push((key, version));
    }
    for node in &cluster.nodes {
        let kept = node.cli(&["dbsize"]).trim().trim_start_matches("(integer) ").parse::<u32>().unwrap();
        assert!(kept > 0, "sixty records are spread over three nodes");
    }
    while !untold.is_empty() {
        let Change::Moved { key, version } = heard(&mut changes).await else { panic!("it went blind") };
        untold.retain(|(other, its)| (other, its) != (&key, &version));
    }
    let primaries = store.primaries().await.unwrap();
    let mut ports: Vec<_> = cluster.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
    ports.sort();
    assert_eq!(primaries.iter().map(|primary| primary.address.clone()).collect::<Vec<_>>(), ports);
    assert!(primaries.iter().all(|primary| primary.identity.is_named()));
    follower.abort();
}

#[tokio::test]
async fn a_slot_that_moves_in_the_middle_of_a_refresh_is_followed() {
    let cluster = RedisCluster::start().await;
    let (store, key) = (cluster.store(), consent());
    let stored_at = stored_key(&key);
    let version = seeded(&store, &key, 1).await;
    let slot = cluster.slot(&stored_at);
    let from = RedisCluster::first_owner(slot);
    let to = (from + 1) % 3;
    let (lease, _) = granted(store.begin(&key, &begin(1)).await.unwrap());

    cluster.begin_move(slot, from, to);
    assert_eq!(store.arm(&key, &arm(1, lease.fence, version)).await.unwrap(), ArmOutcome::Armed, "it is still there");
    cluster.move_key(&stored_at, from, to);
    // The node that takes the slot over has never seen our scripts.
    cluster.nodes[to].cli(&["script", "flush"]);
    let stored = CommitOutcome::Stored { version: version.next(), rolled_back: false };
    assert_eq!(store.commit(&key, &commit(1, version)).await.unwrap(), stored, "sent on with ASK");
    assert_eq!(read(&store, &key).await.version, version.next());

    cluster.end_move(slot, to).await;
    let (lease, _) = granted(store.begin(&key, &begin(2)).await.unwrap());
    assert_eq!(store.arm(&key, &arm(2, lease.fence, version.next())).await.unwrap(), ArmOutcome::Armed);
    assert_eq!(
        store.commit(&key, &commit(2, version.next())).await.unwrap(),
        CommitOutcome::Stored { version: version.next().next(), rolled_back: false }
    );
    assert!(cluster.nodes[to].cli(&["hget", &stored_at, "gen"]).contains("\"3\""));
    assert!(cluster.nodes[from].cli(&["hget", &stored_at, "gen"]).contains("MOVED"));
    let fresh = cluster.store();
    assert_eq!(read(&fresh, &key).await.version, version.next().next(), "whoever comes later learns the new map");
}

#[tokio::test]
async fn the_gate_stands_before_the_node_that_is_asked_in_a_move_too() {
    let cluster = RedisCluster::start().await;
    let (store, key) = (cluster.store(), consent());
    let stored_at = stored_key(&key);
    // Before any connection: a node that was met by an unguarded gate is open.
    store.gate().guard();
    seeded(&store, &key, 1).await;
    let slot = cluster.slot(&stored_at);
    let from = RedisCluster::first_owner(slot);
    let to = (from + 1) % 3;
    cluster.begin_move(slot, from, to);
    cluster.move_key(&stored_at, from, to);
    let error = store.begin(&key, &begin(1)).await.unwrap_err();
    assert_eq!(error, StoreError::Reuniting);
    let asked = store.primaries().await.unwrap();
    let asked = asked.into_iter().find(|primary| primary.address.ends_with(&cluster.nodes[to].port().to_string()));
    assert!(store.gate().waiting().contains(&asked.unwrap().identity), "it is the node that was asked");
    for identity in store.gate().waiting() {
        store.gate().open(&identity);
    }
    assert!(matches!(store.begin(&key, &begin(1)).await.unwrap(), BeginOutcome::Granted(..)));
    cluster.end_move(slot, to).await;
}

#[tokio::test]
async fn a_node_that_dies_takes_nothing_acknowledged_with_it() {
    let mut cluster = RedisCluster::start_with(1, &RedisOptions::default).await;
    let demanding = RedisSettings { replicas_required: 1, replica_wait: Duration::from_secs(4), ..cluster.settings() };
    let (store, key) = (RedisStore::connect(&demanding).unwrap(), consent());
    let version = seeded(&store, &key, 1).await;
    let (lease, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
    assert_eq!(store.arm(&key, &arm(1, lease.fence, version)).await.unwrap(), ArmOutcome::Armed);
    let before = store.primaries().await.unwrap();
    let dying = RedisCluster::first_owner(cluster.slot(&stored_key(&key)));
    cluster.nodes[dying].stop();
    let asked = Instant::now();
    assert!(matches!(store.read(&key).await, Err(StoreError::Unavailable(_))));
    assert!(asked.elapsed() < Duration::from_secs(12), "{:?}", asked.elapsed());

    cluster.until_primary(dying + 3).await;
    until("the new primary is found", async || store.read(&key).await.is_ok()).await;
    assert_eq!(read(&store, &key).await.state, RecordState::Armed, "the intent was acknowledged, so it is there");
    let stored = CommitOutcome::Stored { version: version.next(), rolled_back: false };
    // Its own replica is gone for good, so the outcome cannot be acknowledged before the old primary is back as one.
    assert!(matches!(store.commit(&key, &commit(1, version)).await, Err(StoreError::Unavailable(_))));
    cluster.nodes[dying].start_again().await;
    until("the commit is stored", async || store.commit(&key, &commit(1, version)).await == Ok(stored)).await;
    let after = store.primaries().await.unwrap();
    let same = after.iter().filter(|primary| before.contains(primary)).count();
    assert_eq!((after.len(), same), (3, 2), "one of three is another incarnation");
}

#[tokio::test]
async fn a_failover_in_good_order_leaves_a_node_that_sends_us_on() {
    let cluster = RedisCluster::start_with(1, &RedisOptions::default).await;
    let (store, key) = (cluster.store(), consent());
    let version = seeded(&store, &key, 1).await;
    let (lease, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
    store.gate().guard();
    let owner = RedisCluster::first_owner(cluster.slot(&stored_key(&key)));
    cluster.fail_over(owner + 3).await;
    let error = store.arm(&key, &arm(1, lease.fence, version)).await.unwrap_err();
    assert_eq!(error, StoreError::Reuniting);
    let stored = CommitOutcome::Stored { version: version.next(), rolled_back: false };
    assert_eq!(store.commit(&key, &commit(1, version)).await.unwrap(), stored);
    // And back: the connections to the first node are still open, and it is another incarnation than the one it was.
    for identity in store.gate().waiting() {
        store.gate().open(&identity);
    }
    cluster.fail_over(owner).await;
    let error = store.begin(&key, &begin(2)).await.unwrap_err();
    assert_eq!(error, StoreError::Reuniting);
    assert_eq!(read(&store, &key).await.version, version.next());
}

#[tokio::test]
async fn a_node_that_takes_over_grants_leases_when_it_has_been_told_what_it_may_have_forgotten() {
    let cluster = RedisCluster::start_with(1, &RedisOptions::default).await;
    let (store, key) = (cluster.store(), consent());
    seeded(&store, &key, 1).await;
    let (told, may_tell) = (Arc::<AtomicUsize>::default(), Arc::new(AtomicBool::new(true)));
    let living = tokio::spawn({
        let (store, told, may_tell) = (store.clone(), Arc::clone(&told), Arc::clone(&may_tell));
        async move {
            let attend = |occasion| {
                let (told, may_tell) = (Arc::clone(&told), Arc::clone(&may_tell));
                async move {
                    if matches!(occasion, Occasion::Beat { .. }) {
                        return Ok(());
                    }
                    if !may_tell.load(Ordering::SeqCst) {
                        return Err(StoreError::Unavailable("the test says so".to_owned()));
                    }
                    told.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                }
            };
            let pace = Pace {
                beat: Duration::from_millis(50),
                look: Duration::from_millis(20),
                alive: Duration::from_secs(60),
                patience: Duration::from_secs(60),
                rest: Duration::from_millis(200),
                setback: Duration::from_secs(60),
            };
            store.reunite("one", pace, 0, attend).await;
        }
    });
    until("leases are granted", async || store.begin(&key, &begin(1)).await.is_ok()).await;
    let before = told.load(Ordering::SeqCst);
    may_tell.store(false, Ordering::SeqCst);
    let owner = RedisCluster::first_owner(cluster.slot(&stored_key(&key)));
    cluster.fail_over(owner + 3).await;
    until("the new node holds leases up", async || {
        matches!(store.begin(&key, &begin(1)).await, Err(StoreError::Reuniting))
    })
    .await;
    may_tell.store(true, Ordering::SeqCst);
    until("leases are granted", async || store.begin(&key, &begin(1)).await.is_ok()).await;
    assert!(told.load(Ordering::SeqCst) > before);
    living.abort();
}

#[tokio::test]
async fn a_cluster_that_is_not_whole_is_not_available_and_says_so_in_time() {
    let lonely = RedisServer::start_with(
        RedisOptions::default().with("cluster-enabled", "yes").with("cluster-port", &free_port().to_string()),
    )
    .await;
    let address = RedisAddress::parse(&format!("redis://127.0.0.1:{}", lonely.port())).unwrap();
    let limit = Duration::from_millis(300);
    let settings = RedisSettings {
        servers: Servers::Cluster(vec![address]),
        command_timeout: limit,
        connect_timeout: limit,
        ..lonely.settings()
    };
    let store = RedisStore::connect(&settings).unwrap();
    let asked = Instant::now();
    let error = store.read(&consent()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    assert!(matches!(store.ping().await, Err(StoreError::Unavailable(_))));
}

#[tokio::test]
async fn a_member_of_a_cluster_is_refused_where_one_server_is_configured() {
    let cluster = RedisCluster::start().await;
    let mut refused = 0;
    for node in &cluster.nodes {
        match node.store().read(&consent()).await {
            Ok(_) => {}
            Err(StoreError::Refused(text)) => {
                assert!(text.contains("store.redis.cluster"), "{text}");
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    let (key, mut statuses) = (consent(), Vec::new());
    for node in &cluster.nodes {
        statuses.push(node.store().read(&key).await.is_err());
    }
    assert_eq!(statuses.iter().filter(|refused| **refused).count(), 2, "{refused}");
}

/// The rights that the front page of the store's folder documents for a cluster.
const RIGHTS: &str = "resetkeys ~consentry:* resetchannels &consentry:changes -@all +hello +auth +select +ping \
    +evalsha +script|load +time +hgetall +hset +hdel +pexpire +persist +publish +subscribe +wait +cluster|slots \
    +cluster|info +asking";

#[tokio::test]
async fn the_documented_rights_over_tls_are_enough() {
    let authority = Authority::new();
    let files = authority.server_files("127.0.0.1");
    let file = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(
        files.path().join("users.acl"),
        format!("user default on nopass ~* &* +@all\nuser app on >CANARY-app {RIGHTS}\n"),
    )
    .unwrap();
    let options = || {
        RedisOptions::default()
            .with("tls-port", &free_port().to_string())
            .with("tls-cert-file", &file("server.pem"))
            .with("tls-key-file", &file("server.key"))
            .with("tls-ca-cert-file", &file("ca.pem"))
            .with("tls-auth-clients", "no")
            // Without it the nodes name their other ports, whoever asks.
            .with("tls-cluster", "yes")
            .with("aclfile", &file("users.acl"))
    };
    let cluster = RedisCluster::start_with(0, &options).await;
    // One address is enough; the rest is learnt, with the ports that speak TLS.
    let port = cluster.nodes[0].option("tls-port").unwrap().parse().unwrap();
    let seed = RedisAddress { tls: true, host: "127.0.0.1".into(), port, database: 0 };
    let settings = |password: &str| RedisSettings {
        servers: Servers::Cluster(vec![seed.clone()]),
        username: Some("app".into()),
        password: Some(StorePassword::new(password)),
        ca_pem: Some(authority.pem.clone().into_bytes()),
        ..cluster.settings()
    };
    let store = RedisStore::connect(&settings("CANARY-app")).unwrap();
    let (sender, mut changes) = mpsc::channel(64);
    let follower = tokio::spawn({
        let store = store.clone();
        async move { store.follow(sender).await }
    });
    assert_eq!(heard(&mut changes).await, Change::Connected);
    for _ in 0..6 {
        let key = consent();
        let version = seeded(&store, &key, 1).await;
        let (lease, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
        assert_eq!(store.arm(&key, &arm(1, lease.fence, version)).await.unwrap(), ArmOutcome::Armed);
        assert_eq!(heard(&mut changes).await, Change::Moved { key, version });
    }
    follower.abort();
    let key = consent();
    let version = seeded(&store, &key, 1).await;
    let slot = cluster.slot(&stored_key(&key));
    let from = RedisCluster::first_owner(slot);
    cluster.begin_move(slot, from, (from + 1) % 3);
    cluster.move_key(&stored_key(&key), from, (from + 1) % 3);
    let stored = CommitOutcome::Stored { version: version.next(), rolled_back: false };
    assert_eq!(store.commit(&key, &commit(1, version)).await.unwrap(), stored, "ASKING is among the rights");
    let wrong = RedisStore::connect(&settings("CANARY-wrong")).unwrap();
    let error = wrong.ping().await.unwrap_err();
    assert!(matches!(&error, StoreError::Refused(text) if !text.contains("CANARY")), "{error}");
}
