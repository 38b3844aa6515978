//! A walk over all consents of every store, and what only a walk over a Redis meets: servers that change on its way.

use std::collections::BTreeMap;
use std::time::Duration;

use consentry::store::redis::RedisSettings;
use consentry::store::{
    Await, ListOutcome, ListPage, Listed, Listing, Place, RecordState, RedisStore, Store, StoreError,
};
use consentry::words::ids::{ClientKey, ConsentId, GrantId, ProviderId, TokenKey};
use consentry::words::secrets::StorePassword;

use crate::store_contract::{begin, consent, end, read, seeded};
use crate::support::bench::Bench;
use crate::support::redis::{RedisOptions, RedisServer};
use crate::support::redis_cluster::RedisCluster;

/// A time that a test can wait for, and that is not over before the test's next step even on a busy machine.
const A_WHILE: Duration = Duration::from_millis(700);

suite! {
    every_consent_is_told_of_and_nothing_that_is_none
    what_is_told_of_a_consent_is_what_reading_it_tells
    a_consent_that_stays_is_told_of_whatever_comes_and_goes
    a_consent_whose_time_is_over_is_not_told_of
    a_place_that_was_never_given_out_is_none
}

async fn every_consent_is_told_of_and_nothing_that_is_none(bench: &impl Bench) {
    let store = bench.store();
    let keys = seed_some(store, 60).await;
    let client = ClientKey::new(ProviderId::parse("bank").unwrap(), Some("audience"), None);
    let create = Some(GrantId::random());
    store.begin(&TokenKey::Client(client), &consentry::store::Begin { create, ..begin(1) }).await.unwrap();
    for count in [1, 7, 1_000] {
        let told = walk(store, count).await;
        for key in &keys {
            assert!(told.contains_key(&id(key)), "with steps of {count}");
        }
        let others = told.keys().filter(|told| told.as_str().contains(['{', '/']) || told.as_str().ends_with(":ev"));
        assert_eq!(others.count(), 0, "{told:?}");
    }
}

async fn what_is_told_of_a_consent_is_what_reading_it_tells(bench: &impl Bench) {
    let store = bench.store();
    let (active, ended) = (consent(), consent());
    seeded(store, &active, 1).await;
    seeded(store, &ended, 2).await;
    store.end(&ended, &end(None)).await.unwrap();
    let told = walk(store, 100).await;
    for (key, state) in [(active, RecordState::Active), (ended, RecordState::Revoked)] {
        let (listed, record) = (told[&id(&key)].record.clone().unwrap(), read(store, &key).await);
        assert_eq!(listed.state, state);
        assert_eq!(
            (listed.version, &listed.provider, &listed.scope),
            (record.version, &record.provider, &record.scope)
        );
        assert!(listed.remaining.abs_diff(record.remaining) < Duration::from_secs(60), "on the store's clock");
    }
}

async fn a_consent_that_stays_is_told_of_whatever_comes_and_goes(bench: &impl Bench) {
    let store = bench.store();
    let stays = seed_some(store, 40).await;
    let mut goes = seed_some(store, 40).await;
    let (mut told, mut place) = (Vec::new(), None);
    loop {
        let page = step(store, place.as_ref(), 5).await;
        told.extend(page.consents.into_iter().map(|listed| listed.consent));
        if page.next.is_none() {
            break;
        }
        place = page.next;
        if let Some(key) = goes.pop() {
            store.end(&key, &end(None)).await.unwrap();
        }
        // A table that grows meanwhile.
        seed_some(store, 10).await;
        assert!(told.len() < 100_000, "it never ends");
    }
    assert!(stays.iter().all(|key| told.contains(&id(key))));
}

async fn a_consent_whose_time_is_over_is_not_told_of(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let wait = Await { provider: ProviderId::parse("bank").unwrap(), grant: GrantId::random(), life: A_WHILE };
    consentry::store::Attempts::await_grant(store, &key, &wait).await.unwrap();
    let listed = walk(store, 100).await.remove(&id(&key)).unwrap();
    assert_eq!(listed.record.unwrap().state, RecordState::Pending);
    bench.pass(A_WHILE).await;
    assert!(!walk(store, 100).await.contains_key(&id(&key)));
}

async fn a_place_that_was_never_given_out_is_none(bench: &impl Bench) {
    for text in ["", "eA", "ci4xNjM4NC54LjA", "ZS5h"] {
        let place = Place::parse(text).unwrap();
        let outcome = bench.store().list(Some(&place), 10).await.unwrap();
        assert!(matches!(outcome, ListOutcome::NoSuchPlace), "{text}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_hundred_thousand_consents_are_told_of_in_steps_that_stay_short() {
    let server = RedisServer::start().await;
    let (store, key) = (server.store(), consent());
    seeded(&store, &key, 1).await;
    let stored = format!("consentry:c:{{{}}}", id(&key).as_str());
    let copy = "for i = 1, 100000 do redis.call('COPY', KEYS[1], 'consentry:c:{copy-' .. i .. '}') end";
    server.cli(&["eval", copy, "1", &stored]);
    let (mut told, mut place, mut most) = (std::collections::HashSet::new(), None, 0);
    loop {
        let page = step(&store, place.as_ref(), 1_000).await;
        most = most.max(page.consents.len());
        told.extend(page.consents.into_iter().map(|listed| listed.consent));
        place = page.next;
        if place.is_none() {
            break;
        }
    }
    assert_eq!(told.len(), 100_001);
    assert!(most < 3_000, "one step told of {most}");
    let stats = server.cli(&["info", "commandstats"]);
    let calls = |command: &str| -> u64 {
        let line = stats.split(&format!("cmdstat_{command}:calls=")).nth(1).unwrap();
        line.split(',').next().unwrap().parse().unwrap()
    };
    assert!(calls("scan") <= 220, "{} calls of SCAN", calls("scan"));
    assert!(!stats.contains("cmdstat_keys"), "KEYS would hold up everybody");
}

#[tokio::test]
async fn a_server_that_restarts_on_the_way_is_looked_at_anew_and_no_consent_is_missed() {
    let mut server = RedisServer::start().await;
    let store = server.store();
    let keys = seed_some(&store, 300).await;
    let first = step(&store, None, 100).await;
    let mut told: Vec<_> = first.consents.into_iter().map(|listed| listed.consent).collect();
    assert!(told.len() < 300);
    let backup = server.back_up();
    // Its cursors mean nothing to the server that comes back: each hashes in its own way.
    server.put_back(&backup).await;
    told.extend(walk_from(&store, first.next, 100).await.into_keys());
    assert!(keys.iter().all(|key| told.contains(&id(key))));
}

#[tokio::test]
async fn a_primary_that_is_replaced_on_the_way_is_looked_at_anew_and_no_consent_is_missed() {
    let cluster = RedisCluster::start_with(1, &RedisOptions::default).await;
    let store = cluster.store();
    let keys = seed_some(&store, 150).await;
    let first = step(&store, None, 10).await;
    let mut told: Vec<_> = first.consents.into_iter().map(|listed| listed.consent).collect();
    // The first is the one with the lowest slots.
    cluster.fail_over(3).await;
    told.extend(walk_from(&store, first.next, 10).await.into_keys());
    assert!(keys.iter().all(|key| told.contains(&id(key))), "{} of 150", told.len());
}

#[tokio::test]
async fn a_record_that_cannot_be_understood_is_told_of_and_holds_up_no_other() {
    let server = RedisServer::start().await;
    let store = server.store();
    let keys = seed_some(&store, 5).await;
    server.cli(&["hset", "consentry:c:{later}", "v", "9"]);
    server.cli(&["set", "consentry:c:{no-hash}", "CANARY"]);
    server.cli(&["set", "consentry:c:{no id}", "something else"]);
    server.cli(&["hset", "other:c:{elsewhere}", "v", "1"]);
    let told = walk(&store, 100).await;
    assert_eq!(told.len(), 7, "{told:?}");
    assert!(keys.iter().all(|key| told[&id(key)].record.is_ok()));
    for name in ["later", "no-hash"] {
        let why = told[&ConsentId::parse(name).unwrap()].record.clone().unwrap_err();
        assert!(!why.contains("CANARY"), "{why}");
    }
}

#[tokio::test]
async fn a_user_who_may_not_scan_is_told_so_and_everything_else_works() {
    let server = RedisServer::start().await;
    server.cli(&["acl", "setuser", "app", "on", ">CANARY-app", "~consentry:*", "&*", "+@all", "-scan"]);
    let password = Some(StorePassword::new("CANARY-app"));
    let settings = RedisSettings { username: Some("app".into()), password, ..server.settings() };
    let store = RedisStore::connect(&settings).unwrap();
    seeded(&store, &consent(), 1).await;
    let error = store.list(None, 10).await.unwrap_err();
    assert!(matches!(&error, StoreError::Refused(text) if text.contains("SCAN")), "{error}");
}

async fn seed_some(store: &impl Store, count: u16) -> Vec<TokenKey> {
    let mut keys = Vec::new();
    for _ in 0..count {
        let key = consent();
        seeded(store, &key, 1).await;
        keys.push(key);
    }
    keys
}

fn id(key: &TokenKey) -> ConsentId {
    match key {
        TokenKey::Consent(id) => id.clone(),
        TokenKey::Client(_) => panic!("a consent"),
    }
}

async fn step(store: &impl Listing, from: Option<&Place>, count: u32) -> ListPage {
    match store.list(from, count).await.unwrap() {
        ListOutcome::Page(page) => page,
        ListOutcome::NoSuchPlace => panic!("{from:?} was given out"),
    }
}

async fn walk(store: &impl Listing, count: u32) -> BTreeMap<ConsentId, Listed> {
    let first = step(store, None, count).await;
    let mut told = walk_from(store, first.next.clone(), count).await;
    told.extend(first.consents.into_iter().map(|listed| (listed.consent.clone(), listed)));
    told
}

/// From a place to the end, where there is one.
async fn walk_from(store: &impl Listing, mut place: Option<Place>, count: u32) -> BTreeMap<ConsentId, Listed> {
    let mut told = BTreeMap::new();
    while let Some(from) = place {
        // A place is text when it comes back.
        let page = step(store, Place::parse(&from.to_string()).as_ref(), count).await;
        told.extend(page.consents.into_iter().map(|listed| (listed.consent.clone(), listed)));
        place = page.next;
    }
    told
}
