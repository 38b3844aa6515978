//! Ends a consent on request: at the bank, where it has a way, and then here.
//!
//! The bank comes first. What is stored here is all that the bank can be asked with, and a tombstone leaves nothing of it;
//! so where the bank says no, or nothing, the record stays as it is, the caller is told, and the same can be asked again.
//! Whoever wants the consent to end here whatever the bank says asks for that alone. A bank that offers a call ends the
//! consent with all its tokens. One that only revokes tokens (RFC 7009) is asked under the lease of the consent's refresh,
//! so that the token that is revoked is the newest there is. All of it is a task of its own: a caller that goes away ends
//! only its own waiting. What is done about one consent is in `errand`.

mod errand;

use std::time::Duration;

use errand::Errand;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::desk::Desks;
use crate::oauth::TokenEndpoint;
use crate::store::{Attempts, StoreError};
use crate::token::{Tokens, VaultError};
use crate::words::clock::Clock;
use crate::words::failure::FailureClass;
use crate::words::ids::{ConsentId, Version};

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RevokeRequest {
    /// What the record must hold; `None`: whatever it holds.
    pub expected: Option<Version>,
    /// End it here, and leave the bank out of it.
    pub only_here: bool,
}

/// What has become of a consent at the bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AtBank {
    /// The bank says that it is revoked.
    Revoked,
    /// The bank says that it had ended before.
    EndedBefore,
    /// The bank was not told: it has no way that is known here, or the caller did not want it.
    NotTold,
    /// There was nothing to revoke: the customer has granted nothing.
    NothingGranted,
    /// The bank revoked what is known here; a refresh whose answer was lost may have left it tokens that nobody knows.
    Unknown,
}

/// A consent that has ended here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// What it is now: `revoked`, or the end that it had before.
    pub state: &'static str,
    /// What the record holds.
    pub version: Version,
    /// What has become of it at the bank.
    pub at_bank: AtBank,
}

/// Why a consent has not ended here. Unless said otherwise nothing has changed, at the bank or here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevokeError {
    /// There is no record.
    #[error("nothing is stored under this id")]
    Unknown,
    /// The record holds something else than expected.
    #[error("the consent holds {current}, which is not what was to be revoked")]
    Mismatch {
        /// What the record holds.
        current: Version,
    },
    /// A refresh is running, and what it brings is not known yet.
    #[error("a refresh of this consent is running; it is revoked once that has ended")]
    Busy {
        /// What the record holds.
        current: Version,
    },
    /// The bank has a way, and it cannot be gone.
    #[error("the bank cannot be asked: {why}")]
    Impossible {
        /// What the record holds.
        current: Version,
        /// Why.
        why: String,
    },
    /// The bank was not reached, or said no.
    #[error("the bank did not revoke the consent: {why}")]
    Refused {
        /// What the record holds.
        current: Version,
        /// Why.
        why: String,
    },
    /// The bank was asked, and what it did is not known.
    #[error("whether the bank revoked the consent is not known: {why}")]
    Silent {
        /// What the record holds.
        current: Version,
        /// Why.
        why: String,
    },
    /// It was granted anew in the middle of it, so that nothing has ended here.
    #[error("the consent was granted anew meanwhile, as {current}; that grant was not touched")]
    GrantedAnew {
        /// What has become of the grant before at the bank.
        at_bank: AtBank,
        /// What the record holds.
        current: Version,
    },
    /// The store did not take the end, which the bank has. It may or may not have happened here.
    #[error("{why}")]
    NotStored {
        /// What has become of it at the bank.
        at_bank: AtBank,
        /// Why.
        why: String,
    },
    /// The store did not answer or said no before anything was done.
    #[error("{0}")]
    StoreUnavailable(String),
    /// There is a record that cannot be understood, or whose tokens do not open.
    #[error("{0}")]
    Unreadable(String),
    /// It takes longer than a caller waits, and goes on.
    #[error("it takes longer than a caller can wait, and goes on; asking again tells")]
    UnderWay,
}

impl RevokeError {
    /// The word it is counted under.
    const fn outcome(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            Self::Silent { .. } => "silent",
            Self::Busy { .. } => "busy",
            Self::Impossible { .. } => "impossible",
            Self::Unknown
            | Self::Mismatch { .. }
            | Self::GrantedAnew { .. }
            | Self::NotStored { .. }
            | Self::StoreUnavailable(_)
            | Self::Unreadable(_)
            | Self::UnderWay => "failed",
        }
    }
}

impl From<StoreError> for RevokeError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::Refused(_) | StoreError::Reuniting => {
                Self::StoreUnavailable(error.to_string())
            }
            StoreError::Unreadable(_) => Self::Unreadable(error.to_string()),
        }
    }
}

impl From<VaultError> for RevokeError {
    fn from(error: VaultError) -> Self {
        Self::Unreadable(format!("the stored tokens cannot be opened: {error}"))
    }
}

/// How long a caller waits. It goes on without.
const PATIENCE: Duration = Duration::from_secs(25);

/// Revokes `consent`. Asking again is safe, however it came out.
pub async fn revoke<S: Attempts, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    desks: &Desks,
    consent: &ConsentId,
    request: RevokeRequest,
) -> Result<Revoked, RevokeError> {
    let (tell, told) = oneshot::channel();
    let (desks, consent, by) = (desks.clone(), consent.clone(), tokens.name_attempt());
    let errand = Errand { tokens: tokens.clone(), desks, consent, by };
    tokens.detach(async move {
        let outcome = errand.run(request).await;
        // Nobody may be waiting any more.
        let _ = tell.send(outcome);
    });
    match timeout(PATIENCE, told).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) | Err(_) => Err(RevokeError::UnderWay),
    }
}

impl AtBank {
    /// The word it is told and counted under.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::EndedBefore => "ended_before",
            Self::NotTold => "not_told",
            Self::NothingGranted => "nothing_granted",
            Self::Unknown => "unknown",
        }
    }

    /// The word that stands in the tombstone.
    const fn class(self) -> FailureClass {
        match self {
            Self::Revoked => FailureClass::RevokedOnRequest,
            Self::EndedBefore => FailureClass::BankSaysEnded,
            Self::NotTold => FailureClass::RevokedHereOnly,
            Self::NothingGranted => FailureClass::RevokedBeforeGrant,
            Self::Unknown => FailureClass::RevokedInDoubt,
        }
    }

    /// What the word of a tombstone says about the bank.
    fn of(why: Option<&str>) -> Self {
        let all = [Self::Revoked, Self::EndedBefore, Self::NotTold, Self::NothingGranted, Self::Unknown];
        let own = all.into_iter().find(|it| why == Some(it.class().as_str()));
        own.unwrap_or(Self::EndedBefore)
    }

    /// What a person is to know or do.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Revoked | Self::EndedBefore | Self::NothingGranted => "Nothing: it has ended at the bank and here.",
            Self::NotTold => "It has ended here. At the bank it lasts until it runs out or the customer ends it there.",
            Self::Unknown => {
                "It has ended here. The bank revoked what was known here; what a lost answer held may last there until it \
                 runs out or the customer ends it."
            }
        }
    }
}
