//! After a server restarted or another was promoted: every process tells it what it may have forgotten, and only then are
//! leases granted on it again.
//!
//! Which processes there are stands in the store itself, in one small hash, the roster: each process writes every two
//! seconds that it lives and which incarnations of servers it has told everything. A server opens for leases as soon as all
//! that were lately alive have told it, or when whoever is missing has been missing for longer than a lease and a
//! quarantine. That takes a second or two. A process that has nothing to tell has told everything.
//!
//! The roster also holds how many steps the store has taken that a backup from before would lack. Each process adds those
//! it took itself with its beat. Before a process tells a server anything it looks how far the store had come when it came
//! back, and passes that on; see [`crate::store::contract::StoreAge`].

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::atomic::Ordering;

use redis::Value;
use tokio::time::{sleep, timeout};

use super::identity::Identity;
use super::scripts::{Arguments, number};
use super::{Lane, RedisStore};
use crate::store::contract::{Arrival, Occasion, Pace, StoreAge, StoreError};
use crate::words::clock::{WallTime, millis};

/// What one process keeps of its company with the servers.
struct Member<'a> {
    process: &'a str,
    pace: Pace,
    /// How many steps the store has taken, as far as is known.
    known: u64,
    /// The incarnations that it has told everything.
    told: BTreeSet<Identity>,
}

/// What BEAT is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To see how far the store had come when its servers came up.
    Look,
    /// To say that the process lives.
    Live,
}

/// What BEAT answers.
#[derive(Debug, PartialEq, Eq)]
struct Beat {
    /// For each incarnation asked about, whether all who were lately alive have told it.
    ready: Vec<bool>,
    /// For each, how far the store had come when it was first asked about.
    came: Vec<Option<StoreAge>>,
    /// How many processes are waited for.
    waited: u64,
    /// The store just before.
    before: Option<StoreAge>,
    /// And just after.
    after: StoreAge,
}

impl RedisStore {
    /// Keeps leases from being granted by servers that have not been told everything, for as long as the process lives.
    /// `attend` tells a server that came back what this process remembers.
    pub(super) async fn keep_gate<F>(
        &self,
        process: &str,
        pace: Pace,
        known: u64,
        attend: impl Fn(Occasion) -> F + Send + Sync,
    ) where
        F: Future<Output = Result<(), StoreError>> + Send,
    {
        self.0.gate.guard();
        let mut member = Member { process, pace, known, told: BTreeSet::new() };
        loop {
            let shut = match self.look(&mut member, &attend).await {
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
        member: &mut Member<'_>,
        attend: &(impl Fn(Occasion) -> F + Send + Sync),
    ) -> Result<bool, StoreError>
    where
        F: Future<Output = Result<(), StoreError>> + Send,
    {
        let mut present: BTreeSet<_> = self.primaries().await?.into_iter().map(|primary| primary.identity).collect();
        present.extend(self.0.gate.waiting());
        present.retain(Identity::is_named);
        let Some(first) = present.first() else { return Ok(false) };
        let knew = !member.told.is_empty();
        member.told.retain(|identity| present.contains(identity));
        if present.iter().any(|identity| !member.told.contains(identity)) {
            if knew {
                tracing::warn!("The token store came back. It is told what it may have forgotten.");
            }
            let beat = self.beat(member, &present, knew, Purpose::Look).await?;
            let arrived = present.iter().zip(beat.came).filter(|(identity, _)| !member.told.contains(identity));
            let arrivals = arrived.map(|(identity, age)| arrival(identity, age)).collect();
            attend(Occasion::Met(arrivals)).await?;
            member.told.extend(present.iter().cloned());
        }
        let beat = self.beat(member, &present, knew, Purpose::Live).await?;
        member.known = member.known.max(beat.after.steps);
        attend(Occasion::Beat { before: arrival(first, beat.before), after: beat.after }).await?;
        if beat.waited > 0 {
            let waited = beat.waited;
            tracing::info!(waited, "Leases are granted again when the other processes have told the token store, too.");
        }
        let mut shut = false;
        for (identity, ready) in present.iter().zip(beat.ready) {
            if ready {
                self.0.gate.open(identity);
            }
            shut |= !self.0.gate.is_open(identity);
        }
        Ok(shut)
    }

    async fn beat(
        &self,
        member: &Member<'_>,
        present: &BTreeSet<Identity>,
        knew: bool,
        purpose: Purpose,
    ) -> Result<Beat, StoreError> {
        let words =
            |identities: &BTreeSet<Identity>| identities.iter().map(Identity::as_str).collect::<Vec<_>>().join(" ");
        let taken = match purpose {
            Purpose::Look => 0,
            Purpose::Live => self.0.taken.swap(0, Ordering::Relaxed),
        };
        let pace = member.pace;
        let arguments = Arguments::default()
            .text(member.process)
            .text(&words(&member.told))
            .text(&words(present))
            .flag(knew)
            .number(millis(pace.alive))
            .number(millis(pace.patience))
            .number(millis(pace.rest))
            .number(taken)
            .number(member.known)
            .flag(purpose == Purpose::Look);
        let script = &self.0.scripts.beat;
        let answered = self.call(Lane::Steps, script, &self.0.keys.roster(), &arguments).await;
        let beat = answered.and_then(|value| {
            let malformed = || StoreError::Refused("redis answers BEAT with something else".to_owned());
            Beat::parse(&value, present.len()).ok_or_else(malformed)
        });
        if beat.is_err() {
            // Should it have been taken all the same, these are counted twice, which does no harm.
            self.0.taken.fetch_add(taken, Ordering::Relaxed);
        }
        beat
    }
}

impl Beat {
    /// Reads the answer for so many incarnations.
    fn parse(value: &Value, incarnations: usize) -> Option<Self> {
        let Value::Array(answers) = value else { return None };
        let (each, rest) = answers.split_at_checked(incarnations * 3)?;
        let [waited, steps_before, beat_before, steps, beat] = rest else { return None };
        let age =
            |steps, beat| Some(StoreAge { steps: number(steps)?, newest_beat: WallTime::from_millis(number(beat)?) });
        let each = || each.chunks_exact(3);
        Some(Self {
            ready: each().map(|one| number(&one[0]) == Some(1)).collect(),
            came: each().map(|one| age(&one[1], &one[2])).collect(),
            waited: number(waited)?,
            before: age(steps_before, beat_before),
            after: age(steps, beat)?,
        })
    }
}

fn arrival(identity: &Identity, age: Option<StoreAge>) -> Arrival {
    Arrival { incarnation: identity.as_str().to_owned(), age }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(numbers: &[i64]) -> Value {
        Value::Array(numbers.iter().map(|number| Value::Int(*number)).collect())
    }

    fn age(steps: u64, newest_beat: u64) -> StoreAge {
        StoreAge { steps, newest_beat: WallTime::from_millis(newest_beat) }
    }

    #[test]
    fn a_beat_says_of_each_incarnation_how_far_the_store_had_come() {
        let beat = Beat::parse(&answer(&[1, 7, 100, 0, -1, 100, 2, 8, 200, 9, 300]), 2).unwrap();
        assert_eq!((beat.ready, beat.came), (vec![true, false], vec![Some(age(7, 100)), None]));
        assert_eq!((beat.waited, beat.before, beat.after), (2, Some(age(8, 200)), age(9, 300)));
        assert_eq!(Beat::parse(&answer(&[1, -1, 5, 0, -1, 0, 0, 5]), 1).unwrap().before, None, "an empty roster");
    }

    #[test]
    fn a_beat_of_another_shape_is_refused_and_not_guessed_at() {
        for numbers in [&[1, 0][..], &[1, 7, 100, 0, 8, 200, 9], &[1, 7, 100, 0, 8, 200, 9, 300, 1], &[]] {
            assert_eq!(Beat::parse(&answer(numbers), 1), None, "{numbers:?}");
        }
        assert_eq!(Beat::parse(&Value::Nil, 0), None);
    }
}
