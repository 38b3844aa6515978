//! How a provider stands, as it is shown: frozen or not, its breaker, and which consents it refused lately.

use std::time::Duration;

use serde::Serialize;

use super::show::json;
use crate::oauth::TokenEndpoint;
use crate::store::{Breaker, Freeze, Opened, ProviderStanding, Store, Suspect};
use crate::token::{StandingError, Tokens};
use crate::words::clock::{Clock, WallTime};
use crate::words::ids::{ProviderId, TokenKey};

/// A provider as it is shown. No secret is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProviderView {
    /// Its name in the configuration.
    #[serde(serialize_with = "json::text")]
    pub provider: ProviderId,
    /// Whether nothing is refreshed until somebody thaws it, and why.
    pub freeze: Option<FreezeView>,
    /// What it was frozen for besides. A thaw ends all of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub frozen_besides: Vec<FreezeView>,
    /// Its breaker.
    pub breaker: BreakerView,
    /// Token requests that replicas have leave for at the moment.
    pub in_flight: usize,
    /// How many consents it refused lately.
    pub suspects: usize,
    /// Which; only for those who may write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspect_consents: Option<Vec<SuspectView>>,
}

/// A freeze as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FreezeView {
    /// `operator` or `old_backup`.
    pub reason: &'static str,
    /// The process that froze it.
    pub by: String,
    /// Why, in somebody's words.
    pub why: Option<String>,
    /// Since when.
    #[serde(serialize_with = "json::text")]
    pub since: WallTime,
}

/// A breaker as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BreakerView {
    /// `closed`, `open` or `half_open`.
    pub state: &'static str,
    /// Whose fault it is taken to be: `unavailable` or `misconfigured`.
    pub class: Option<&'static str>,
    /// The class of the failure that opened it.
    pub why: Option<String>,
    /// Until when nobody sends.
    #[serde(serialize_with = "json::optional_text")]
    pub until: Option<WallTime>,
}

/// A suspect as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SuspectView {
    /// The consent; nothing where a client token was refused.
    pub consent_id: Option<String>,
    /// `listed`, `spared` or `retry`.
    pub stage: &'static str,
}

/// Whether the consents that a provider refused are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspects {
    /// They are.
    Named,
    /// They are only counted.
    Counted,
}

/// How `provider` stands.
pub async fn provider<S: Store, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    clock: &C,
    provider: &ProviderId,
    suspects: Suspects,
) -> Result<ProviderView, StandingError> {
    Ok(ProviderView::new(provider, tokens.provider_standing(provider).await?, clock, suspects))
}

/// How every provider stands.
pub async fn providers<S: Store, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    clock: &C,
    suspects: Suspects,
) -> Result<Vec<ProviderView>, StandingError> {
    let mut views = Vec::new();
    for id in tokens.providers() {
        views.push(provider(tokens, clock, &id, suspects).await?);
    }
    Ok(views)
}

impl ProviderView {
    /// Shows `standing`, whose times are as of now.
    pub fn new(provider: &ProviderId, standing: ProviderStanding, clock: &impl Clock, suspects: Suspects) -> Self {
        let now = clock.wall();
        let ProviderStanding { freeze, frozen_besides, breaker, in_flight, suspects: refused } = standing;
        Self {
            provider: provider.clone(),
            freeze: freeze.map(|freeze| FreezeView::new(freeze, now)),
            frozen_besides: frozen_besides.into_iter().map(|freeze| FreezeView::new(freeze, now)).collect(),
            breaker: BreakerView::new(breaker, now),
            in_flight,
            suspects: refused.len(),
            suspect_consents: match suspects {
                Suspects::Named => Some(refused.iter().map(SuspectView::new).collect()),
                Suspects::Counted => None,
            },
        }
    }
}

impl FreezeView {
    fn new(freeze: Freeze, now: WallTime) -> Self {
        let age = u64::try_from(freeze.age.as_millis()).unwrap_or(u64::MAX);
        let since = WallTime::from_millis(now.as_millis().saturating_sub(age));
        Self { reason: freeze.reason.as_str(), by: freeze.by, why: freeze.why, since }
    }
}

impl BreakerView {
    fn new(breaker: Breaker, now: WallTime) -> Self {
        let open = |state, opened: Opened, wait: Duration| Self {
            state,
            class: Some(opened.class.as_str()),
            why: Some(opened.why),
            until: (!wait.is_zero()).then(|| now.plus(wait)),
        };
        match breaker {
            Breaker::Closed => Self { state: "closed", class: None, why: None, until: None },
            Breaker::Open(opened) => {
                let wait = opened.wait;
                open("open", opened, wait)
            }
            Breaker::HalfOpen(opened) => open("half_open", opened, Duration::ZERO),
        }
    }
}

impl SuspectView {
    fn new(suspect: &Suspect) -> Self {
        let consent_id = match &suspect.key {
            TokenKey::Consent(consent) => Some(consent.as_str().to_owned()),
            TokenKey::Client(_) => None,
        };
        Self { consent_id, stage: suspect.stage.as_str() }
    }
}
