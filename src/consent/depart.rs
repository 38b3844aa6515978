//! A browser comes with a ticket, and is sent to the bank.
//!
//! The first browser that comes is tied to the attempt. Where the bank has requests pushed to it (RFC 9126), that is done
//! now, and not when the app asked: what it is known by there lives for a minute or so, and a customer may take ten.

use std::fmt;

use super::exchange::{Way, count};
use super::persist::persist;
use super::settings::AskSettings;
use super::start::{ATTEMPT_LIFE, new_secret, state_of};
use crate::oauth::authorize::AuthorizeRequest;
use crate::oauth::{Push, TokenEndpoint};
use crate::store::{Attempt, Attempts, Bind, BindOutcome, EventKind, Tell};
use crate::token::Tokens;
use crate::words::clock::Clock;
use crate::words::ids::{StateDigest, TokenKey};
use crate::words::secrets::{BrowserKey, RequestUri, Ticket};

/// A browser that is tied to an attempt.
pub struct Departure {
    /// Where it is sent.
    pub to: Result<String, Held>,
    /// Which attempt it is.
    pub state: StateDigest,
    /// What it has to present when it comes back.
    pub browser: BrowserKey,
}

impl fmt::Debug for Departure {
    /// The address holds the state.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Departure({:?})", self.state)
    }
}

/// Why a browser cannot be sent on yet. It may come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// The bank does not answer, where the request is pushed to it.
    BankUnavailable,
    /// The bank does not take the request that is pushed to it.
    Refused,
}

/// Why a browser is not sent to the bank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stay {
    /// There is no such attempt, or its time is over.
    Unknown,
    /// Another browser came first.
    Foreign,
    /// It was there, and came back.
    Used,
    /// The store does not answer.
    StoreUnavailable,
    /// The attempt's provider is no longer configured, or the attempt does not open.
    Misconfigured,
}

/// Which attempt a ticket is for, so that what its browser presents can be found.
pub fn attempt_of(ticket: &Ticket) -> StateDigest {
    StateDigest::of(&state_of(ticket))
}

/// A browser comes with a ticket, and with what it was given before, if it was here before.
pub async fn depart<S: Attempts, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    asking: &AskSettings,
    ticket: &Ticket,
    presented: Option<BrowserKey>,
) -> Result<Departure, Stay> {
    let browser = presented.unwrap_or_else(|| new_secret(BrowserKey::new));
    let to = send_off(tokens, asking, ticket, (Way::Callback, &browser)).await?;
    Ok(Departure { to, state: attempt_of(ticket), browser })
}

/// Ties an attempt to whoever holds this key, and gives the address at the bank, if the bank lets anybody be sent there.
pub(super) async fn send_off<S: Attempts, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    asking: &AskSettings,
    ticket: &Ticket,
    (way, browser): (Way, &BrowserKey),
) -> Result<Result<String, Held>, Stay> {
    let state = state_of(ticket);
    let digest = StateDigest::of(&state);
    let bind = Bind { browser: way.digest(browser), life: ATTEMPT_LIFE };
    let attempt = match persist(|| tokens.store().bind(&digest, &bind)).await {
        Ok(BindOutcome::Bound(attempt)) => attempt,
        Ok(BindOutcome::Foreign) => return Err(Stay::Foreign),
        Ok(BindOutcome::Used(_)) => return Err(Stay::Used),
        Ok(BindOutcome::Unknown) => return Err(Stay::Unknown),
        Err(error) => {
            tracing::warn!(%error, "A browser that was to be sent to a bank had to be turned away.");
            return Err(Stay::StoreUnavailable);
        }
    };
    let Some(bank) = asking.providers.get(&attempt.provider) else { return Err(Stay::Misconfigured) };
    let key = TokenKey::Consent(attempt.consent.clone());
    let opened = tokens.vault().open_verifier(&key, &attempt.provider, attempt.grant, &attempt.verifier);
    let verifier = opened.map_err(|error| {
        tracing::error!(consent = ?attempt.consent, %error, "An attempt does not open.");
        Stay::Misconfigured
    })?;
    let Some(redirect_uri) = way.redirect_uri(asking, bank) else { return Err(Stay::Misconfigured) };
    let scope = attempt.scope.as_ref();
    let request = AuthorizeRequest { redirect_uri: &redirect_uri, scope, state: &state, verifier: &verifier };
    Ok(match tokens.endpoint(&attempt.provider) {
        Some(endpoint) if endpoint.takes_pushed() => {
            let pushed = endpoint.push(&bank.authorization.form(&request)).await;
            let name = name_of(pushed, tokens, &attempt).await;
            name.map(|name| bank.authorization.url_of_pushed(&name))
        }
        Some(_) | None => Ok(bank.authorization.url(&request)),
    })
}

/// What the bank calls a request that was pushed to it. Where it has none, the attempt stays as it is.
async fn name_of<S: Attempts, E: TokenEndpoint, C: Clock>(
    pushed: Push,
    tokens: &Tokens<S, E, C>,
    attempt: &Attempt,
) -> Result<RequestUri, Held> {
    let Attempt { consent, provider, .. } = attempt;
    match pushed {
        Push::Taken(name) => Ok(name),
        Push::Away { why } => {
            count(tokens.metrics(), Some(provider), "bank_unavailable");
            tracing::warn!(?consent, %provider, why = why.as_str(), "A customer waits: the bank does not take requests.");
            Err(Held::BankUnavailable)
        }
        Push::Refused { why, said } => {
            count(tokens.metrics(), Some(provider), "request_refused");
            tracing::error!(?consent, %provider, why = why.as_str(), "The bank refuses a request to ask a customer.");
            let (kind, by) = (EventKind::NotGranted, Some(tokens.name_attempt()));
            let tell = Tell { kind, why: why.as_str().to_owned(), said, attempt: by };
            let key = TokenKey::Consent(consent.clone());
            if persist(|| tokens.store().tell(&key, &tell)).await.is_err() {
                tracing::warn!(?consent, "The history of a consent lacks that the bank refused to ask its customer.");
            }
            Err(Held::Refused)
        }
    }
}
