//! From a browser that came back to the end of its attempt: connect, claim, send once, keep, settle.

use std::time::Duration;
use tokio::sync::oneshot;

use tokio::time::{Instant, sleep, timeout};

use super::{Arrival, Ending, count, over, store_unavailable, under_way};
use crate::consent::persist::persist;
use crate::consent::settings::Asking;
use crate::consent::start::ATTEMPT_LIFE;
use crate::oauth::settings::Pkce;
use crate::oauth::{NotSent, Reply, TokenEndpoint, TokenOutcome, TokenRequest};
use crate::store::{
    Attempt, AttemptStage, Attempts, Claim, ClaimOutcome, ClaimTo, End, EndOutcome, EventKind, RecordState, Settle,
    StoreError, Tell,
};
use crate::token::{Given, Kept, Tokens, UnderWay, timed};
use crate::words::clock::Clock;
use crate::words::ids::{AttemptId, BrowserDigest, StateDigest, TokenKey};
use crate::words::metrics::OutcomeLabels;
use crate::words::said::Said;
use crate::words::secrets::AuthorizationCode;
use crate::words::token_set::TokenSet;

/// One attempt whose browser has come back, and what is needed to bring it to its end.
pub(super) struct Errand<'a, S, E, C> {
    pub(super) tokens: &'a Tokens<S, E, C>,
    pub(super) clock: &'a C,
    pub(super) bank: &'a Asking,
    pub(super) state: StateDigest,
    pub(super) browser: BrowserDigest,
    pub(super) attempt: Attempt,
    pub(super) by: AttemptId,
}

/// How an exchange came out, in the words of an attempt: `granted`, or the class of a failure.
struct Outcome {
    word: String,
    said: Said,
}

impl<S: Attempts, E: TokenEndpoint, C: Clock> Errand<'_, S, E, C> {
    pub(super) async fn exchange(self, code: &AuthorizationCode, redirect_uri: &str) -> Arrival {
        let provider = &self.attempt.provider;
        let Some(endpoint) = self.tokens.endpoint(provider) else { return self.over(Ending::Failed) };
        let connection = match timeout(self.tokens.timing().connect, endpoint.connect()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(not_sent)) => return self.not_connected(&not_sent),
            Err(_) => return self.not_connected(&NotSent::Unreachable("it took too long".to_owned())),
        };
        let key = TokenKey::Consent(self.attempt.consent.clone());
        let vault = self.tokens.vault();
        let verifier = match self.bank.authorization.pkce {
            Pkce::Never => None,
            Pkce::Required | Pkce::Allowed => {
                match vault.open_verifier(&key, provider, self.attempt.grant, &self.attempt.verifier) {
                    Ok(verifier) => Some(verifier),
                    Err(error) => {
                        tracing::error!(consent = ?self.attempt.consent, %error, "An attempt does not open.");
                        return self.refuse("unreadable").await;
                    }
                }
            }
        };
        match self.claim(ClaimTo::Exchange).await {
            Ok(ClaimOutcome::Claimed(_)) => {}
            Ok(ClaimOutcome::Busy(attempt)) => return under_way(self.tokens, attempt).await,
            Ok(ClaimOutcome::NotDurable { acknowledged, required }) => {
                tracing::error!(acknowledged, required, "Too few replicas hold a claim: no code is sent.");
                return self.end(Outcome { word: "not_durable".to_owned(), said: Said::default() }).await;
            }
            Ok(other) => return not_claimed(other),
            Err(error) => {
                // It may have been claimed after all. Nothing was sent, and whoever asks again is to know.
                self.settle("not_sent").await;
                return store_unavailable(&error);
            }
        }
        self.tokens.claimed().await;
        let request = TokenRequest::AuthorizationCode { code, redirect_uri, verifier: verifier.as_ref() };
        let exchange = timeout(self.tokens.timing().send, endpoint.send(connection, &request));
        let (reply, under_way) = timed(self.clock, exchange).await;
        let Reply { outcome, said, .. } = reply.unwrap_or_else(|_| TokenOutcome::Unknown { why: "no_answer" }.into());
        let word = self.keep(outcome, under_way).await;
        self.tokens.metrics().token_request_seconds.observe(under_way.whole.as_secs_f64());
        self.end(Outcome { word, said }).await
    }

    /// What an answer means for the attempt. Only a token set changes anything besides it.
    async fn keep(&self, outcome: TokenOutcome, under_way: UnderWay) -> String {
        let Attempt { consent, provider, grant, .. } = &self.attempt;
        let counted = |outcome| {
            let provider = provider.as_str().to_owned();
            self.tokens.metrics().token_requests.get_or_create(&OutcomeLabels { provider, outcome }).inc();
        };
        let word = match outcome {
            TokenOutcome::Granted(set) => {
                counted("granted");
                return self.granted(&set, under_way).await.to_owned();
            }
            TokenOutcome::InvalidGrant => "invalid_grant",
            TokenOutcome::NotSent(NotSent::Unreachable(_)) => "unreachable",
            TokenOutcome::NotSent(NotSent::Tls(_)) => "tls_refused",
            TokenOutcome::NotSent(NotSent::Request(_)) => "request_impossible",
            TokenOutcome::NotProcessed { why, .. } | TokenOutcome::Unknown { why } => why,
            TokenOutcome::Misconfigured { why } => {
                tracing::error!(%provider, why, "The bank does not let our client exchange a code.");
                why
            }
            TokenOutcome::Unreadable { why, body } => {
                self.tokens.salvage_grant((consent, provider, *grant), &self.by, &body).await;
                why
            }
        };
        counted(word);
        tracing::warn!(?consent, %provider, why = word, "A code was not exchanged. The customer has to start again.");
        word.to_owned()
    }

    async fn granted(&self, set: &TokenSet, under_way: UnderWay) -> &'static str {
        let Attempt { consent, provider, grant, scope: asked, .. } = &self.attempt;
        let life = asked.as_ref().and_then(|asked| self.bank.rules.life(asked)).or(self.bank.consent_life);
        let given = Given {
            consent,
            provider,
            grant: *grant,
            attempt: &self.by,
            set,
            under_way,
            scope: set.scope.clone().or_else(|| asked.as_ref().map(|asked| self.bank.rules.bare(asked))),
            consent_expires_at: life.map(|life| self.clock.wall().plus(life)),
        };
        match self.tokens.keep_grant(&given).await {
            Ok(Kept::Stored(version)) => {
                tracing::info!(?consent, %provider, %version, "A customer has consented.");
                "granted"
            }
            Ok(Kept::Later) => {
                tracing::warn!(?consent, %provider, "A customer has consented; the store is told as soon as it answers.");
                "granted"
            }
            Ok(Kept::Overtaken) => {
                tracing::warn!(?consent, %provider, "A consent was granted anew, or ended, while its code was exchanged.");
                "overtaken"
            }
            Err(error) => {
                tracing::error!(?consent, %provider, %error, "A new token set cannot be sealed, and is lost.");
                "unsealable"
            }
        }
    }

    /// The bank sent no code, or the code is of no use here. The attempt ends without anything being sent.
    pub(super) async fn refuse(&self, error: &str) -> Arrival {
        let word = presentable(error);
        let denied = self.bank.denied_by.iter().any(|known| known == error);
        let outcome = if denied { "denied" } else { word };
        match self.claim(ClaimTo::End(outcome.to_owned())).await {
            Ok(ClaimOutcome::Claimed(_)) => {}
            Ok(ClaimOutcome::Busy(attempt)) => return under_way(self.tokens, attempt).await,
            Ok(other) => return not_claimed(other),
            Err(error) => return store_unavailable(&error),
        }
        self.conclude(Ending::of(outcome), word, Said::default()).await
    }

    /// Writes down how an exchange ended, and tells.
    async fn end(&self, outcome: Outcome) -> Arrival {
        let Outcome { word, said } = outcome;
        self.settle(&word).await;
        self.conclude(Ending::of(&word), &word, said).await
    }

    /// The consent learns of it. A new one that the customer refused is denied; any other stays as it is.
    async fn conclude(&self, ending: Ending, why: &str, said: Said) -> Arrival {
        let Attempt { consent, provider, grant, .. } = &self.attempt;
        count(self.tokens.metrics(), Some(provider), ending.as_str());
        tracing::info!(?consent, %provider, ending = ending.as_str(), why, "An attempt has ended.");
        let (key, store) = (TokenKey::Consent(consent.clone()), self.tokens.store());
        let mut told = match ending {
            Ending::Granted => true,
            Ending::Failed => false,
            Ending::Denied => {
                let state = RecordState::Denied;
                let end = End { grant: Some(*grant), state, why: why.to_owned(), remembered: None };
                match persist(|| store.end(&key, &end)).await {
                    Ok(EndOutcome::Ended) => true,
                    Ok(EndOutcome::NotFound) => false,
                    Err(error) => {
                        tracing::warn!(?consent, %error, "That a customer refused could not be stored.");
                        true
                    }
                }
            }
        };
        if !told {
            let (kind, attempt) = (EventKind::NotGranted, Some(self.by.clone()));
            let tell = Tell { kind, why: why.to_owned(), said, attempt };
            told = persist(|| store.tell(&key, &tell)).await.is_ok();
        }
        if !told {
            tracing::warn!(?consent, "The history of a consent lacks how an attempt ended.");
        }
        self.over(ending)
    }

    /// Claims the attempt, repeating the same claim while its outcome is not known.
    async fn claim(&self, to: ClaimTo) -> Result<ClaimOutcome, StoreError> {
        let claim = Claim { browser: self.browser, by: self.by.clone(), to, life: ATTEMPT_LIFE };
        let until = Instant::now() + CLAIMING;
        loop {
            let outcome = persist(|| self.tokens.store().claim(&self.state, &claim)).await;
            match outcome {
                Ok(ClaimOutcome::NotDurable { .. }) | Err(StoreError::Unavailable(_) | StoreError::Reuniting)
                    if Instant::now() < until =>
                {
                    sleep(Duration::from_millis(250)).await;
                }
                outcome => return outcome,
            }
        }
    }

    fn not_connected(&self, not_sent: &NotSent) -> Arrival {
        let provider = &self.attempt.provider;
        count(self.tokens.metrics(), Some(provider), "bank_unavailable");
        tracing::warn!(%provider, error = %not_sent, "A code waits: the token endpoint cannot be reached.");
        Arrival::BankUnavailable
    }

    /// Writes down how the attempt ended. Where the store does not take it at once, that goes on by itself: the customer need
    /// not wait for it.
    async fn settle(&self, outcome: &str) {
        let settle = Settle { by: self.by.clone(), outcome: outcome.to_owned(), life: ATTEMPT_LIFE };
        let (tokens, state) = (self.tokens.clone(), self.state);
        let (tell, told) = oneshot::channel();
        self.tokens.detach(async move {
            if let Err(error) = persist(|| tokens.store().settle(&state, &settle)).await {
                tracing::warn!(?state, %error, "How an attempt ended could not be stored.");
            }
            let _ = tell.send(());
        });
        let _ = timeout(SETTLING, told).await;
    }

    fn over(&self, ending: Ending) -> Arrival {
        over(self.attempt.clone(), ending)
    }
}

fn not_claimed(outcome: ClaimOutcome) -> Arrival {
    match outcome {
        ClaimOutcome::Over(attempt) => match &attempt.stage {
            AttemptStage::Over(outcome) => {
                let ending = Ending::of(outcome);
                over(attempt, ending)
            }
            AttemptStage::Open | AttemptStage::Bound | AttemptStage::Exchanging => Arrival::Busy,
        },
        ClaimOutcome::Claimed(_) | ClaimOutcome::Busy(_) => Arrival::Busy,
        ClaimOutcome::NotDurable { .. } => Arrival::StoreUnavailable,
        ClaimOutcome::Foreign => Arrival::Foreign,
        ClaimOutcome::Unknown => Arrival::Unknown,
    }
}

/// A bank's error as it may be written down: one that looks like a word of OAuth, else that it was none.
fn presentable(error: &str) -> &str {
    let fits = (1..=40).contains(&error.len()) && error.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    // The two words that stand for an end are not the bank's to choose.
    if fits && !matches!(error, "granted" | "denied") { error } else { "other_error" }
}

/// How long a store that does not take the claim is asked again. Codes live for a minute or so.
const CLAIMING: Duration = Duration::from_secs(20);
/// How long a customer waits for that an ending is stored.
const SETTLING: Duration = Duration::from_secs(2);
