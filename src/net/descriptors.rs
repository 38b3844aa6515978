//! How many files and connections this process may have open.
//!
//! A process that runs out of descriptors can neither answer a probe nor reach the bank, and an app that opens
//! connections and says nothing on them is enough to bring that about. So the limit is raised as far as it goes, and
//! apps get no more connections than leave room for everything else.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept for listeners, the store, token endpoints, probes, spills and the log.
const KEPT: usize = 48;

/// Raises this process' limit to what it may have, and gives it; `None` if there is none.
pub fn raise_limit() -> Option<usize> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // Refused: the limit stays what it was.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    let limit = if raised { maximum } else { current };
    limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// How many connections apps may have where `limit` descriptors are to be had and `wanted` connections are configured.
/// Each may need a second one, to the bank.
pub fn connections(wanted: usize, limit: Option<usize>) -> usize {
    limit.map_or(wanted, |limit| wanted.min(limit.saturating_sub(KEPT) / 2).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_get_what_is_left_and_never_nothing() {
        assert_eq!(connections(1_024, None), 1_024);
        assert_eq!(connections(1_024, Some(1_048_576)), 1_024);
        assert_eq!(connections(1_024, Some(1_024)), 488);
        assert_eq!(connections(1_024, Some(64)), 8);
        assert_eq!(connections(1_024, Some(10)), 1);
    }

    #[test]
    fn the_limit_is_raised_to_what_the_process_may_have() {
        let maximum = getrlimit(Resource::Nofile).maximum;
        assert_eq!(raise_limit(), maximum.map(|maximum| usize::try_from(maximum).expect("fits")));
        assert_eq!(getrlimit(Resource::Nofile).current, maximum);
    }
}
