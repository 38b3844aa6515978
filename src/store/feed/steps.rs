//! TAKE and MOVE, as the Lua scripts under `redis/lua/feed` decide them, too. Times are milliseconds of the store's clock.

use std::time::Duration;

use super::FeedRecord;
use crate::store::contract::{MoveFeed, MoveFeedOutcome, TakeFeed, TakeFeedOutcome};
use crate::store::steps::span;

/// A lease that ends later than this was written before the clock was set back.
const LONGEST: u64 = 86_400_000;

/// Asks for the right to read.
pub fn take(record: &mut FeedRecord, now: u64, take: &TakeFeed) -> TakeFeedOutcome {
    let leased = record.until > now && record.until <= now + LONGEST;
    let own = record.reader.as_ref() == Some(&take.by);
    if leased && !own {
        return TakeFeedOutcome::Busy(Duration::from_millis(record.until - now));
    }
    if !(leased && own) {
        record.fence += 1;
        record.reader = Some(take.by.clone());
    }
    record.until = now + span(take.life);
    let idle = record.moved_at.map(|at| Duration::from_millis(now.saturating_sub(at)));
    TakeFeedOutcome::Taken { fence: record.fence, position: record.position, idle }
}

/// Moves the position. That the lease has run out does not matter while nobody else has taken it.
pub fn advance(record: &mut FeedRecord, now: u64, moved: &MoveFeed) -> MoveFeedOutcome {
    let holds = record.reader.as_ref() == Some(&moved.by) && record.fence == moved.fence;
    if !holds || record.position != moved.from && record.position != Some(moved.to) {
        return MoveFeedOutcome::Lost;
    }
    record.position = Some(moved.to);
    record.moved_at = Some(now);
    record.until = now + span(moved.life);
    MoveFeedOutcome::Moved
}
