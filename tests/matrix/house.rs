//! What the rows have in common: a scene of a bank, a Redis and replicas of the proxy, and ways to look at it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::support::bank::Bank;
use crate::support::client::{Answer, request};
use crate::support::redis::{RedisOptions, RedisServer};
use crate::support::sidecar::{Replica, Sidecar};

/// How many times faster the protocol's time runs where a row waits for it: a lease 1.2 s, an armed one 4 s, the
/// quarantine 8 s, a token request 24 s.
pub(crate) const PACE: u32 = 5;

/// The longest that anything here takes to heal, on a busy machine.
pub(crate) const HEALED: Duration = Duration::from_secs(90);

/// A Redis that keeps what it acknowledged.
pub(crate) async fn durable() -> RedisServer {
    RedisServer::start_with(durable_options()).await
}

pub(crate) fn durable_options() -> RedisOptions {
    RedisOptions::default().with("appendonly", "yes").with("appendfsync", "always")
}

/// A replica whose protocol runs at [`PACE`].
pub(crate) fn paced(replica: Replica) -> Replica {
    replica.environment("CONSENTRY_TIME_SCALE", &PACE.to_string())
}

/// A replica at [`PACE`] before the Redis on this port; `more` goes into its settings.
pub(crate) fn at(bank: &Bank, port: u16, more: &str) -> Replica {
    paced(Replica::new(bank, &format!("  redis: {{url: \"redis://127.0.0.1:{port}/0\"{more}}}\n")))
}

/// At a bank that has said that it takes a spent refresh token for a minute.
pub(crate) fn tolerant(replica: Replica) -> Replica {
    provider(replica, "reuse_grace: 60s")
}

/// With one more setting of the bank.
pub(crate) fn provider(replica: Replica, setting: &str) -> Replica {
    let end = "    ca_file: ca.pem\n  norsk-gjeld";
    replica.change(end, &end.replace('\n', &format!("\n    {setting}\n")))
}

/// One more Redis has to have an intent and an outcome.
pub(crate) const ONE_REPLICA: &str = ", replicas_required: 1, replica_wait: 500ms";

/// Names failpoints.
pub(crate) fn failing(replica: Replica, points: &str) -> Replica {
    replica.environment("CONSENTRY_FAILPOINTS", points)
}

pub(crate) const FAILPOINTS: &str = "CONSENTRY_FAILPOINTS";

/// A bank, a Redis that keeps what it acknowledged, and nothing else.
pub(crate) struct Scene {
    pub(crate) bank: Bank,
    pub(crate) redis: RedisServer,
}

impl Scene {
    pub(crate) async fn set() -> Self {
        let (bank, redis) = tokio::join!(Bank::start(), durable());
        Self { bank, redis }
    }

    /// A replica at [`PACE`].
    pub(crate) fn replica(&self) -> Replica {
        at(&self.bank, self.redis.port(), "")
    }

    pub(crate) fn record(&self, consent: &str) -> BTreeMap<String, String> {
        record(&self.redis, consent)
    }

    /// The token requests that this consent's refresh tokens were presented in.
    pub(crate) async fn asked(&self, bank_id: &str) -> Vec<String> {
        asked(&self.bank, bank_id).await
    }
}

/// What stands in Redis, as `redis-cli HGETALL` prints it.
pub(crate) fn record(redis: &RedisServer, consent: &str) -> BTreeMap<String, String> {
    let printed = redis.cli(&["HGETALL", &key(consent)]);
    let texts: Vec<_> = printed.lines().filter_map(|line| line.split_once(") \"")?.1.strip_suffix('"')).collect();
    texts.chunks_exact(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect()
}

pub(crate) fn key(consent: &str) -> String {
    format!("consentry:c:{{{consent}}}")
}

/// How each token request of this consent ended at the bank.
pub(crate) async fn asked(bank: &Bank, bank_id: &str) -> Vec<String> {
    let log = bank.control(Method::GET, "/log", &Value::Null).await;
    let of_it = log.as_array().unwrap().iter().filter(|request| request["consent"] == bank_id);
    of_it.map(|request| request["outcome"].as_str().unwrap().to_owned()).collect()
}

/// What an app was told: the status, and the problem if the answer is ours.
pub(crate) type Told = (u16, String);

pub(crate) fn told(answer: &Answer) -> Told {
    (answer.status.as_u16(), answer.problem())
}

/// Calls with a consent's token until the answer is as wanted, and gives all different answers in their order.
pub(crate) async fn until_told(sidecar: &Sidecar, consent: &str, wanted: (u16, &str)) -> Vec<Told> {
    let deadline = Instant::now() + HEALED;
    let mut story: Vec<Told> = Vec::new();
    loop {
        let answer = told(&sidecar.balances(consent).await);
        if story.last() != Some(&answer) {
            story.push(answer.clone());
        }
        if (answer.0, answer.1.as_str()) == wanted {
            return story;
        }
        assert!(Instant::now() < deadline, "never {wanted:?}, but {story:?}\n{}", sidecar.program.output());
        sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) const SERVED: (u16, &str) = (200, "");
pub(crate) const UNCERTAIN: (u16, &str) = (503, "token-refresh-uncertain");
pub(crate) const REAUTHORIZE: (u16, &str) = (403, "consent-reauthorization-required");
pub(crate) const NO_STORE: (u16, &str) = (503, "store-unavailable");

pub(crate) fn story(told: &[(u16, &str)]) -> Vec<Told> {
    told.iter().map(|(status, problem)| (*status, (*problem).to_owned())).collect()
}

/// A call that goes on beside the test. Its end may be a connection that breaks.
pub(crate) fn calling(sidecar: &Sidecar, consent: &str) -> JoinHandle<Result<Answer, String>> {
    let (app, url, consent) = (sidecar.app.clone(), sidecar.balances_url(), consent.to_owned());
    tokio::spawn(
        async move { app.try_send(request(Method::GET, &url, &[("consent-id", &consent)], Bytes::new())).await },
    )
}

/// Waits for a condition that no replica stands in the middle of.
pub(crate) async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + HEALED;
    while !condition().await {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until a process has killed itself at its failpoint.
pub(crate) async fn until_killed(sidecar: &mut Sidecar) {
    let status = sidecar.program.ended().await;
    assert!(!status.success(), "it ended by itself: {status}");
    assert!(sidecar.program.output().contains("Killed at a failpoint."), "{}", sidecar.program.output());
}

/// Waits until a process stands still.
pub(crate) async fn until_frozen(sidecar: &Sidecar) {
    let path = format!("/proc/{}/stat", sidecar.program.id());
    let frozen = async || std::fs::read_to_string(&path).is_ok_and(|stat| stat.contains(") T "));
    until("the process stands still", frozen).await;
}

/// The value of a series, by its whole name with its labels; 0 where there is none.
pub(crate) async fn metric(sidecar: &Sidecar, series: &str) -> u64 {
    let text = sidecar.metrics().await;
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}

/// Consents lost for this cause.
pub(crate) async fn lost(sidecar: &Sidecar, cause: &str) -> u64 {
    metric(sidecar, &format!("consentry_consents_lost_total{{provider=\"abn-amro\",cause=\"{cause}\"}}")).await
}

/// The digest by which a step's script is called, to know it on the wire.
pub(crate) fn digest(step: &str) -> String {
    let lua = |name: &str| std::fs::read_to_string(format!("src/store/redis/lua/{name}.lua")).unwrap();
    let (source, common) = (lua(step), lua("common"));
    let (flags, body) = source.split_once('\n').unwrap();
    redis::Script::new(&format!("{flags}\n{common}\n{body}")).get_hash().to_owned()
}

/// A server that follows the one on this port.
pub(crate) async fn follower(of: u16) -> RedisServer {
    RedisServer::start_with(durable_options().with("replicaof", &format!("127.0.0.1 {of}"))).await
}

/// Waits until so many servers follow this one and have caught up.
pub(crate) async fn until_followed(server: &RedisServer, by: usize) {
    until("it is followed", async || server.cli(&["INFO", "replication"]).matches("state=online").count() >= by).await;
}
