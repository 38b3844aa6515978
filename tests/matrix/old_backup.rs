//! F48: the store is put back from an old backup, in which stand refresh tokens that were spent since.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::house::{PACE, SERVED, asked, at, durable, lost, metric, record, until, until_told};
use crate::support::bank::{Bank, Granted};
use crate::support::redis::RedisServer;
use crate::support::sidecar::{ADMIN_KEY, Replica, Sidecar};

const FROZEN: (u16, &str) = (503, "provider-frozen");
/// What a failover never loses, at this pace.
const SETBACK: Duration = Duration::from_secs(60 / PACE as u64);

/// What stands in the roster under this name.
fn roster(redis: &RedisServer, field: &str) -> u64 {
    redis.cli(&["HGET", "consentry:roster", field]).trim().trim_matches('"').parse().unwrap_or(0)
}

/// What a replica has written down of the store.
fn known(replica: &Replica) -> (u64, u64) {
    let text = std::fs::read(replica.home().join("spill/high-water")).unwrap_or_default();
    let mark: Value = serde_json::from_slice(&text).unwrap_or_default();
    (mark["steps"].as_u64().unwrap_or(0), mark["newest_beat_ms"].as_u64().unwrap_or(0))
}

/// A backup of some expired consents, of which the first is refreshed afterwards, long enough before anything is put back.
async fn backed_up(redis: &RedisServer, bank: &Bank, replica: &Replica, sidecar: &Sidecar) -> (Vec<u8>, Vec<Granted>) {
    let mut consents = Vec::new();
    for n in 1..=3 {
        let granted = bank.grant(0).await;
        sidecar.import(&format!("c-{n}"), &granted).await;
        consents.push(granted);
    }
    until("the imports are counted", async || roster(redis, "steps") == 3).await;
    let backup = redis.back_up();
    let last = roster(redis, "last");
    until_told(sidecar, "c-1", SERVED).await;
    until("its refresh is committed and counted", async || {
        record(redis, "c-1")["gen"] == "2" && roster(redis, "steps") == 5
    })
    .await;
    sidecar.until("its spill is gone", async || sidecar.spills().is_empty()).await;
    let old = last + u64::try_from(SETBACK.as_millis()).unwrap() + 1_000;
    until("the replica has written down that the store went on", async || {
        let (steps, newest_beat) = known(replica);
        steps == 5 && newest_beat > old
    })
    .await;
    (backup, consents)
}

async fn freeze_of(sidecar: &Sidecar, provider: &str) -> Value {
    let url = sidecar.admin_url(&format!("/v1/providers/{provider}"));
    sidecar.app.get(&url, &[]).await.json()["freeze"].clone()
}

async fn thaw(sidecar: &Sidecar) {
    for provider in ["abn-amro", "norsk-gjeld"] {
        let url = sidecar.admin_url(&format!("/v1/providers/{provider}/thaw"));
        let key = format!("Bearer {ADMIN_KEY}");
        let answer = sidecar.app.json(Method::POST, &url, &[("authorization", &key)], &json!({})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

async fn is_frozen(sidecar: &Sidecar) -> bool {
    metric(sidecar, "consentry_provider_frozen{provider=\"abn-amro\"}").await == 1
}

#[tokio::test(flavor = "multi_thread")]
async fn f48_after_an_old_backup_was_put_back_a_new_process_spends_nothing_until_a_person_thaws_the_provider() {
    let (bank, mut redis) = (Bank::start().await, RedisServer::start().await);
    let replica = at(&bank, redis.port(), "");
    let mut sidecar = replica.start().await;
    let (backup, consents) = backed_up(&redis, &bank, &replica, &sidecar).await;
    // Nobody is left who remembers.
    sidecar.program.kill();
    redis.put_back(&backup).await;
    assert_eq!(record(&redis, "c-1")["gen"], "1", "its refresh token was spent since");
    let mut sidecar = replica.start().await;
    until_told(&sidecar, "c-1", FROZEN).await;
    for provider in ["abn-amro", "norsk-gjeld"] {
        let freeze = freeze_of(&sidecar, provider).await;
        assert_eq!(freeze["reason"], "old_backup", "{provider}: {freeze}");
        assert!(freeze["why"].as_str().unwrap().contains("2 steps are missing"), "{freeze}");
    }
    sidecar.until("its metric says so", async || is_frozen(&sidecar).await).await;
    assert!(sidecar.program.output().contains("put back from an old backup"), "{}", sidecar.program.output());
    let ready = sidecar.app.get(&sidecar.health_url("/readyz"), &[]).await;
    assert_eq!(ready.status, 200, "tokens that live are served");
    assert_eq!(asked(&bank, &consents[0].bank_id).await, ["granted"], "nothing was sent since");
    // A person decides; what was not refreshed since the backup works.
    thaw(&sidecar).await;
    until_told(&sidecar, "c-2", SERVED).await;
    // And a process that starts later does not undo it.
    sidecar.program.kill();
    let sidecar = replica.start().await;
    until_told(&sidecar, "c-3", SERVED).await;
    assert!(!is_frozen(&sidecar).await);
    assert_eq!((bank.refreshes().await, bank.reuse_events().await), (3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn f48_what_a_living_process_remembers_is_put_back_behind_the_freeze_and_nothing_is_lost() {
    let (bank, mut redis) = (Bank::start().await, RedisServer::start().await);
    let replica = at(&bank, redis.port(), "");
    let sidecar = replica.start().await;
    let (backup, consents) = backed_up(&redis, &bank, &replica, &sidecar).await;
    redis.put_back(&backup).await;
    until("the refresh that the backup lacks is put back", async || record(&redis, "c-1")["gen"] == "2").await;
    until_told(&sidecar, "c-2", FROZEN).await;
    assert_eq!(freeze_of(&sidecar, "abn-amro").await["reason"], "old_backup");
    until_told(&sidecar, "c-1", SERVED).await;
    assert_eq!(bank.refreshes().await, 1, "its token lives; nothing was refreshed");
    thaw(&sidecar).await;
    until_told(&sidecar, "c-2", SERVED).await;
    sidecar.expire(&bank, "c-1", &consents[0]).await;
    until_told(&sidecar, "c-1", SERVED).await;
    assert_eq!((bank.refreshes().await, bank.reuse_events().await), (3, 0));
    assert_eq!(lost(&sidecar, "store_forgot").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn f48_a_store_that_was_only_away_for_long_or_that_is_new_freezes_nothing() {
    let (bank, mut redis) = (Bank::start().await, durable().await);
    let replica = at(&bank, redis.port(), "");
    let mut sidecar = replica.start().await;
    sidecar.import("c-1", &bank.grant(0).await).await;
    until_told(&sidecar, "c-1", SERVED).await;
    until("the replica has written that down", async || known(&replica).0 == 3).await;
    // Longer than an old backup is old.
    redis.stop();
    sidecar.program.kill();
    sleep(SETBACK + Duration::from_secs(2)).await;
    redis.start_again().await;
    let sidecar = replica.start().await;
    sidecar.import("c-2", &bank.grant(0).await).await;
    until_told(&sidecar, "c-2", SERVED).await;
    // Its own metric is set from the store every five seconds; the store itself is asked here.
    assert_eq!(freeze_of(&sidecar, "abn-amro").await, Value::Null);
    // A new store has nothing in it that was spent.
    redis.cli(&["FLUSHALL"]);
    redis.stop();
    redis.start_again().await;
    let granted = bank.grant(0).await;
    until("it takes a grant", async || sidecar.put_tokens("c-3", None, &granted.import).await.status == 201).await;
    until_told(&sidecar, "c-3", SERVED).await;
    assert_eq!(freeze_of(&sidecar, "abn-amro").await, Value::Null);
    assert_eq!(bank.reuse_events().await, 0);
}
