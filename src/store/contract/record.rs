//! A record as those see it who ask a store: sealed tokens, and what may be known without opening them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::words::clock::WallTime;
use crate::words::ids::{AttemptId, Fingerprint, ProviderId, Version};
use crate::words::token_set::Scope;

/// The state of a record. `Leased` and `Armed` are phases of a refresh; to an app both are an active consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordState {
    /// The customer has not come back from the bank yet.
    Pending,
    /// Usable, and nobody is refreshing it.
    Active,
    /// Somebody may refresh; nothing was sent.
    Leased,
    /// The intent is written: a token request may have been sent.
    Armed,
    /// A token request was sent and nobody knows what became of it.
    Uncertain,
    /// The bank refused the refresh token. It is kept, sealed, for a person to revive.
    ReauthorizationRequired,
    /// The customer said no.
    Denied,
    /// Revoked, here or at the bank.
    Revoked,
    /// The consent's own time is over.
    Expired,
}

impl RecordState {
    /// The word stored in a record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Leased => "leased",
            Self::Armed => "armed",
            Self::Uncertain => "uncertain",
            Self::ReauthorizationRequired => "reauthorization_required",
            Self::Denied => "denied",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }

    /// Reads a stored word.
    pub fn parse(word: &str) -> Option<Self> {
        const ALL: [RecordState; 9] = [
            RecordState::Pending,
            RecordState::Active,
            RecordState::Leased,
            RecordState::Armed,
            RecordState::Uncertain,
            RecordState::ReauthorizationRequired,
            RecordState::Denied,
            RecordState::Revoked,
            RecordState::Expired,
        ];
        ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// The word an app or operator sees.
    pub const fn consent_state(self) -> &'static str {
        match self {
            Self::Leased | Self::Armed => "active",
            Self::Pending
            | Self::Active
            | Self::Uncertain
            | Self::ReauthorizationRequired
            | Self::Denied
            | Self::Revoked
            | Self::Expired => self.as_str(),
        }
    }

    /// Whether its tokens may be used at all.
    pub const fn is_usable(self) -> bool {
        match self {
            Self::Active | Self::Leased | Self::Armed | Self::Uncertain => true,
            Self::Pending | Self::ReauthorizationRequired | Self::Denied | Self::Revoked | Self::Expired => false,
        }
    }
}

/// A record as it was when a step ran.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Where the consent was granted.
    pub provider: ProviderId,
    /// Its state after the step.
    pub state: RecordState,
    /// Which token set it holds. A client token that was never fetched has generation 0.
    pub version: Version,
    /// The access token, sealed for this version.
    pub access: Option<Sealed>,
    /// How much of the access token's life is left; zero once it has expired.
    pub remaining: Duration,
    /// The access token's whole life.
    pub life: Duration,
    /// The refresh token, sealed for this version.
    pub refresh: Option<Sealed>,
    /// The refresh token's fingerprint.
    pub refresh_fingerprint: Option<Fingerprint>,
    /// When the grant was stored first, by the store's calendar. Unknown for records of before this was kept.
    pub granted_at: Option<WallTime>,
    /// What the consent covers.
    pub scope: Option<Scope>,
    /// The bank's own name for the consent.
    pub bank_consent_id: Option<String>,
    /// When the consent itself ends.
    pub consent_expires_at: Option<WallTime>,
    /// How long the consent itself still runs; `None` where its end is not known.
    pub consent_remaining: Option<Duration>,
    /// The thumbprint of the client certificate the tokens are bound to (RFC 8705 §3).
    pub certificate: Option<String>,
    /// Who holds or last held the lease.
    pub holder: Option<AttemptId>,
    /// How often this version's refresh token may have been sent: the intents that nobody has explained by a commit or
    /// by a report that the token was not spent.
    pub sends: u32,
    /// Refreshes that failed in a row.
    pub failures: u32,
    /// How long until the next refresh may be tried.
    pub backoff: Duration,
    /// The class of the last failure, a word.
    pub why: Option<String>,
    /// The refresh token of the grant that was replaced last, sealed for the version beside it. For a revive.
    pub replaced: Option<(Sealed, Version)>,
}

/// A token as the store keeps it: opaque bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Sealed(Arc<[u8]>);

impl Sealed {
    /// Wraps bytes that came out of a seal.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The sealed bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}
