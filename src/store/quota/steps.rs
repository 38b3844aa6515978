//! The steps of a quota.

use std::time::Duration;

use super::QuotaRecord;
use super::record::Counted;
use crate::store::contract::{Refund, Spend, SpendOutcome, Window};
use crate::store::steps::span;

/// A call that is this far ahead of the clock was counted before the clock was set back. How long ago that was is not
/// known, and it counts no more.
const CLOCK_TOLERANCE: u64 = 5_000;

/// The stretch of time in which calls count now.
struct Stretch {
    from: u64,
    length: u64,
    /// When it ends for all of them at once.
    end: Option<u64>,
}

impl Stretch {
    fn at(now: u64, window: Window) -> Self {
        match window {
            Window::Sliding(length) => {
                let length = span(length).max(1);
                Self { from: (now + 1).saturating_sub(length), length, end: None }
            }
            Window::Fixed { length, offset } => {
                let length = span(length).max(1);
                let from = now - (now + length - span(offset) % length) % length;
                Self { from, length, end: Some(from + length) }
            }
        }
    }

    fn holds(&self, at: u64, now: u64) -> bool {
        self.from <= at && at <= now + CLOCK_TOLERANCE
    }
}

/// Counts a call, if there is room for it.
pub fn spend(record: &mut QuotaRecord, now: u64, spend: &Spend) -> SpendOutcome {
    let stretch = Stretch::at(now, spend.window);
    let known = record.groups.get(&spend.group).map(Vec::as_slice).unwrap_or_default();
    let counted_before = known.iter().any(|counted| counted.call == spend.call);
    let mut calls: Vec<Counted> = known.iter().filter(|counted| stretch.holds(counted.at, now)).copied().collect();
    let most = usize::try_from(spend.most).unwrap_or(usize::MAX);
    let remaining = |calls: &[Counted]| u32::try_from(most.saturating_sub(calls.len())).unwrap_or(u32::MAX);
    if counted_before {
        return SpendOutcome::Counted { remaining: remaining(&calls) };
    }
    if calls.len() >= most {
        let mut times: Vec<_> = calls.iter().map(|counted| counted.at).collect();
        times.sort_unstable();
        let leaves = times.get(calls.len() - most).map_or(now, |at| at + stretch.length);
        let until = stretch.end.unwrap_or(leaves).saturating_sub(now).max(1);
        return SpendOutcome::Exhausted { until: Duration::from_millis(until) };
    }
    make_room(record, now, spend, stretch.length);
    calls.push(Counted { at: now, call: spend.call });
    let outcome = SpendOutcome::Counted { remaining: remaining(&calls) };
    record.groups.insert(spend.group, calls);
    record.until = now + stretch.length;
    outcome
}

/// Drops what counts no more, and if there are too many groups all the same, the one that was counted in longest ago.
fn make_room(record: &mut QuotaRecord, now: u64, spend: &Spend, length: u64) {
    let last = |calls: &[Counted]| calls.iter().map(|counted| counted.at).max().unwrap_or(0);
    record.groups.retain(|_, calls| {
        let last = last(calls);
        last + length > now && last <= now + CLOCK_TOLERANCE
    });
    if record.groups.len() >= Spend::MOST_GROUPS && !record.groups.contains_key(&spend.group) {
        let oldest = record.groups.iter().map(|(group, calls)| (last(calls), *group)).min();
        if let Some((_, oldest)) = oldest {
            record.groups.remove(&oldest);
        }
    }
}

/// Takes a call back.
pub fn refund(record: &mut QuotaRecord, refund: &Refund) {
    let Some(calls) = record.groups.get_mut(&refund.group) else { return };
    calls.retain(|counted| counted.call != refund.call);
    if calls.is_empty() {
        record.groups.remove(&refund.group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::ids::{CallId, QuotaGroup, random};

    const DAY: Duration = Duration::from_secs(86_400);
    const HOUR: u64 = 3_600_000;
    /// Midnight, in UTC.
    const MIDNIGHT: u64 = 20_000 * 24 * HOUR;

    fn call(window: Window) -> Spend {
        Spend { group: QuotaGroup::of("one"), call: CallId::from_random(random()), most: 1, window }
    }

    fn until(outcome: SpendOutcome) -> Option<u64> {
        match outcome {
            SpendOutcome::Counted { .. } => None,
            SpendOutcome::Exhausted { until } => Some(u64::try_from(until.as_millis()).expect("short")),
        }
    }

    #[test]
    fn a_day_ends_when_it_was_said_to_and_not_a_day_after_the_call() {
        let day = |begins: u64| Window::Fixed { length: DAY, offset: Duration::from_millis(begins * HOUR) };
        for (begins, made, asked, left) in [
            (0, MIDNIGHT, MIDNIGHT + 24 * HOUR - 1, Some(1)),
            (0, MIDNIGHT - 1, MIDNIGHT, None),
            (23, MIDNIGHT, MIDNIGHT + 22 * HOUR, Some(HOUR)),
            (23, MIDNIGHT, MIDNIGHT + 23 * HOUR, None),
        ] {
            let mut record = QuotaRecord::default();
            assert_eq!(until(spend(&mut record, made, &call(day(begins)))), None);
            assert_eq!(until(spend(&mut record, asked, &call(day(begins)))), left, "{begins} {made} {asked}");
        }
    }

    #[test]
    fn any_day_long_stretch_holds_no_more_than_may_be() {
        let mut record = QuotaRecord::default();
        let call = || call(Window::Sliding(DAY));
        assert_eq!(until(spend(&mut record, MIDNIGHT, &call())), None);
        assert_eq!(until(spend(&mut record, MIDNIGHT + 24 * HOUR - 1, &call())), Some(1));
        assert_eq!(until(spend(&mut record, MIDNIGHT + 24 * HOUR, &call())), None);
    }

    #[test]
    fn what_was_counted_before_the_clock_was_set_back_counts_no_more() {
        let mut record = QuotaRecord::default();
        let call = || call(Window::Sliding(DAY));
        assert_eq!(until(spend(&mut record, MIDNIGHT, &call())), None);
        assert_eq!(until(spend(&mut record, MIDNIGHT - CLOCK_TOLERANCE, &call())), Some(24 * HOUR + CLOCK_TOLERANCE));
        assert_eq!(until(spend(&mut record, MIDNIGHT - HOUR, &call())), None);
    }

    #[test]
    fn a_record_holds_so_many_groups_and_no_more() {
        let mut record = QuotaRecord::default();
        for number in 0..1_000 {
            let group = QuotaGroup::of(&number.to_string());
            spend(&mut record, MIDNIGHT + number, &Spend { group, ..call(Window::Sliding(DAY)) });
        }
        assert_eq!(record.groups.len(), Spend::MOST_GROUPS);
        assert!(
            record.groups.contains_key(&QuotaGroup::of("999")) && !record.groups.contains_key(&QuotaGroup::of("900"))
        );
    }
}
