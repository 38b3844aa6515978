//! Leave to send one token request to a provider, which all replicas share, and what is learned from it.
//!
//! Without a permit nothing is sent. With the last word of a request the permit is given back, and the store learns how
//! the provider is: its breaker opens and closes by that. A refusal of a refresh token is told before anything is written
//! down about the consent, because whether the consent or the provider is at fault is seen only over several.

use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::ask::{Errand, Urgency};
use super::flight::Cockpit;
use super::timing::{jittered, spread};
use super::{Core, TokenError};
use crate::oauth::{NotSent, TokenEndpoint};
use crate::store::{
    Breaker, BreakerClass, Lesson, Limits, PermitAnswer, PermitAsk, Refusal, Report, Reported, Reprieve,
    ReprieveOutcome, Stage, Store, StoreError, Suspect, Wanted,
};
use crate::words::clock::{BootInstant, Clock};
use crate::words::ids::{AttemptId, ProviderId, TokenKey};
use crate::words::metrics::ProviderLabels;

/// Why there is no permit.
pub(super) enum Withheld {
    /// There is no room. Asking again makes sense after so long.
    Full(Duration),
    /// Nobody sends; this is what whoever waits is told.
    Shut(TokenError),
    /// The store could not be asked.
    Store(StoreError),
}

/// What the state of a provider is in its metric.
const PASSES: i64 = 0;
const OPEN: i64 = 1;
const FROZEN: i64 = 2;

impl<S: Store, E: TokenEndpoint, C: Clock> Core<S, E, C> {
    /// Asks once for a permit named `attempt`.
    pub(super) async fn permit(&self, errand: &Errand, limits: Limits, attempt: &AttemptId) -> Result<(), Withheld> {
        let ask = PermitAsk {
            wanted: vec![Wanted { permit: attempt.clone(), key: errand.key.clone() }],
            waiting: errand.urgency == Urgency::Waiting,
            limits,
            life: self.permit_life(),
        };
        match self.store.permits(&errand.provider, &ask).await {
            Ok(PermitAnswer::Granted(range)) if range.contains(&0) => Ok(()),
            Ok(PermitAnswer::Granted(_)) => Err(Withheld::Full(Duration::ZERO)),
            Ok(PermitAnswer::Full(wait)) => Err(Withheld::Full(wait)),
            Ok(PermitAnswer::Open(opened)) => {
                self.show_state(&errand.provider, OPEN);
                Err(Withheld::Shut(match opened.class {
                    BreakerClass::Unavailable => {
                        TokenError::EndpointUnavailable { why: opened.why, retry_after: opened.wait }
                    }
                    BreakerClass::Misconfigured => TokenError::Misconfigured { why: opened.why },
                }))
            }
            Ok(PermitAnswer::Frozen(freeze)) => {
                self.show_state(&errand.provider, FROZEN);
                Err(Withheld::Shut(TokenError::Frozen { why: freeze.reason.as_str().to_owned() }))
            }
            Err(error) => {
                self.count_store_error("permits");
                Err(Withheld::Store(error))
            }
        }
    }

    /// Stands in line for a permit until `until`, for a token that ends at `expires_at`. Its name is the name of the
    /// attempt that it is for. `None`: the store told meanwhile that the record has moved. Nothing is sent to the store
    /// until this is the first in line.
    pub(super) async fn queue(
        &self,
        errand: &Errand,
        cockpit: &Cockpit,
        expires_at: BootInstant,
        until: Instant,
    ) -> Result<Option<AttemptId>, TokenError> {
        let provider = self.providers.get(&errand.provider).ok_or(TokenError::Unknown)?;
        let began = Instant::now();
        let turn = provider.queue.join(&errand.key, expires_at, began, until);
        let attempt = self.next_attempt();
        let mut is_asking = false;
        let in_line = async {
            let mut pause = Duration::ZERO;
            loop {
                let in_turn = async {
                    sleep(pause).await;
                    turn.come().await;
                };
                select! {
                    biased;
                    () = cockpit.nudged() => return Ok(None),
                    () = in_turn => {}
                }
                is_asking = true;
                let answer = self.permit(errand, provider.limits, &attempt).await;
                is_asking = false;
                match answer {
                    Ok(()) => return Ok(Some(attempt.clone())),
                    Err(Withheld::Full(wait)) => pause = jittered(wait.clamp(SHORTEST_WAIT, LONGEST_WAIT)),
                    Err(Withheld::Shut(error)) => return Err(error),
                    Err(Withheld::Store(_)) => return Err(TokenError::StoreUnavailable),
                }
            }
        };
        let outcome = timeout_at(until, in_line).await;
        self.metrics.permit_wait_seconds.observe(began.elapsed().as_secs_f64());
        if let Ok(outcome) = outcome {
            if let Ok(Some(_)) = outcome {
                turn.served();
            }
            return outcome;
        }
        drop(turn);
        if is_asking {
            // It may have been granted at the last moment.
            self.give_back(errand, &attempt, Lesson::Unused).await;
        }
        Err(TokenError::Overloaded)
    }

    /// Gives the permit of a request back that brought tokens, as a task of its own: behind the first try of the commit,
    /// `tried`, but a store that does not take it must not hold up others.
    pub(super) fn give_back_apart(
        self: &Arc<Self>,
        errand: &Errand,
        attempt: &AttemptId,
        tried: Option<oneshot::Receiver<()>>,
    ) {
        let (core, errand, attempt) = (Arc::clone(self), errand.clone(), attempt.clone());
        self.flights.detach(async move {
            if let Some(tried) = tried {
                let _ = timeout(LONGEST_WAIT, tried).await;
            }
            core.give_back(&errand, &attempt, Lesson::Succeeded).await;
        });
    }

    /// Gives a permit back with what was learned. Those who wait were told before. A store that does not take it forgets
    /// the permit by itself.
    pub(super) async fn give_back(&self, errand: &Errand, attempt: &AttemptId, lesson: Lesson) {
        let succeeded = lesson == Lesson::Succeeded;
        let report = Report { permit: attempt.clone(), key: errand.key.clone(), lesson, spread: spread() };
        for _ in 0..LESSONS {
            let reported = timeout(self.permit_life(), self.store.report(&errand.provider, &report)).await;
            if let Ok(Ok(Reported { verdict: _, pardoned })) = reported {
                self.pardon(&pardoned).await;
                if succeeded {
                    self.look_at_the_breaker(&errand.provider).await;
                }
                return;
            }
            self.count_store_error("report");
            sleep(jittered(SHORTEST_WAIT)).await;
        }
    }

    /// Tells that a refresh token was refused. What follows for its consent is answered.
    pub(super) async fn tell_refusal(
        &self,
        errand: &Errand,
        attempt: &AttemptId,
        refusal: Refusal,
    ) -> Result<Reported, StoreError> {
        let lesson = Lesson::Refused(refusal);
        let report = Report { permit: attempt.clone(), key: errand.key.clone(), lesson, spread: spread() };
        self.store.report(&errand.provider, &report).await.inspect_err(|_| self.count_store_error("report"))
    }

    /// After a suspension was written down: others may have been refused meanwhile, and then it is taken back.
    pub(super) async fn reconsider(&self, errand: &Errand, attempt: &AttemptId, refusal: Refusal) {
        let Ok(standing) = self.store.standing(&errand.provider).await else {
            self.count_store_error("standing");
            return;
        };
        let pardoned: Vec<_> = standing
            .suspects
            .into_iter()
            .filter(|it| it.key == errand.key && it.attempt == *attempt && it.refusal == refusal)
            .filter(|it| match it.stage {
                Stage::Spared | Stage::Retry => true,
                Stage::Listed => false,
            })
            .collect();
        self.pardon(&pardoned).await;
    }

    /// Takes back the suspensions of these consents, where they stand.
    pub(super) async fn pardon(&self, pardoned: &[Suspect]) {
        for suspect in pardoned {
            let reprieve = Reprieve {
                version: suspect.refusal.version,
                attempt: suspect.attempt.clone(),
                fence: suspect.refusal.fence,
                uncertain: suspect.refusal.probe,
            };
            for _ in 0..LESSONS {
                match self.store.reprieve(&suspect.key, &reprieve).await {
                    Ok(ReprieveOutcome::Reprieved) => self.pardoned(&suspect.key).await,
                    Ok(ReprieveOutcome::NotNeeded) => {}
                    Err(_) => {
                        self.count_store_error("reprieve");
                        sleep(jittered(SHORTEST_WAIT)).await;
                        continue;
                    }
                }
                break;
            }
        }
    }

    async fn pardoned(&self, key: &TokenKey) {
        tracing::warn!(?key, "The refresh tokens of several consents were refused: a suspension is taken back.");
        if let Err(error) = self.look_again(key).await {
            tracing::debug!(?key, %error, "A consent that was pardoned could not be read.");
        }
    }

    /// A success may have closed the breaker.
    async fn look_at_the_breaker(&self, provider: &ProviderId) {
        let labels = ProviderLabels { provider: provider.as_str().to_owned() };
        if self.metrics.provider_state.get_or_create(&labels).get() == PASSES {
            return;
        }
        if let Ok(standing) = self.store.standing(provider).await {
            let state = match (standing.freeze, standing.breaker) {
                (Some(_), _) => FROZEN,
                (None, Breaker::Closed) => PASSES,
                (None, Breaker::Open(_) | Breaker::HalfOpen(_)) => OPEN,
            };
            self.show_state(provider, state);
        }
    }

    fn show_state(&self, provider: &ProviderId, state: i64) {
        let labels = ProviderLabels { provider: provider.as_str().to_owned() };
        self.metrics.provider_state.get_or_create(&labels).set(state);
    }

    /// Renewed before it ends, as the lease beside it; twice a lease, because connecting and arming come first.
    pub(super) fn permit_life(&self) -> Duration {
        self.timing.lease * 2
    }
}

/// What a request that could not be sent says of its provider.
pub(super) fn lesson_of(not_sent: &NotSent, why: &'static str) -> Lesson {
    match not_sent {
        NotSent::Unreachable(_) => Lesson::Failed(BreakerClass::Unavailable, why),
        NotSent::Tls(_) | NotSent::Request(_) => Lesson::Failed(BreakerClass::Misconfigured, why),
    }
}

/// How soon the first in line asks again, and how late.
const SHORTEST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_millis(250);
/// How often the store is told what was learned, if it does not answer.
const LESSONS: usize = 3;

/// That a provider is taken to be at fault, and not this consent.
pub(super) const REFUSED_ONCE: &str = "refused_once";

/// The limits of a provider, as the store wants them.
pub(super) fn limits(in_flight: usize, per_second: usize) -> Limits {
    let bounded = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).max(1);
    Limits { in_flight: bounded(in_flight), per_second: bounded(per_second) }
}
