//! A browser comes with a ticket, and is sent to the bank.
//!
//! The first browser that comes is tied to the attempt.

use std::fmt;

use super::exchange::Way;
use super::persist::persist;
use super::settings::AskSettings;
use super::start::{ATTEMPT_LIFE, new_secret, state_of};
use crate::oauth::TokenEndpoint;
use crate::oauth::authorize::AuthorizeRequest;
use crate::store::{Attempts, Bind, BindOutcome};
use crate::token::Tokens;
use crate::words::clock::Clock;
use crate::words::ids::{StateDigest, TokenKey};
use crate::words::secrets::{BrowserKey, Ticket};

/// A browser on its way to the bank.
pub struct Departure {
    /// Where it is sent.
    pub url: String,
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
    let url = send_off(tokens, asking, ticket, (Way::Callback, &browser)).await?;
    Ok(Departure { url, state: attempt_of(ticket), browser })
}

/// Ties an attempt to whoever holds this key, and gives the address at the bank.
pub(super) async fn send_off<S: Attempts, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    asking: &AskSettings,
    ticket: &Ticket,
    (way, browser): (Way, &BrowserKey),
) -> Result<String, Stay> {
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
    Ok(bank.authorization.url(&AuthorizeRequest {
        redirect_uri: &redirect_uri,
        scope,
        state: &state,
        verifier: &verifier,
    }))
}
