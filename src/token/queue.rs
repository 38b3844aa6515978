//! Who of this process asks the store next for leave to send to a provider.
//!
//! A herd that asks all at once would cost the store more than it gains, so those who found no room stand in a line of
//! their own: only the first asks, and the others move up. Nearest expiry comes first. Whoever has a token that still
//! serves does not stand here at all. The line is as long as there are flights, which are bounded. Whoever leaves it
//! without a permit and comes again soon, as an app does that is told to, has its old place.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::words::clock::BootInstant;
use crate::words::ids::TokenKey;

/// The line of one provider.
#[derive(Debug)]
pub(super) struct Queue {
    line: Mutex<Line>,
    moved: Notify,
    length: Gauge,
}

#[derive(Debug, Default)]
struct Line {
    places: BTreeSet<Place>,
    next: u64,
    /// Whose place is whose, until when.
    kept: HashMap<TokenKey, (Place, Instant)>,
    /// When what is over was last taken out of `kept`.
    swept: Option<Instant>,
}

/// When the token at hand ends, and who came first.
type Place = (BootInstant, u64);

/// A place in the line, left when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    queue: Arc<Queue>,
    key: TokenKey,
    place: Place,
}

/// How long a place is kept for a token after the patience of whoever stood there was over.
const KEPT: Duration = Duration::from_secs(15);
/// How many places are kept at most. Beyond, whoever comes again stands at the end.
const MOST_KEPT: usize = 20_000;

impl Queue {
    /// An empty line. Its length is told to `length`.
    pub(super) fn new(length: Gauge) -> Arc<Self> {
        Arc::new(Self { line: Mutex::default(), moved: Notify::new(), length })
    }

    /// Joins the line at `now`, for a token that ends at `expires_at`, or takes the place that is kept for it. Whoever
    /// joins has patience until `patient_until`.
    pub(super) fn join(
        self: &Arc<Self>,
        key: &TokenKey,
        expires_at: BootInstant,
        now: Instant,
        patient_until: Instant,
    ) -> Turn {
        let mut line = self.lock();
        let kept = line.kept_for(key, now);
        let place = kept.unwrap_or((expires_at, line.next));
        line.next += 1;
        line.places.insert(place);
        line.keep(key, place, now, patient_until + KEPT);
        self.length.inc();
        Turn { queue: Arc::clone(self), key: key.clone(), place }
    }

    /// Whether nobody stands here.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().places.is_empty()
    }

    /// A panic in a holder of this lock leaves sets that are still whole: every change to each is one call.
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// The place that is kept for this token and that nobody stands at.
    fn kept_for(&self, key: &TokenKey, now: Instant) -> Option<Place> {
        let (place, until) = self.kept.get(key)?;
        (*until > now && !self.places.contains(place)).then_some(*place)
    }

    fn keep(&mut self, key: &TokenKey, place: Place, now: Instant, until: Instant) {
        if self.swept.is_none_or(|swept| swept + KEPT <= now) {
            self.kept.retain(|_, (_, until)| *until > now);
            self.swept = Some(now);
        }
        if self.kept.len() < MOST_KEPT || self.kept.contains_key(key) {
            self.kept.insert(key.clone(), (place, until));
        }
    }
}

impl Turn {
    /// Resolves when nobody stands before this place. Somebody more pressed may come before it later.
    pub(super) async fn come(&self) {
        loop {
            let moved = self.queue.moved.notified();
            tokio::pin!(moved);
            // Listens before it looks, so that no move is missed.
            moved.as_mut().enable();
            if self.queue.lock().places.first() == Some(&self.place) {
                return;
            }
            moved.await;
        }
    }

    /// Leaves the line for good: nothing is kept for whoever asks for this token next.
    pub(super) fn served(self) {
        self.queue.lock().kept.remove(&self.key);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.queue.lock().places.remove(&self.place);
        self.queue.length.dec();
        self.queue.moved.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::words::ids::ConsentId;

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn the_token_that_ends_first_comes_first_and_among_equals_whoever_came_first() {
        let (length, at) = (Gauge::default(), BootInstant::from_millis);
        let queue = Queue::new(length.clone());
        let now = Instant::now();
        let join = |id: &str, expires_at| queue.join(&key(id), at(expires_at), now, now + SOON);
        let (late, early, also) = (join("late", 2_000), join("early", 1_000), join("also", 1_000));
        assert_eq!(length.get(), 3);
        for (turn, rest) in [(&early, [&late, &also]), (&early, [&also, &late])] {
            assert!(timeout(SOON, turn.come()).await.is_ok());
            for other in rest {
                assert!(timeout(SOON, other.come()).await.is_err());
            }
        }
        let waiting = tokio::spawn(async move {
            also.come().await;
            also
        });
        tokio::task::yield_now().await;
        drop(early);
        let also = timeout(Duration::from_secs(5), waiting).await.expect("it moves up").expect("no panic");
        assert!(timeout(SOON, late.come()).await.is_err());
        drop(also);
        assert!(timeout(SOON, late.come()).await.is_ok());
        drop(late);
        assert!(queue.is_empty());
        assert_eq!(length.get(), 0);
    }

    #[tokio::test]
    async fn whoever_comes_again_soon_has_its_old_place_and_whoever_was_served_or_stays_away_has_not() {
        let queue = Queue::new(Gauge::default());
        let (now, later) = (Instant::now(), BootInstant::from_millis(2_000));
        let join = |id: &str, expires_at, now| queue.join(&key(id), expires_at, now, now + SOON);
        drop(join("first", BootInstant::from_millis(1_000), now));
        let second = join("second", BootInstant::from_millis(1_500), now);
        let again = join("first", later, now + SOON);
        assert!(timeout(SOON, again.come()).await.is_ok(), "it stood before the second");
        again.served();
        let anew = join("first", later, now + SOON);
        assert!(timeout(SOON, anew.come()).await.is_err(), "it has been served since");
        drop(second);
        assert!(timeout(SOON, anew.come()).await.is_ok());
        let third = join("third", BootInstant::from_millis(1_800), now);
        drop(third);
        let third = join("third", BootInstant::from_millis(3_000), now + SOON + KEPT);
        assert!(timeout(SOON, third.come()).await.is_err(), "it stayed away for too long");
        let twice = (join("third", later, now), join("third", later, now));
        assert_ne!(twice.0.place, twice.1.place, "a place has room for one");
    }

    #[tokio::test]
    async fn no_more_places_are_kept_than_are_worth_it_and_those_that_are_over_go() {
        let queue = Queue::new(Gauge::default());
        let now = Instant::now();
        for n in 0..=MOST_KEPT {
            drop(queue.join(&key(&format!("c-{n}")), BootInstant::default(), now, now));
        }
        assert_eq!(queue.lock().kept.len(), MOST_KEPT);
        drop(queue.join(&key("c"), BootInstant::default(), now + KEPT, now + KEPT));
        assert_eq!(queue.lock().kept.len(), 1);
    }

    fn key(id: &str) -> TokenKey {
        TokenKey::Consent(ConsentId::parse(id).expect("a valid id"))
    }
}
