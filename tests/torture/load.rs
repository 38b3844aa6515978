//! The calls: a bounded loop for each replica, wherever that listens at the moment.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tokio::time::sleep;

use super::chance::Chance;
use super::faults::Ledger;
use super::pool::{Consent, Pool};
use super::support::client::{App, request};
use super::support::sidecar::Sidecar;

/// Where a replica listens while it lives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Door(Arc<Mutex<Option<Addresses>>>);

#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    pub(crate) balances: String,
    /// Of the administration; a path follows.
    pub(crate) admin: String,
}

impl Door {
    pub(crate) fn open(&self, sidecar: &Sidecar) {
        let addresses = Addresses { balances: sidecar.balances_url(), admin: sidecar.admin_url("") };
        *self.0.lock().unwrap() = Some(addresses);
    }

    pub(crate) fn close(&self) {
        *self.0.lock().unwrap() = None;
    }

    pub(crate) fn addresses(&self) -> Option<Addresses> {
        self.0.lock().unwrap().clone()
    }
}

/// How calls ended.
#[derive(Debug, Default)]
pub(crate) struct Answers(Mutex<BTreeMap<String, u64>>);

impl Answers {
    fn count(&self, what: String) {
        *self.0.lock().unwrap().entry(what).or_default() += 1;
    }

    pub(crate) fn counted(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap().clone()
    }
}

/// Callers of each replica.
pub(crate) const CALLERS: usize = 6;
/// What a caller waits between two calls.
const PAUSE: Duration = Duration::from_millis(60);

/// One caller: one call after the other until the load is over.
pub(crate) async fn call(door: Door, pool: Arc<Pool>, answers: Arc<Answers>, over: Arc<Ledger>, mut chance: Chance) {
    let app = App::new();
    while !over.is_over() {
        sleep(PAUSE).await;
        let (Some(addresses), Some(consent)) = (door.addresses(), pool.any(&mut chance)) else { continue };
        let told = ask(&app, &addresses.balances, &consent).await;
        if told == LOST {
            pool.lose(&consent);
        }
        answers.count(told);
    }
}

/// The answer to one call in words.
pub(crate) async fn ask(app: &App, url: &str, consent: &Consent) -> String {
    let call = request(Method::GET, url, &[("consent-id", &consent.id)], Bytes::new());
    match app.try_send(call).await {
        Ok(answer) => format!("{} {}", answer.status.as_u16(), answer.problem()).trim().to_owned(),
        Err(_) => "no answer".to_owned(),
    }
}

pub(crate) const LOST: &str = "403 consent-reauthorization-required";
pub(crate) const SERVED: &str = "200";
