//! A browser comes back from the bank: with a code, which is exchanged once, or with an error.
//!
//! The order is that of a refresh. Connect to the token endpoint, sending nothing, so that a bank that is away costs the
//! customer a reload and no more. CLAIM: from here on nobody else sends this code. Send once, and do not hang up. What comes
//! is kept before anything else happens. SETTLE: a browser that reloads the page is told the same again. All of it is a task
//! of its own; a browser that goes away ends only its own waiting.
//!
//! A code has no second use. So where nobody knows what became of it, or the bank says no, the attempt is over and the
//! customer starts again; of what was granted before nothing is touched. What is done about one browser is in `errand`.

mod errand;

use std::borrow::Cow;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use errand::Errand;

use super::persist::persist;
use super::settings::{AskSettings, Asking};
use crate::oauth::TokenEndpoint;
use crate::store::{Attempt, AttemptStage, Attempts, StoreError};
use crate::token::Tokens;
use crate::words::clock::Clock;
use crate::words::ids::{BrowserDigest, ConsentId, ProviderId, StateDigest, TokenKey};
use crate::words::metrics::{Metrics, OutcomeLabels};
use crate::words::secrets::{AuthorizationCode, BrowserKey};
use zeroize::Zeroizing;

/// By which door an attempt left, and has to come back.
///
/// What is presented at one door is digested in another way than at the other, so that no attempt leaves by one and comes
/// back by the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The callback listener: the customer's browser keeps the key in a cookie.
    Callback,
    /// A person's hands: whoever began the attempt keeps the key, and brings the address that the browser ended at.
    Pasted,
}

impl Way {
    /// What an attempt is tied to.
    pub(super) fn digest(self, key: &BrowserKey) -> BrowserDigest {
        match self {
            Self::Callback => BrowserDigest::of(key.expose()),
            // No cookie that is looked at holds a space.
            Self::Pasted => BrowserDigest::of(&Zeroizing::new(format!("pasted {}", key.expose()))),
        }
    }

    /// The redirect URI that the bank is told; `None` where it knows none for this door.
    pub(super) fn redirect_uri<'a>(self, asking: &'a AskSettings, bank: &'a Asking) -> Option<Cow<'a, str>> {
        match self {
            Self::Callback => Some(Cow::Owned(asking.redirect_uri())),
            Self::Pasted => bank.pasted_redirect_uri.as_deref().map(Cow::Borrowed),
        }
    }
}

/// What a browser brings back.
#[derive(Debug)]
pub struct Return {
    /// Which attempt it is, by the `state` that came back.
    pub state: StateDigest,
    /// Where it comes in.
    pub way: Way,
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

/// A browser has come back. Whatever follows from it goes on if the browser does not wait.
pub async fn come_back<S: Attempts, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    asking: &AskSettings,
    clock: &C,
    returned: Return,
) -> Arrival {
    let Return { state, way, browser, issuer, answer } = returned;
    let attempt = match persist(|| tokens.store().attempt(&state)).await {
        Ok(Some(attempt)) => attempt,
        Ok(None) => {
            count(tokens.metrics(), None, "unknown");
            return Arrival::Unknown;
        }
        Err(error) => return store_unavailable(&error),
    };
    let provider = attempt.provider.clone();
    let Some(browser) = browser.map(|key| way.digest(&key)).filter(|it| attempt.browser == Some(*it)) else {
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
    let bank = asking.providers.get(&provider).cloned();
    let told = bank.as_ref().and_then(|bank| Some(way.redirect_uri(asking, bank)?.into_owned()));
    let (Some(bank), Some(redirect_uri)) = (bank, told) else {
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
    let (tokens, clock) = (tokens.clone(), clock.clone());
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

fn over(attempt: Attempt, ending: Ending) -> Arrival {
    Arrival::Over { consent: attempt.consent, return_url: attempt.return_url, ending }
}

fn store_unavailable(error: &StoreError) -> Arrival {
    tracing::warn!(%error, "A customer came back, and the token store does not answer.");
    Arrival::StoreUnavailable
}

/// Counts what became of an attempt. `None`: of which provider is not known.
pub(super) fn count(metrics: &Metrics, provider: Option<&ProviderId>, outcome: &'static str) {
    let provider = provider.map_or("-", ProviderId::as_str).to_owned();
    metrics.attempts.get_or_create(&OutcomeLabels { provider, outcome }).inc();
}
