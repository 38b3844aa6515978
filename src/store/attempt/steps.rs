//! The steps of an attempt. A slot is a record or its absence; one whose time is over counts as absent.

use super::AttemptRecord;
use crate::store::contract::{
    AttemptStage, Bind, BindOutcome, Claim, ClaimOutcome, ClaimTo, Open, Settle, SettleOutcome,
};
use crate::store::steps::span;

/// Writes an attempt down. The digest of a random state names one attempt alone, so one that is there already is this one.
pub fn open(slot: &mut Option<AttemptRecord>, now: u64, open: &Open) {
    slot.get_or_insert_with(|| AttemptRecord::open(open, now, span(open.life)));
}

/// Ties it to the first browser that comes.
pub fn bind(slot: &mut Option<AttemptRecord>, now: u64, bind: &Bind) -> BindOutcome {
    let Some(record) = slot else { return BindOutcome::Unknown };
    match record.stage {
        AttemptStage::Open => {
            record.browser = Some(bind.browser);
            record.move_to(AttemptStage::Bound, now, span(bind.life));
        }
        AttemptStage::Bound if record.browser == Some(bind.browser) => {}
        AttemptStage::Exchanging | AttemptStage::Over(_) if record.browser == Some(bind.browser) => {
            return BindOutcome::Used(record.snapshot(now));
        }
        AttemptStage::Bound | AttemptStage::Exchanging | AttemptStage::Over(_) => return BindOutcome::Foreign,
    }
    BindOutcome::Bound(record.snapshot(now))
}

/// Takes it over, once.
pub fn claim(slot: &mut Option<AttemptRecord>, now: u64, claim: &Claim) -> ClaimOutcome {
    let Some(record) = slot else { return ClaimOutcome::Unknown };
    if record.browser != Some(claim.browser) {
        return ClaimOutcome::Foreign;
    }
    let own = record.by.as_ref() == Some(&claim.by);
    match (&record.stage, &claim.to) {
        (AttemptStage::Open, _) => return ClaimOutcome::Foreign,
        (AttemptStage::Bound, to) => {
            let stage = match to {
                ClaimTo::Exchange => AttemptStage::Exchanging,
                ClaimTo::End(outcome) => AttemptStage::Over(outcome.clone()),
            };
            record.by = Some(claim.by.clone());
            record.move_to(stage, now, span(claim.life));
        }
        (AttemptStage::Exchanging, ClaimTo::Exchange) | (AttemptStage::Over(_), ClaimTo::End(_)) if own => {}
        (AttemptStage::Exchanging, _) => return ClaimOutcome::Busy(record.snapshot(now)),
        (AttemptStage::Over(_), _) => return ClaimOutcome::Over(record.snapshot(now)),
    }
    ClaimOutcome::Claimed(record.snapshot(now))
}

/// Writes down how an exchange ended.
pub fn settle(slot: &mut Option<AttemptRecord>, now: u64, settle: &Settle) -> SettleOutcome {
    let Some(record) = slot.as_mut().filter(|record| record.by.as_ref() == Some(&settle.by)) else {
        return SettleOutcome::Lost;
    };
    match &record.stage {
        AttemptStage::Exchanging => {
            record.move_to(AttemptStage::Over(settle.outcome.clone()), now, span(settle.life));
            SettleOutcome::Settled
        }
        AttemptStage::Over(outcome) if *outcome == settle.outcome => SettleOutcome::Settled,
        AttemptStage::Open | AttemptStage::Bound | AttemptStage::Over(_) => SettleOutcome::Lost,
    }
}
