//! F45 to F47: records of another version, servers that are not fit, and a process without room.

use tokio::net::TcpStream;

use crate::house::{SERVED, Scene, at, calling, durable_options, key, story, told, until_told};
use crate::support::bank::Bank;
use crate::support::program::{Program, consentry};
use crate::support::redis::{RedisOptions, RedisServer};

#[tokio::test(flavor = "multi_thread")]
async fn f45_a_record_of_a_version_to_come_is_left_as_it_is_and_fields_to_come_are_kept() {
    let scene = Scene::set().await;
    let replica = scene.replica();
    let sidecar = replica.start().await;
    let granted = scene.bank.grant(0).await;
    for consent in ["newer", "richer"] {
        sidecar.import(consent, &granted).await;
    }
    let version: u32 = scene.record("newer")["v"].parse().unwrap();
    scene.redis.cli(&["HSET", &key("newer"), "v", &(version + 1).to_string()]);
    let before = scene.redis.cli(&["DUMP", &key("newer")]);
    let answer = sidecar.balances("newer").await;
    assert_eq!(story(&[(503, "consent-unreadable")]), [told(&answer)], "{answer:?}");
    assert_eq!(scene.redis.cli(&["DUMP", &key("newer")]), before);
    assert!(scene.asked(&granted.bank_id).await.is_empty());
    scene.redis.cli(&["HSET", &key("richer"), "to_come", "something"]);
    until_told(&sidecar, "richer", SERVED).await;
    sidecar.until("it is committed", async || scene.record("richer")["gen"] == "2").await;
    assert_eq!(scene.record("richer")["to_come"], "something");
}

/// Whether a process before this server becomes ready, and what `store doctor` says of it.
async fn judged(
    bank: &Bank,
    options: RedisOptions,
    prepare: impl AsyncFn(&RedisServer),
) -> (bool, Option<i32>, String) {
    let server = RedisServer::start_with(options).await;
    prepare(&server).await;
    let replica = at(bank, server.port(), "");
    let sidecar = replica.start_unlinked().await;
    let (mut ready, deadline) = (false, tokio::time::Instant::now() + std::time::Duration::from_secs(4));
    while !ready && tokio::time::Instant::now() < deadline {
        ready = sidecar.app.get(&sidecar.health_url("/readyz"), &[]).await.status == 200;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let mut command = consentry();
    command.args(["store", "doctor", "--json", "--config"]).arg(replica.write());
    let mut program = Program::start(command);
    let status = program.ended().await;
    program.said("its findings", |output| output.contains('}').then_some(())).await;
    (ready, status.code(), program.output())
}

#[tokio::test(flavor = "multi_thread")]
async fn f46_a_server_that_evicts_or_may_not_be_written_is_refused_and_one_that_forgets_is_warned_of() {
    let bank = Bank::start().await;
    let plain = async |_: &RedisServer| {};
    let (ready, code, said) = judged(&bank, durable_options().with("maxmemory-policy", "allkeys-lru"), plain).await;
    assert_eq!((ready, code), (false, Some(1)), "{said}");
    assert!(said.contains("allkeys-lru"), "{said}");

    let (ready, code, said) = judged(&bank, RedisOptions::default(), plain).await;
    assert_eq!((ready, code), (true, Some(0)), "a server without a file is warned of: {said}");
    assert!(said.contains("\"warn\""), "{said}");

    let (ready, code, said) = judged(&bank, durable_options(), async |server: &RedisServer| {
        server.cli(&["ACL", "SETUSER", "default", "-@write"]);
    })
    .await;
    assert_eq!((ready, code), (false, Some(1)), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f47_a_process_with_few_descriptors_finishes_its_refresh_and_answers_probes() {
    let scene = Scene::set().await;
    let replica = scene.replica().open_files(64);
    let sidecar = replica.start().await;
    let granted = scene.bank.grant(0).await;
    sidecar.import("c-1", &granted).await;
    scene.bank.fault("abn-token", 1, serde_json::json!({ "delay_ms": 1_500 })).await;
    let call = calling(&sidecar, "c-1");
    crate::house::until("the bank has been asked", async || scene.bank.refreshes().await == 1).await;
    let address = sidecar.url("").trim_start_matches("http://").to_owned();
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    assert_eq!(sidecar.app.get(&sidecar.health_url("/livez"), &[]).await.status, 200);
    assert_eq!(told(&call.await.unwrap().unwrap()), (200, String::new()));
    assert_eq!(scene.asked(&granted.bank_id).await, ["granted"]);
    sidecar.until("it is committed", async || scene.record("c-1")["gen"] == "2").await;
    drop(silent);
    assert_eq!(told(&sidecar.balances("c-1").await), (200, String::new()));
}
