//! What has happened to a consent, for an operator: how it stands, what a person should do, and its last events.

use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;

use super::show::{ConsentView, PATIENCE, ShowError, json};
use super::why::{self, Told};
use crate::oauth::TokenEndpoint;
use crate::store::{Event, Snapshot, Store, StoreError};
use crate::token::Tokens;
use crate::words::clock::{Clock, WallTime};
use crate::words::ids::{AttemptId, ConsentId, TokenKey};
use crate::words::said::BankRequestId;

/// A consent with its past. As JSON, what is not known is null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HistoryView {
    /// How it stands.
    #[serde(flatten)]
    pub consent: ConsentView,
    /// The state with the phases of a refresh told apart: `leased` and `armed` are an active consent.
    pub phase: &'static str,
    /// How long the holder's lease still lasts, rounded up.
    #[serde(serialize_with = "json::seconds_up")]
    pub lease_expires_in: Option<Duration>,
    /// When the next refresh may be tried, by the calendar of this machine; not known where nothing is waited for.
    #[serde(serialize_with = "json::optional_text")]
    pub next_attempt_at: Option<WallTime>,
    /// What a person is told.
    #[serde(flatten)]
    pub told: Told,
    /// The last events, oldest first.
    pub events: Vec<EventView>,
    /// Why the events could not be read, where they could not.
    pub events_missing: Option<String>,
}

/// An event, for people and programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventView {
    /// When, on the store's clock, RFC 3339.
    pub at: String,
    /// The word of its kind.
    pub event: &'static str,
    /// The same in plain words.
    pub text: String,
    /// By whom.
    pub attempt: Option<String>,
    /// How many leases had been granted.
    pub fence: u64,
    /// What the record held after it, `{grant}.{generation}`.
    pub version: String,
    /// The class of a failure, or another word about the event.
    pub why: Option<String>,
    /// The status code of the bank's answer.
    pub bank_status: Option<u16>,
    /// What the bank calls the request.
    pub bank_request_id: Option<String>,
    /// Whether the request left after the right to send it was over.
    pub sent_late: bool,
    /// Until when nobody tries again because of it, RFC 3339.
    pub until: Option<String>,
}

/// Reads the record of `consent` and its history. Bounded by some seconds. A history that this user may not read leaves
/// the rest readable.
pub async fn history<S: Store, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    clock: &C,
    consent: &ConsentId,
) -> Result<HistoryView, ShowError> {
    let key = TokenKey::Consent(consent.clone());
    let store = tokens.store();
    let both = async { tokio::join!(store.read(&key), store.history(&key)) };
    let in_time = timeout(PATIENCE, both).await;
    let (record, events) =
        in_time.map_err(|_| ShowError::StoreUnavailable("the token store did not answer in time".to_owned()))?;
    let record = record.map_err(ShowError::from)?.ok_or(ShowError::Unknown)?;
    let (events, missing) = match events {
        Ok(events) => (events, None),
        Err(error @ (StoreError::Refused(_) | StoreError::Unreadable(_))) => (Vec::new(), Some(error.to_string())),
        Err(error @ (StoreError::Unavailable(_) | StoreError::Reuniting)) => return Err(error.into()),
    };
    Ok(HistoryView::of(consent, &record, &events, missing, tokens.quarantine(), clock))
}

impl HistoryView {
    fn of(
        consent: &ConsentId,
        record: &Snapshot,
        events: &[Event],
        events_missing: Option<String>,
        quarantine: Duration,
        clock: &impl Clock,
    ) -> Self {
        let quarantined = record.uncertain_for.map_or(Duration::ZERO, |since| quarantine.saturating_sub(since));
        let wait = record.backoff.max(quarantined);
        Self {
            consent: ConsentView::of_record(consent, record, clock),
            phase: record.state.as_str(),
            lease_expires_in: Some(record.lease_left).filter(|left| !left.is_zero()),
            next_attempt_at: Some(wait).filter(|wait| !wait.is_zero()).map(|wait| clock.wall().plus(wait)),
            told: why::tell(record, events, quarantine),
            events: events.iter().map(EventView::of).collect(),
            events_missing,
        }
    }
}

impl EventView {
    fn of(event: &Event) -> Self {
        Self {
            at: event.at.to_string(),
            event: event.kind.as_str(),
            text: why::describe(event),
            attempt: event.attempt.as_ref().map(AttemptId::as_str).map(str::to_owned),
            fence: event.fence,
            version: event.version.to_string(),
            why: event.why.clone(),
            bank_status: event.said.status,
            bank_request_id: event.said.request_id.as_ref().map(BankRequestId::as_str).map(str::to_owned),
            sent_late: event.said.late,
            until: event.until.as_ref().map(ToString::to_string),
        }
    }
}
