//! What an event leads to: the consent that a bank says has ended ends here.
//!
//! An event may come twice, so what it leads to is the same the second time. A consent is meant if the bank's name for it is
//! stored with it, or, where none is stored, if it is called so itself, as in calls through the proxy. A name of which
//! nothing is stored makes no record.

use std::time::Duration;

use crate::consent::persist::persist;
use crate::oauth::TokenEndpoint;
use crate::store::{End, EndOutcome, Feeds, RecordState, Snapshot, StoreError};
use crate::token::Tokens;
use crate::words::clock::Clock;
use crate::words::failure::FailureClass;
use crate::words::ids::{BankNameDigest, ConsentId, ProviderId, TokenKey};

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    /// A consent has ended because of it.
    Ended,
    /// It had ended before.
    EndedBefore,
    /// No consent is stored of which it tells.
    Unknown,
    /// There is one, and its record cannot be understood: nothing was changed.
    Unreadable,
}

impl Applied {
    /// The word it is counted under.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::EndedBefore => "ended_before",
            Self::Unknown => "unknown",
            Self::Unreadable => "unreadable",
        }
    }
}

/// How long a bank's name for a consent is kept: longer than the longest consent lasts.
const NAME_KEPT: Duration = Duration::from_secs(400 * 86_400);
/// How often it is looked again at a consent that is granted anew meanwhile.
const LOOKS: usize = 3;

/// Notes what a bank calls a consent, where it has a feed that names consents so.
pub(in crate::consent) async fn note_name<S: Feeds, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    provider: &ProviderId,
    name: Option<&str>,
    consent: &ConsentId,
) -> Result<(), StoreError> {
    let Some(name) = name.filter(|name| *name != consent.as_str() && tokens.tells_by_feed(provider)) else {
        return Ok(());
    };
    let digest = BankNameDigest::of(name);
    persist(|| tokens.store().name_consent(provider, &digest, consent, NAME_KEPT)).await
}

/// Ends what the bank calls `name`. An error of the store says that it is not known whether all of it has happened.
pub(super) async fn ended<S: Feeds, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    provider: &ProviderId,
    name: &str,
) -> Result<Applied, StoreError> {
    let digest = BankNameDigest::of(name);
    let mut candidates = persist(|| tokens.store().consents_named(provider, &digest)).await?;
    if let Ok(own) = ConsentId::parse(name)
        && !candidates.contains(&own)
    {
        candidates.push(own);
    }
    let mut applied = Applied::Unknown;
    for consent in &candidates {
        match end_one(tokens, provider, name, consent).await {
            Ok(Applied::Ended) => applied = Applied::Ended,
            Ok(Applied::EndedBefore) if applied == Applied::Unknown => applied = Applied::EndedBefore,
            Ok(Applied::EndedBefore | Applied::Unknown | Applied::Unreadable) => {}
            // Reading it again would not help, and what comes after it must not wait for it.
            Err(StoreError::Unreadable(why)) => {
                tracing::error!(?consent, %provider, why, "The bank ended a consent whose record cannot be read.");
                if applied == Applied::Unknown {
                    applied = Applied::Unreadable;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(applied)
}

async fn end_one<S: Feeds, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    provider: &ProviderId,
    name: &str,
    consent: &ConsentId,
) -> Result<Applied, StoreError> {
    let key = TokenKey::Consent(consent.clone());
    for _ in 0..LOOKS {
        let record = persist(|| tokens.put_right(consent)).await?;
        let Some(record) = record.filter(|record| is_meant(record, provider, name, consent)) else {
            return Ok(Applied::Unknown);
        };
        let Some(state) = end_of(&record) else { return Ok(Applied::EndedBefore) };
        let why = FailureClass::BankSaysEnded.as_str().to_owned();
        let end = End { grant: Some(record.version.grant), state, why, remembered: None };
        match persist(|| tokens.store().end(&key, &end)).await? {
            EndOutcome::Ended => {
                tracing::info!(?consent, %provider, state = state.as_str(), "The bank's feed says that a consent has ended.");
                tokens.forget(consent).await;
                return Ok(Applied::Ended);
            }
            // Granted anew meanwhile, and perhaps under another name.
            EndOutcome::NotFound => {}
        }
    }
    Err(StoreError::Unavailable("a consent is granted anew again and again".to_owned()))
}

fn is_meant(record: &Snapshot, provider: &ProviderId, name: &str, consent: &ConsentId) -> bool {
    record.provider == *provider && record.bank_consent_id.as_deref().unwrap_or(consent.as_str()) == name
}

/// What a consent becomes; `None` for one that has ended already, or was never granted.
fn end_of(record: &Snapshot) -> Option<RecordState> {
    let nothing_left = record.access.is_none() && record.refresh.is_none();
    match record.state {
        RecordState::Pending | RecordState::Denied | RecordState::Revoked => None,
        RecordState::Expired => (!nothing_left).then_some(RecordState::Expired),
        RecordState::Active
        | RecordState::Leased
        | RecordState::Armed
        | RecordState::Uncertain
        | RecordState::ReauthorizationRequired => Some(RecordState::Revoked),
    }
}
