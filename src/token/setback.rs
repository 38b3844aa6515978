//! Noticing that the store was put back from an old backup, before anything that it brought back is spent.
//!
//! Each process remembers how far the store had come, in memory and beside its spills. Where the store comes back with
//! less, and from longer ago than any failover loses, every provider is frozen: the refresh tokens of consents that were
//! refreshed since are spent, and only a person can tell whether a newer copy is to be had. What processes remember is
//! put back all the same, and tokens that live are served.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;

use super::flight::Flights;
use super::{Core, StandingError};
use crate::oauth::TokenEndpoint;
use crate::store::spill::{HighWater, SpillDirectory};
use crate::store::{Arrival, FreezeReason, Store, StoreAge, StoreError};
use crate::words::clock::{BootInstant, Clock};

/// In how many beats what is known of the store is written down once: every ten seconds.
const WRITTEN_EVERY: u32 = 5;
/// How many incarnations are remembered. One that was forgotten would be looked at again, a day long, by what it was like
/// when it came up; no cluster has as many primaries.
const MOST_INCARNATIONS: usize = 256;

/// What is known of the store. One task asks it at a time.
#[derive(Debug)]
pub(super) struct Watch {
    known: u64,
    state: Mutex<State>,
    /// A disk that does not answer must not keep this process from saying that it lives.
    is_writing: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct State {
    /// How far the store has come: the most steps, and the newest beat that it had when it was last heard of.
    age: Option<StoreAge>,
    /// Incarnations that were looked at.
    incarnations: Vec<String>,
    /// A setback over which some provider may not be frozen yet.
    found: Option<Setback>,
    written_at: Option<BootInstant>,
}

/// A store that came back with less than was known of it.
#[derive(Clone, Debug)]
struct Setback {
    /// The same for every process that notices it, and for no other setback.
    name: String,
    known: StoreAge,
    came: StoreAge,
}

impl Watch {
    /// Takes up what an earlier process wrote down.
    pub(super) fn begin<S: Store, E: TokenEndpoint, C: Clock>(core: &Core<S, E, C>) -> Self {
        let mark = core.spill.as_ref().and_then(SpillDirectory::high_water).cloned();
        let (age, incarnations) = mark.map_or((None, Vec::new()), |mark| (Some(mark.age), mark.incarnations));
        let known = age.map_or(0, |age| age.steps);
        let state = Mutex::new(State { age, incarnations, ..State::default() });
        Self { known, state, is_writing: Arc::default() }
    }

    /// How many steps the store was known to have taken at the beginning.
    pub(super) const fn known(&self) -> u64 {
        self.known
    }

    /// Looks at servers that this process has told nothing yet. An error: some provider may not be frozen.
    pub(super) async fn meet<S: Store, E: TokenEndpoint, C: Clock>(
        &self,
        core: &Core<S, E, C>,
        arrivals: &[Arrival],
    ) -> Result<(), StoreError> {
        let mut state = self.state.lock().await;
        let new: Vec<_> = arrivals.iter().filter(|it| !state.incarnations.contains(&it.incarnation)).collect();
        state.compare(new.iter().copied(), core.timing.pace().setback);
        state.act(core).await?;
        if !new.is_empty() {
            state.incarnations.extend(new.into_iter().map(|arrival| arrival.incarnation.clone()));
            let too_many = state.incarnations.len().saturating_sub(MOST_INCARNATIONS);
            state.incarnations.drain(..too_many);
            state.written_at = None;
        }
        drop(state);
        Ok(())
    }

    /// Looks at the store as it was before a beat, in case somebody put back its contents under a running server, and
    /// takes note of how far it has come. An error: some provider may not be frozen.
    pub(super) async fn beat<S: Store, E: TokenEndpoint, C: Clock>(
        &self,
        core: &Core<S, E, C>,
        before: &Arrival,
        after: StoreAge,
    ) -> Result<(), StoreError> {
        let mut state = self.state.lock().await;
        state.compare(std::iter::once(before), core.timing.pace().setback);
        state.act(core).await?;
        let steps = state.age.map_or(0, |age| age.steps).max(after.steps);
        state.age = Some(StoreAge { steps, ..after });
        let now = core.clock.boot();
        let is_due = state.written_at.is_none_or(|at| now.since(at) >= core.timing.renewal * WRITTEN_EVERY);
        if let Some(spill) = core.spill.as_ref().filter(|_| is_due)
            && !self.is_writing.swap(true, Ordering::AcqRel)
        {
            state.written_at = Some(now);
            let mark = HighWater { age: StoreAge { steps, ..after }, incarnations: state.incarnations.clone() };
            write(spill.clone(), mark, Arc::clone(&self.is_writing));
        }
        drop(state);
        Ok(())
    }
}

impl State {
    /// Takes note of a setback, of the first that is found.
    fn compare<'a>(&mut self, arrivals: impl Iterator<Item = &'a Arrival>, setback: Duration) {
        let Some(known) = self.age.filter(|_| self.found.is_none()) else { return };
        let mut came = arrivals.filter_map(|arrival| Some((&arrival.incarnation, arrival.age?)));
        let Some((incarnation, came)) = came.find(|(_, came)| known.is_set_back_to(came, setback)) else { return };
        tracing::error!(
            known_steps = known.steps,
            steps = came.steps,
            known_until = %known.newest_beat,
            backup_of = %came.newest_beat,
            "The token store was put back from an old backup. Refresh tokens that were spent since may be in it, so every \
             provider is frozen. Put a newer copy in its place if there is one; else see which consents were refreshed \
             since, and thaw each provider."
        );
        let name = format!("{incarnation}/{}", came.newest_beat.as_millis());
        self.found = Some(Setback { name, known, came });
    }

    /// Freezes every provider over a setback that was found. Afterwards the store counts as known as it is.
    async fn act<S: Store, E: TokenEndpoint, C: Clock>(&mut self, core: &Core<S, E, C>) -> Result<(), StoreError> {
        let Some(Setback { name, known, came }) = self.found.clone() else { return Ok(()) };
        let why = format!(
            "the store came back as it was at {}, and was known until {}: {} steps are missing",
            came.newest_beat,
            known.newest_beat,
            known.steps - came.steps
        );
        for provider in core.providers.keys() {
            let frozen = core.freeze(provider, FreezeReason::OldBackup, Some(why.clone()), Some(name.clone())).await;
            match frozen {
                Ok(_) | Err(StandingError::Unknown) => {}
                // No leave is given by such a record either.
                Err(StandingError::Store(error @ StoreError::Unreadable(_))) => {
                    tracing::error!(provider = provider.as_str(), %error, "A provider could not be frozen.");
                }
                Err(StandingError::Store(error)) => return Err(error),
            }
        }
        self.age = Some(StoreAge { steps: known.steps, ..came });
        self.found = None;
        Ok(())
    }
}

/// Writes down how far the store has come, as a task of its own.
fn write(spill: SpillDirectory, mark: HighWater, is_writing: Arc<AtomicBool>) {
    Flights::detach_idle(async move {
        if let Err(error) = spill.keep_high_water(mark).await {
            tracing::warn!(%error, "How far the token store has come could not be written down.");
        }
        is_writing.store(false, Ordering::Release);
    });
}
