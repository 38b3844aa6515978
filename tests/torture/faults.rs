//! What dies and what stands still: each replica again and again, by chance, and the store now and then.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use consentry::words::clock::{Clock as _, SystemClock};
use serde_json::json;
use tokio::time::sleep;

use super::chance::Chance;
use super::judge::Death;
use super::load::Door;
use super::servers::Servers;
use super::support::bank::Bank;
use super::support::sidecar::{Replica, Sidecar};

/// What was done, and by when it has to stop.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    over: AtomicBool,
    deaths: Mutex<Vec<Death>>,
    counted: Mutex<BTreeMap<&'static str, u64>>,
}

impl Ledger {
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self, what: &'static str) {
        *self.counted.lock().unwrap().entry(what).or_default() += 1;
    }

    pub(crate) fn counted(&self) -> BTreeMap<&'static str, u64> {
        self.counted.lock().unwrap().clone()
    }

    pub(crate) fn deaths(&self) -> Vec<Death> {
        self.deaths.lock().unwrap().clone()
    }

    /// Sleeps, or less if the torture ends.
    async fn rest(&self, time: Duration) {
        let until = tokio::time::Instant::now() + time;
        while !self.is_over() && tokio::time::Instant::now() < until {
            sleep(Duration::from_millis(50)).await;
        }
    }
}

pub(crate) fn now_ms() -> u64 {
    SystemClock.wall().as_millis()
}

/// One replica, whichever process it is at the moment.
pub(crate) struct Victim {
    pub(crate) nth: usize,
    pub(crate) replica: Replica,
    pub(crate) life: u64,
    /// Behind this the load finds it.
    pub(crate) door: Door,
}

impl Victim {
    /// The name that this process writes into its intents.
    fn name(&self) -> String {
        format!("r{}-{}", self.nth, self.life)
    }

    pub(crate) async fn start(&mut self) -> Sidecar {
        self.life += 1;
        self.replica.forget("HOSTNAME");
        self.replica.set_environment("HOSTNAME", &self.name());
        let sidecar = self.replica.start_unlinked().await;
        self.door.open(&sidecar);
        sidecar
    }

    /// Kills and stops it until the torture is over; gives the last process, which lives, and its home.
    pub(crate) async fn suffer(mut self, mut sidecar: Sidecar, ledger: &Ledger, mut chance: Chance) -> (Sidecar, Self) {
        loop {
            ledger.rest(chance.millis(6_000..24_000)).await;
            if ledger.is_over() {
                return (sidecar, self);
            }
            if chance.happens(550) {
                let from = now_ms();
                sidecar.program.kill();
                let to = now_ms();
                self.door.close();
                ledger.deaths.lock().unwrap().push(Death { process: self.name(), from, to });
                ledger.count("replica killed");
                keep_log(&self.name(), &sidecar);
                sleep(chance.millis(100..2_000)).await;
                sidecar = self.start().await;
            } else {
                sidecar.program.signal("STOP");
                sleep(chance.millis(500..4_000)).await;
                sidecar.program.signal("CONT");
                ledger.count("replica stopped for up to 4 s");
            }
        }
    }
}

/// What the process said stays, for whoever has to find out what happened.
pub(crate) fn keep_log(name: &str, sidecar: &Sidecar) {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("torture");
    std::fs::create_dir_all(&folder).unwrap();
    let mut file = std::fs::File::create(folder.join(format!("{name}.log"))).unwrap();
    file.write_all(sidecar.program.output().as_bytes()).unwrap();
}

/// The store dies or changes now and then.
pub(crate) async fn trouble(mut servers: Servers, ledger: &Ledger, mut chance: Chance) -> Servers {
    loop {
        ledger.rest(chance.millis(20_000..50_000)).await;
        if ledger.is_over() {
            return servers;
        }
        let what = servers.befall(&mut chance).await;
        ledger.count(what);
    }
}

/// Makes three of a hundred token requests wait for their answer, after they were processed.
pub(crate) async fn slow(bank: &Bank, ledger: &Ledger, mut chance: Chance) {
    let mut made = bank.count("abn", "token_requests").await * 3 / 100;
    while !ledger.is_over() {
        ledger.rest(chance.millis(100..400)).await;
        let due = bank.count("abn", "token_requests").await * 3 / 100;
        if made < due {
            bank.fault("abn-token", due - made, json!({ "delay_ms": 3_000 })).await;
            for _ in made..due {
                ledger.count("answer held back for 3 s");
            }
            made = due;
        }
    }
    bank.control(http::Method::DELETE, "/faults", &serde_json::Value::Null).await;
}
