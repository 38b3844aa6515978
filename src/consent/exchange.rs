//! A browser comes back from the bank: with a code, which is exchanged once, or with an error.
//!
//! The order is that of a refresh. Connect to the token endpoint, sending nothing, so that a bank that is away costs the
//! customer a reload and no more. CLAIM: from here on nobody else sends this code. Send once, and do not hang up. What comes
//! is kept before anything else happens. SETTLE: a browser that reloads the page is told the same again. All of it is a task
//! of its own; a browser that goes away ends only its own waiting.
//!
//! A code has no second use. So where nobody knows what became of it, or the bank says no, the attempt is over and the
//! customer starts again; of what was granted before nothing is touched.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::persist::persist;
use super::settings::{AskSettings, Asking};
use super::start::ATTEMPT_LIFE;
use crate::oauth::settings::Pkce;
use crate::oauth::{NotSent, Reply, TokenEndpoint, TokenOutcome, TokenRequest};
use crate::store::{
    Attempt, AttemptStage, Attempts, Claim, ClaimOutcome, ClaimTo, End, EndOutcome, RecordState, Settle, StoreError,
    Tell,
};
use crate::token::{Given, Kept, Tokens};
use crate::words::clock::Clock;
use crate::words::ids::{AttemptId, BrowserDigest, ConsentId, ProviderId, StateDigest, TokenKey};
use crate::words::metrics::{Metrics, OutcomeLabels};
use crate::words::said::Said;
use crate::words::secrets::{AuthorizationCode, BrowserKey};
use crate::words::token_set::TokenSet;

/// What a browser brings back.
#[derive(Debug)]
pub struct Return {
    /// Which attempt it is, by the `state` that came back.
    pub state: StateDigest,
    /// What the browser presents.
    pub browser: Option<BrowserKey>,
    /// What the bank says of itself (RFC 9207).
    pub issuer: Option<String>,
    /// What the bank says.
    pub answer: Answer,
}

/// What a bank sends with a browser.
#[derive(Debug)]
pub enum Answer {
    /// RFC 6749 §4.1.2.
    Code(AuthorizationCode),
    /// RFC 6749 §4.1.2.1, and what banks add to it.
    Error(String),
}

/// What becomes of a browser that came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The attempt is over.
    Over {
        /// Whose it was.
        consent: ConsentId,
        /// Where the browser goes.
        return_url: Option<String>,
        /// How it ended.
        ending: Ending,
    },
    /// The code is being exchanged. Asking again in a moment tells.
    Busy,
    /// No browser, or another, began it. Nothing changed.
    Foreign,
    /// There is no such attempt, or its time is over. Nothing changed.
    Unknown,
    /// It comes from another authorization server than the customer was sent to (RFC 9207 §2.4). Nothing changed.
    WrongIssuer,
    /// The bank's token endpoint cannot be reached. Nothing was sent; the same may be tried again while the code lives.
    BankUnavailable,
    /// The store does not answer. Nothing was sent; the same may be tried again.
    StoreUnavailable,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The consent is granted.
    Granted,
    /// The customer refused.
    Denied,
    /// It came to nothing for another reason.
    Failed,
}

impl Ending {
    /// The word that an app is told.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }

    /// What a stored outcome means: whatever is neither of the two good words is a failure's class.
    fn of(outcome: &str) -> Self {
        match outcome {
            "granted" => Self::Granted,
            "denied" => Self::Denied,
            _ => Self::Failed,
        }
    }
}

/// How long a browser is kept waiting before it is shown that it has to wait.
const PATIENCE: Duration = Duration::from_secs(20);
/// From when on an exchange that nobody has settled is taken to be lost: longer than one may take.
const LOST_AFTER: Duration = Duration::from_secs(180);
/// How long a store that does not take the claim is asked again. Codes live for a minute or so.
const CLAIMING: Duration = Duration::from_secs(20);

/// How long a customer waits for that an ending is stored.
const SETTLING: Duration = Duration::from_secs(2);

/// A browser has come back. Whatever follows from it goes on if the browser does not wait.
pub async fn come_back<S: Attempts, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    asking: &AskSettings,
    clock: &C,
    returned: Return,
) -> Arrival {
    let Return { state, browser, issuer, answer } = returned;
    let attempt = match persist(|| tokens.store().attempt(&state)).await {
        Ok(Some(attempt)) => attempt,
        Ok(None) => {
            count(tokens.metrics(), None, "unknown");
            return Arrival::Unknown;
        }
        Err(error) => return store_unavailable(&error),
    };
    let provider = attempt.provider.clone();
    let Some(browser) = browser.map(|key| BrowserDigest::of(key.expose())).filter(|it| attempt.browser == Some(*it))
    else {
        count(tokens.metrics(), Some(&provider), "foreign");
        tracing::warn!(consent = ?attempt.consent, %provider, "A browser came back that had not been sent.");
        return Arrival::Foreign;
    };
    match &attempt.stage {
        AttemptStage::Open => return Arrival::Foreign,
        AttemptStage::Bound => {}
        AttemptStage::Exchanging => return under_way(tokens, attempt).await,
        AttemptStage::Over(outcome) => {
            let ending = Ending::of(outcome);
            return over(attempt, ending);
        }
    }
    let Some(bank) = asking.providers.get(&provider).cloned() else {
        tracing::error!(%provider, "A customer came back from a provider that is no longer configured.");
        return over(attempt, Ending::Failed);
    };
    if let (Some(told), Some(known)) = (&issuer, &bank.authorization.issuer)
        && told != known
    {
        count(tokens.metrics(), Some(&provider), "wrong_issuer");
        tracing::error!(consent = ?attempt.consent, %provider, "A code of another authorization server was brought here.");
        return Arrival::WrongIssuer;
    }
    let (tokens, clock, redirect_uri) = (tokens.clone(), clock.clone(), asking.redirect_uri());
    let (tell, told) = oneshot::channel();
    let attempts = tokens.clone();
    attempts.detach(async move {
        let by = tokens.name_attempt();
        let errand = Errand { tokens: &tokens, clock: &clock, bank: &bank, state, browser, attempt, by };
        let arrival = match answer {
            Answer::Code(code) => errand.exchange(&code, &redirect_uri).await,
            Answer::Error(error) => errand.refuse(&error).await,
        };
        // Nobody may be waiting any more.
        let _ = tell.send(arrival);
    });
    match timeout(PATIENCE, told).await {
        Ok(Ok(arrival)) => arrival,
        // The task ended without a word only if it panicked; whatever it claimed shows when it is asked again.
        Ok(Err(_)) | Err(_) => Arrival::Busy,
    }
}

/// An attempt that somebody has claimed and not settled. Its consent tells whether it has come to its end all the same: a
/// process that was killed after the answer stores it when it starts again.
async fn under_way<S: Attempts, E: TokenEndpoint, C: Clock>(tokens: &Tokens<S, E, C>, attempt: Attempt) -> Arrival {
    let key = TokenKey::Consent(attempt.consent.clone());
    match persist(|| tokens.store().read(&key)).await {
        Ok(Some(record)) if record.version.grant == attempt.grant && record.version.generation > 0 => {
            over(attempt, Ending::Granted)
        }
        Ok(_) if attempt.since >= LOST_AFTER => over(attempt, Ending::Failed),
        Ok(_) => Arrival::Busy,
        Err(error) => store_unavailable(&error),
    }
}

/// One attempt whose browser has come back, and what is needed to bring it to its end.
struct Errand<'a, S, E, C> {
    tokens: &'a Tokens<S, E, C>,
    clock: &'a C,
    bank: &'a Asking,
    state: StateDigest,
    browser: BrowserDigest,
    attempt: Attempt,
    by: AttemptId,
}

/// How an exchange came out, in the words of an attempt: `granted`, or the class of a failure.
struct Outcome {
    word: String,
    said: Said,
}

impl<S: Attempts, E: TokenEndpoint, C: Clock> Errand<'_, S, E, C> {
    async fn exchange(self, code: &AuthorizationCode, redirect_uri: &str) -> Arrival {
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
            Ok(other) => return self.not_claimed(other),
            Err(error) => {
                // It may have been claimed after all. Nothing was sent, and whoever asks again is to know.
                self.settle("not_sent").await;
                return store_unavailable(&error);
            }
        }
        self.tokens.claimed().await;
        let request = TokenRequest::AuthorizationCode { code, redirect_uri, verifier: verifier.as_ref() };
        let sent = Instant::now();
        let Reply { outcome, said, .. } = timeout(self.tokens.timing().send, endpoint.send(connection, &request))
            .await
            .unwrap_or_else(|_| TokenOutcome::Unknown { why: "no_answer" }.into());
        let under_way = sent.elapsed();
        let word = self.keep(outcome, under_way).await;
        self.tokens.metrics().token_request_seconds.observe(under_way.as_secs_f64());
        self.end(Outcome { word, said }).await
    }

    /// What an answer means for the attempt. Only a token set changes anything besides it.
    async fn keep(&self, outcome: TokenOutcome, under_way: Duration) -> String {
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

    async fn granted(&self, set: &TokenSet, under_way: Duration) -> &'static str {
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
    async fn refuse(&self, error: &str) -> Arrival {
        let word = presentable(error);
        let denied = self.bank.denied_by.iter().any(|known| known == error);
        let outcome = if denied { "denied" } else { word };
        match self.claim(ClaimTo::End(outcome.to_owned())).await {
            Ok(ClaimOutcome::Claimed(_)) => {}
            Ok(ClaimOutcome::Busy(attempt)) => return under_way(self.tokens, attempt).await,
            Ok(other) => return self.not_claimed(other),
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
            let tell = Tell { why: why.to_owned(), said, attempt: Some(self.by.clone()) };
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

    fn not_claimed(&self, outcome: ClaimOutcome) -> Arrival {
        match outcome {
            ClaimOutcome::Over(attempt) => match &attempt.stage {
                AttemptStage::Over(outcome) => {
                    let ending = Ending::of(outcome);
                    over(attempt, ending)
                }
                AttemptStage::Open | AttemptStage::Bound | AttemptStage::Exchanging => Arrival::Busy,
            },
            ClaimOutcome::Claimed(_) | ClaimOutcome::Busy(_) => Arrival::Busy,
            ClaimOutcome::NotDurable { acknowledged, required } => {
                tracing::error!(acknowledged, required, "Too few replicas hold a claim: no code is sent.");
                Arrival::StoreUnavailable
            }
            ClaimOutcome::Foreign => Arrival::Foreign,
            ClaimOutcome::Unknown => Arrival::Unknown,
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

fn over(attempt: Attempt, ending: Ending) -> Arrival {
    Arrival::Over { consent: attempt.consent, return_url: attempt.return_url, ending }
}

fn store_unavailable(error: &StoreError) -> Arrival {
    tracing::warn!(%error, "A customer came back, and the token store does not answer.");
    Arrival::StoreUnavailable
}

/// A bank's error as it may be written down: one that looks like a word of OAuth, else that it was none.
fn presentable(error: &str) -> &str {
    let fits = (1..=40).contains(&error.len()) && error.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    // The two words that stand for an end are not the bank's to choose.
    if fits && !matches!(error, "granted" | "denied") { error } else { "other_error" }
}

/// Counts what became of an attempt. `None`: of which provider is not known.
pub(super) fn count(metrics: &Metrics, provider: Option<&ProviderId>, outcome: &'static str) {
    let provider = provider.map_or("-", ProviderId::as_str).to_owned();
    metrics.attempts.get_or_create(&OutcomeLabels { provider, outcome }).inc();
}
