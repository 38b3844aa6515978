//! How long an answer was on its way, and what that leaves of a token's life.
//!
//! The bank may have counted from any moment between our sending and its answer. A slow bank and a process that stood
//! still (a debugger, a suspended machine, a starved container) look the same from the end, and are not: the bank counts
//! on while we stand still. So whoever waits looks at the clock now and then.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::sleep;

use crate::words::clock::{BootInstant, Clock};

/// How often the clock is looked at during the wait.
const LOOK: Duration = Duration::from_millis(500);
/// A look that comes this long after the one before comes late because the process stood still.
const STILL: Duration = Duration::from_secs(1);

/// A wait for an answer of the bank.
#[derive(Clone, Copy, Debug)]
pub struct UnderWay {
    /// From just before the request was sent until its answer was read.
    pub whole: Duration,
    /// The part of it in which this process stood still.
    pub stood_still: Duration,
    /// When the answer had been read.
    pub read_at: BootInstant,
}

impl UnderWay {
    /// What is left of a token's `life` when the answer had been read. All of the wait is taken off. Of the time that the
    /// bank took, though, half the life at most: a bank that is slower than its tokens live would else be asked for one
    /// after the other, none of them ever used.
    pub(super) fn remaining(&self, life: Duration) -> Duration {
        let answering = self.whole.saturating_sub(self.stood_still);
        life.saturating_sub(self.stood_still).saturating_sub(answering.min(life / 2))
    }
}

/// Does `work`, which sends a request and reads its answer, and says how long that took.
pub async fn timed<T>(clock: &impl Clock, work: impl Future<Output = T>) -> (T, UnderWay) {
    let began = clock.boot();
    let (mut looked, mut stood_still) = (began, Duration::ZERO);
    let mut work = pin!(work);
    loop {
        let done = tokio::select! {
            biased;
            done = &mut work => Some(done),
            () = sleep(LOOK) => None,
        };
        let now = clock.boot();
        let since = now.since(looked);
        if since >= STILL {
            stood_still += since;
        }
        looked = now;
        if let Some(done) = done {
            return (done, UnderWay { whole: now.since(began), stood_still, read_at: now });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::clock::{ManualClock, WallTime};

    const LIFE: Duration = Duration::from_secs(60);

    /// What is left after a bank that took so long, and a process that then stood still for so long.
    async fn after(answering: Duration, still: Duration) -> Duration {
        let clock = ManualClock::new(WallTime::from_millis(0));
        let bank = async {
            let steps = answering.as_millis() / LOOK.as_millis();
            for _ in 0..steps {
                sleep(LOOK / 2).await;
                clock.advance(LOOK / 2);
                sleep(LOOK / 2).await;
                clock.advance(LOOK / 2);
            }
            clock.advance(still);
        };
        let ((), under_way) = timed(&clock, bank).await;
        assert_eq!(under_way.whole, answering + still);
        under_way.remaining(LIFE)
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_bank_took_is_taken_off() {
        assert_eq!(after(Duration::from_secs(20), Duration::ZERO).await, Duration::from_secs(40));
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_token_that_a_slow_bank_has_let_grow_old_half_the_life_is_used() {
        assert_eq!(after(Duration::from_secs(90), Duration::ZERO).await, LIFE / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_stood_still_takes_all_of_that_off() {
        assert!(after(Duration::from_secs(5), Duration::from_secs(40)).await <= Duration::from_secs(15));
        assert_eq!(after(Duration::from_secs(10), Duration::from_secs(90)).await, Duration::ZERO);
    }
}
