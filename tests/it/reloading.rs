//! Another configuration for a process that runs: what it takes over, and that nobody notices it happen.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::task::JoinSet;

use crate::support::bank::{Bank, IBAN};
use crate::support::client::request;
use crate::support::sidecar::{Replica, Sidecar};

/// Changes the text of the replica's configuration where it lies.
fn edit(replica: &Replica, from: &str, to: &str) {
    let path = replica.home().join("consentry.yaml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in the configuration");
    fs::write(&path, text.replace(from, to)).unwrap();
}

async fn balances_under(sidecar: &Sidecar, prefix: &str) -> StatusCode {
    let url = sidecar.url(&format!("{prefix}/v1/accounts/{IBAN}/balances"));
    sidecar.app.get(&url, &[("consent-id", "c-1")]).await.status
}

/// Waits until so many reloads came to this.
async fn until_reloaded(sidecar: &Sidecar, kind: &str, times: usize) {
    let line = format!("consentry_config_reloads_total{{kind=\"{kind}\"}} {times}");
    sidecar.until(&line, async || sidecar.metrics().await.contains(&line)).await;
}

async fn is_stale(sidecar: &Sidecar) -> bool {
    sidecar.metrics().await.lines().any(|line| line == "consentry_config_stale 1")
}

#[tokio::test(flavor = "multi_thread")]
async fn apis_are_replaced_again_and_again_under_load_and_no_call_fails() {
    let bank = Bank::start().await;
    let replica = Replica::embedded(&bank);
    let sidecar = replica.start().await;
    sidecar.import("c-1", &bank.grant(7_200).await).await;
    let over = Arc::new(AtomicBool::new(false));
    let mut calling = JoinSet::new();
    for _ in 0..8 {
        let (app, url, over) = (sidecar.app.clone(), sidecar.balances_url(), Arc::clone(&over));
        calling.spawn(async move {
            let mut answered = 0_u64;
            while !over.load(Ordering::Relaxed) {
                let call = request(Method::GET, &url, &[("consent-id", "c-1")], Bytes::new());
                let answer = app.try_send(call).await.expect("the listener stays");
                assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
                answered += 1;
            }
            answered
        });
    }
    for nth in 1..=10 {
        let (from, to) = if nth % 2 == 1 { ("path: /debt", "path: /loans") } else { ("path: /loans", "path: /debt") };
        edit(&replica, from, to);
        sidecar.program.signal("HUP");
        until_reloaded(&sidecar, "taken_over", nth).await;
    }
    over.store(true, Ordering::Relaxed);
    let answered: u64 = calling.join_all().await.into_iter().sum();
    assert!(answered > 0);
    assert_eq!(bank.count("abn", "api_calls").await, answered);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_changed_is_told_key_by_key_and_is_in_use() {
    let bank = Bank::start().await;
    let replica = Replica::embedded(&bank);
    let sidecar = replica.start().await;
    sidecar.import("c-1", &bank.grant(7_200).await).await;
    edit(&replica, "path: /accounts", "path: /konto");
    sidecar.program.signal("HUP");
    until_reloaded(&sidecar, "taken_over", 1).await;
    assert_eq!(balances_under(&sidecar, "/konto").await, StatusCode::OK);
    assert_eq!(balances_under(&sidecar, "/accounts").await, StatusCode::NOT_FOUND);
    assert!(sidecar.program.output().contains("apis.accounts.path: /accounts is /konto now"));
    assert!(!is_stale(&sidecar).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_changes_nothing_and_is_named_until_it_is_mended() {
    let bank = Bank::start().await;
    let replica = Replica::embedded(&bank);
    let sidecar = replica.start().await;
    sidecar.import("c-1", &bank.grant(7_200).await).await;
    edit(&replica, "match: \"/v1/**\"", "mtach: \"/v1/**\"");
    sidecar.program.signal("HUP");
    until_reloaded(&sidecar, "refused", 1).await;
    assert!(sidecar.program.output().contains("apis.accounts.routes[0].mtach"));
    assert_eq!(balances_under(&sidecar, "/accounts").await, StatusCode::OK, "the old one goes on");
    assert!(is_stale(&sidecar).await);

    // A bank that this process has not started with.
    edit(&replica, "mtach: \"/v1/**\"", "match: \"/v1/**\"");
    edit(&replica, "  norsk-gjeld:\n    profile", "  other-bank:\n    profile");
    edit(&replica, "provider: norsk-gjeld", "provider: other-bank");
    sidecar.program.signal("HUP");
    until_reloaded(&sidecar, "refused", 2).await;
    assert!(sidecar.program.output().contains("other-bank"));
    assert_eq!(balances_under(&sidecar, "/accounts").await, StatusCode::OK, "the old one goes on");

    edit(&replica, "other-bank", "norsk-gjeld");
    sidecar.program.signal("HUP");
    until_reloaded(&sidecar, "taken_over", 1).await;
    assert!(!is_stale(&sidecar).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_another_start_is_said_and_the_rest_is_in_use() {
    let bank = Bank::start().await;
    let replica = Replica::embedded(&bank);
    let sidecar = replica.start().await;
    sidecar.import("c-1", &bank.grant(7_200).await).await;
    edit(&replica, "log: {format: json, level: info}", "log: {format: json, level: debug}");
    edit(&replica, "path: /accounts", "path: /konto");
    sidecar.program.signal("HUP");
    until_reloaded(&sidecar, "in_part", 1).await;
    assert_eq!(balances_under(&sidecar, "/konto").await, StatusCode::OK);
    let told = sidecar.program.output();
    let later = told.lines().find(|line| line.contains("This takes effect at the next start.")).expect("it is said");
    assert!(later.contains("log.level: info is debug now"), "{later}");
    assert!(is_stale(&sidecar).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_that_was_replaced_is_taken_without_being_told() {
    let bank = Bank::start().await;
    let replica = Replica::embedded(&bank).environment("CONSENTRY_TIME_SCALE", "20");
    let file = replica.home().join("api.key");
    let right = fs::read_to_string(&file).unwrap();
    fs::write(&file, "CANARY-old-key").unwrap();
    let sidecar = replica.start().await;
    sidecar.import("c-1", &bank.grant(7_200).await).await;
    assert_ne!(balances_under(&sidecar, "/accounts").await, StatusCode::OK, "the bank knows no such key");
    fs::write(&file, right).unwrap();
    until_reloaded(&sidecar, "taken_over", 1).await;
    assert_eq!(balances_under(&sidecar, "/accounts").await, StatusCode::OK);
    assert!(!sidecar.program.output().contains("CANARY"));
}
