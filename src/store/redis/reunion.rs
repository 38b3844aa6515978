//! After a server restarted or another was promoted: every process tells it what it may have forgotten, and only then are
//! leases granted on it again.
//!
//! Which processes there are stands in the store itself, in one small hash, the roster: each process writes every two
//! seconds that it lives and which incarnations of servers it has told everything. A server opens for leases as soon as all
//! that were lately alive have told it, or when whoever is missing has been missing for longer than a lease and a
//! quarantine. That takes a second or two. A process that has nothing to tell has told everything.

use std::collections::BTreeSet;
use std::future::Future;

use redis::Value;
use tokio::time::{sleep, timeout};

use super::RedisStore;
use super::identity::Identity;
use super::scripts::{Arguments, number};
use crate::store::contract::{Pace, StoreError};
use crate::words::clock::millis;

impl RedisStore {
    /// Keeps leases from being granted by servers that have not been told everything, for as long as the process lives.
    /// `retell` tells a server that came back what this process remembers.
    pub(super) async fn keep_gate<F>(&self, process: &str, pace: Pace, retell: impl Fn() -> F + Send + Sync)
    where
        F: Future<Output = Result<(), StoreError>> + Send,
    {
        self.0.gate.guard();
        let mut told = BTreeSet::new();
        loop {
            let shut = match self.look(process, pace, &retell, &mut told).await {
                Ok(shut) => shut,
                // Whatever refuses this refuses the steps, too, and they say so better.
                Err(StoreError::Refused(why)) => {
                    tracing::debug!(why, "The token store does not let this process say that it lives.");
                    self.0.gate.waiting().iter().for_each(|identity| self.0.gate.open(identity));
                    false
                }
                Err(error) => {
                    tracing::debug!(%error, "The token store cannot be told that this process lives.");
                    true
                }
            };
            let pause = if shut { pace.look } else { pace.beat };
            // A server that is met anew does not have to wait for the next beat.
            let _ = timeout(pause, self.0.gate.new_identity()).await;
            sleep(pace.look).await;
        }
    }

    /// One look at which servers there are, and one beat. `true`: some server is shut.
    async fn look<F>(
        &self,
        process: &str,
        pace: Pace,
        retell: &(impl Fn() -> F + Send + Sync),
        told: &mut BTreeSet<Identity>,
    ) -> Result<bool, StoreError>
    where
        F: Future<Output = Result<(), StoreError>> + Send,
    {
        let mut present: BTreeSet<_> = self.primaries().await?.into_iter().map(|primary| primary.identity).collect();
        present.extend(self.0.gate.waiting());
        present.retain(Identity::is_named);
        if present.is_empty() {
            return Ok(false);
        }
        let knew = !told.is_empty();
        told.retain(|identity| present.contains(identity));
        if present.iter().any(|identity| !told.contains(identity)) {
            if knew {
                tracing::warn!("The token store came back. It is told what it may have forgotten.");
            }
            retell().await?;
            told.extend(present.iter().cloned());
        }
        let ready = self.beat(process, pace, told, &present, knew).await?;
        let mut shut = false;
        for (identity, ready) in present.iter().zip(ready) {
            if ready {
                self.0.gate.open(identity);
            }
            shut |= !self.0.gate.is_open(identity);
        }
        Ok(shut)
    }

    async fn beat(
        &self,
        process: &str,
        pace: Pace,
        told: &BTreeSet<Identity>,
        present: &BTreeSet<Identity>,
        knew: bool,
    ) -> Result<Vec<bool>, StoreError> {
        let words =
            |identities: &BTreeSet<Identity>| identities.iter().map(Identity::as_str).collect::<Vec<_>>().join(" ");
        let arguments = Arguments::default()
            .text(process)
            .text(&words(told))
            .text(&words(present))
            .flag(knew)
            .number(millis(pace.alive))
            .number(millis(pace.patience))
            .number(millis(pace.rest));
        let script = &self.0.scripts.beat;
        let value = self.call(&self.0.steps, script, &self.0.keys.roster(), &arguments).await?;
        let Value::Array(mut answers) = value else {
            return Err(StoreError::Refused("redis answers BEAT with something else".to_owned()));
        };
        let waited = answers.pop().as_ref().and_then(number).unwrap_or_default();
        if waited > 0 {
            tracing::info!(waited, "Leases are granted again when the other processes have told the token store, too.");
        }
        Ok(answers.iter().map(|answer| number(answer) == Some(1)).collect())
    }
}
