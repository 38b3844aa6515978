//! What is stored of a consent, for an operator: everything but the tokens.

use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;

use crate::oauth::TokenEndpoint;
use crate::store::{RecordState, Seed, Snapshot, Store, StoreError};
use crate::token::Tokens;
use crate::words::clock::{Clock, WallTime};
use crate::words::ids::{AttemptId, ConsentId, Fingerprint, Generation, GrantId, ProviderId, TokenKey, Version};
use crate::words::token_set::Scope;

/// A consent without its tokens. As JSON, what is not known is null; times are RFC 3339, durations whole seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConsentView {
    /// The name the app knows it by.
    #[serde(serialize_with = "json::consent_id")]
    pub consent_id: ConsentId,
    /// The word of [`RecordState::consent_state`].
    pub state: &'static str,
    /// Where it was granted.
    #[serde(serialize_with = "json::text")]
    pub provider: ProviderId,
    /// What it covers.
    #[serde(serialize_with = "json::scope")]
    pub scope: Option<Scope>,
    /// The act of consenting.
    #[serde(serialize_with = "json::text")]
    pub grant: GrantId,
    /// Its token set.
    pub generation: Generation,
    /// How much of the access token's life is left, zero once it has expired.
    #[serde(serialize_with = "json::seconds")]
    pub access_token_expires_in: Option<Duration>,
    /// When it expires, by the calendar of this machine; not known once it has.
    #[serde(serialize_with = "json::optional_text")]
    pub access_token_expires_at: Option<WallTime>,
    /// When the consent itself ends.
    #[serde(serialize_with = "json::optional_text")]
    pub consent_expires_at: Option<WallTime>,
    /// Tells refresh tokens apart without showing them.
    #[serde(serialize_with = "json::optional_text")]
    pub refresh_token_fingerprint: Option<Fingerprint>,
    /// The bank's own name for the consent.
    pub bank_consent_id: Option<String>,
    /// Who holds or last held the lease of a refresh.
    #[serde(serialize_with = "json::attempt")]
    pub holder: Option<AttemptId>,
    /// How often this generation's refresh token may have been sent without an explained outcome.
    pub sends: u32,
    /// Refreshes that failed in a row.
    pub failures: u32,
    /// How long until the next refresh may be tried, rounded up.
    #[serde(serialize_with = "json::seconds_up")]
    pub backoff: Option<Duration>,
    /// The class of the last failure.
    pub why: Option<String>,
}

/// Why a consent cannot be shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShowError {
    /// There is no record.
    #[error("nothing is stored under this id")]
    Unknown,
    /// The store did not answer.
    #[error("{0}")]
    StoreUnavailable(String),
    /// There is a record that cannot be understood.
    #[error("{0}")]
    Unreadable(String),
}

/// Reads the record of `consent`. Bounded by some seconds.
pub async fn show<S: Store, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    clock: &C,
    consent: &ConsentId,
) -> Result<ConsentView, ShowError> {
    show_within(PATIENCE, tokens.store(), clock, consent).await
}

pub(super) async fn show_within<S: Store, C: Clock>(
    patience: Duration,
    store: &S,
    clock: &C,
    consent: &ConsentId,
) -> Result<ConsentView, ShowError> {
    let key = TokenKey::Consent(consent.clone());
    match timeout(patience, store.read(&key)).await {
        Ok(Ok(Some(snapshot))) => Ok(ConsentView::of_record(consent, &snapshot, clock)),
        Ok(Ok(None)) => Err(ShowError::Unknown),
        Ok(Err(error @ (StoreError::Unavailable(_) | StoreError::Refused(_) | StoreError::Reuniting))) => {
            Err(ShowError::StoreUnavailable(error.to_string()))
        }
        Ok(Err(error @ StoreError::Unreadable(_))) => Err(ShowError::Unreadable(error.to_string())),
        Err(_) => Err(ShowError::StoreUnavailable("the token store did not answer in time".to_owned())),
    }
}

/// How long the store may take.
const PATIENCE: Duration = Duration::from_secs(5);

impl ConsentView {
    /// Which token set it shows; `{grant}.{generation}`.
    pub const fn version(&self) -> Version {
        Version { grant: self.grant, generation: self.generation }
    }

    fn of_record(consent: &ConsentId, record: &Snapshot, clock: &impl Clock) -> Self {
        let remaining = record.access.as_ref().map(|_| record.remaining);
        Self {
            consent_id: consent.clone(),
            state: record.state.consent_state(),
            provider: record.provider.clone(),
            scope: record.scope.clone(),
            grant: record.version.grant,
            generation: record.version.generation,
            access_token_expires_in: remaining,
            access_token_expires_at: expiry(remaining, clock),
            consent_expires_at: record.consent_expires_at,
            refresh_token_fingerprint: record.refresh_fingerprint,
            bank_consent_id: record.bank_consent_id.clone(),
            holder: record.holder.clone(),
            sends: record.sends,
            failures: record.failures,
            backoff: (!record.backoff.is_zero()).then_some(record.backoff),
            why: record.why.clone(),
        }
    }

    /// What was just stored as `version`. The store is not asked for it: it might not answer, and the import has
    /// happened. Where the store said that the token set was renewed since, what that changed is not known.
    pub(super) fn of_import(consent: &ConsentId, seed: &Seed, version: Version, clock: &impl Clock) -> Self {
        let remaining = (version == Version::first(seed.grant)).then_some(seed.remaining);
        Self {
            consent_id: consent.clone(),
            state: RecordState::Active.consent_state(),
            provider: seed.provider.clone(),
            scope: seed.scope.clone(),
            grant: version.grant,
            generation: version.generation,
            access_token_expires_in: remaining,
            access_token_expires_at: expiry(remaining, clock),
            consent_expires_at: seed.consent_expires_at,
            refresh_token_fingerprint: remaining.and(seed.refresh_fingerprint),
            bank_consent_id: seed.bank_consent_id.clone(),
            holder: None,
            sends: 0,
            failures: 0,
            backoff: None,
            why: None,
        }
    }
}

fn expiry(remaining: Option<Duration>, clock: &impl Clock) -> Option<WallTime> {
    remaining.filter(|remaining| !remaining.is_zero()).map(|remaining| clock.wall().plus(remaining))
}

/// How the fields look as JSON.
#[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
mod json {
    use std::fmt;
    use std::time::Duration;

    use serde::{Serialize as _, Serializer};

    use crate::words::ids::{AttemptId, ConsentId};
    use crate::words::token_set::Scope;

    pub(super) fn consent_id<S: Serializer>(id: &ConsentId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(id.as_str())
    }

    pub(super) fn text<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn optional_text<T: fmt::Display, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().map(ToString::to_string).serialize(serializer)
    }

    pub(super) fn scope<S: Serializer>(scope: &Option<Scope>, serializer: S) -> Result<S::Ok, S::Error> {
        scope.as_ref().map(Scope::as_str).serialize(serializer)
    }

    pub(super) fn attempt<S: Serializer>(attempt: &Option<AttemptId>, serializer: S) -> Result<S::Ok, S::Error> {
        attempt.as_ref().map(AttemptId::as_str).serialize(serializer)
    }

    pub(super) fn seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        duration.as_ref().map(Duration::as_secs).serialize(serializer)
    }

    pub(super) fn seconds_up<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        let up = |duration: &Duration| duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
        duration.as_ref().map(up).serialize(serializer)
    }
}
