//! Connections that many share: where each leads, how it is made anew, and which kind of step goes over which.
//!
//! A [`Link`] is one connection. It is made when first needed and again when it is found broken; whoever asks while one
//! is being made waits for that one, and whoever asks just after a failure is told of it at once, so that a server that is
//! down costs little. A [`Node`] is all the links to one server.

use std::sync::Arc;
use std::time::Duration;

use redis::AsyncConnectionConfig;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::address::Endpoint;
use super::connection::{Dialer, Live};
use super::identity::Gate;
use super::route::patient;
use super::sentinel::Sentinels;
use crate::store::contract::StoreError;

/// How long a failure to connect answers for everybody.
const FAILURE_HOLDS: Duration = Duration::from_millis(100);

/// What every link needs.
pub(super) struct Kit {
    pub(super) dialer: Dialer,
    pub(super) gate: Gate,
    pub(super) command_timeout: Duration,
    pub(super) replica_wait: Duration,
}

/// Where connections lead.
#[derive(Clone)]
pub(super) enum Origin {
    /// Always there.
    Fixed(Endpoint),
    /// To whichever server is the primary now.
    Sentinels(Arc<Sentinels>),
}

/// Which kind of step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Reading.
    Reads,
    /// What waits for nobody.
    Steps,
    /// Intents that wait for replicas or disks, apart from the rest and from outcomes: waiting holds up a whole connection.
    Intents,
    /// Outcomes that wait.
    Outcomes,
    /// Looking at all records, whose long replies nobody else is to stand behind.
    Walks,
}

/// A server, or whichever is the primary, with the connections to it.
pub(super) struct Node {
    pub(super) origin: Origin,
    reads: Link,
    steps: Link,
    intents: Link,
    outcomes: Link,
    walks: Link,
}

/// One shared connection.
pub(super) struct Link {
    kit: Arc<Kit>,
    origin: Origin,
    reply_timeout: Duration,
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    live: Option<Live>,
    failed: Option<(Instant, StoreError)>,
}

impl Origin {
    /// Makes a connection to where this leads now.
    pub(super) async fn dial(
        &self,
        dialer: &Dialer,
        config: AsyncConnectionConfig,
        resp3: bool,
    ) -> Result<Live, StoreError> {
        match self {
            Self::Fixed(endpoint) => dialer.dial(endpoint, config, resp3).await,
            Self::Sentinels(sentinels) => {
                let (endpoint, term) = sentinels.primary().await?;
                let mut live = dialer.dial(&endpoint, config, resp3).await?;
                if live.peer().is_primary == Some(false) {
                    let text = format!("the sentinels name redis at {endpoint}, which is no primary yet");
                    return Err(StoreError::Unavailable(text));
                }
                live.term = term;
                Ok(live)
            }
        }
    }

    /// Whether a connection leads where a new one would, as far as is known.
    pub(super) fn is_current(&self, live: &Live) -> bool {
        match self {
            Self::Fixed(_) => true,
            Self::Sentinels(sentinels) => live.term == sentinels.term(),
        }
    }

    /// A server turned out not to take writes: every connection is made anew. `false`: that would lead to the same one.
    pub(super) fn depose(&self, live: &Live) -> bool {
        match self {
            Self::Fixed(_) => false,
            Self::Sentinels(sentinels) => {
                sentinels.depose(live.term);
                true
            }
        }
    }
}

impl Node {
    pub(super) fn new(origin: Origin, kit: &Arc<Kit>) -> Self {
        let link = |reply_timeout| Link {
            kit: Arc::clone(kit),
            origin: origin.clone(),
            reply_timeout,
            slot: Mutex::default(),
        };
        let patient = kit.command_timeout + kit.replica_wait;
        Self {
            reads: link(kit.command_timeout),
            steps: link(kit.command_timeout),
            intents: link(patient),
            outcomes: link(patient),
            walks: link(kit.command_timeout),
            origin,
        }
    }

    /// Whether both lead to the same server, however it is found.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (&self.origin, &other.origin) {
            (Origin::Fixed(one), Origin::Fixed(other)) => one == other,
            (Origin::Sentinels(one), Origin::Sentinels(other)) => Arc::ptr_eq(one, other),
            (Origin::Fixed(_), Origin::Sentinels(_)) | (Origin::Sentinels(_), Origin::Fixed(_)) => false,
        }
    }

    pub(super) fn link(&self, lane: Lane) -> &Link {
        match lane {
            Lane::Reads => &self.reads,
            Lane::Steps => &self.steps,
            Lane::Intents => &self.intents,
            Lane::Outcomes => &self.outcomes,
            Lane::Walks => &self.walks,
        }
    }
}

impl Link {
    /// The connection, made anew if there is none that works.
    pub(super) async fn get(&self) -> Result<Live, StoreError> {
        let mut slot = self.slot.lock().await;
        let works = |live: &&Live| !live.is_finished() && self.origin.is_current(live);
        if let Some(live) = slot.live.as_ref().filter(works) {
            return Ok(live.clone());
        }
        slot.live = None;
        if let Some((_, error)) = slot.failed.as_ref().filter(|(at, _)| at.elapsed() < FAILURE_HOLDS) {
            return Err(error.clone());
        }
        // The connection's own limit on replies; connecting has its own.
        match self.origin.dial(&self.kit.dialer, patient(self.reply_timeout), false).await {
            Ok(live) => {
                // Whoever guards the gate hears of a new incarnation before anybody wants a lease of it.
                if live.peer().is_primary != Some(false) {
                    self.kit.gate.is_open(&live.peer().identity);
                }
                slot.failed = None;
                Ok(slot.live.insert(live).clone())
            }
            Err(error) => {
                slot.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Gives up a connection that did not answer, unless somebody has done so already.
    pub(super) async fn give_up(&self, broken: &Live) {
        let mut slot = self.slot.lock().await;
        if slot.live.as_ref().is_some_and(|live| live.is_same(broken)) {
            slot.live = None;
        }
    }
}
