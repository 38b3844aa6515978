//! The decisions on a provider's record, as pure functions.
//!
//! The embedded store runs these; the Redis store runs the same decisions as Lua scripts, one per step, in
//! `redis/lua/provider`. `now` is the store's clock in milliseconds.
//!
//! The breaker opens after five failures in a row, whoever met them; then one request at a time may try, the canary, and
//! only its success closes it. A refusal of a refresh token (`invalid_grant`) is no failure of the bank: alone it suspends
//! its consent. But when three consents are refused within a minute and nothing that was sent in between is accepted,
//! it is taken for a fault of ours that meets everybody: the breaker opens, and those that were suspended for it are
//! pardoned. After the next success each of them is tried once more, and suspended if it is refused again.

use std::time::Duration;

use super::record::{Frozen, Listed, Permit, ProviderRecord};
use crate::store::contract::{
    BreakerClass, Freeze, Lesson, Limits, Opened, PermitAnswer, PermitAsk, Refusal, Report, Reported, Stage, Suspect,
    Verdict,
};
use crate::store::steps::span;
use crate::words::ids::{AttemptId, TokenKey};

/// So many failures in a row open the breaker.
pub const FAILURES: u32 = 5;
/// So many consents refused within [`WINDOW`] open the breaker.
pub const REFUSED: usize = 3;
/// How long a consent that was refused alone may be joined by others, in milliseconds.
pub const WINDOW: u64 = 60_000;
/// How long the breaker stays open at first and at most, and after any jitter at least.
const OPEN: (u64, u64, u64) = (1_000, 60_000, 100);
/// For so long after an opening is over, only somebody who waits and has not tried lately may try.
const PREFERENCE: u64 = 1_000;
/// For so long after somebody who waits found no room, nobody gets any who does not.
const HUNGER: u64 = 1_000;
/// The window that requests are counted in.
const SECOND: u64 = 1_000;
/// When to ask again for room that nobody knows when to expect.
const ASK_AGAIN: u64 = 100;
/// How long no permit can last from now: what stands for longer was written before the clock was set back.
const LONGEST: u64 = 60_000;
/// Tokens that a breaker remembers to have been tried with.
pub const MOST_CANARIES: usize = 8;
/// Suspects that a record holds.
pub const MOST_SUSPECTS: usize = 64;

/// Why the breaker is open when everybody's refresh token is refused.
pub const ALL_REFUSED: &str = "all_refused";
/// Why it is open when the bank wants to be left alone.
const RATE_LIMITED: &str = "rate_limited";

/// Grants as many of the wanted permits as there is room for.
pub fn permits(record: &mut ProviderRecord, now: u64, ask: &PermitAsk) -> PermitAnswer {
    forget_the_past(record, now);
    if let Some(freeze) = record.frozen_at(now) {
        return PermitAnswer::Frozen(freeze);
    }
    let mut most = ask.wanted.len();
    if let Some(opened) = record.opened_at(now) {
        // That refresh tokens are refused says nothing about our client's own tokens.
        let refusing = record.why == ALL_REFUSED;
        most = ask.wanted.iter().take_while(|wanted| refusing && is_client(&wanted.key)).count();
        if most == 0 {
            return try_one(record, now, ask, &opened);
        }
    }
    let hunger = (record.hungry_at + HUNGER).saturating_sub(now);
    if !ask.waiting && hunger > 0 {
        return PermitAnswer::Full(Duration::from_millis(hunger));
    }
    let life = span(ask.life);
    let mut granted = 0;
    for wanted in ask.wanted.iter().take(most) {
        if !record.permits.iter().any(|permit| permit.id == wanted.permit) {
            if room_in(record, now, ask.limits) > 0 {
                break;
            }
            grant(record, now, &wanted.permit, life);
        }
        granted += 1;
    }
    if ask.waiting && granted < most {
        record.hungry_at = now;
    }
    match granted {
        0 => PermitAnswer::Full(Duration::from_millis(room_in(record, now, ask.limits))),
        granted => PermitAnswer::Granted(0..granted),
    }
}

/// An opening that is over lets one request through: the canary.
fn try_one(record: &mut ProviderRecord, now: u64, ask: &PermitAsk, opened: &Opened) -> PermitAnswer {
    let closed_for = |wait| PermitAnswer::Open(Opened { wait: Duration::from_millis(wait), ..opened.clone() });
    if now < record.open_until {
        return closed_for(record.open_until - now);
    }
    if let Some(canary) = record.canary.as_ref().filter(|canary| canary.until > now) {
        let own = ask.wanted.iter().position(|wanted| wanted.permit == canary.id);
        return own.map_or_else(|| closed_for(SECOND), |at| PermitAnswer::Granted(at..at + 1));
    }
    let choosy = now < record.open_until + PREFERENCE;
    let fresh = ask.wanted.iter().position(|wanted| !record.canaries.contains(&wanted.key));
    let chosen = if choosy { fresh.filter(|_| ask.waiting) } else { fresh.or(Some(0)) };
    let Some(at) = chosen.filter(|at| *at < ask.wanted.len()) else {
        return closed_for((record.open_until + PREFERENCE).saturating_sub(now));
    };
    let wait = room_in(record, now, ask.limits);
    if wait > 0 {
        return PermitAnswer::Full(Duration::from_millis(wait));
    }
    let wanted = &ask.wanted[at];
    grant(record, now, &wanted.permit, span(ask.life));
    record.canary = record.permits.last().cloned();
    record.canaries.retain(|key| *key != wanted.key);
    record.canaries.push(wanted.key.clone());
    keep_last(&mut record.canaries, MOST_CANARIES);
    PermitAnswer::Granted(at..at + 1)
}

/// Prolongs a permit while the bank thinks. One that the store has forgotten is remembered again.
pub fn renew(record: &mut ProviderRecord, now: u64, permit: &AttemptId, life: Duration) {
    forget_the_past(record, now);
    let until = now + span(life);
    if let Some(canary) = record.canary.as_mut().filter(|canary| canary.id == *permit) {
        canary.until = until;
    }
    match record.permits.iter_mut().find(|held| held.id == *permit) {
        Some(held) => held.until = until,
        None => record.permits.push(Permit { id: permit.clone(), at: now, until }),
    }
}

/// Takes a permit back, and learns from what it was used for.
pub fn report(record: &mut ProviderRecord, now: u64, report: &Report) -> Reported {
    let held = record.permits.iter().position(|permit| permit.id == report.permit);
    let held = held.map(|at| record.permits.remove(at));
    if held.is_some() && report.lesson != Lesson::Unused {
        record.sent.retain(|at| at.abs_diff(now) < SECOND);
        record.sent.push(now);
    }
    let is_canary = record.canary.take_if(|canary| canary.id == report.permit).is_some();
    let noted = Reported { verdict: Verdict::Noted, pardoned: Vec::new() };
    match &report.lesson {
        Lesson::Unused => noted,
        Lesson::Neutral => {
            if is_canary {
                open(record, now, report.spread);
            }
            noted
        }
        Lesson::Succeeded => {
            let pardoned = succeeded(record, &report.key, held.map(|permit| permit.at), is_canary);
            Reported { verdict: Verdict::Noted, pardoned }
        }
        // Of a permit that was given back before this is a repetition.
        Lesson::Failed(class, why) => {
            if held.is_some() {
                failed(record, now, (*class, why), report.spread, is_canary);
            }
            noted
        }
        Lesson::Held(wait) => {
            if held.is_some() {
                blame(record, BreakerClass::Unavailable, RATE_LIMITED);
                record.opened = record.opened.max(1);
                record.open_until = record.open_until.max(now + span(*wait).min(OPEN.1));
            }
            noted
        }
        Lesson::Refused(refusal) => refused(record, now, report, *refusal, is_canary),
    }
}

/// Freezes, or thaws whatever was frozen. An order takes the place of a freeze with its reason, and of no other; over what
/// freezes a provider only once it has no effect a second time.
pub fn freeze(record: &mut ProviderRecord, now: u64, order: Option<&Freeze>) {
    let Some(order) = order else { return record.freezes.clear() };
    if let Some(over) = &order.over {
        if record.frozen_over.as_ref() == Some(over) {
            return;
        }
        record.frozen_over = Some(over.clone());
    }
    record.freezes.retain(|frozen| frozen.reason != order.reason);
    record.freezes.push(Frozen {
        reason: order.reason,
        by: order.by.clone(),
        why: order.why.clone().filter(|why| !why.is_empty()),
        at: now,
    });
    record.freezes.sort_by_key(|frozen| std::cmp::Reverse(frozen.reason));
}

fn failed(record: &mut ProviderRecord, now: u64, what: (BreakerClass, &str), spread: u16, is_canary: bool) {
    if record.opened > 0 {
        if is_canary {
            blame(record, what.0, what.1);
            open(record, now, spread);
        }
        return;
    }
    record.failures = record.failures.saturating_add(1);
    if record.failures >= FAILURES {
        blame(record, what.0, what.1);
        open(record, now, spread);
    }
}

/// The breaker closes on its canary's success alone: what else comes back meanwhile was sent before it opened.
fn succeeded(record: &mut ProviderRecord, key: &TokenKey, since: Option<u64>, is_canary: bool) -> Vec<Suspect> {
    record.failures = 0;
    let was_open = record.opened > 0;
    if was_open && !is_canary {
        return Vec::new();
    }
    record.opened = 0;
    record.open_until = 0;
    record.class = None;
    record.why.clear();
    record.canaries.clear();
    if is_client(key) {
        return Vec::new();
    }
    // What was sent before a refusal says nothing about it.
    let outlived = |listed: &Listed| since.is_some_and(|since| listed.at <= since);
    record
        .suspects
        .retain(|listed| listed.suspect.key != *key && (listed.suspect.stage != Stage::Listed || !outlived(listed)));
    for listed in record.suspects.iter_mut().filter(|listed| listed.suspect.stage == Stage::Spared) {
        listed.suspect.stage = Stage::Retry;
    }
    if was_open { record.in_stage(Stage::Retry) } else { Vec::new() }
}

fn refused(record: &mut ProviderRecord, now: u64, report: &Report, refusal: Refusal, is_canary: bool) -> Reported {
    record.suspects.retain(|listed| listed.suspect.stage != Stage::Listed || now.saturating_sub(listed.at) < WINDOW);
    let known = record.suspects.iter().position(|listed| listed.suspect.key == report.key);
    let before = known.map(|at| record.suspects.remove(at));
    let is_repeated = before
        .as_ref()
        .is_some_and(|before| before.suspect.refusal == refusal && before.suspect.attempt == report.permit);
    let stage_before = before.as_ref().map(|before| before.suspect.stage);
    let refusing = record.opened > 0 && record.why == ALL_REFUSED;
    if is_canary {
        open(record, now, report.spread);
    }
    if stage_before == Some(Stage::Retry) && !refusing && !is_repeated {
        return Reported { verdict: Verdict::Suspend, pardoned: Vec::new() };
    }
    let stage = match stage_before.filter(|_| is_repeated) {
        Some(stage) => stage,
        None if record.opened > 0 => Stage::Spared,
        None => Stage::Listed,
    };
    let suspect = Suspect { key: report.key.clone(), attempt: report.permit.clone(), refusal, stage };
    record.suspects.push(Listed { at: now, suspect });
    keep_last(&mut record.suspects, MOST_SUSPECTS);
    let listed = record.suspects.iter().filter(|listed| listed.suspect.stage == Stage::Listed).count();
    if record.opened == 0 && listed >= REFUSED {
        blame(record, BreakerClass::Misconfigured, ALL_REFUSED);
        open(record, now, report.spread);
        for listed in record.suspects.iter_mut().filter(|listed| listed.suspect.stage == Stage::Listed) {
            listed.suspect.stage = Stage::Spared;
        }
    }
    match record.suspects.last().map(|listed| listed.suspect.stage) {
        Some(Stage::Spared | Stage::Retry) => {
            Reported { verdict: Verdict::Spare, pardoned: record.in_stage(Stage::Spared) }
        }
        Some(Stage::Listed) | None => Reported { verdict: Verdict::Suspend, pardoned: Vec::new() },
    }
}

/// That everybody is refused is not forgotten over a bank that cannot be reached meanwhile.
fn blame(record: &mut ProviderRecord, class: BreakerClass, why: &str) {
    if record.opened == 0 || record.why != ALL_REFUSED {
        record.class = Some(class);
        why.clone_into(&mut record.why);
    }
}

/// Opens the breaker, for longer with every time in a row.
fn open(record: &mut ProviderRecord, now: u64, spread: u16) {
    let (first, most, least) = OPEN;
    let full = (first << record.opened.min(6)).min(most);
    record.opened = record.opened.saturating_add(1);
    record.open_until = now + (full * u64::from(spread.min(999)) / 999).max(least);
}

fn grant(record: &mut ProviderRecord, now: u64, id: &AttemptId, life: u64) {
    record.permits.push(Permit { id: id.clone(), at: now, until: now + life });
}

/// How long to wait for room, in milliseconds; zero, there is some.
///
/// Nobody here knows when a request arrives at the bank: at some time between its permit and the report of its end. Only
/// if it counts from the one until a second after the other, the bank itself never sees too many within a second.
fn room_in(record: &ProviderRecord, now: u64, limits: Limits) -> u64 {
    let (in_flight, per_second) = (limits.in_flight.max(1) as usize, limits.per_second.max(1) as usize);
    if record.permits.len() >= in_flight {
        return ASK_AGAIN;
    }
    let Some(too_many) = (record.permits.len() + record.sent.len()).checked_sub(per_second) else { return 0 };
    record.sent.get(too_many).map_or(ASK_AGAIN, |at| (at + SECOND).saturating_sub(now).max(1))
}

/// Drops permits that have run out and sends that count no more, and what a clock that was set back left in the future.
fn forget_the_past(record: &mut ProviderRecord, now: u64) {
    record.permits.retain(|permit| permit.until > now && permit.until <= now + LONGEST);
    record.canary.take_if(|canary| canary.until <= now || canary.until > now + LONGEST);
    record.sent.retain(|at| at.abs_diff(now) < SECOND);
    record.open_until = record.open_until.min(now + OPEN.1);
    if record.hungry_at > now {
        record.hungry_at = 0;
    }
}

const fn is_client(key: &TokenKey) -> bool {
    matches!(key, TokenKey::Client(_))
}

fn keep_last<T>(list: &mut Vec<T>, most: usize) {
    let too_many = list.len().saturating_sub(most);
    list.drain(..too_many);
}
