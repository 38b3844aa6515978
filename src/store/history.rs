//! Which event of a consent's history a step causes.
//!
//! Derived from the record before and after the step, so that the steps themselves know nothing of it. The embedded
//! store writes what is said here; the Lua scripts of the Redis store call their own `event` in the same places, and the
//! walks of the test suite hold the two together. A step that is repeated causes nothing new: either the record is as
//! it was, or the last line says the same already.

use super::contract::{
    Arm, ArmOutcome, Await, AwaitOutcome, Begin, BeginOutcome, Commit, CommitOutcome, End, EndOutcome, Event,
    EventKind, Fail, FailOutcome, FailTo, Reassert, ReassertOutcome, RecordState, Renew, RenewOutcome, Reprieve,
    ReprieveOutcome, Restore, RestoreOutcome, Revive, ReviveOutcome, Seed, SeedOutcome, Tell,
};
use super::record::Record;
use super::steps::span;
use crate::words::clock::WallTime;
use crate::words::ids::AttemptId;
use crate::words::said::Said;

/// A record on both sides of a step that ran at `now`.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// What there was.
    pub before: Option<&'a Record>,
    /// What there is.
    pub after: Option<&'a Record>,
    /// The store's clock, in milliseconds.
    pub now: u64,
}

/// A probe that was granted, and a holder that is found to be gone.
pub fn of_begin(change: Change<'_>, begin: &Begin, outcome: &BeginOutcome) -> Vec<Event> {
    let (Some(before), Some(after)) = (change.before, change.after) else { return Vec::new() };
    let mut events = Vec::new();
    if before.state == RecordState::Armed && after.state == RecordState::Uncertain {
        events.push(Event {
            fence: before.fence,
            until: Some(WallTime::from_millis(change.now + span(begin.quarantine))),
            attempt: before.holder.clone(),
            ..change.event(after, EventKind::HolderLost)
        });
    }
    match outcome {
        BeginOutcome::Granted(lease, _) if lease.probe && before.fence != after.fence => {
            events.push(change.by(after, EventKind::ProbeGranted, &begin.attempt));
        }
        BeginOutcome::Granted(..)
        | BeginOutcome::Unknown
        | BeginOutcome::Refused(_)
        | BeginOutcome::Fresh(_)
        | BeginOutcome::Wait(..) => {}
    }
    events
}

/// An intent, and whether it is a probe's.
pub fn of_arm(change: Change<'_>, arm: &Arm, outcome: ArmOutcome) -> Vec<Event> {
    let (Some(before), Some(after)) = (change.before, change.after) else { return Vec::new() };
    match outcome {
        ArmOutcome::Armed if before.intent != after.intent => {
            let probe = before.state == RecordState::Uncertain;
            vec![change.by(after, EventKind::Armed, &arm.attempt).because(probe.then_some("probe"))]
        }
        ArmOutcome::Armed | ArmOutcome::Lost | ArmOutcome::ProbeNeeded | ArmOutcome::NotDurable { .. } => Vec::new(),
    }
}

/// A holder that came back.
pub fn of_renew(change: Change<'_>, renew: &Renew, outcome: RenewOutcome) -> Vec<Event> {
    let (Some(before), Some(after)) = (change.before, change.after) else { return Vec::new() };
    match outcome {
        RenewOutcome::Renewed if before.state == RecordState::Uncertain && after.state == RecordState::Armed => {
            vec![change.by(after, EventKind::Resumed, &renew.attempt)]
        }
        RenewOutcome::Renewed | RenewOutcome::Lost => Vec::new(),
    }
}

/// A token set that was stored, or came too late.
pub fn of_commit(change: Change<'_>, commit: &Commit, outcome: CommitOutcome) -> Vec<Event> {
    let (Some(before), Some(after)) = (change.before, change.after) else { return Vec::new() };
    let (kind, why) = match outcome {
        CommitOutcome::Stored { .. } if before.version == after.version => return Vec::new(),
        CommitOutcome::Stored { rolled_back, .. } => {
            let holds = before.state == RecordState::Armed && before.holder.as_ref() == Some(&commit.attempt);
            let late = !holds || before.lease_until <= change.now;
            let late = late.then_some("late");
            (EventKind::Committed, if rolled_back { Some("rolled_back") } else { late })
        }
        CommitOutcome::Superseded { current } if current.grant != commit.base.grant => {
            (EventKind::Superseded, Some("other_grant"))
        }
        CommitOutcome::Superseded { .. } => {
            let kept = after.alt.as_ref().zip(commit.refresh.as_ref()).is_some_and(|(alt, new)| alt.refresh == *new);
            (EventKind::Superseded, Some(if kept { "kept_as_alt" } else { "older" }))
        }
        CommitOutcome::Gone => (EventKind::Superseded, Some("ended")),
        CommitOutcome::Missing => return Vec::new(),
    };
    vec![change.by(after, kind, &commit.attempt).because(why).said(&commit.said)]
}

/// How a refresh ended that got nothing. A lease that is given back before anything was tried is not worth a line.
pub fn of_fail(change: Change<'_>, fail: &Fail, outcome: FailOutcome) -> Vec<Event> {
    let (Some(before), Some(after)) = (change.before, change.after) else { return Vec::new() };
    let may_have_sent = match fail.to {
        FailTo::Uncertain | FailTo::ReauthorizationRequired | FailTo::Alternate => true,
        FailTo::Released | FailTo::Active { .. } => false,
    };
    let (kind, until) = match (outcome, fail.to) {
        (FailOutcome::Recorded, _) if before == after => return Vec::new(),
        (FailOutcome::Recorded, FailTo::Released) => {
            let intended = before.intent.as_ref().is_some_and(|intent| intent.attempt == fail.attempt);
            if !intended {
                return Vec::new();
            }
            (EventKind::Failed, None)
        }
        (FailOutcome::Recorded, FailTo::Active { .. }) => {
            (EventKind::Failed, Some(WallTime::from_millis(after.not_before)))
        }
        (FailOutcome::Recorded, FailTo::Uncertain) => (EventKind::Uncertain, None),
        (FailOutcome::Recorded, FailTo::ReauthorizationRequired) => (EventKind::Suspended, None),
        (FailOutcome::Recorded, FailTo::Alternate) if after.state == RecordState::ReauthorizationRequired => {
            (EventKind::Suspended, None)
        }
        (FailOutcome::Recorded, FailTo::Alternate) => (EventKind::Failed, None),
        (FailOutcome::Lost, _) => {
            let passed_on = after.version.grant == fail.base.grant && after.fence > fail.fence && !after.is_tombstone();
            if !(may_have_sent && passed_on) {
                return Vec::new();
            }
            (EventKind::Overtaken, None)
        }
    };
    let event = change.by(after, kind, &fail.attempt).because(Some(fail.why)).said(&fail.said);
    vec![Event { until, ..event }]
}

/// A record that a replica put back.
pub fn of_restore(change: Change<'_>, restore: &Restore, outcome: RestoreOutcome) -> Vec<Event> {
    let Some(after) = change.after else { return Vec::new() };
    match outcome {
        RestoreOutcome::Restored if change.before != change.after => {
            let known = change.before.is_some_and(|before| before.state != RecordState::Pending);
            let why = if known { "behind" } else { "forgotten" };
            vec![change.by(after, EventKind::Restored, &restore.attempt).because(Some(why))]
        }
        RestoreOutcome::Restored | RestoreOutcome::NotNeeded { .. } | RestoreOutcome::Gone => Vec::new(),
    }
}

/// What a replica remembers of a refresh token that is being spent, where the store had forgotten it.
pub fn of_reassert(change: Change<'_>, reassert: &Reassert, outcome: ReassertOutcome) -> Vec<Event> {
    let (Some(before), Some(after)) = (change.before, change.after) else { return Vec::new() };
    let attempt = reassert.holder.as_ref().map(|holder| &holder.attempt);
    let why = match outcome {
        ReassertOutcome::Held(_) => {
            let intended = before.intent.as_ref().map(|intent| &intent.attempt);
            let held = before.state == RecordState::Armed && before.holder.as_ref() == attempt && intended == attempt;
            if held {
                return Vec::new();
            }
            "held"
        }
        ReassertOutcome::Noted if before.sends == after.sends && before.state == after.state => return Vec::new(),
        ReassertOutcome::Noted => "noted",
        ReassertOutcome::Moved | ReassertOutcome::Missing => return Vec::new(),
    };
    let event = change.event(after, EventKind::Reasserted).because(Some(why));
    vec![Event { attempt: attempt.cloned(), ..event }]
}

/// A new grant.
pub fn of_seed(change: Change<'_>, _: &Seed, outcome: SeedOutcome) -> Vec<Event> {
    let Some(after) = change.after else { return Vec::new() };
    let kind = match outcome {
        SeedOutcome::Created(_) => EventKind::Seeded,
        SeedOutcome::Replaced(_) => EventKind::Replaced,
        SeedOutcome::Exists(_) | SeedOutcome::Mismatch(_) | SeedOutcome::Missing | SeedOutcome::Spent(_) => {
            return Vec::new();
        }
    };
    if change.before == change.after { Vec::new() } else { vec![change.event(after, kind)] }
}

/// That a customer is asked, under the name of the grant to come.
pub fn of_await(change: Change<'_>, wait: &Await, outcome: AwaitOutcome) -> Vec<Event> {
    let Some(after) = change.after else { return Vec::new() };
    let grant = AttemptId::from_stored(&wait.grant.to_string());
    match outcome {
        AwaitOutcome::Pending(_) if change.before == change.after => Vec::new(),
        AwaitOutcome::Pending(_) | AwaitOutcome::Stands { .. } => vec![change.by(after, EventKind::Asked, &grant)],
        AwaitOutcome::Elsewhere(_) => Vec::new(),
    }
}

/// That nothing was granted, or not revoked.
pub fn of_tell(change: Change<'_>, tell: &Tell) -> Vec<Event> {
    let Some(after) = change.after else { return Vec::new() };
    let event = change.event(after, tell.kind).because(Some(&tell.why)).said(&tell.said);
    vec![Event { attempt: tell.attempt.clone(), ..event }]
}

/// The end of a consent.
pub fn of_end(change: Change<'_>, end: &End, outcome: EndOutcome) -> Vec<Event> {
    let Some(after) = change.after else { return Vec::new() };
    match outcome {
        EndOutcome::Ended if change.before != change.after => {
            vec![change.event(after, EventKind::Ended).because(Some(&end.why))]
        }
        EndOutcome::Ended | EndOutcome::NotFound => Vec::new(),
    }
}

/// A suspension that was taken back because others were refused as well.
pub fn of_reprieve(change: Change<'_>, reprieve: &Reprieve, outcome: ReprieveOutcome) -> Vec<Event> {
    match (change.after, outcome) {
        (Some(after), ReprieveOutcome::Reprieved) => {
            vec![change.by(after, EventKind::Revived, &reprieve.attempt).because(Some("pardoned"))]
        }
        (_, ReprieveOutcome::Reprieved | ReprieveOutcome::NotNeeded) => Vec::new(),
    }
}

/// A person's word that a kept refresh token is to be tried again.
pub fn of_revive(change: Change<'_>, revive: &Revive, outcome: ReviveOutcome) -> Vec<Event> {
    let Some(after) = change.after else { return Vec::new() };
    match outcome {
        ReviveOutcome::Revived(_) if change.before != change.after => {
            let why = revive.replaced.as_ref().map(|_| "replaced");
            vec![change.by(after, EventKind::Revived, &revive.attempt).because(why)]
        }
        ReviveOutcome::Revived(_)
        | ReviveOutcome::NotFound
        | ReviveOutcome::Mismatch(_)
        | ReviveOutcome::NotSuspended { .. }
        | ReviveOutcome::Nothing(_)
        | ReviveOutcome::Spent(_) => Vec::new(),
    }
}

impl Change<'_> {
    fn event(self, after: &Record, kind: EventKind) -> Event {
        Event {
            at: WallTime::from_millis(self.now),
            kind,
            fence: after.fence,
            version: after.version,
            why: None,
            said: Said::default(),
            until: None,
            attempt: None,
        }
    }

    fn by(self, after: &Record, kind: EventKind, attempt: &AttemptId) -> Event {
        Event { attempt: Some(attempt.clone()), ..self.event(after, kind) }
    }
}

impl Event {
    fn because(self, why: Option<&str>) -> Self {
        Self { why: why.map(str::to_owned), ..self }
    }

    fn said(self, said: &Said) -> Self {
        Self { said: said.clone(), ..self }
    }
}
