//! One run: everything up, faults and load for so many minutes, then quiet until all is healed, then the summary.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::chance::Chance;
use super::faults::{Ledger, Victim, keep_log, slow, trouble};
use super::load::{Answers, CALLERS, Door, LOST, SERVED, ask, call};
use super::pool::{Consent, Pool};
use super::servers::Servers;
use super::summary::Summary;
use super::support::bank::Bank;
use super::support::client::{App, request};
use super::support::sidecar::{ADMIN_KEY, Replica, Sidecar};

/// What is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Of faults.
    pub(crate) minutes: u64,
    /// Of the chance that chooses them. The machine's own timing is not in it, so a seed repeats a plan, not a run.
    pub(crate) seed: u64,
    /// The store: behind sentinels, or alone.
    pub(crate) sentinel: bool,
    /// Whether the bank takes a spent refresh token for a minute, and says so.
    pub(crate) grace: bool,
}

const REPLICAS: usize = 4;
const CONSENTS: usize = 200;
/// How long an access token lives.
const LIFE: u64 = 10;
/// How many times faster the protocol's time runs, where the build allows it: the quarantine is 20 s.
const PACE: &str = "2";
/// How long everything may take to heal: leases, quarantines and a probe of consents that were caught last.
const HEALED: Duration = Duration::from_secs(240);

/// Whether nothing was lost but in a named window.
pub(crate) async fn run(plan: Plan) -> bool {
    let chance = Chance::new(plan.seed);
    let bank = Arc::new(Bank::start().await);
    let grace = if plan.grace { 60 } else { 0 };
    let knobs = json!({ "access_token_life_s": LIFE, "grace_s": grace });
    bank.control(Method::PATCH, "/abn-amro/settings", &knobs).await;
    let servers = Servers::start(plan.sentinel).await;
    let (ledger, load) = (Arc::<Ledger>::default(), Arc::<Ledger>::default());
    let (pool, answers) = (Arc::<Pool>::default(), Arc::<Answers>::default());
    let doors: [Door; REPLICAS] = std::array::from_fn(|_| Door::default());
    let mut started = Vec::new();
    for (nth, door) in doors.iter().enumerate() {
        let mut replica = Replica::new(&bank, &servers.yaml()).environment("CONSENTRY_TIME_SCALE", PACE);
        if plan.grace {
            let end = "    ca_file: ca.pem\n  norsk-gjeld";
            replica = replica.change(end, &end.replace('\n', "\n    reuse_grace: 60s\n"));
        }
        let mut victim = Victim { nth: nth + 1, replica, life: 0, door: door.clone() };
        let sidecar = victim.start().await;
        sidecar.until_linked().await;
        started.push((victim, sidecar));
    }
    let filling = tokio::spawn(fill(Arc::clone(&bank), Arc::clone(&pool), doors.clone(), Arc::clone(&ledger)));
    while pool.living().len() < CONSENTS {
        sleep(Duration::from_millis(50)).await;
    }
    println!("{plan:?}: {REPLICAS} replicas, {CONSENTS} consents, tokens of {LIFE} s");

    let mut callers = JoinSet::new();
    for n in 0..REPLICAS * CALLERS {
        let chance = chance.fork(100 + n as u64);
        let door = doors[n % REPLICAS].clone();
        callers.spawn(call(door, Arc::clone(&pool), Arc::clone(&answers), Arc::clone(&load), chance));
    }
    let mut victims = JoinSet::new();
    for (victim, sidecar) in started {
        let (ledger, chance) = (Arc::clone(&ledger), chance.fork(victim.nth as u64));
        victims.spawn(async move { victim.suffer(sidecar, &ledger, chance).await });
    }
    let slowed = tokio::spawn({
        let (bank, ledger, chance) = (Arc::clone(&bank), Arc::clone(&ledger), chance.fork(60));
        async move { slow(&bank, &ledger, chance).await }
    });
    let mut summary = Summary::new(plan.grace);
    let time = async {
        let end = Instant::now() + Duration::from_secs(plan.minutes * 60);
        while Instant::now() < end {
            sleep(Duration::from_secs(10)).await;
            summary.look(&bank).await;
            assert!(!slowed.is_finished(), "what makes answers slow has fallen");
        }
        ledger.end();
    };
    let (_servers, ()) = tokio::join!(trouble(servers, &ledger, chance.fork(50)), time);
    slowed.await.unwrap();
    filling.await.unwrap();
    let (mut sidecars, mut homes) = (Vec::<Sidecar>::new(), Vec::<Victim>::new());
    while let Some(survivor) = victims.join_next().await {
        let (sidecar, home) = survivor.unwrap();
        sidecars.push(sidecar);
        homes.push(home);
    }
    println!("faults are over after {} min; waiting until all is healed", plan.minutes);
    let unhealed = healed(&pool, &doors[0]).await;
    load.end();
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    for (nth, sidecar) in sidecars.iter().enumerate() {
        keep_log(&format!("last-{nth}"), sidecar);
    }
    summary.look(&bank).await;
    let good = summary.finish(&bank, &sidecars, &pool, &answers.counted(), &ledger, &unhealed).await;
    drop((sidecars, homes));
    good
}

/// Waits until every consent is either served, with a token of after the faults, or lost; gives what is neither.
async fn healed(pool: &Pool, door: &Door) -> Vec<(Consent, String)> {
    let app = App::new();
    // Whatever is held now has to be refreshed once more.
    sleep(Duration::from_secs(LIFE + 1)).await;
    let deadline = Instant::now() + HEALED;
    loop {
        let mut sick = Vec::new();
        let url = door.addresses().expect("it lives").balances;
        for consent in pool.living() {
            let told = ask(&app, &url, &consent).await;
            if told == LOST {
                pool.lose(&consent);
            } else if told != SERVED {
                sick.push((consent, told));
            }
        }
        if sick.is_empty() || Instant::now() > deadline {
            return sick;
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// Keeps the pool full: a new consent is granted and imported for each that is lost.
async fn fill(bank: Arc<Bank>, pool: Arc<Pool>, doors: [Door; REPLICAS], ledger: Arc<Ledger>) {
    let app = App::new();
    let mut made = 0;
    while !ledger.is_over() {
        if pool.living().len() >= CONSENTS {
            sleep(Duration::from_millis(300)).await;
            continue;
        }
        made += 1;
        let (id, granted) = (format!("c-{made}"), bank.grant(LIFE).await);
        let Some(addresses) = doors[made % REPLICAS].addresses() else { continue };
        let url = format!("{}/v1/consents/{id}/tokens", addresses.admin);
        let key = format!("Bearer {ADMIN_KEY}");
        let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
        let put = request(Method::PUT, &url, &headers, Bytes::from(Value::to_string(&granted.import)));
        // One that may or may not be stored is left alone: nobody calls with it.
        match app.try_send(put).await {
            Ok(answer) if answer.status == StatusCode::CREATED => pool.add(Consent { id, bank_id: granted.bank_id }),
            Ok(_) | Err(_) => sleep(Duration::from_millis(200)).await,
        }
    }
}
