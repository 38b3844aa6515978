//! What came out: one summary, and whether it is good.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use serde_json::Value;

use super::faults::Ledger;
use super::judge::{Judged, judge};
use super::pool::{Consent, Pool};
use super::support::bank::Bank;
use super::support::sidecar::Sidecar;

/// What is gathered on the way, because the bank's log keeps the latest requests only.
pub(crate) struct Summary {
    /// Whether the bank gives an answer again that was lost, so that even W1 loses nothing.
    grace: bool,
    /// Spent refresh tokens that were presented: when, and of which of the bank's consents.
    reused: BTreeSet<(u64, String)>,
}

impl Summary {
    pub(crate) const fn new(grace: bool) -> Self {
        Self { grace, reused: BTreeSet::new() }
    }

    pub(crate) async fn look(&mut self, bank: &Bank) {
        let log = bank.control(Method::GET, "/log", &Value::Null).await;
        for request in log.as_array().unwrap().iter().filter(|request| request["outcome"] == "reuse") {
            let consent = request["consent"].as_str().unwrap().to_owned();
            self.reused.insert((request["time_ms"].as_u64().unwrap(), consent));
        }
    }

    /// Prints it, and says whether it is good.
    pub(crate) async fn finish(
        self,
        bank: &Bank,
        sidecars: &[Sidecar],
        pool: &Pool,
        answers: &BTreeMap<String, u64>,
        ledger: &Ledger,
        unhealed: &[(Consent, String)],
    ) -> bool {
        let (lost, deaths) = (pool.lost(), ledger.deaths());
        let (mut explained, mut faults) = (BTreeMap::<&str, u64>::new(), Vec::new());
        let mut causes = BTreeMap::<String, u64>::new();
        for consent in &lost {
            let view = sidecars[0].history(&consent.id).await;
            let events = view["events"].as_array().unwrap();
            let cause = events.last().and_then(|event| event["why"].as_str()).unwrap_or("none").to_owned();
            *causes.entry(format!("cause {cause}")).or_default() += 1;
            match judge(events, &deaths) {
                Judged::SenderKilled { process, .. } if self.grace => {
                    faults.push(format!("{}: {process} was killed, and the grace did not help\n{view:#}", consent.id));
                }
                Judged::SenderKilled { .. } => *explained.entry("its sender was killed (W1, W2)").or_default() += 1,
                Judged::Unexplained(what) => faults.push(format!("{}: {what}\n{view:#}", consent.id)),
            }
        }
        let count = async |name: &str| bank.count("abn", name).await;
        let reuse = count("reuse_events").await;
        let known: BTreeSet<_> = lost.iter().map(|consent| consent.bank_id.clone()).collect();
        for (at, consent) in self.reused.iter().filter(|(_, consent)| !known.contains(consent)) {
            faults.push(format!("a spent refresh token of the bank's consent {consent} was presented at {at}"));
        }
        if reuse != lost.len() as u64 {
            faults.push(format!("{reuse} spent refresh tokens were presented, and {} probes were refused", lost.len()));
        }
        for (consent, told) in unhealed {
            faults.push(format!("{} did not heal: {told}\n{:#}", consent.id, sidecars[0].history(&consent.id).await));
        }
        let mut counters = BTreeMap::<String, u64>::new();
        for sidecar in sidecars {
            for line in sidecar.metrics().await.lines().filter(|line| watched(line)) {
                let (series, value) = line.rsplit_once(' ').unwrap();
                *counters.entry(series.to_owned()).or_default() += value.parse::<u64>().unwrap_or_default();
            }
        }
        println!("\n== torture: summary");
        println!("calls: {}", answers.values().sum::<u64>());
        list(answers);
        println!("token requests: {}", count("token_requests").await);
        println!("rotations: {}", count("refreshes").await);
        println!("granted in grace: {}", count("grace_uses").await);
        println!("reuse events: {reuse}, of which recorded probes: {}", reuse.min(lost.len() as u64));
        println!("consents living: {}, lost: {}, not healed: {}", pool.living().len(), lost.len(), unhealed.len());
        list(&causes);
        list(&explained);
        println!("faults:");
        list(&ledger.counted());
        println!("counted by the processes that live at the end:");
        list(&counters);
        for fault in &faults {
            println!("NOT EXPLAINED: {fault}");
        }
        println!("{}", if faults.is_empty() { "== nothing was lost but in a named window" } else { "== FAILED" });
        faults.is_empty()
    }
}

fn list<N: std::fmt::Display>(counted: &BTreeMap<N, u64>) {
    for (what, times) in counted {
        println!("  {what}: {times}");
    }
}

fn watched(line: &str) -> bool {
    let names = ["consents_lost_total", "late_send_detected_total", "store_rollback_total", "spills_total"];
    names.iter().any(|name| line.starts_with(&format!("consentry_{name}{{")))
}
