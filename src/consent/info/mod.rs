//! What the bank itself says of a consent: how it stands there, what it covers, and when it ends.
//!
//! Each bank tells it in its own way; where it is asked, and where in the answer what stands, is data of its profile. The
//! answer is kept for a minute, and that there was none for some seconds, so that whoever asks often does not have the
//! bank asked as often. When the consent ends is the bank's to say: its word takes the place of what was reckoned when the
//! consent was granted. When the access token ends is told apart from that, and changes nothing.

mod values;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use values::{date, span, word, words};

use super::desk::{About, BankCall, Desk, Desks, Heard, Unheard};
use super::persist::persist;
use super::show::json;
use crate::net::courier::Undelivered;
use crate::oauth::TokenEndpoint;
use crate::store::{Attempts, Snapshot, StoreError, Term};
use crate::token::{TokenError, Tokens};
use crate::words::clock::{BootInstant, Clock, WallTime};
use crate::words::ids::{ConsentId, GrantId, ProviderId, TokenKey};
use crate::words::said::{BankRequestId, Said};

/// Where a bank tells of a consent, and how its answer is read. Places are JSON pointers (RFC 6901).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfoCall {
    /// What is asked.
    pub call: BankCall,
    /// The word for how it stands.
    pub status: Option<String>,
    /// The words that mean that it can be used, without regard to case; empty: nothing is known of that.
    pub active: Vec<String>,
    /// What it covers.
    pub scope: Option<String>,
    /// When the consent ends: seconds since 1970, RFC 3339, or a day, which counts in full.
    pub consent_expires_at: Option<String>,
    /// How long the consent still lasts: seconds, or words such as `2 days, 3 hours`.
    pub consent_expires_in: Option<String>,
    /// When the token that was sent ends; as for the consent.
    pub token_expires_at: Option<String>,
}

/// What the bank says. As JSON, what it does not say is null, and times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InfoView {
    /// The name the app knows the consent by.
    #[serde(serialize_with = "json::consent_id")]
    pub consent_id: ConsentId,
    /// Where it was granted.
    #[serde(serialize_with = "json::text")]
    pub provider: ProviderId,
    /// Which grant was asked about.
    #[serde(serialize_with = "json::text")]
    pub grant: GrantId,
    /// Whether the bank lets it be used.
    pub active: Option<bool>,
    /// The bank's own word for how it stands.
    pub status: Option<String>,
    /// What it covers.
    pub scope: Option<String>,
    /// When the consent ends.
    #[serde(serialize_with = "json::optional_text")]
    pub consent_expires_at: Option<WallTime>,
    /// When the access token ends that it was asked with.
    #[serde(serialize_with = "json::optional_text")]
    pub token_expires_at: Option<WallTime>,
    /// When the bank was asked.
    #[serde(serialize_with = "json::text")]
    pub asked_at: WallTime,
    /// The status code of its answer.
    pub bank_status: Option<u16>,
    /// What the bank calls the request.
    pub bank_request_id: Option<String>,
    /// The bank's answer as it is, where it is JSON.
    pub answer: Option<Value>,
}

/// Why nothing is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InfoError {
    /// There is no record.
    #[error("nothing is stored under this id")]
    Unknown,
    /// Nothing is known of how the bank could be asked.
    #[error("nothing is known of how this bank could be asked about a consent (consent_info of the provider)")]
    NotOffered,
    /// The consent allows no token to ask with.
    #[error(transparent)]
    NoToken(TokenError),
    /// The bank was not reached, or gave no answer.
    #[error("the bank's API for consents does not answer: {0}")]
    NoAnswer(String),
    /// The bank's answer tells nothing.
    #[error("the bank's API for consents answered {status}")]
    Refused {
        /// Its status.
        status: u16,
    },
    /// The store did not answer or said no.
    #[error("{0}")]
    StoreUnavailable(String),
    /// There is a record that cannot be understood.
    #[error("{0}")]
    Unreadable(String),
}

impl From<StoreError> for InfoError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::Refused(_) | StoreError::Reuniting => {
                Self::StoreUnavailable(error.to_string())
            }
            StoreError::Unreadable(_) => Self::Unreadable(error.to_string()),
        }
    }
}

/// What was told of consents lately, for so many of them at most; the least recently useful one makes room.
#[derive(Debug)]
pub(super) struct Lately(quick_cache::sync::Cache<ConsentId, Arc<Kept>>);

#[derive(Debug)]
struct Kept {
    grant: GrantId,
    asked: BootInstant,
    told: Result<InfoView, InfoError>,
}

/// How many consents are kept.
const MOST_KEPT: usize = 1_000;
/// How long what the bank said is told again.
const FRESH: Duration = Duration::from_secs(60);
/// How long that it said nothing is.
const FRESH_FAILURE: Duration = Duration::from_secs(5);
/// A date that differs by less from the one that is stored is the same: banks count in whole seconds and round.
const SAME_MILLIS: u64 = 60_000;

impl Lately {
    pub(super) fn new() -> Self {
        Self(quick_cache::sync::Cache::new(MOST_KEPT))
    }

    fn get(&self, consent: &ConsentId, grant: GrantId, now: BootInstant) -> Option<Result<InfoView, InfoError>> {
        let kept = self.0.get(consent).filter(|kept| kept.grant == grant)?;
        let fresh = if kept.told.is_ok() { FRESH } else { FRESH_FAILURE };
        (now.since(kept.asked) < fresh).then(|| kept.told.clone())
    }
}

/// Asks the bank about `consent`, or tells what it said a moment ago.
pub async fn info<S: Attempts, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    desks: &Desks,
    clock: &C,
    consent: &ConsentId,
) -> Result<InfoView, InfoError> {
    let key = TokenKey::Consent(consent.clone());
    let record = persist(|| tokens.store().read(&key)).await?.ok_or(InfoError::Unknown)?;
    let desk = desks.get(&record.provider).and_then(|desk| Some((desk, desk.info()?)));
    let (desk, call) = desk.ok_or(InfoError::NotOffered)?;
    let grant = record.version.grant;
    if let Some(told) = desk.lately().get(consent, grant, clock.boot()) {
        return told;
    }
    // Whoever finds others asking waits, and mostly finds what they were told.
    let _turn = desk.turn().await;
    if let Some(told) = desk.lately().get(consent, grant, clock.boot()) {
        return told;
    }
    let told = ask(tokens, desk, call, (consent, &record), clock).await;
    if let Ok(view) = &told
        && let Some(until) = view.consent_expires_at.filter(|until| is_news(&record, *until, clock.wall()))
    {
        let term = Term { grant, until };
        match persist(|| tokens.store().term(&key, &term)).await {
            Ok(true) => {
                tracing::info!(?consent, provider = %record.provider, %until, "The bank says when a consent ends.");
                tokens.forget(consent).await;
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(?consent, %error, "When a consent ends could not be stored."),
        }
    }
    let kept = Kept { grant, asked: clock.boot(), told: told.clone() };
    desk.lately().0.insert(consent.clone(), Arc::new(kept));
    told
}

/// Whether a date is worth storing. One that is past ends nothing here: should it be wrong, nobody could ask again.
fn is_news(record: &Snapshot, until: WallTime, now: WallTime) -> bool {
    let stored = record.consent_expires_at.map(WallTime::as_millis);
    let differs = stored.is_none_or(|stored| stored.abs_diff(until.as_millis()) > SAME_MILLIS);
    until > now && differs
}

async fn ask<S: Attempts, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    desk: &Desk,
    shape: &InfoCall,
    (consent, record): (&ConsentId, &Snapshot),
    clock: &C,
) -> Result<InfoView, InfoError> {
    let bank_id = record.bank_consent_id.as_deref().unwrap_or(consent.as_str());
    if shape.call.path.names_consent() && matches!(bank_id, "." | "..") {
        return Err(InfoError::NoAnswer("its name for the consent is not fit for a path".to_owned()));
    }
    let about = About { consent, provider: &record.provider, bank_id };
    let asked_at = clock.wall();
    let blank = |said: Said| InfoView {
        consent_id: consent.clone(),
        provider: record.provider.clone(),
        grant: record.version.grant,
        active: None,
        status: None,
        scope: None,
        consent_expires_at: None,
        token_expires_at: None,
        asked_at,
        bank_status: said.status,
        bank_request_id: said.request_id.as_ref().map(BankRequestId::as_str).map(str::to_owned),
        answer: None,
    };
    match desk.call(tokens, &shape.call, about).await {
        Ok(Heard::Answer(answer, said)) if answer.status.is_success() => {
            match serde_json::from_slice::<Value>(&answer.body) {
                Ok(answer) => Ok(shape.read(answer, blank(said))),
                Err(_) => Err(InfoError::NoAnswer("what it says is not JSON".to_owned())),
            }
        }
        Ok(Heard::Answer(answer, _)) => Err(InfoError::Refused { status: answer.status.as_u16() }),
        Ok(Heard::ConsentDead(said)) => Ok(InfoView { active: Some(false), ..blank(said) }),
        Ok(Heard::TokenRejected(said)) => Err(InfoError::Refused { status: said.status.unwrap_or_default() }),
        Err(Unheard::NoToken(error)) => Err(InfoError::NoToken(error)),
        Err(Unheard::Undelivered(Undelivered::NotSent(why) | Undelivered::NoAnswer(why))) => {
            Err(InfoError::NoAnswer(why))
        }
    }
}

impl InfoCall {
    /// What an answer says, put into a view that says nothing yet.
    fn read(&self, answer: Value, blank: InfoView) -> InfoView {
        let at = |place: &Option<String>| place.as_deref().and_then(|place| answer.pointer(place));
        let status = at(&self.status).and_then(word);
        let is_active = |status: &String| self.active.iter().any(|word| word.eq_ignore_ascii_case(status));
        let active = status.as_ref().filter(|_| !self.active.is_empty()).map(is_active);
        let left = at(&self.consent_expires_in).and_then(span);
        let consent_expires_at =
            at(&self.consent_expires_at).and_then(date).or_else(|| left.map(|left| blank.asked_at.plus(left)));
        let (scope, token_expires_at) = (at(&self.scope).and_then(words), at(&self.token_expires_at).and_then(date));
        InfoView { active, status, scope, consent_expires_at, token_expires_at, answer: Some(answer), ..blank }
    }
}
