//! F37: replicas start while many consents have expired. Judged by what the bank saw: how many token requests it was
//! answering at once, how many came within any second, who came first, and that no refresh token came twice.
//!
//! `CONSENTRY_HERD` is how many consents there are. The limits are those that ship.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use consentry::token::settings::ProviderSettings;
use consentry::words::clock::{BootInstant, Clock as _, SystemClock};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::house::{Scene, metric, until};
use crate::support::bank::{Bank, Granted};
use crate::support::sidecar::{Replica, Sidecar};

const REPLICAS: usize = 4;
/// Token requests at once, and within any second.
const IN_FLIGHT: usize = ProviderSettings::MAX_IN_FLIGHT;
const PER_SECOND: usize = ProviderSettings::MAX_PER_SECOND;
/// How long the bank thinks about each.
const THOUGHT: Duration = Duration::from_millis(50);
/// Consents whose tokens still serve and are about to be replaced behind their callers' backs.
const QUIET: usize = 40;
/// The life of their tokens. The window in which they are replaced has begun by 33 s, and they serve until 40 s.
const QUIET_LIFE: u64 = 45;
const QUIET_WINDOW: Duration = Duration::from_secs(33);
const QUIET_SERVES: Duration = Duration::from_secs(40);
/// Calls that wait at one replica at once.
const CALLS: usize = 300;
/// So many stand in line at every replica before anything is tried behind a caller's back.
const LINE: u64 = 10;

/// How many consents have expired.
fn herd() -> usize {
    std::env::var("CONSENTRY_HERD").map_or(200, |size| size.parse().expect("CONSENTRY_HERD is a number"))
}

/// How long the limits make so many requests take at least. Each counts until a second after its answer.
fn implied(requests: usize) -> Duration {
    let each = (THOUGHT / u32::try_from(IN_FLIGHT).unwrap())
        .max((THOUGHT + Duration::from_secs(1)) / u32::try_from(PER_SECOND).unwrap());
    each * u32::try_from(requests).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the figures are what a person runs it for")]
async fn f37_at_a_start_with_many_expired_consents_the_bank_sees_no_more_than_the_limits_and_waiting_calls_first() {
    let (herd, scene) = (herd(), Scene::set().await);
    let replicas: [Replica; REPLICAS] = std::array::from_fn(|_| Replica::with_redis(&scene.bank, &scene.redis));
    let seeding = replicas[0].start().await;
    let waiting = seed(&scene.bank, &seeding, "c", herd, 0).await;
    let quiet = seed(&scene.bank, &seeding, "q", QUIET, QUIET_LIFE).await;
    let seeded = (SystemClock.boot(), Instant::now());
    drop(seeding);
    scene.bank.fault("abn-token", u64::MAX, json!({ "delay_ms": THOUGHT.as_millis() })).await;
    let mut sidecars = Vec::new();
    for replica in &replicas {
        sidecars.push(Arc::new(replica.start().await));
    }
    // Until their window has begun, tokens are not replaced.
    sleep(QUIET_WINDOW.saturating_sub(seeded.1.elapsed())).await;

    let started = Instant::now();
    let mut calls = JoinSet::new();
    let mut behind = JoinSet::new();
    for (n, sidecar) in sidecars.iter().enumerate() {
        let own = (n..herd).step_by(REPLICAS).map(|n| format!("c-{n}")).collect::<VecDeque<_>>();
        let own = Arc::new(Mutex::new(own));
        for _ in 0..CALLS {
            calls.spawn(call_until_served(Arc::clone(sidecar), Arc::clone(&own)));
        }
    }
    for (n, sidecar) in sidecars.iter().enumerate() {
        let line = async || metric(sidecar, "consentry_permit_queue{provider=\"abn-amro\"}").await >= LINE;
        until("a line at every replica", line).await;
        let own: Vec<_> = (n..QUIET).step_by(REPLICAS).map(|n| format!("q-{n}")).collect();
        behind.spawn(call_until_replaced(Arc::clone(sidecar), own));
    }
    while let Some(done) = calls.join_next().await {
        done.unwrap();
    }
    let (took, least) = (started.elapsed(), implied(herd));
    while let Some(done) = behind.join_next().await {
        done.unwrap();
    }
    let seen = Seen::at(&scene.bank).await;
    println!(
        "{herd} consents, {IN_FLIGHT} at once, {PER_SECOND} a second: {:.1} s, where the limits imply {:.1} s; the bank \
         saw {} at once and {} within a second",
        took.as_secs_f64(),
        least.as_secs_f64(),
        seen.most_in_flight,
        seen.most_within_a_second(),
    );
    assert!(seen.most_in_flight <= IN_FLIGHT, "{} at once", seen.most_in_flight);
    assert!(seen.most_within_a_second() <= PER_SECOND, "{} within a second", seen.most_within_a_second());
    assert!(took < least * 3, "{took:?}, and the limits imply {least:?}");
    assert_eq!(scene.bank.reuse_events().await, 0);
    for granted in waiting.iter().chain(&quiet) {
        assert_eq!(seen.times_of(granted), 1, "how often {} was refreshed", granted.bank_id);
    }
    let mut tried = 0;
    for sidecar in &sidecars {
        tried += metric(sidecar, "consentry_token_lookups_total{kind=\"held_soft\"}").await;
    }
    assert!(tried > 0, "nothing was tried behind a caller's back");
    let still_served = seeded.0.plus(QUIET_SERVES);
    let overtaken = seen.waiting_behind_quiet(&waiting, &quiet, still_served);
    assert!(overtaken <= IN_FLIGHT, "{overtaken} that waited came after one that need not have come yet");
}

/// Grants and imports so many consents whose tokens live for so many seconds yet, four at a time.
async fn seed(bank: &Bank, sidecar: &Sidecar, prefix: &str, count: usize, life: u64) -> Vec<Granted> {
    let some = async |first: usize| {
        let mut granted = Vec::new();
        for n in (first..count).step_by(4) {
            granted.push(bank.grant(life).await);
            sidecar.import(&format!("{prefix}-{n}"), &granted[granted.len() - 1]).await;
        }
        granted
    };
    let (one, two, three, four) = tokio::join!(some(0), some(1), some(2), some(3));
    [one, two, three, four].into_iter().flatten().collect()
}

/// Takes one consent after the other and calls with it until the bank has answered, as an app does that is told to come
/// again.
async fn call_until_served(sidecar: Arc<Sidecar>, consents: Arc<Mutex<VecDeque<String>>>) {
    loop {
        let Some(consent) = consents.lock().unwrap().pop_front() else { return };
        loop {
            let answer = sidecar.balances(&consent).await;
            if answer.status == StatusCode::OK {
                break;
            }
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{consent}: {answer:?}");
            let seconds = answer.headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
            sleep(Duration::from_secs(seconds.expect("it is told when to come again"))).await;
        }
    }
}

/// Calls with each of these consents, four times a second, until its token was replaced.
async fn call_until_replaced(sidecar: Arc<Sidecar>, mut consents: Vec<String>) {
    while !consents.is_empty() {
        let mut left = Vec::new();
        for consent in consents {
            // Should its token have expired meanwhile, it waits like the others.
            sidecar.balances(&consent).await;
            let shown = sidecar.app.get(&sidecar.admin_url(&format!("/v1/consents/{consent}")), &[]).await;
            // A store that is too busy to show it is asked again.
            if shown.status != StatusCode::OK || shown.json()["generation"] == 1 {
                left.push(consent);
            }
        }
        consents = left;
        sleep(Duration::from_millis(250)).await;
    }
}

/// What the bank saw: when each token request arrived, by the boot clock of this machine, and whose it was.
struct Seen {
    most_in_flight: usize,
    arrivals: Vec<(u64, String)>,
}

impl Seen {
    async fn at(bank: &Bank) -> Self {
        let log = bank.control(Method::GET, "/log", &Value::Null).await;
        let arrival = |request: &Value| {
            assert_eq!(request["outcome"], "granted", "{request}");
            (request["arrived_ms"].as_u64().unwrap(), request["consent"].as_str().unwrap().to_owned())
        };
        let mut arrivals: Vec<_> = log.as_array().unwrap().iter().map(arrival).collect();
        arrivals.sort();
        Self { most_in_flight: usize::try_from(bank.count("abn", "most_in_flight").await).unwrap(), arrivals }
    }

    /// The most requests that arrived within any second.
    fn most_within_a_second(&self) -> usize {
        let within = |first: usize| {
            let later = &self.arrivals[first..];
            later.partition_point(|it| it.0 < later[0].0 + 1_000)
        };
        (0..self.arrivals.len()).map(within).max().unwrap_or_default()
    }

    fn times_of(&self, granted: &Granted) -> usize {
        self.arrivals.iter().filter(|it| it.1 == granted.bank_id).count()
    }

    /// How many of those that waited came after the first whose token still served then.
    fn waiting_behind_quiet(&self, waiting: &[Granted], quiet: &[Granted], still_served: BootInstant) -> usize {
        let arrived: BTreeMap<_, _> = self.arrivals.iter().map(|it| (it.1.as_str(), it.0)).collect();
        let quiet = quiet.iter().map(|it| arrived[it.bank_id.as_str()]);
        let Some(first) = quiet.filter(|at| *at < still_served.as_millis()).min() else { return 0 };
        waiting.iter().filter(|it| arrived[it.bank_id.as_str()] > first).count()
    }
}
