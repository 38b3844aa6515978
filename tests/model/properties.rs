//! What must hold in every state, and what must be seen in some.
//!
//! Each property is written so that it holds without exception inside the windows that no client can close; where a
//! variant of the model opens one more, `excused` says that it was this one and nothing else.

use stateright::Property;

use super::Protocol;
use super::state::{Answer, Event, Flight, Phase, State, Token, Wire};

/// The bank sees a refresh token again only in a recorded probe.
pub(crate) const SENT_ONCE: &str = "P1 a refresh token is presented again only by a recorded probe";
/// The newest refresh token is known to somebody, unless it was lost by W1 or W2.
pub(crate) const NEWEST_KNOWN: &str = "P2 the newest refresh token is known to somebody";
/// A grant dies only by W1 or W2.
pub(crate) const NEVER_KILLED: &str = "P3 no grant is killed by us";
/// An ended consent stays ended.
pub(crate) const STAYS_ENDED: &str = "P4 an ended consent stays ended";
/// A new grant is not overwritten by what an old one brings late.
pub(crate) const NEW_GRANT_STAYS: &str = "P5 a new grant keeps its tokens";
/// All of the above.
pub(crate) const PROMISES: [&str; 5] = [SENT_ONCE, NEWEST_KNOWN, NEVER_KILLED, STAYS_ENDED, NEW_GRANT_STAYS];

/// A grant that was killed by nothing but an acknowledged write that the store lost, or an overtime of an assumption.
pub(crate) const KILLED_IN_A_WINDOW: &str = "a grant is killed in the window that was opened";

/// What a model that is not vacuous shows.
pub(crate) const REFRESHED: &str = "a refresh succeeds";
pub(crate) const PROBED: &str = "a probe succeeds";
pub(crate) const REPLAYED: &str = "a spill is replayed and the store needed it";
pub(crate) const LATE: &str = "a commit is accepted after its lease ran out";
pub(crate) const RESTORED: &str = "a replica restores what the store forgot";
pub(crate) const ALT_TAKEN: &str = "a token set that came second is used";

pub(crate) fn all() -> Vec<Property<Protocol>> {
    vec![
        Property::always(SENT_ONCE, |model, state| excused(model, state) || sent_once(model, state)),
        Property::always(NEWEST_KNOWN, |model, state| excused(model, state) || newest_known(model, state)),
        Property::always(NEVER_KILLED, |model, state| excused(model, state) || never_killed(model, state)),
        Property::always(STAYS_ENDED, |model, state| excused(model, state) || stays_ended(model, state)),
        Property::always(NEW_GRANT_STAYS, |model, state| excused(model, state) || new_grant_stays(model, state)),
        Property::sometimes(KILLED_IN_A_WINDOW, |model, state| excused(model, state) && !never_killed(model, state)),
        Property::sometimes(REFRESHED, |_, state: &State| state.event == Event::Refreshed),
        Property::sometimes(PROBED, |_, state: &State| state.event == Event::ProbeSucceeded),
        Property::sometimes(REPLAYED, |_, state: &State| state.event == Event::SpillMattered),
        Property::sometimes(LATE, |_, state: &State| state.event == Event::LateCommit),
        Property::sometimes(RESTORED, |_, state: &State| state.event == Event::Restored),
        Property::sometimes(ALT_TAKEN, |_, state: &State| state.event == Event::AltTaken),
    ]
}

fn excused(model: &Protocol, state: &State) -> bool {
    state.ledger.overtime || (model.forgets && state.ledger.forgotten)
}

fn sent_once(_: &Protocol, state: &State) -> bool {
    !state.ledger.presented_twice
}

/// A tolerant bank takes the last spent token once more, so there it is as good as the newest.
fn newest_known(model: &Protocol, state: &State) -> bool {
    let grant = state.store.version.grant;
    let bank = &state.bank[usize::from(grant)];
    let wanted = state.store.phase != Phase::Ended && !state.store.absent;
    let is_newest = |token: &Token| token.grant == grant && bank.accepts(token.serial, model.tolerant);
    !wanted || !bank.alive || state.ledger.lost[usize::from(grant)] || known(state).any(|token| is_newest(&token))
}

/// Every refresh token that is in the store, in a process, in a spill, or in an answer on its way.
fn known(state: &State) -> impl Iterator<Item = Token> + '_ {
    let processes = state.replicas.iter().filter(|replica| replica.up);
    let remembered = processes.clone().filter_map(|replica| replica.memory.map(|memory| memory.token));
    let held = processes.filter_map(|replica| match replica.flight {
        Flight::Keeping { token, .. } => Some(token),
        Flight::None | Flight::Leased(_) | Flight::Armed(..) | Flight::Sent(_) | Flight::Failing(..) => None,
    });
    let spilled = state.replicas.iter().flat_map(|replica| replica.spills.iter().map(|spill| spill.token));
    let answered = state.wire.iter().filter_map(|wire| match wire {
        Wire::Reply(Answer::Tokens(token)) => Some(*token),
        Wire::Reply(_) | Wire::Request { .. } | Wire::Nothing => None,
    });
    let stored = [Some(state.store.token), state.store.alt].into_iter().flatten();
    stored.chain(remembered).chain(held).chain(spilled).chain(answered)
}

fn never_killed(_: &Protocol, state: &State) -> bool {
    let issued = 1 + usize::from(state.bank[1].alive || state.bank[1].presented > 0);
    (0..issued).all(|grant| state.bank[grant].alive || state.ledger.lost[grant])
}

fn stays_ended(_: &Protocol, state: &State) -> bool {
    let living = state.store.phase != Phase::Ended && !state.store.absent;
    !(living && state.ledger.ended == Some(state.store.version.grant))
}

fn new_grant_stays(_: &Protocol, state: &State) -> bool {
    !state.ledger.reconsented || state.store.token.grant == 1 || state.store.phase == Phase::Ended || state.store.absent
}
