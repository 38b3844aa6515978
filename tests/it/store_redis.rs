//! What only the Redis store does: outages, lost replies, replicas, TLS and access control.

use std::time::Duration;

use consentry::store::redis::{ClientIdentity, Identity, RedisAddress, RedisSettings};
use consentry::store::{
    ArmOutcome, BeginOutcome, Change, CommitOutcome, EndOutcome, FailOutcome, FailTo, RecordState, RedisStore,
    RenewOutcome, RestoreOutcome, SeedOutcome, Store, StoreError,
};
use consentry::words::ids::{TokenKey, Version};
use consentry::words::secrets::StorePassword;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::store_contract::{
    HOUR, arm, begin, commit, consent, end, fail, granted, next, read, renew, restore, seed, seeded,
};
use crate::support::authority::Authority;
use crate::support::link::{Flow, Link, Toward};
use crate::support::redis::{RedisOptions, RedisServer, free_port, settings};
use crate::support::scripted_redis::ScriptedRedis;

#[tokio::test]
async fn a_record_is_readable_with_redis_cli_but_for_its_tokens() {
    let server = RedisServer::start().await;
    let (store, key) = (server.store(), consent());
    let version = seeded(&store, &key, 1).await;
    let (lease, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
    store.arm(&key, &arm(1, lease.fence, version)).await.unwrap();
    let shown = server.cli(&["hgetall", &stored_key(&key)]);
    for readable in ["armed", "bank", &version.grant.to_string(), "B-1", "granted", "replica/boot/1"] {
        assert!(shown.contains(&format!("\"{readable}\"")), "{readable} in {shown}");
    }
    assert_eq!(server.cli(&["ttl", &stored_key(&key)]).trim(), "(integer) -1", "a living consent has no time to live");
    let replacing = consentry::store::Seed { expected: Some(version), ..seed(3) };
    store.seed(&key, &replacing).await.unwrap();
    assert!(server.cli(&["hget", &stored_key(&key), "old_rt"]).contains("refresh 1"));
    store.end(&key, &end(None)).await.unwrap();
    let shown = server.cli(&["hgetall", &stored_key(&key)]);
    assert!(shown.contains("\"revoked\"") && !shown.contains("refresh") && !shown.contains("access"), "{shown}");
    assert_eq!(server.cli(&["ttl", &stored_key(&key)]).trim(), "(integer) 604800");
    assert_eq!(server.cli(&["ttl", &history_key(&key)]).trim(), "(integer) 604800", "its history goes with it");
    store.seed(&key, &seed(2)).await.unwrap();
    assert_eq!(server.cli(&["ttl", &stored_key(&key)]).trim(), "(integer) -1");
    assert_eq!(server.cli(&["ttl", &history_key(&key)]).trim(), "(integer) -1");
}

#[tokio::test]
async fn no_sealed_token_shows_in_the_store() {
    use consentry::store::seal::{Binding, Keyring, SealKey};
    use consentry::words::secrets::{AccessToken, RefreshToken};
    let server = RedisServer::start().await;
    let (store, key, seed) = (server.store(), consent(), seed(1));
    let ring = Keyring::new(vec![SealKey::from_bytes("k", &[7; 32]).unwrap()]).unwrap();
    let (provider, version) = (seed.provider.clone(), Version::first(seed.grant));
    let binding = Binding { prefix: "consentry", provider: &provider, client_id: "tpp", key: &key, version };
    let access = ring.seal_access(&binding, &AccessToken::new("CANARY-access")).unwrap();
    let refresh = ring.seal_refresh(&binding, &RefreshToken::new("CANARY-refresh")).unwrap();
    store.seed(&key, &consentry::store::Seed { access, refresh: Some(refresh), ..seed }).await.unwrap();
    let shown = server.cli(&["hgetall", &stored_key(&key)]);
    assert!(shown.contains("\"rt\"") && !shown.contains("CANARY"), "{shown}");
    let refresh = read(&store, &key).await.refresh.unwrap();
    assert_eq!(ring.open_refresh(&binding, &refresh).unwrap().expose(), "CANARY-refresh");
}

#[tokio::test]
async fn a_record_that_cannot_be_understood_is_left_as_it_is() {
    let server = RedisServer::start().await;
    let (store, key) = (server.store(), consent());
    let checked = [
        "v",
        "st",
        "prov",
        "grant",
        "gen",
        "fence",
        "at_iat",
        "at_exp",
        "life",
        "rt_fp",
        "spent",
        "scope",
        "c_exp",
        "lease",
        "it_ver",
        "it_at",
        "it_n",
        "quar",
        "next",
        "fails",
        "alt_ver",
        "old_ver",
        "forced_at",
        "ended_at",
    ];
    for field in checked {
        server.cli(&["del", &stored_key(&key)]);
        let version = seeded(&store, &key, 1).await;
        server.cli(&["hset", &stored_key(&key), field, "\"CANARY"]);
        let before = server.cli(&["hgetall", &stored_key(&key)]);
        for error in every_error(&store, &key, version).await {
            let text = error.to_string();
            assert!(matches!(error, StoreError::Unreadable(_)), "{field}: {text}");
            assert!(text.contains(&format!("field {field} of a consent record")) && !text.contains("CANARY"), "{text}");
        }
        assert_eq!(server.cli(&["hgetall", &stored_key(&key)]), before, "{field}");
    }
    server.cli(&["del", &stored_key(&key)]);
    server.cli(&["set", &stored_key(&key), "CANARY"]);
    for error in every_error(&store, &key, Version::first(seed(1).grant)).await {
        assert!(matches!(error, StoreError::Unreadable(_)), "{error}");
    }
}

/// Every step's error on a record where every step must have one.
async fn every_error(store: &RedisStore, key: &TokenKey, version: Version) -> Vec<StoreError> {
    vec![
        store.read(key).await.unwrap_err(),
        store.begin(key, &begin(1)).await.unwrap_err(),
        store.arm(key, &arm(1, 1, version)).await.unwrap_err(),
        store.renew(key, &renew(1, 1, HOUR)).await.unwrap_err(),
        store.commit(key, &commit(1, version)).await.unwrap_err(),
        store.fail(key, &fail(1, 1, version, FailTo::Uncertain)).await.unwrap_err(),
        store.restore(key, &restore(1, version.next())).await.unwrap_err(),
        store.seed(key, &seed(2)).await.unwrap_err(),
        store.end(key, &end(None)).await.unwrap_err(),
    ]
}

#[tokio::test]
async fn a_server_that_is_down_is_reported_at_once_and_every_time() {
    let store = RedisStore::connect(&settings(free_port())).unwrap();
    let (key, version) = (consent(), Version::first(seed(1).grant));
    let started = Instant::now();
    for _ in 0..20 {
        for error in every_error(&store, &key, version).await {
            assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
        }
    }
    assert!(matches!(store.ping().await, Err(StoreError::Unavailable(_))));
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_in_time() {
    let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let limit = Duration::from_millis(200);
    let port = silent.local_addr().unwrap().port();
    let impatient = RedisSettings { command_timeout: limit, connect_timeout: limit, ..settings(port) };
    let store = RedisStore::connect(&impatient).unwrap();
    let started = Instant::now();
    assert!(matches!(store.read(&consent()).await, Err(StoreError::Unavailable(_))));
    assert!(started.elapsed() < limit * 5, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_server_that_comes_back_is_used_again() {
    let mut server = RedisServer::start().await;
    let (store, key) = (server.store(), consent());
    seeded(&store, &key, 1).await;
    store.ping().await.unwrap();
    server.stop();
    assert!(matches!(store.read(&key).await, Err(StoreError::Unavailable(_))));
    server.start_again().await;
    let deadline = Instant::now() + Duration::from_secs(5);
    while store.ping().await.is_err() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(store.read(&key).await.unwrap().is_none(), "this server keeps nothing");
    seeded(&store, &key, 1).await;
}

#[tokio::test]
async fn a_lost_reply_costs_nothing_but_time() {
    let server = RedisServer::start().await;
    let link = Link::to(server.port()).await;
    let (store, key) = (RedisStore::connect(&settings(link.port())).unwrap(), consent());
    // The first walk makes the scripts known; from then on the reply that is lost is the step's own.
    walk_through_every_step(&store, &consent(), || {}).await;
    walk_through_every_step(&store, &key, || link.cut_replies(1)).await;
    assert_eq!(link.cuts_left(), 0);
}

/// Every step that changes something, each once, and the change that each is to bring about.
async fn walk_through_every_step(store: &RedisStore, key: &TokenKey, before_each: impl Fn()) {
    let first = seed(1);
    let version = Version::first(first.grant);
    // A connection of its own may not be open yet, and then what is cut is the answer to the greeting; reading goes first.
    store.ping().await.unwrap();
    before_each();
    assert_eq!(store.seed(key, &first).await.unwrap(), SeedOutcome::Created(version));
    before_each();
    let (lease, _) = granted(store.begin(key, &begin(1)).await.unwrap());
    assert_eq!(lease.fence, 2, "one for the seed, one for the lease");
    before_each();
    assert_eq!(store.arm(key, &arm(1, lease.fence, version)).await.unwrap(), ArmOutcome::Armed);
    assert_eq!(read(store, key).await.sends, 1);
    before_each();
    assert_eq!(store.renew(key, &renew(1, lease.fence, HOUR)).await.unwrap(), RenewOutcome::Renewed);
    before_each();
    let stored = CommitOutcome::Stored { version: version.next(), rolled_back: false };
    assert_eq!(store.commit(key, &commit(1, version)).await.unwrap(), stored);
    let (lease, _) = granted(store.begin(key, &begin(2)).await.unwrap());
    before_each();
    let failure = fail(2, lease.fence, version.next(), FailTo::Active { backoff: HOUR });
    assert_eq!(store.fail(key, &failure).await.unwrap(), FailOutcome::Recorded);
    assert_eq!(read(store, key).await.failures, 1);
    before_each();
    let newer = version.next().next();
    assert_eq!(store.restore(key, &restore(3, newer)).await.unwrap(), RestoreOutcome::Restored);
    before_each();
    assert_eq!(store.end(key, &end(None)).await.unwrap(), EndOutcome::Ended);
    assert_eq!(read(store, key).await.version, newer.next());
}

#[tokio::test]
async fn a_link_that_loses_every_reply_ends_in_unavailable() {
    let server = RedisServer::start().await;
    let link = Link::to(server.port()).await;
    let store = RedisStore::connect(&settings(link.port())).unwrap();
    store.ping().await.unwrap();
    link.cut_replies(100);
    let outcome = timeout(Duration::from_secs(5), store.read(&consent())).await.unwrap();
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    assert!(link.cuts_left() > 90, "repeats are bounded");
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_given_to_it_again() {
    let server = RedisServer::start().await;
    let (store, key) = (server.store(), consent());
    let version = seeded(&store, &key, 1).await;
    let (lease, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
    server.cli(&["script", "flush"]);
    assert_eq!(store.arm(&key, &arm(1, lease.fence, version)).await.unwrap(), ArmOutcome::Armed);
}

#[tokio::test]
async fn a_commit_is_stored_even_when_the_server_is_out_of_memory() {
    let server = RedisServer::start().await;
    let (store, key) = (server.store(), consent());
    let version = seeded(&store, &key, 1).await;
    server.cli(&["config", "set", "maxmemory-policy", "noeviction"]);
    server.cli(&["config", "set", "maxmemory", "1"]);
    assert!(server.cli(&["hset", "other", "field", "value"]).contains("OOM"));
    let outcome = store.commit(&key, &commit(1, version)).await.unwrap();
    assert_eq!(outcome, CommitOutcome::Stored { version: version.next(), rolled_back: false });
    assert_eq!(read(&store, &key).await.version, version.next());
}

#[tokio::test]
async fn a_follower_is_told_when_it_is_blind() {
    let mut server = RedisServer::start().await;
    let store = server.store();
    let (sender, mut changes) = mpsc::channel(16);
    let follower = tokio::spawn({
        let store = store.clone();
        async move { store.follow(sender).await }
    });
    assert_eq!(next(&mut changes).await, Change::Connected);
    let key = consent();
    let told = Instant::now();
    let version = seeded(&store, &key, 1).await;
    assert_eq!(next(&mut changes).await, Change::Moved { key: key.clone(), version });
    assert!(told.elapsed() < Duration::from_secs(1));
    server.stop();
    assert_eq!(next(&mut changes).await, Change::Lost);
    server.start_again().await;
    assert_eq!(next(&mut changes).await, Change::Connected);
    server.cli(&["publish", "consentry:changes", "nonsense"]);
    server.cli(&["publish", "consentry:changes", &format!("c:x {version}")]);
    let Change::Moved { key: other, .. } = next(&mut changes).await else { panic!("not told") };
    assert_ne!(other, key, "nonsense is passed over");
    drop(changes);
    timeout(Duration::from_secs(5), follower).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_connection_that_died_without_a_word_is_noticed() {
    let server = RedisServer::start().await;
    let link = Link::to(server.port()).await;
    let impatient = RedisSettings { command_timeout: Duration::from_millis(200), ..settings(link.port()) };
    let store = RedisStore::connect(&impatient).unwrap();
    let (sender, mut changes) = mpsc::channel(16);
    let follower = tokio::spawn({
        let store = store.clone();
        async move { store.follow(sender).await }
    });
    assert_eq!(next(&mut changes).await, Change::Connected);
    store.ping().await.unwrap();
    link.set(Toward::Client, Flow::Swallow);
    let outcome = timeout(Duration::from_secs(2), store.read(&consent())).await.unwrap();
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    let told = timeout(Duration::from_secs(8), changes.recv()).await.unwrap();
    assert_eq!(told, Some(Change::Lost));
    follower.abort();
}

#[tokio::test]
async fn an_intent_counts_only_when_a_replica_has_it() {
    let primary = RedisServer::start().await;
    let demanding = |milliseconds| RedisSettings {
        replicas_required: 1,
        replica_wait: Duration::from_millis(milliseconds),
        ..primary.settings()
    };
    let (store, key) = (RedisStore::connect(&demanding(50)).unwrap(), consent());
    let version = seeded(&primary.store(), &key, 1).await;
    let (lease, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
    let outcome = store.arm(&key, &arm(1, lease.fence, version)).await.unwrap();
    assert_eq!(outcome, ArmOutcome::NotDurable { acknowledged: 0, required: 1 });
    let lonely = consent();
    for outcome in [
        store.seed(&lonely, &seed(2)).await.map(|_| ()),
        store.restore(&consent(), &restore(1, version)).await.map(|_| ()),
        store.commit(&lonely, &commit(1, read(&store, &lonely).await.version)).await.map(|_| ()),
        store.end(&lonely, &end(None)).await.map(|_| ()),
    ] {
        assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    }
    let no = store.seed(&key, &seed(2)).await.unwrap();
    assert_eq!(no, SeedOutcome::Exists(version), "to say no takes no replica");

    let store = RedisStore::connect(&demanding(5_000)).unwrap();
    let port = primary.port().to_string();
    let replica =
        RedisServer::start_with(RedisOptions::default().with("replicaof", &format!("127.0.0.1 {port}"))).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !replica.cli(&["info", "replication"]).contains("master_link_status:up") {
        assert!(Instant::now() < deadline, "the replica did not connect");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The replica may need a moment more until it acknowledges; asking again is the same step.
    while store.arm(&key, &arm(1, lease.fence, version)).await.unwrap() != ArmOutcome::Armed {
        assert!(Instant::now() < deadline, "the replica does not acknowledge");
    }
    assert!(replica.cli(&["hget", &stored_key(&key), "st"]).contains("armed"));
    let (other, third) = (consent(), seed(3));
    let first = Version::first(third.grant);
    assert_eq!(store.seed(&other, &third).await.unwrap(), SeedOutcome::Created(first));
    let stored = CommitOutcome::Stored { version: first.next(), rolled_back: false };
    assert_eq!(store.commit(&other, &commit(1, first)).await.unwrap(), stored);
    assert!(replica.cli(&["hget", &stored_key(&other), "gen"]).contains("\"2\""));
    assert_eq!(store.end(&lonely, &end(None)).await.unwrap(), EndOutcome::Ended, "repeated until it is known");

    let demoted = replica.store();
    let outcome = demoted.begin(&key, &begin(2)).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "a replica takes no writes: {outcome:?}");
    assert_eq!(read(&demoted, &key).await.state, RecordState::Armed);
}

#[tokio::test]
async fn a_history_that_cannot_be_written_stops_no_step() {
    let server = RedisServer::start().await;
    let (store, key) = (server.store(), consent());
    server.cli(&["set", &history_key(&key), "something else"]);
    let version = seeded(&store, &key, 1).await;
    let (lease, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
    assert_eq!(store.arm(&key, &arm(1, lease.fence, version)).await.unwrap(), ArmOutcome::Armed);
    let outcome = store.commit(&key, &commit(1, version)).await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Stored { .. }), "{outcome:?}");
    assert_eq!(store.end(&key, &end(None)).await.unwrap(), EndOutcome::Ended);
    assert!(matches!(store.history(&key).await, Err(StoreError::Unreadable(_))));
}

/// The rights that the front page of the store's folder documents.
const RIGHTS: &str = "resetkeys ~consentry:* resetchannels &consentry:changes -@all +hello +auth +select +ping \
    +evalsha +script|load +time +hgetall +hset +hdel +pexpire +persist +rpush +ltrim +lrange +publish +subscribe \
    +wait +scan";

#[tokio::test]
async fn the_documented_rights_over_tls_are_enough() {
    let authority = Authority::new();
    let home = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (server_pem, server_key) = authority.issue("localhost");
    let acl = format!("user default off\nuser app on >CANARY-password {RIGHTS}\n");
    let options = RedisOptions::default()
        .with("tls-cert-file", &file("server.pem", &server_pem))
        .with("tls-key-file", &file("server.key", &server_key))
        .with("tls-ca-cert-file", &file("ca.pem", &authority.pem))
        .with("tls-auth-clients", "yes")
        .with("aclfile", &file("users.acl", &acl));
    let server = RedisServer::start_with(options).await;
    let (client_pem, client_key) = authority.issue("consentry");
    let identity = || ClientIdentity {
        certificate_pem: client_pem.clone().into_bytes(),
        key_pem: client_key.clone().into_bytes().into(),
    };
    let with = |password: &str, identity| RedisSettings {
        servers: RedisAddress { tls: true, host: "localhost".into(), port: server.port(), database: 0 }.into(),
        username: Some("app".into()),
        password: Some(StorePassword::new(password)),
        ca_pem: Some(authority.pem.clone().into_bytes()),
        client_identity: identity,
        ..server.settings()
    };
    let store = RedisStore::connect(&with("CANARY-password", Some(identity()))).unwrap();
    store.ping().await.unwrap();
    walk_through_every_step(&store, &consent(), || {}).await;
    let (sender, mut changes) = mpsc::channel(16);
    tokio::select! {
        () = store.follow(sender) => panic!("it stopped following"),
        change = next(&mut changes) => assert_eq!(change, Change::Connected),
    }

    let wrong = RedisStore::connect(&with("CANARY-wrong", Some(identity()))).unwrap();
    let error = wrong.ping().await.unwrap_err();
    assert!(matches!(&error, StoreError::Refused(text) if !text.contains("CANARY")), "{error}");
    let nobody = RedisStore::connect(&with("CANARY-password", None)).unwrap();
    assert!(nobody.ping().await.is_err(), "the server asks for a certificate");
    let stranger = RedisSettings { ca_pem: Some(Authority::new().pem.into_bytes()), ..with("x", Some(identity())) };
    let error = RedisStore::connect(&stranger).unwrap().ping().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    let other_keys = RedisSettings { key_prefix: "other".into(), ..with("CANARY-password", Some(identity())) };
    let error = RedisStore::connect(&other_keys).unwrap().read(&consent()).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error}");
    assert!(server.home().exists());
}

#[tokio::test]
async fn a_password_alone_is_enough_where_the_server_asks_for_no_user() {
    let server = RedisServer::start_with(RedisOptions::default().with("requirepass", "CANARY-password")).await;
    let error = server.store().ping().await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error}");
    let password = Some(StorePassword::new("CANARY-password"));
    let store = RedisStore::connect(&RedisSettings { password, ..server.settings() }).unwrap();
    let key = consent();
    seeded(&store, &key, 1).await;
    assert!(matches!(store.begin(&key, &begin(1)).await.unwrap(), BeginOutcome::Granted(..)));
}

#[tokio::test]
async fn a_write_that_has_to_be_on_disk_counts_where_the_server_can_say_so_and_nowhere_else() {
    let server = RedisServer::start_with(RedisOptions::default().with("appendonly", "yes")).await;
    let (plain, key) = (server.store(), consent());
    let version = seeded(&plain, &key, 1).await;
    let (lease, _) = granted(plain.begin(&key, &begin(1)).await.unwrap());
    let settings = RedisSettings { fsync_required: true, replica_wait: Duration::from_secs(4), ..server.settings() };
    let store = RedisStore::connect(&settings).unwrap();
    let armed = store.arm(&key, &arm(1, lease.fence, version)).await.unwrap();
    let committed = store.commit(&key, &commit(1, version)).await;
    if server.cli(&["waitaof", "0", "0", "0"]).contains("unknown command") {
        assert_eq!(armed, ArmOutcome::NotDurable { acknowledged: 0, required: 1 });
        assert!(matches!(&committed, Err(StoreError::Unavailable(text)) if text.contains("disks")), "{committed:?}");
    } else {
        assert_eq!(armed, ArmOutcome::Armed);
        assert_eq!(committed, Ok(CommitOutcome::Stored { version: version.next(), rolled_back: false }));
        server.cli(&["config", "set", "appendonly", "no"]);
        let outcome = store.end(&key, &end(None)).await;
        assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "no file, no disk: {outcome:?}");
    }
    // Whether or not it can be acknowledged, what the bank gave us is there.
    assert!(read(&plain, &key).await.version.generation >= 2);
}

#[tokio::test]
async fn a_server_with_waitaof_is_asked_for_disks_in_place_of_replicas() {
    let version = Version::first(seed(1).grant);
    for (disks, outcome) in [
        (":1\r\n:1\r\n", ArmOutcome::Armed),
        (":1\r\n:0\r\n", ArmOutcome::NotDurable { acknowledged: 1, required: 2 }),
        (":0\r\n:9\r\n", ArmOutcome::NotDurable { acknowledged: 0, required: 2 }),
    ] {
        let server = ScriptedRedis::start(
            "7.2.4",
            &[
                ("EVALSHA", "*5\r\n$5\r\nARMED\r\n:0\r\n:0\r\n:1\r\n*0\r\n".into()),
                ("WAITAOF", format!("*2\r\n{disks}")),
            ],
        )
        .await;
        let demanding = RedisSettings { fsync_required: true, replicas_required: 1, ..settings(server.port()) };
        let store = RedisStore::connect(&demanding).unwrap();
        assert_eq!(store.arm(&consent(), &arm(1, 1, version)).await.unwrap(), outcome);
        let said = server.commands();
        assert!(said.contains(&"WAITAOF 1 1 250".to_owned()), "{said:?}");
        assert!(!said.iter().any(|command| command.starts_with("WAIT ")), "{said:?}");
    }
    let old =
        ScriptedRedis::start("7.0.15", &[("EVALSHA", "*5\r\n$5\r\nARMED\r\n:0\r\n:0\r\n:1\r\n*0\r\n".into())]).await;
    let demanding = RedisSettings { fsync_required: true, ..settings(old.port()) };
    let outcome = RedisStore::connect(&demanding).unwrap().arm(&consent(), &arm(1, 1, version)).await.unwrap();
    assert_eq!(outcome, ArmOutcome::NotDurable { acknowledged: 0, required: 1 });
    assert!(!old.commands().iter().any(|command| command.starts_with("WAIT")), "{:?}", old.commands());
}

#[tokio::test]
async fn a_restarted_server_is_another_incarnation_and_a_guarded_gate_holds_it_up() {
    let mut server = RedisServer::start_with(RedisOptions::default().with("appendonly", "yes")).await;
    let (store, key) = (server.store(), consent());
    let version = seeded(&store, &key, 1).await;
    let before = store.primaries().await.unwrap();
    assert_eq!(before.len(), 1);
    assert_eq!(before[0].address, format!("127.0.0.1:{}", server.port()));
    assert!(before[0].identity.is_named());
    assert_eq!(store.primaries().await.unwrap(), before, "it is the same while it runs");
    let (lease, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
    store.gate().guard();

    server.stop();
    server.start_again().await;
    let after = restarted(&store).await;
    assert_ne!(after, before[0].identity);
    assert_eq!(store.gate().waiting(), std::slice::from_ref(&after));
    timeout(Duration::from_secs(5), store.gate().new_identity()).await.unwrap();
    for outcome in [
        store.begin(&key, &begin(2)).await.map(|_| ()),
        store.arm(&key, &arm(1, lease.fence, version)).await.map(|_| ()),
    ] {
        assert_eq!(outcome.unwrap_err(), StoreError::Reuniting);
    }
    assert_eq!(read(&store, &key).await.state, RecordState::Leased, "what was held up did not happen");
    assert_eq!(store.renew(&key, &renew(1, lease.fence, HOUR)).await.unwrap(), RenewOutcome::Renewed);
    seeded(&store, &consent(), 3).await;
    let stored = CommitOutcome::Stored { version: version.next(), rolled_back: false };
    assert_eq!(store.commit(&key, &commit(1, version)).await.unwrap(), stored, "what is not a grant is never held up");

    store.gate().open(&after);
    assert!(matches!(store.begin(&key, &begin(2)).await.unwrap(), BeginOutcome::Granted(..)));
}

/// The identity of a server, as soon as it answers.
async fn restarted(store: &RedisStore) -> Identity {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match store.primaries().await {
            Ok(primaries) => return primaries[0].identity.clone(),
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_server_that_was_demoted_meanwhile_is_another_incarnation_on_the_same_connection() {
    let server = RedisServer::start().await;
    let (store, key) = (server.store(), consent());
    seeded(&store, &key, 1).await;
    granted(store.begin(&key, &begin(1)).await.unwrap());
    store.gate().guard();
    server.cli(&["replicaof", "127.0.0.1", &free_port().to_string()]);
    server.cli(&["replicaof", "no", "one"]);
    let outcome = store.begin(&key, &begin(2)).await;
    assert!(matches!(&outcome, Err(StoreError::Reuniting)), "{outcome:?}");
}

#[tokio::test]
async fn a_server_that_does_not_say_who_it_is_counts_as_another_with_every_connection() {
    let server = RedisServer::start().await;
    let said = server.cli(&[&["acl", "setuser", "app", "on", ">CANARY-password"], words(RIGHTS).as_slice()].concat());
    assert_eq!(said.trim(), "OK");
    let password = Some(StorePassword::new("CANARY-password"));
    let store =
        RedisStore::connect(&RedisSettings { username: Some("app".into()), password, ..server.settings() }).unwrap();
    let before = store.primaries().await.unwrap()[0].identity.clone();
    assert!(!before.is_named());
    assert_eq!(store.primaries().await.unwrap()[0].identity, before, "while the connection lasts");
    server.cli(&["client", "kill", "type", "normal", "skipme", "yes"]);
    assert_ne!(restarted(&store).await, before);
}

fn history_key(key: &TokenKey) -> String {
    format!("{}:ev", stored_key(key))
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn stored_key(key: &TokenKey) -> String {
    let TokenKey::Consent(id) = key else { panic!("not a consent") };
    format!("consentry:c:{{{}}}", id.as_str())
}
