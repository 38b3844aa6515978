//! Customers between a bank's pages. A visit goes on only in the browser that began it: its cookie must come back.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::answers::random_text;
use crate::words::clock::BootInstant;

/// Visits remembered at most; of more the oldest is over.
const MAX_VISITS: usize = 1_000;
/// How long a customer may take.
const LIFE: Duration = Duration::from_secs(15 * 60);
/// Characters of the cookie and of a visit's name.
const NAME_LENGTH: usize = 28;

/// The visits that are under way, each with what `T` tells of it.
pub(super) struct Visits<T> {
    visits: HashMap<String, Visit<T>>,
    begun: VecDeque<String>,
}

struct Visit<T> {
    cookie: String,
    ends: BootInstant,
    of: T,
}

/// A visit that has begun: its name, which goes into the path of its pages, and the cookie that must come back.
pub(super) struct Begun {
    pub(super) name: String,
    pub(super) cookie: String,
}

/// There is no such visit, it is over, or the cookie is not its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost;

impl<T> Default for Visits<T> {
    fn default() -> Self {
        Self { visits: HashMap::new(), begun: VecDeque::new() }
    }
}

impl<T> Visits<T> {
    /// Begins a visit. A browser that is on another visit keeps its cookie, so that two windows do not disturb each
    /// other; any other cookie is replaced.
    pub(super) fn begin(&mut self, now: BootInstant, cookie: Option<&str>, of: T) -> Begun {
        let own = |sent: &&str| self.visits.values().any(|visit| visit.cookie == *sent && now < visit.ends);
        let cookie = cookie.filter(own).map_or_else(|| random_text(NAME_LENGTH), str::to_owned);
        let name = random_text(NAME_LENGTH);
        self.visits.insert(name.clone(), Visit { cookie: cookie.clone(), ends: now.plus(LIFE), of });
        self.begun.push_back(name.clone());
        if self.begun.len() > MAX_VISITS
            && let Some(oldest) = self.begun.pop_front()
        {
            self.visits.remove(&oldest);
        }
        Begun { name, cookie }
    }

    /// The visit of this name.
    pub(super) fn find(&mut self, now: BootInstant, name: &str, cookie: Option<&str>) -> Result<&mut T, Lost> {
        let visit = self.visits.get_mut(name).filter(|visit| now < visit.ends && cookie == Some(&visit.cookie));
        visit.map(|visit| &mut visit.of).ok_or(Lost)
    }

    /// Ends a visit.
    pub(super) fn end(&mut self, name: &str) {
        self.visits.remove(name);
        self.begun.retain(|begun| begun != name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: BootInstant = BootInstant::from_millis(1_000);

    #[test]
    fn a_visit_goes_on_with_its_cookie_within_its_time_and_once() {
        let mut visits = Visits::default();
        let Begun { name, cookie } = visits.begin(NOW, None, 7);
        assert_eq!(visits.find(NOW, &name, Some(&cookie)), Ok(&mut 7));
        assert_eq!(visits.find(NOW, &name, None), Err(Lost));
        assert_eq!(visits.find(NOW, &name, Some("other")), Err(Lost));
        assert_eq!(visits.find(NOW.plus(LIFE), &name, Some(&cookie)), Err(Lost));
        visits.end(&name);
        assert_eq!(visits.find(NOW, &name, Some(&cookie)), Err(Lost));
    }

    #[test]
    fn a_browser_keeps_its_cookie_over_two_windows_and_brings_none_of_its_own() {
        let mut visits = Visits::default();
        let first = visits.begin(NOW, Some("brought along"), 1);
        assert_ne!(first.cookie, "brought along");
        let second = visits.begin(NOW, Some(&first.cookie), 2);
        assert_eq!(first.cookie, second.cookie);
        assert_eq!(visits.find(NOW, &first.name, Some(&second.cookie)), Ok(&mut 1));
    }

    #[test]
    fn visits_are_bounded() {
        let mut visits = Visits::default();
        let first = visits.begin(NOW, None, 0);
        for number in 0..MAX_VISITS {
            visits.begin(NOW, None, number);
        }
        assert_eq!(visits.find(NOW, &first.name, Some(&first.cookie)), Err(Lost));
        assert_eq!((visits.visits.len(), visits.begun.len()), (MAX_VISITS, MAX_VISITS));
    }
}
