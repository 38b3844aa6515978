//! What has happened to consents, for those who listen: the last events that this process heard of, and each that comes.
//!
//! Every replica hears of the events of all, through the store's changes, and keeps the last of them. Whoever comes back
//! with the name of the event that he heard last is told what came after it, as far as that is kept; an event may be told
//! twice, and keeps its name. While changes do not arrive nobody knows what happens: what was kept is dropped then, so that
//! nobody takes what follows for all there was.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;

use crate::store::News;

/// Events that are kept, and that a listener may be behind.
const KEPT: usize = 1_024;
/// Replicas may hear of the events of different consents in another order. By so much, in milliseconds, at most.
const OUT_OF_ORDER: u64 = 5_000;

/// What a listener is told.
#[derive(Clone, Debug)]
pub enum Told {
    /// Something has happened.
    News(Arc<News>),
    /// Something may have happened of which nobody here heard.
    Gap,
}

/// Someone who listens.
#[derive(Debug)]
pub struct Listening {
    /// What comes first: what was missed.
    pub missed: Vec<Arc<News>>,
    /// Whether that is all since the event that was named; false if none was, or it is not kept.
    pub is_whole: bool,
    /// What happens from now on. One who is too slow is told that he has missed something.
    pub told: broadcast::Receiver<Told>,
}

#[derive(Debug)]
pub(super) struct Newsroom {
    kept: Mutex<VecDeque<(String, Arc<News>)>>,
    most: usize,
    listeners: broadcast::Sender<Told>,
}

impl Newsroom {
    pub(super) fn new() -> Self {
        Self::keeping(KEPT)
    }

    fn keeping(most: usize) -> Self {
        Self { kept: Mutex::default(), most, listeners: broadcast::channel(most).0 }
    }

    pub(super) fn happened(&self, news: News) {
        let news = Arc::new(news);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= self.most {
            kept.pop_front();
        }
        kept.push_back((news.id(), Arc::clone(&news)));
        // Nobody may be listening.
        let _ = self.listeners.send(Told::News(news));
    }

    /// Changes may have been missed.
    pub(super) fn blind(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clear();
        let _ = self.listeners.send(Told::Gap);
    }

    pub(super) fn listen(&self, last: Option<&str>) -> Listening {
        // Held until the listener is entered, so that nothing falls between the two.
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let known = last.and_then(|last| kept.iter().find(|(id, _)| id == last));
        let missed = known.map(|(last, known)| {
            let from = known.event.at.as_millis().saturating_sub(OUT_OF_ORDER);
            let after = kept.iter().skip_while(|(id, _)| id != last).skip(1).map(|(_, news)| news);
            let early = kept.iter().take_while(|(id, _)| id != last).map(|(_, news)| news);
            let early = early.filter(|news| news.event.at.as_millis() >= from);
            early.chain(after).cloned().collect()
        });
        Listening { is_whole: missed.is_some(), missed: missed.unwrap_or_default(), told: self.listeners.subscribe() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Event, EventKind, RecordState};
    use crate::words::clock::WallTime;
    use crate::words::ids::{ConsentId, GrantId, ProviderId, Version};
    use crate::words::said::Said;

    fn news(at: u64) -> News {
        let event = Event {
            at: WallTime::from_millis(at),
            kind: EventKind::Committed,
            fence: at,
            version: Version::first(GrantId::random()),
            why: None,
            said: Said::default(),
            until: None,
            attempt: None,
        };
        let (consent, provider) = (ConsentId::parse("c-1").unwrap(), ProviderId::parse("bank").unwrap());
        News { consent, provider, state: RecordState::Active, event }
    }

    fn times(listening: &Listening) -> Vec<u64> {
        listening.missed.iter().map(|news| news.event.at.as_millis()).collect()
    }

    #[test]
    fn who_names_the_last_event_is_told_what_came_after_it_and_what_may_have_come_in_another_order() {
        let room = Newsroom::keeping(8);
        let all: Vec<_> = [100_000, 200_000, 202_000, 203_000, 201_000].map(news).into();
        for news in &all {
            room.happened(news.clone());
        }
        let listening = room.listen(Some(&all[2].id()));
        assert!(listening.is_whole);
        assert_eq!(times(&listening), [200_000, 203_000, 201_000]);
        for unknown in [None, Some("1-2")] {
            let listening = room.listen(unknown);
            assert!(!listening.is_whole && listening.missed.is_empty(), "{unknown:?}");
        }
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for_and_nothing_over_a_time_of_blindness() {
        let room = Newsroom::keeping(3);
        let all: Vec<_> = (1..=9).map(|n| news(n * 100_000)).collect();
        for news in &all {
            room.happened(news.clone());
        }
        assert_eq!(room.kept.lock().unwrap().len(), 3);
        assert!(!room.listen(Some(&all[0].id())).is_whole, "it made room");
        assert!(room.listen(Some(&all[8].id())).is_whole);
        let mut listening = room.listen(None);
        room.blind();
        assert!(matches!(listening.told.try_recv(), Ok(Told::Gap)));
        assert!(!room.listen(Some(&all[8].id())).is_whole);
    }
}
