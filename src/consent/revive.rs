//! Takes back the suspension of a consent, at a person's word.
//!
//! The refresh token that the bank refused is kept, sealed. Where a person knows that the refusal was a mistake, it is
//! put back in its place and the next call tries it. Nothing is sent here. The refresh token of the grant that was
//! replaced last can be put back as well; it is sealed for the version it had, so it is opened and sealed again as the
//! first of a new grant. One that was spent here, or that may have been, is never put back: a bank takes its second
//! presentation for a theft.

use super::persist::persist;
use crate::oauth::TokenEndpoint;
use crate::store::{RecordState, Resealed, Revive, ReviveOutcome, Store, StoreError};
use crate::token::{Tokens, VaultError};
use crate::words::clock::Clock;
use crate::words::ids::{AttemptId, ConsentId, GrantId, TokenKey, Version};

/// Which refresh token a person wants tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one that the bank refused.
    Refused {
        /// What the record must hold; `None`: whatever it holds.
        expected: Option<Version>,
    },
    /// That of the grant that was replaced last.
    Replaced {
        /// What the record must hold.
        expected: Version,
    },
}

/// Why nothing was revived. Unless said otherwise the record is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReviveError {
    /// There is no record.
    #[error("nothing is stored under this id")]
    Unknown,
    /// The record holds something else than expected.
    #[error("the consent holds {current}, which is not what was to be revived")]
    Mismatch {
        /// What the record holds.
        current: Version,
    },
    /// Its state asks for no revival or allows none.
    #[error(
        "the consent is {state}; only a suspended one is revived, and a replaced grant only while nobody refreshes"
    )]
    NotSuspended {
        /// The word of its state.
        state: &'static str,
        /// What the record holds.
        current: Version,
    },
    /// No refresh token is kept.
    #[error("no refresh token is kept that could be tried again")]
    Nothing {
        /// What the record holds.
        current: Version,
    },
    /// The refresh token of the replaced grant was spent.
    #[error(
        "the refresh token of the replaced grant was spent here, or may have been; the bank would take it for a theft"
    )]
    Spent {
        /// What the record holds.
        current: Version,
    },
    /// The kept refresh token does not open, or cannot be sealed again.
    #[error("the refresh token of the replaced grant cannot be sealed anew: {0}")]
    Unsealable(#[from] VaultError),
    /// The store did not answer; the revival may or may not have happened. Asking once more is safe.
    #[error("{0}")]
    StoreUnavailable(String),
    /// The store said no.
    #[error("{0}")]
    StoreRefused(String),
    /// There is a record that cannot be understood.
    #[error("{0}")]
    Unreadable(String),
}

/// Revives `consent`, and says what it holds. Takes some 13 seconds at most. Safe to give up on: it is one step of the
/// store.
pub async fn revive<S: Store, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    consent: &ConsentId,
    which: Which,
) -> Result<Version, ReviveError> {
    let key = TokenKey::Consent(consent.clone());
    let attempt = tokens.name_attempt();
    let revive = match which {
        Which::Refused { expected } => Revive { attempt, expected, replaced: None },
        Which::Replaced { expected } => replaced(tokens, &key, attempt, expected).await?,
    };
    let replaced = revive.replaced.is_some();
    match persist(|| tokens.store().revive(&key, &revive)).await? {
        ReviveOutcome::Revived(version) => {
            tracing::warn!(?consent, %version, replaced, "A consent was revived: its refresh token is tried again.");
            Ok(version)
        }
        ReviveOutcome::NotFound => Err(ReviveError::Unknown),
        ReviveOutcome::Mismatch(current) => Err(ReviveError::Mismatch { current }),
        ReviveOutcome::NotSuspended { state, current } => Err(not_suspended(state, current)),
        ReviveOutcome::Nothing(current) => Err(ReviveError::Nothing { current }),
        ReviveOutcome::Spent(current) => Err(ReviveError::Spent { current }),
    }
}

/// The refresh token of the grant that was replaced last, sealed as the first of a new one.
async fn replaced<S: Store, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    key: &TokenKey,
    attempt: AttemptId,
    expected: Version,
) -> Result<Revive, ReviveError> {
    let record = persist(|| tokens.store().read(key)).await?.ok_or(ReviveError::Unknown)?;
    let current = record.version;
    if current != expected {
        return Err(ReviveError::Mismatch { current });
    }
    let Some((sealed, from)) = &record.replaced else { return Err(ReviveError::Nothing { current }) };
    let (vault, grant) = (tokens.vault(), GrantId::random());
    let token = vault.open_refresh(key, &record, *from, sealed)?;
    let refresh = vault.seal_refresh(key, &record.provider, Version::first(grant), &token)?;
    let fingerprint = vault.fingerprint(&record.provider, &token)?;
    let resealed = Resealed { from: *from, grant, refresh, fingerprint };
    Ok(Revive { attempt, expected: Some(expected), replaced: Some(resealed) })
}

fn not_suspended(state: RecordState, current: Version) -> ReviveError {
    let state = match state {
        RecordState::Leased | RecordState::Armed => "being refreshed",
        RecordState::Pending
        | RecordState::Active
        | RecordState::Uncertain
        | RecordState::ReauthorizationRequired
        | RecordState::Denied
        | RecordState::Revoked
        | RecordState::Expired => state.as_str(),
    };
    ReviveError::NotSuspended { state, current }
}

impl From<StoreError> for ReviveError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(_) => Self::StoreRefused(error.to_string()),
            StoreError::Unreadable(_) => Self::Unreadable(error.to_string()),
            StoreError::Unavailable(_) | StoreError::Reuniting => Self::StoreUnavailable(error.to_string()),
        }
    }
}
