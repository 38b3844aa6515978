//! One granted lease, from the right to refresh to its end.
//!
//! The order of steps is the protocol. Connect, sending nothing. ARM: the intent is durable. Look at the clock once more
//! (`arming`). Spend the refresh token, once, and do not hang up on the bank (`sending`). What comes back goes to `keep`
//! before anything else happens (`settling`); what was refused is looked into (`refusing`); and the store is told how the
//! lease ended (`ending`). Every outcome of every step is matched by name.

mod arming;
mod ending;
mod refusing;
mod sending;
mod settling;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ask::{Errand, Round};
use super::flight::{Cockpit, Outcome};
use super::permit::REFUSED_ONCE;
use super::spending::Spent;
use super::{Core, UnderWay};
use crate::oauth::{NotSent, Reply, TokenEndpoint};
use crate::store::{FailTo, Lease, Lesson, Snapshot, Store};
use crate::words::clock::{BootInstant, Clock};
use crate::words::ids::AttemptId;
use crate::words::said::Said;
use crate::words::secrets::RefreshToken;

/// A granted lease and what it was granted for.
pub(super) struct Refresh<'a, S, E, C> {
    pub(super) core: &'a Arc<Core<S, E, C>>,
    pub(super) errand: &'a Errand,
    pub(super) cockpit: &'a Cockpit,
    pub(super) attempt: AttemptId,
    pub(super) lease: Lease,
    /// Notes, for a store that may forget it, that this lease's refresh token is being spent.
    pub(super) spent: Spent,
    pub(super) snapshot: Snapshot,
    /// When the lease was asked for, and in which epoch of the link.
    pub(super) asked: BootInstant,
    pub(super) epoch: u64,
    /// When that was, for measuring.
    pub(super) began: Instant,
    /// What is known of the request, once it was sent.
    pub(super) said: Said,
}

/// How far a refresh got while it needed the bank.
enum Tried {
    /// The request was sent, and so it turned out.
    Answered { reply: Reply, spent: Option<RefreshToken>, moments: Moments, took: Took },
    /// The bank's side kept it from being sent.
    NotSent(NotSent),
    /// Our side did; the lease ends so.
    Ended(FailTo, &'static str, Outcome),
    /// The lease is no longer ours, or no longer to be trusted. Nothing was sent.
    Lost,
}

/// How long the bank took.
#[derive(Clone, Copy)]
struct Took {
    connecting: Duration,
    answering: Duration,
}

/// When what happened.
#[derive(Clone, Copy)]
struct Moments {
    /// Just before the intent was written; `None` for a client token.
    armed: Option<BootInstant>,
    /// From the request to its answer.
    under_way: UnderWay,
}

impl<S: Store, E: TokenEndpoint, C: Clock> Refresh<'_, S, E, C> {
    /// Refreshes, and says what the flight is to do next. The permit, which has the attempt's name, is given back with what
    /// was learned once those who wait were told.
    pub(super) async fn run(mut self, endpoint: &E) -> Round {
        let tried = self.try_once(endpoint).await;
        let (round, lesson) = self.conclude(tried).await;
        if let Some(lesson) = lesson {
            self.core.give_back(self.errand, &self.attempt, lesson).await;
        }
        round
    }

    /// Writes down how it went. Beside what comes next: what is to be told of the provider, unless that was told already.
    async fn conclude(&mut self, tried: Tried) -> (Round, Option<Lesson>) {
        match tried {
            Tried::Answered { reply: Reply { outcome, said, left_at }, spent, moments, took } => {
                self.said = said;
                self.look_at_the_time(moments.armed, left_at);
                self.settle(outcome, spent.as_ref(), moments, took).await
            }
            Tried::NotSent(not_sent) => self.not_sent(&not_sent).await,
            Tried::Ended(to, why, outcome) => (self.end(to, why, outcome).await, Some(Lesson::Unused)),
            Tried::Lost => {
                // The intent may stand all the same. Whoever knows that nothing was sent says so.
                self.report(FailTo::Released, "not_sent").await;
                (Round::Again(Duration::ZERO), Some(Lesson::Unused))
            }
        }
    }

    /// How long a probe has to wait because this process has not been in touch with the store for long enough.
    pub(super) fn too_early_to_probe(&self) -> Option<Duration> {
        let touch = self.core.link.in_touch_for(self.core.clock.boot());
        self.core.timing.reunion.checked_sub(touch).filter(|rest| self.lease.probe && !rest.is_zero())
    }
}

/// The classes of failure that mean our own registration, as they stand in a record.
pub(super) const MISCONFIGURED: &[&str] = &[
    "invalid_client",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "tls_refused",
    "certificate_refused",
    "redirect",
    "request_impossible",
    REFUSED_ONCE,
];
/// The class of a consent that cannot be refreshed: it lasts as long as its access token.
pub(super) const NO_REFRESH_TOKEN: &str = "no_refresh_token";
/// The class of a failure that the record itself is the cause of.
pub(super) const UNREADABLE: &str = "unreadable";
