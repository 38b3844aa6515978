//! The connections to one API that are open.
//!
//! Each serving thread has a rack of its own, so that a call stays on the thread it came in on and no two threads wait
//! for each other. Connections over HTTP/1.1 carry one call at a time: taken from the rack, and put back when the
//! body of the answer is through. The one put back last is taken first, so that those not needed grow old and are closed.
//! One over HTTP/2 carries many calls and stays on the rack.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use tokio::time::{Instant, sleep};

use crate::net::workers;
use crate::proxy::body::RequestBody;

/// A connection on which calls take turns.
pub(super) type Alone = http1::SendRequest<RequestBody>;
/// A connection that calls share.
pub(super) type Shared = http2::SendRequest<RequestBody>;

/// A connection a call may be sent on.
#[derive(Debug)]
pub(super) enum Line {
    /// Over HTTP/1.1, ours until it is put back.
    Alone(Alone),
    /// Over HTTP/2.
    Shared(Shared),
}

/// The open connections to one API.
#[derive(Debug)]
pub(super) struct Pool {
    racks: Box<[Mutex<Rack>]>,
    idle_timeout: Duration,
}

#[derive(Debug, Default)]
struct Rack {
    /// The longest unused first.
    alone: Vec<Resting<Alone>>,
    shared: Option<Resting<Shared>>,
    /// Whether somebody comes by to close what has grown old.
    swept: bool,
}

#[derive(Debug)]
struct Resting<T> {
    line: T,
    since: Instant,
}

/// Unused connections that a thread keeps open to one API. More are closed at once: they are what is left of a rush.
const MOST_UNUSED: usize = 512;

impl Pool {
    /// Connections that are closed after being unused for this long. Zero keeps none of HTTP/1.1.
    pub(super) fn new(idle_timeout: Duration) -> Arc<Self> {
        let racks = (0..workers::MOST).map(|_| Mutex::default()).collect();
        Arc::new(Self { racks, idle_timeout })
    }

    /// A connection that is open and free.
    pub(super) fn take(&self) -> Option<Line> {
        let mut rack = self.rack(workers::current());
        if let Some(shared) = &mut rack.shared {
            if shared.line.is_ready() {
                shared.since = Instant::now();
                return Some(Line::Shared(shared.line.clone()));
            }
            rack.shared = None;
        }
        // Those whose last answer is not quite through stay where they are.
        let mut at = rack.alone.len();
        while at > 0 {
            at -= 1;
            let resting = rack.alone.get(at)?;
            if resting.line.is_closed() {
                rack.alone.remove(at);
            } else if resting.line.is_ready() {
                return Some(Line::Alone(rack.alone.remove(at).line));
            }
        }
        None
    }

    /// Keeps a connection that other calls may share from now on.
    pub(super) fn share(self: &Arc<Self>, line: Shared) {
        let number = workers::current();
        let mut rack = self.rack(number);
        rack.shared = Some(Resting { line, since: Instant::now() });
        self.see_to(number, rack);
    }

    /// Puts a connection back on the rack it came from.
    pub(super) fn put_back(self: &Arc<Self>, line: Alone, number: usize) {
        if line.is_closed() || self.idle_timeout.is_zero() {
            return;
        }
        let mut rack = self.rack(number);
        if rack.alone.len() < MOST_UNUSED {
            rack.alone.push(Resting { line, since: Instant::now() });
            self.see_to(number, rack);
        }
    }

    /// Has what grows old on a rack closed, for as long as there is anything on it.
    fn see_to(self: &Arc<Self>, number: usize, mut rack: MutexGuard<'_, Rack>) {
        if std::mem::replace(&mut rack.swept, true) {
            return;
        }
        drop(rack);
        tokio::spawn(sweep(Arc::downgrade(self), number, self.idle_timeout / 2));
    }

    fn rack(&self, number: usize) -> MutexGuard<'_, Rack> {
        // Never empty, and a panic in a holder leaves a rack that is whole: every change to it is one call.
        self.racks[number % self.racks.len()].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn sweep(pool: Weak<Pool>, number: usize, every: Duration) {
    loop {
        sleep(every.max(SWEPT_AT_MOST)).await;
        let Some(pool) = pool.upgrade() else { return };
        let (now, mut rack) = (Instant::now(), pool.rack(number));
        let old = |since: Instant| now.saturating_duration_since(since) >= pool.idle_timeout;
        rack.alone.retain(|resting| !old(resting.since) && !resting.line.is_closed());
        rack.alone.shrink_to(KEPT_ROOM);
        if rack.shared.as_ref().is_some_and(|shared| old(shared.since) || shared.line.is_closed()) {
            rack.shared = None;
        }
        if rack.alone.is_empty() && rack.shared.is_none() {
            rack.swept = false;
            return;
        }
    }
}

/// How often a rack is looked over, at most.
const SWEPT_AT_MOST: Duration = Duration::from_millis(50);
/// Places for unused connections that a rack keeps ready.
const KEPT_ROOM: usize = 64;
