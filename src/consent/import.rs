//! Takes in a token set that was granted elsewhere.
//!
//! The tokens are sealed and stored as the first generation of a new grant, if the record is what the caller takes it
//! to be. Whether the bank still accepts them is not tried: the refresh token would be spent on it. A store that does
//! not answer is asked again with the same grant, so that one import makes one grant however often it was sent.

use std::time::Duration;

use super::feed::note_name;
use super::persist::{PATIENCE, persist_within};
use super::request::ImportRequest;
use super::show::ConsentView;
use crate::oauth::TokenEndpoint;
use crate::store::{Feeds, Seed, SeedOutcome, Store, StoreError};
use crate::token::{Tokens, VaultError};
use crate::words::clock::{BootInstant, Clock};
use crate::words::ids::{ConsentId, GrantId, TokenKey, Version};

/// What became of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Whether there was a record before.
    pub made: Made,
    /// What is stored.
    pub view: ConsentView,
}

/// Whether there was a record before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// There was none, or only what is left of one that ended.
    Created,
    /// Exactly the expected one. Its refresh token stays, sealed, for a revive.
    Replaced,
}

/// Why nothing was imported. Unless said otherwise the record is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The configuration has no such provider.
    #[error("the provider is not configured")]
    UnknownProvider,
    /// There is a record, and the caller did not say that it is to be replaced.
    #[error("the consent exists already, as {current}")]
    AlreadyExists {
        /// What the record holds.
        current: Version,
    },
    /// The record holds something else than expected.
    #[error("the consent holds {current}, which is not what was to be replaced")]
    Mismatch {
        /// What the record holds.
        current: Version,
    },
    /// There is nothing to replace.
    #[error("there is no such consent to be replaced")]
    Missing,
    /// The refresh token was spent here, or is being spent. A bank would take it for a theft.
    #[error("this refresh token was spent here already, or is being spent")]
    Spent {
        /// What the record holds.
        current: Version,
    },
    /// The tokens could not be sealed.
    #[error("the tokens cannot be sealed: {0}")]
    Unsealable(#[from] VaultError),
    /// The store did not answer; the import may or may not have happened. Sending it once more is safe.
    #[error("{0}")]
    StoreUnavailable(String),
    /// The store said no.
    #[error("{0}")]
    StoreRefused(String),
    /// There is a record that cannot be understood.
    #[error("{0}")]
    Unreadable(String),
}

/// Imports a token set as a new grant of `consent`. `expected`: what the record must hold; `None`: there must be none.
///
/// Takes some 13 seconds at most. Safe to give up on: an import is one step of the store.
pub async fn import<S: Feeds, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    clock: &C,
    consent: &ConsentId,
    request: ImportRequest,
    expected: Option<Version>,
) -> Result<Imported, ImportError> {
    if !tokens.knows(&request.provider) {
        return Err(ImportError::UnknownProvider);
    }
    let key = TokenKey::Consent(consent.clone());
    let grant = GrantId::random();
    let ImportRequest { provider, access, refresh, .. } = &request;
    let (vault, first) = (tokens.vault(), Version::first(grant));
    let (sealed, sealed_refresh) = vault.seal(&key, provider, first, access, refresh.as_ref())?;
    let refresh_fingerprint = refresh.as_ref().map(|refresh| vault.fingerprint(provider, refresh)).transpose()?;
    let seed = Seed {
        provider: provider.clone(),
        grant,
        expected,
        age: None,
        access: sealed,
        refresh: sealed_refresh,
        refresh_fingerprint,
        remaining: request.expires_at.since(clock.boot()),
        life: request.life,
        scope: request.scope.clone(),
        bank_consent_id: request.bank_consent_id.clone(),
        consent_expires_at: request.consent_expires_at,
        certificate: tokens.certificate(provider),
    };
    // First: what is stored can be found under its bank's name from the beginning.
    let name = request.bank_consent_id.as_deref();
    note_name(tokens, provider, name, consent).await.map_err(|error| not_stored(&error))?;
    let (made, version) = match sow(tokens.store(), clock, &key, seed.clone(), request.expires_at, PATIENCE).await? {
        SeedOutcome::Created(version) => (Made::Created, version),
        SeedOutcome::Replaced(version) => (Made::Replaced, version),
        SeedOutcome::Exists(current) => return Err(ImportError::AlreadyExists { current }),
        SeedOutcome::Mismatch(current) => return Err(ImportError::Mismatch { current }),
        SeedOutcome::Missing => return Err(ImportError::Missing),
        SeedOutcome::Spent(current) => return Err(ImportError::Spent { current }),
    };
    // Should the store forget it, this process does not. It was stored, whether or not it can be read again now.
    if let Err(error) = tokens.remember(consent).await {
        tracing::warn!(?consent, %error, "An imported token set could not be read again.");
    }
    tracing::info!(?consent, provider = %seed.provider, %version, ?made, "A token set was imported.");
    Ok(Imported { made, view: ConsentView::of_import(consent, &seed, version, clock) })
}

/// Stores `seed`, repeating it while the store does not answer. The life that is stored shrinks with every pause.
pub(super) async fn sow<S: Store, C: Clock>(
    store: &S,
    clock: &C,
    key: &TokenKey,
    seed: Seed,
    expires_at: BootInstant,
    patience: Duration,
) -> Result<SeedOutcome, ImportError> {
    let sown = persist_within(patience, || {
        let seed = Seed { remaining: expires_at.since(clock.boot()), ..seed.clone() };
        async move { store.seed(key, &seed).await }
    });
    sown.await.map_err(|error| not_stored(&error))
}

fn not_stored(error: &StoreError) -> ImportError {
    match error {
        StoreError::Refused(_) => ImportError::StoreRefused(error.to_string()),
        StoreError::Unreadable(_) => ImportError::Unreadable(error.to_string()),
        StoreError::Unavailable(_) | StoreError::Reuniting => ImportError::StoreUnavailable(error.to_string()),
    }
}
