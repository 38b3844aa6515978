//! `GET /v1/events`: what happens to consents, heard at any replica, wherever it happens.

use std::collections::BTreeSet;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::support::bank::Bank;
use crate::support::client::request;
use crate::support::redis::RedisServer;
use crate::support::sidecar::{ADMIN_KEY, Replica, Sidecar};

/// A listener, and what it has heard so far.
struct Listener {
    stream: TcpStream,
    heard: String,
}

/// An event as it was heard.
#[derive(Clone, Debug)]
struct Heard {
    id: String,
    kind: String,
    data: Value,
}

impl Listener {
    async fn at(sidecar: &Sidecar, last: Option<&str>) -> Self {
        let address = sidecar.admin_url("").trim_start_matches("http://").to_owned();
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let last = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let head = format!(
            "GET /v1/events HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n{last}\
             Authorization: Bearer {ADMIN_KEY}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut listener = Self { stream, heard: String::new() };
        listener.until("it is connected", |heard| heard.contains(": consentry\n")).await;
        assert!(listener.heard.starts_with("HTTP/1.1 200 OK\r\n"), "{}", listener.heard);
        assert!(listener.heard.contains("content-type: text/event-stream\r\n"), "{}", listener.heard);
        listener
    }

    /// Reads on until a condition holds for all that was heard, fifteen seconds at most.
    async fn until(&mut self, what: &str, condition: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(15);
        while !condition(&self.heard) {
            let mut bytes = [0; 4_096];
            let read = timeout_at(deadline, self.stream.read(&mut bytes)).await;
            let read = read.unwrap_or_else(|_| panic!("not in time: {what}\n{}", self.heard)).unwrap();
            assert!(read > 0, "it ended before {what}\n{}", self.heard);
            self.heard.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
    }

    fn events(&self) -> Vec<Heard> {
        let mut events = Vec::new();
        // Without the sizes of chunks between the lines.
        for block in self.heard.replace('\r', "").split("\n\n") {
            let line = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            if let Ok(data) = serde_json::from_str(line("data: ")) {
                events.push(Heard { id: line("id: ").to_owned(), kind: line("event: ").to_owned(), data });
            }
        }
        events
    }

    /// The kinds of what was heard of a consent, without what was told twice.
    fn told_of(&self, consent: &str) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let events = self.events().into_iter().filter(|event| event.data["consent_id"] == consent);
        events.filter(|event| seen.insert(event.id.clone())).map(|event| event.kind).collect()
    }
}

async fn revoke(sidecar: &Sidecar, consent: &str) {
    let key = format!("Bearer {ADMIN_KEY}");
    let url = sidecar.admin_url(&format!("/v1/consents/{consent}?only_here=true"));
    let answer = sidecar.app.send(request(Method::DELETE, &url, &[("authorization", &key)], "".into())).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_at_one_replica_is_heard_at_another_in_its_order_and_again_after_a_reconnect() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let replicas = [Replica::with_redis(&bank, &redis), Replica::with_redis(&bank, &redis)];
    let (here, there) = (replicas[0].start().await, replicas[1].start().await);
    let mut listener = Listener::at(&there, None).await;
    here.import("c-1", &bank.grant(0).await).await;
    assert_eq!(here.balances("c-1").await.status, StatusCode::OK);
    here.import("refused", &bank.grant(0).await).await;
    let no = json!({"status": {"code": 400, "body": r#"{"error":"invalid_grant"}"#, "process": false}});
    bank.fault("abn-token", 1, no).await;
    assert_eq!(here.balances("refused").await.problem(), "consent-reauthorization-required");
    here.import("doubtful", &bank.grant(0).await).await;
    bank.fault("abn-token", 1, json!({"drop_after_processing": true})).await;
    assert_eq!(here.balances("doubtful").await.status, StatusCode::SERVICE_UNAVAILABLE);
    revoke(&here, "c-1").await;
    listener.until("it ends", |heard| heard.contains("event: consent.revoked\n")).await;
    assert_eq!(listener.told_of("c-1"), ["consent.activated", "consent.refreshed", "consent.revoked"]);
    assert_eq!(listener.told_of("refused"), ["consent.activated", "consent.reauthorization_required"]);
    assert_eq!(listener.told_of("doubtful"), ["consent.activated", "consent.uncertain"]);
    let events = listener.events();
    let refreshed = events.iter().find(|event| event.kind == "consent.refreshed").unwrap();
    let Value::Object(members) = &refreshed.data else { panic!("an object") };
    assert_eq!(
        members.keys().map(String::as_str).collect::<Vec<_>>(),
        ["at", "consent_id", "generation", "grant", "id", "provider", "state", "type", "why"],
        "and no token"
    );
    assert_eq!((&members["generation"], &members["state"]), (&json!(2), &json!("active")));
    assert_eq!(members["id"], json!(refreshed.id));

    // At either replica, from the same name on.
    let (first, last) = (events.first().unwrap(), events.last().unwrap());
    for sidecar in [&here, &there] {
        let mut again = Listener::at(sidecar, Some(&first.id)).await;
        again.until("it has heard the last", |heard| heard.contains(&last.id)).await;
        assert_eq!(again.told_of("c-1"), ["consent.refreshed", "consent.revoked"]);
        assert!(again.events().iter().all(|event| event.id != first.id && event.kind != "consentry.gap"));
        let mut stranger = Listener::at(sidecar, Some("1-0")).await;
        stranger.until("it is told so", |heard| heard.contains("event: consentry.gap\n")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_store_tells_as_well_and_a_listener_ends_with_its_process() {
    let bank = Bank::start().await;
    let replica = Replica::embedded(&bank);
    let mut sidecar = replica.start().await;
    let mut listener = Listener::at(&sidecar, None).await;
    sidecar.import("c-1", &bank.grant(0).await).await;
    assert_eq!(sidecar.balances("c-1").await.status, StatusCode::OK);
    revoke(&sidecar, "c-1").await;
    listener.until("it ends", |heard| heard.contains("event: consent.revoked\n")).await;
    assert_eq!(listener.told_of("c-1"), ["consent.activated", "consent.refreshed", "consent.revoked"]);
    assert!(sidecar.metrics().await.contains("consentry_event_listeners 1"));
    sidecar.program.signal("TERM");
    listener.until("it is told why", |heard| heard.contains("data: {\"reason\":\"draining\"}\n")).await;
    assert!(sidecar.program.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_hear_nothing_and_few_listen_at_once() {
    let bank = Bank::start().await;
    let replica = Replica::embedded(&bank);
    let sidecar = replica.start().await;
    let url = sidecar.admin_url("/v1/events");
    assert_eq!(sidecar.app.get(&url, &[]).await.problem(), "admin-key-needed");
    let key = format!("Bearer {ADMIN_KEY}");
    let post = sidecar.app.json(Method::POST, &url, &[("authorization", &key)], &json!({})).await;
    assert_eq!(post.problem(), "method-not-allowed");
    let mut listeners = Vec::new();
    for _ in 0..16 {
        listeners.push(Listener::at(&sidecar, None).await);
    }
    let refused = sidecar.app.get(&url, &[("authorization", &key)]).await;
    assert_eq!((refused.status, refused.problem()), (StatusCode::SERVICE_UNAVAILABLE, "overloaded".into()));
    listeners.pop();
    sidecar
        .until("its place is free", async || {
            sidecar.metrics().await.contains("consentry_event_streams_ended_total{kind=\"left\"} 1")
        })
        .await;
    let _another = Listener::at(&sidecar, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_is_told_that_it_may_have_missed_something_while_redis_was_away() {
    let (bank, mut redis) = (Bank::start().await, RedisServer::start().await);
    let replica = Replica::with_redis(&bank, &redis);
    let sidecar = replica.start().await;
    let mut listener = Listener::at(&sidecar, None).await;
    sidecar.import("before", &bank.grant(7_200).await).await;
    listener.until("it is heard", |heard| heard.contains("\"consent_id\":\"before\"")).await;
    redis.stop();
    listener.until("it is told so", |heard| heard.contains("event: consentry.gap\n")).await;
    redis.start_again().await;
    sidecar.until_linked().await;
    let granted = bank.grant(7_200).await;
    sidecar
        .until("it can be imported", async || {
            sidecar.put_tokens("after", None, &granted.import).await.status == StatusCode::CREATED
        })
        .await;
    listener.until("it goes on", |heard| heard.contains("\"consent_id\":\"after\"")).await;
}
