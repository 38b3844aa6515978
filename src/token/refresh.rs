//! One granted lease, from the right to refresh to its end.
//!
//! The order of steps is the protocol. Connect, sending nothing. ARM: the intent is durable. Look at the clock once more.
//! Spend the refresh token, once, and do not hang up on the bank. What comes back goes to `keep` before
//! anything else happens. Every outcome of every step is matched here by name.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::ask::{Errand, FIRST_POLL, Round, hold};
use super::flight::{Cockpit, Outcome};
use super::keep::{self, Obtained};
use super::loss::{self, Evidence};
use super::permit::{REFUSED_ONCE, lesson_of};
use super::spending::{Spent, Told};
use super::timing::{backoff, jittered, min_ttl, spread};
use super::{Core, TokenError, fault};
use crate::oauth::{NotSent, Reply, TokenEndpoint, TokenOutcome, TokenRequest};
use crate::store::{
    Arm, ArmOutcome, BreakerClass, Fail, FailOutcome, FailTo, Lease, Lesson, ReassertOutcome, RecordState, Refusal,
    Renew, RenewOutcome, Reported, Snapshot, Store, StoreError, Verdict,
};
use crate::words::clock::{BootInstant, Clock};
use crate::words::ids::AttemptId;
use crate::words::metrics::OutcomeLabels;
use crate::words::said::Said;
use crate::words::secrets::RefreshToken;
use crate::words::token_set::Scope;

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

/// When what happened, by the boot clock.
#[derive(Clone, Copy)]
struct Moments {
    /// Just before the intent was written; `None` for a client token.
    armed: Option<BootInstant>,
    /// Just before the request was sent.
    sent: BootInstant,
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

    async fn try_once(&self, endpoint: &E) -> Tried {
        fault::point("after-begin").await;
        let spent = match self.what_to_spend() {
            Ok(spent) => spent,
            Err((to, why, outcome)) => return Tried::Ended(to, why, outcome),
        };
        if let Err(error) = self.core.spill_is_ready().await {
            tracing::error!(%error, "The spill cannot be written, and it is required: nothing is refreshed.");
            return Tried::Ended(self.later(None), "spill_unavailable", Err(TokenError::StoreUnavailable));
        }
        let connecting = Instant::now();
        let connection = match timeout(self.core.timing.connect, endpoint.connect()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(not_sent)) => return Tried::NotSent(not_sent),
            Err(_) => return Tried::NotSent(NotSent::Unreachable("it took too long".to_owned())),
        };
        let connecting = connecting.elapsed();
        let mut armed = None;
        fault::point("after-connect").await;
        if spent.is_some() {
            match self.arm().await {
                Ok((ArmOutcome::Armed, begun)) => armed = Some(begun),
                Ok((ArmOutcome::Lost | ArmOutcome::ProbeNeeded, _)) => return Tried::Lost,
                Ok((ArmOutcome::NotDurable { acknowledged, required }, _)) => {
                    tracing::error!(acknowledged, required, "Too few replicas hold the intent: nothing is sent.");
                    return Tried::Ended(self.later(None), "not_durable", Err(TokenError::StoreUnavailable));
                }
                // The store took the intent, perhaps, and went away. It is told that nothing was sent when it is back.
                Err(error) => {
                    tracing::warn!(key = ?self.errand.key, %error, "The intent could not be stored: nothing is sent.");
                    return Tried::Ended(FailTo::Released, "not_sent", Err(TokenError::StoreUnavailable));
                }
            }
        }
        let request = match (&spent, &self.errand.client) {
            (Some(refresh), _) => TokenRequest::Refresh { refresh, scope: self.scope_to_repeat() },
            (None, Some(client)) => {
                let audience = client.audience.as_deref();
                TokenRequest::ClientCredentials { audience, scope: client.scope.as_ref() }
            }
            (None, None) => {
                let refusal = Err(TokenError::ReauthorizationRequired);
                return Tried::Ended(FailTo::Released, NO_REFRESH_TOKEN, refusal);
            }
        };
        fault::point("after-arm").await;
        let (started, asked) = (Instant::now(), self.core.clock.boot());
        let reply = self.spend(endpoint, connection, &request).await;
        let moments = Moments { armed, sent: asked };
        Tried::Answered { reply, spent, moments, took: Took { connecting, answering: started.elapsed() } }
    }

    /// The refresh token of this lease; `None` for a client token.
    fn what_to_spend(&self) -> Result<Option<RefreshToken>, (FailTo, &'static str, Outcome)> {
        if self.errand.client.is_some() {
            return Ok(None);
        }
        let Some(sealed) = &self.snapshot.refresh else {
            return Err(if self.snapshot.remaining <= min_ttl(self.snapshot.life) {
                let refusal = Err(TokenError::ReauthorizationRequired);
                (FailTo::ReauthorizationRequired, NO_REFRESH_TOKEN, refusal)
            } else if self.errand.rejected.is_some() {
                // Nothing can be done about the rejection, and the bank may think better of it.
                let same = hold(self.core, self.cockpit, &self.errand.key, &self.snapshot, self.asked, self.epoch);
                (FailTo::Released, NO_REFRESH_TOKEN, same)
            } else {
                (FailTo::Active { backoff: self.snapshot.remaining }, NO_REFRESH_TOKEN, Ok(()))
            });
        };
        match self.core.vault.open_refresh(&self.errand.key, &self.snapshot, self.lease.base, sealed) {
            Ok(token) => Ok(Some(token)),
            Err(error) => {
                let later = FailTo::Active { backoff: Duration::from_secs(5) };
                Err((later, UNREADABLE, Err(TokenError::Unreadable { why: error.to_string() })))
            }
        }
    }

    /// Writes the intent, repeating the same step while its answer is lost and the lease allows. Beside the outcome: from
    /// when on the lease that it prolonged is counted, at the earliest.
    async fn arm(&self) -> Result<(ArmOutcome, BootInstant), StoreError> {
        let timing = &self.core.timing;
        let give_up = self.asked.plus(timing.lease.saturating_sub(timing.margin * 2));
        loop {
            let Some(fence) = self.spent.spending.arm().await else {
                return Ok((ArmOutcome::Lost, self.core.clock.boot()));
            };
            let arm = Arm {
                attempt: self.attempt.clone(),
                fence,
                base: self.lease.base,
                lease: timing.armed_lease,
                probe: self.lease.probe,
            };
            let begun = self.core.clock.boot();
            let outcome = self.core.store.arm(&self.errand.key, &arm).await;
            let now = self.core.clock.boot();
            match outcome {
                // The guard: a process that slept between the intent and here no longer trusts its lease.
                Ok(ArmOutcome::Armed) if now.since(begun) + timing.margin >= timing.armed_lease => {
                    return Ok((ArmOutcome::Lost, begun));
                }
                Ok(outcome) => return Ok((outcome, begun)),
                Err(error) if now >= give_up => return Err(error),
                Err(_) => {
                    self.core.count_store_error("arm");
                    sleep(jittered(FIRST_POLL)).await;
                }
            }
        }
    }

    /// Sends the request and waits for the bank, renewing the lease. Hangs up only when somebody else may hold the lease
    /// or when no answer can be expected any more.
    async fn spend(&self, endpoint: &E, connection: E::Connection, request: &TokenRequest<'_>) -> Reply {
        // A permit is politeness, a lease is not: neither waits for the other.
        let permit = async {
            loop {
                sleep(self.core.timing.renewal).await;
                let (provider, life) = (&self.errand.provider, self.core.permit_life());
                if self.core.store.renew_permit(provider, &self.attempt, life).await.is_err() {
                    self.core.count_store_error("renew_permit");
                }
            }
        };
        let lost = async {
            if self.errand.client.is_some() {
                return pending().await;
            }
            loop {
                sleep(self.core.timing.renewal).await;
                let Some(fence) = self.spent.spending.fence().await else { return };
                let lease = self.core.timing.armed_lease;
                let renew = Renew { attempt: self.attempt.clone(), fence, lease };
                match self.core.store.renew(&self.errand.key, &renew).await {
                    Ok(RenewOutcome::Lost) if self.has_lost_its_place().await => return,
                    Ok(RenewOutcome::Renewed | RenewOutcome::Lost) => {}
                    Err(_) => self.core.count_store_error("renew"),
                }
            }
        };
        tokio::select! {
            // The answer first: a process that stood still finds it there together with the end of its time.
            biased;
            reply = endpoint.send(connection, request) => reply,
            () = permit => TokenOutcome::Unknown { why: "no_answer" }.into(),
            () = lost => TokenOutcome::Unknown { why: "fence_lost" }.into(),
            () = sleep(self.core.timing.send) => TokenOutcome::Unknown { why: "no_answer" }.into(),
        }
    }

    /// Whether the request left within the lease. A process that stood still between the guard and the first byte cannot
    /// know then, and finds out here (W5).
    fn look_at_the_time(&mut self, armed: Option<BootInstant>, left_at: Option<BootInstant>) {
        let took = armed.zip(left_at).map(|(armed, left_at)| left_at.since(armed));
        if let Some(took) = took.filter(|took| *took > self.core.timing.armed_lease) {
            self.said.late = true;
            tracing::error!(?took, "This process stood still between its last look at the clock and a token request.");
            loss::sent_late(&self.core.metrics, self.errand, &self.attempt);
        }
    }

    /// Whether the answer is no longer worth waiting for. A store that forgot the lease is told of it again. Whoever lost it
    /// to somebody else hangs up, unless the bank takes the token once more: then the answer may still be the newest.
    async fn has_lost_its_place(&self) -> bool {
        let lease = self.core.timing.armed_lease;
        let behaviour = self.core.providers.get(&self.errand.provider).map(|provider| &provider.behaviour);
        let tolerant = behaviour.is_some_and(|behaviour| behaviour.reuse_grace.is_some());
        match self.spent.spending.reassert(&self.core.store, lease).await {
            Ok(ReassertOutcome::Held(_) | ReassertOutcome::Missing) => false,
            Ok(ReassertOutcome::Noted) => !tolerant,
            Ok(ReassertOutcome::Moved) if tolerant => match self.core.store.read(&self.errand.key).await {
                Ok(Some(now)) => now.version.grant != self.lease.base.grant || !now.state.is_usable(),
                Ok(None) | Err(_) => false,
            },
            Ok(ReassertOutcome::Moved) => true,
            Err(_) => {
                self.core.count_store_error("reassert");
                false
            }
        }
    }

    /// How long a probe has to wait because this process has not been in touch with the store for long enough.
    pub(super) fn too_early_to_probe(&self) -> Option<Duration> {
        let touch = self.core.link.in_touch_for(self.core.clock.boot());
        self.core.timing.reunion.checked_sub(touch).filter(|rest| self.lease.probe && !rest.is_zero())
    }

    /// What follows from the bank's answer. A token set is kept before anything else, a count or a log line included.
    async fn settle(
        &self,
        outcome: TokenOutcome,
        spent: Option<&RefreshToken>,
        moments: Moments,
        took: Took,
    ) -> (Round, Option<Lesson>) {
        let why = match outcome {
            TokenOutcome::Granted(set) => {
                let obtained = Obtained {
                    attempt: &self.attempt,
                    base: self.lease.base,
                    snapshot: &self.snapshot,
                    set: &set,
                    under_way: self.core.clock.boot().since(moments.sent),
                    armed_at: moments.armed,
                    spent,
                    forced: self.errand.rejected.is_some(),
                    said: &self.said,
                };
                let kept = keep::keep(self.core, self.errand, self.cockpit, obtained).await;
                self.count("granted", took);
                let all = self.began.elapsed().saturating_sub(took.connecting + took.answering);
                self.core.metrics.refresh_overhead_seconds.observe(all.as_secs_f64());
                return (Round::Land(kept), None);
            }
            TokenOutcome::NotSent(not_sent) => {
                self.count("not_sent", took);
                return self.not_sent(&not_sent).await;
            }
            TokenOutcome::NotProcessed { why, retry_after } => {
                self.count(why, took);
                tracing::warn!(provider = %self.errand.provider, why, "The bank did not process a token request.");
                let to = self.later(retry_after);
                let lesson = retry_after.map_or(Lesson::Neutral, Lesson::Held);
                return (self.end(to, why, unavailable(why, to)).await, Some(lesson));
            }
            TokenOutcome::Misconfigured { why } => {
                self.count(why, took);
                tracing::error!(provider = %self.errand.provider, why, "The token endpoint cannot be used with our settings.");
                let refusal = Err(TokenError::Misconfigured { why: why.to_owned() });
                let lesson = match why {
                    // What one consent was granted says nothing about the others.
                    "invalid_scope" => Lesson::Neutral,
                    why => Lesson::Failed(BreakerClass::Misconfigured, why),
                };
                return (self.end(self.later(None), why, refusal).await, Some(lesson));
            }
            TokenOutcome::InvalidGrant => {
                return self.refused(took).await;
            }
            TokenOutcome::Unknown { why } => why,
            TokenOutcome::Unreadable { why, body } => {
                self.core.salvage(self.errand, &self.attempt, self.lease.base, &self.snapshot, &body).await;
                why
            }
        };
        self.count(why, took);
        // Hanging up was ours.
        let lesson = match why {
            "fence_lost" => Lesson::Neutral,
            why => Lesson::Failed(BreakerClass::Unavailable, why),
        };
        if spent.is_none() {
            let to = self.later(None);
            return (self.end(to, why, unavailable(why, to)).await, Some(lesson));
        }
        tracing::error!(
            key = ?self.errand.key,
            provider = %self.errand.provider,
            attempt = self.attempt.as_str(),
            why,
            "Nobody knows whether the bank processed a refresh. It is asked once more after the quarantine."
        );
        let uncertain = Err(TokenError::Uncertain { retry_after: self.core.timing.quarantine });
        (self.end(FailTo::Uncertain, why, uncertain).await, Some(lesson))
    }

    /// `invalid_grant`. Somebody may have been faster, so the store is read first; what it holds decides.
    async fn refused(&self, took: Took) -> (Round, Option<Lesson>) {
        self.count("invalid_grant", took);
        let now = self.core.store.read(&self.errand.key).await.ok().flatten();
        if let Some(now) = now.as_ref().filter(|now| now.version != self.lease.base) {
            let overtaken = now.version.is_newer_than(self.lease.base) && now.version.grant == self.lease.base.grant;
            if overtaken && self.errand.client.is_none() && !self.said.late {
                // Only a process that stood still, or was cut off, for longer than lease and quarantine comes here.
                loss::sent_late(&self.core.metrics, self.errand, &self.attempt);
            }
            return (Round::Again(Duration::ZERO), Some(Lesson::Neutral));
        }
        if self.errand.client.is_some() {
            let refusal = Err(TokenError::Misconfigured { why: "invalid_grant".to_owned() });
            let lesson = Lesson::Failed(BreakerClass::Misconfigured, "invalid_client");
            return (self.end(self.later(None), "invalid_client", refusal).await, Some(lesson));
        }
        // A lease that the store forgot and was told again has another fence than it was granted with.
        let fence = self.spent.spending.fence().await.unwrap_or(self.lease.fence);
        let refusal = Refusal { version: self.lease.base, fence, probe: self.lease.probe };
        let reported = self.tell_refusal(refusal).await;
        let round = match reported.as_ref().map(|reported| reported.verdict) {
            Some(Verdict::Suspend) => {
                let round = self.suspend(now).await;
                self.core.reconsider(self.errand, &self.attempt, refusal).await;
                round
            }
            // A report of a refusal is never merely noted. A store that says so, or nothing, ends no consent.
            Some(Verdict::Spare | Verdict::Noted) | None => self.spare().await,
        };
        if let Some(reported) = reported {
            self.core.pardon(&reported.pardoned).await;
        }
        (round, None)
    }

    /// Repeats until the store has said what follows from the refusal; `None`: it never did.
    async fn tell_refusal(&self, refusal: Refusal) -> Option<Reported> {
        let mut pause = Duration::from_millis(50);
        for _ in 0..REPORTS {
            match self.core.tell_refusal(self.errand, &self.attempt, refusal).await {
                Ok(reported) => return Some(reported),
                Err(StoreError::Unreadable(_) | StoreError::Refused(_)) => return None,
                Err(StoreError::Unavailable(_) | StoreError::Reuniting) => {
                    self.cockpit.announce(Err(TokenError::StoreUnavailable));
                }
            }
            sleep(jittered(pause)).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
        None
    }

    /// Others are refused as well, so the fault is taken to be the bank's or ours, and the consent is kept.
    async fn spare(&self) -> Round {
        tracing::error!(
            key = ?self.errand.key,
            provider = %self.errand.provider,
            "The bank refuses the refresh tokens of several consents. This one is not suspended yet."
        );
        let refusal = Err(TokenError::Misconfigured { why: REFUSED_ONCE.to_owned() });
        self.end(self.later(None), REFUSED_ONCE, refusal).await
    }

    /// The refusal is this consent's own. `now` is what the store shows.
    async fn suspend(&self, now: Option<Snapshot>) -> Round {
        if self.lease.alternate {
            tracing::warn!(key = ?self.errand.key, "The bank refused a refresh token. The one that came second is tried.");
            self.report(FailTo::Alternate, "alternate").await;
            return Round::Again(Duration::ZERO);
        }
        let loss = loss::cause(Evidence {
            base: self.lease.base,
            probe: self.lease.probe,
            sends: now.map_or(self.snapshot.sends + 1, |now| now.sends),
            late: self.said.late,
            remembered: self.core.cache.get(&self.errand.key).map(|held| held.version),
        });
        if let Some(loss) = loss {
            loss.count(&self.core.metrics, &self.errand.provider);
        }
        let why = loss.map_or("revoked_or_expired", loss::Loss::as_str);
        tracing::error!(
            key = ?self.errand.key,
            provider = %self.errand.provider,
            why,
            "The bank no longer accepts the refresh token. It is kept; the customer has to consent again."
        );
        self.core.cache.forget(&self.errand.key);
        self.end(FailTo::ReauthorizationRequired, why, Err(TokenError::ReauthorizationRequired)).await
    }

    async fn not_sent(&self, not_sent: &NotSent) -> (Round, Option<Lesson>) {
        tracing::warn!(provider = %self.errand.provider, error = %not_sent, "A token request was not sent.");
        let to = self.later(None);
        let misconfigured = |why: &str| Err(TokenError::Misconfigured { why: why.to_owned() });
        let (why, outcome) = match not_sent {
            NotSent::Unreachable(_) => ("unreachable", unavailable("unreachable", to)),
            NotSent::Tls(_) => ("tls_refused", misconfigured("tls_refused")),
            NotSent::Request(_) => ("request_impossible", misconfigured("request_impossible")),
        };
        (self.end(to, why, outcome).await, Some(lesson_of(not_sent, why)))
    }

    /// Tells the store how the lease ended, and those who wait. Where the store does not take it at once, they do not
    /// wait for that.
    pub(super) async fn end(&self, to: FailTo, why: &'static str, outcome: Outcome) -> Round {
        let recorded = self.report_once(to, why).await;
        self.cockpit.announce(outcome.clone());
        if !recorded {
            self.report(to, why).await;
        }
        Round::Land(outcome)
    }

    /// Writes down how the lease ended, repeating until the store has taken it. Should it never, lease and quarantine
    /// end by themselves.
    pub(super) async fn report(&self, to: FailTo, why: &'static str) {
        let mut pause = Duration::from_millis(50);
        for _ in 0..REPORTS {
            if self.report_once(to, why).await {
                return;
            }
            sleep(jittered(pause)).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
        tracing::warn!(key = ?self.errand.key, why, "The end of a lease could not be stored. It ends by itself.");
    }

    /// Whether there is nothing left to tell the store.
    pub(super) async fn report_once(&self, to: FailTo, why: &'static str) -> bool {
        let tell = async |fence| {
            let (attempt, said) = (self.attempt.clone(), self.said.clone());
            let fail = Fail { attempt, fence, base: self.lease.base, to, why, said };
            match self.core.store.fail(&self.errand.key, &fail).await {
                Ok(FailOutcome::Recorded) => Told::Yes,
                Ok(FailOutcome::Lost) => {
                    self.look_who_has_it(to).await;
                    Told::NotOurs
                }
                Err(error @ (StoreError::Unreadable(_) | StoreError::Refused(_))) => {
                    tracing::error!(key = ?self.errand.key, why, %error, "The end of a lease is not taken by the store.");
                    Told::Yes
                }
                Err(StoreError::Unavailable(_) | StoreError::Reuniting) => {
                    self.core.count_store_error("fail");
                    Told::No
                }
            }
        };
        let may_be_spent = match to {
            FailTo::Uncertain | FailTo::ReauthorizationRequired => true,
            FailTo::Released | FailTo::Active { .. } | FailTo::Alternate => false,
        };
        match self.spent.spending.end(tell).await {
            Told::Yes => true,
            Told::No => false,
            Told::NotOurs if !may_be_spent => true,
            // Whether it went to somebody else or was forgotten by a store that came back: that the token may be spent must
            // stand there.
            Told::NotOurs => match self.spent.spending.reassert(&self.core.store, self.core.timing.lease).await {
                Ok(ReassertOutcome::Held(_)) => !matches!(self.spent.spending.end(tell).await, Told::No),
                Ok(ReassertOutcome::Noted | ReassertOutcome::Moved | ReassertOutcome::Missing) => true,
                Err(_) => {
                    self.core.count_store_error("reassert");
                    false
                }
            },
        }
    }

    /// A lease that was passed on while a request was under way: two may have been sent.
    async fn look_who_has_it(&self, to: FailTo) {
        let may_have_sent = match to {
            FailTo::Uncertain | FailTo::ReauthorizationRequired | FailTo::Alternate => true,
            FailTo::Released | FailTo::Active { .. } => false,
        };
        if !may_have_sent || self.said.late {
            return;
        }
        let Ok(Some(now)) = self.core.store.read(&self.errand.key).await else { return };
        let other = match now.state {
            // Somebody else's request was refused meanwhile.
            RecordState::ReauthorizationRequired => true,
            RecordState::Active | RecordState::Leased | RecordState::Armed | RecordState::Uncertain => {
                let holder = now.holder.is_some_and(|holder| holder != self.attempt);
                holder || now.version.is_newer_than(self.lease.base)
            }
            RecordState::Pending | RecordState::Denied | RecordState::Revoked | RecordState::Expired => false,
        };
        if other && now.version.grant == self.lease.base.grant {
            loss::sent_late(&self.core.metrics, self.errand, &self.attempt);
        }
    }

    fn later(&self, asked_for: Option<Duration>) -> FailTo {
        let own = backoff(self.snapshot.failures, spread());
        FailTo::Active { backoff: asked_for.map_or(own, |asked| asked.clamp(own, LONGEST_PAUSE)) }
    }

    fn scope_to_repeat(&self) -> Option<&Scope> {
        let behaviour = &self.core.providers.get(&self.errand.provider)?.behaviour;
        self.snapshot.scope.as_ref().filter(|_| behaviour.send_scope_on_refresh)
    }

    fn count(&self, outcome: &'static str, took: Took) {
        let provider = self.errand.provider.as_str().to_owned();
        self.core.metrics.token_requests.get_or_create(&OutcomeLabels { provider, outcome }).inc();
        self.core.metrics.token_request_seconds.observe(took.answering.as_secs_f64());
    }
}

fn unavailable(why: &str, to: FailTo) -> Outcome {
    let retry_after = match to {
        FailTo::Active { backoff } => backoff,
        FailTo::Released | FailTo::Uncertain | FailTo::ReauthorizationRequired | FailTo::Alternate => Duration::ZERO,
    };
    Err(TokenError::EndpointUnavailable { why: why.to_owned(), retry_after })
}

/// However long a bank asks to be left alone.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// About ten minutes of asking a store that is away.
const REPORTS: usize = 300;

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
