//! Starts a consent: the app asks, and is told where to send the customer's browser.
//!
//! [`start`] opens an attempt beside the consent's record and gives out an address with a ticket in it. What becomes of a
//! visit to that address is in `depart`. The ticket is in nobody's store; the `state` that goes through the bank is a digest
//! of it, and the attempt is kept under a digest of that, so that neither the bank nor whoever reads the store can make an
//! address out of what it sees.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use aws_lc_rs::digest;

use super::exchange::count;
use super::members::Members;
use super::persist::persist;
use super::request::{LONGEST_NAME, LONGEST_SCOPE, RequestError, provider, scope};
use super::scopes::ScopeFault;
use super::settings::AskSettings;
use super::show::json;
use crate::oauth::TokenEndpoint;
use crate::oauth::authorize::new_verifier;
use crate::store::{Attempts, Await, AwaitOutcome, Open, RecordState, StoreError};
use crate::token::{Tokens, VaultError};
use crate::words::clock::{Clock, WallTime};
use crate::words::ids::{ConsentId, GrantId, ProviderId, StateDigest, TokenKey, Version, hex, random};
use crate::words::secrets::Ticket;
use crate::words::token_set::Scope;

/// How long an attempt waits for the customer's next step.
pub const ATTEMPT_LIFE: Duration = Duration::from_secs(600);
/// How long a new consent is pending: until its attempt has ended at the latest. From the start to the browser, from there
/// through the bank, and what an exchange may take.
const PENDING: Duration = Duration::from_secs(2 * 600 + 300);

/// What an app asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartRequest {
    pub(super) consent: Option<ConsentId>,
    pub(super) provider: ProviderId,
    pub(super) scope: Option<Scope>,
    pub(super) return_url: Option<String>,
}

impl StartRequest {
    /// Reads the members `provider` and, optionally, `consent_id`, `scope` and `return_url`. An optional member may be null;
    /// any other member is a fault.
    pub fn parse(json: &[u8]) -> Result<Self, RequestError> {
        Self::from_members(Members::read(json, &["consent_id", "provider", "scope", "return_url"])?)
    }

    /// The same of a person at a terminal, whose browser goes nowhere in the end.
    pub fn parse_login(json: &[u8]) -> Result<Self, RequestError> {
        Self::from_members(Members::read(json, &["consent_id", "provider", "scope"])?)
    }

    fn from_members(mut members: Members) -> Result<Self, RequestError> {
        let consent = members.optional("consent_id", LONGEST_NAME, |text| {
            ConsentId::parse(&text).map_err(|_| "it has to be 1 to 128 of A-Z a-z 0-9 . _ ~ : - and neither . nor ..")
        });
        let provider = members.required("provider", LONGEST_NAME, provider);
        let scope = members.optional("scope", LONGEST_SCOPE, scope);
        let return_url =
            members.optional("return_url", LONGEST_URL, |mut text| Ok(std::mem::take::<String>(&mut *text)));
        match provider {
            Some(provider) if members.faults.is_empty() => {
                let scope = scope.filter(|scope| !scope.as_str().is_empty());
                Ok(Self { consent, provider, scope, return_url })
            }
            _ => Err(RequestError::Faults(members.faults)),
        }
    }
}

/// Bytes of a return URL.
const LONGEST_URL: usize = 2 * 1024;

/// An attempt that waits for its customer. As JSON, times are RFC 3339, durations whole seconds.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Started {
    /// The name the app knows the consent by, its own or a new one.
    #[serde(serialize_with = "json::consent_id")]
    pub consent_id: ConsentId,
    /// What the consent is until the customer comes back.
    pub state: &'static str,
    /// What the record holds.
    #[serde(serialize_with = "json::text")]
    pub version: Version,
    /// Where to send the customer's browser, at once and once.
    pub start_url: String,
    /// Until when, by the calendar of this machine.
    #[serde(serialize_with = "json::text")]
    pub expires_at: WallTime,
    /// The same in seconds.
    pub expires_in: u64,
}

impl fmt::Debug for Started {
    /// The address holds a ticket.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { consent_id, state, version, .. } = self;
        write!(f, "Started({consent_id:?}, {state}, {version})")
    }
}

/// Why no consent was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The configuration has no such provider.
    #[error("the provider is not configured")]
    UnknownProvider,
    /// The provider has no authorization endpoint.
    #[error("the provider has no authorization_endpoint in the configuration, so no consent can be started there")]
    NotOffered,
    /// The provider has no redirect URI whose address could be pasted.
    #[error(
        "the provider has no pasted_redirect_uri in the configuration, so its customers come back to the callback listener"
    )]
    NotPasted,
    /// The bank does not take this scope.
    #[error("the scope cannot be asked for: {0}")]
    Scope(#[from] ScopeFault),
    /// The address is not on the list.
    #[error("the return_url is none of callback.return_urls in the configuration, to the letter")]
    ReturnUrl,
    /// The consent is in use at another provider.
    #[error("the consent is one of another provider")]
    Elsewhere {
        /// What the record holds.
        current: Version,
    },
    /// The bank has requests pushed to it, and does not answer.
    #[error("the bank does not answer where authorization requests are pushed to it; nothing is spent by asking again")]
    BankUnavailable,
    /// The bank has requests pushed to it, and does not take this one.
    #[error("the bank refuses the authorization request that is pushed to it; the consent's history has its reason")]
    RequestRefused,
    /// The verifier cannot be sealed.
    #[error("the attempt cannot be sealed: {0}")]
    Unsealable(#[from] VaultError),
    /// The store did not answer or said no.
    #[error("{0}")]
    StoreUnavailable(String),
    /// There is a record that cannot be understood.
    #[error("{0}")]
    Unreadable(String),
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::Refused(_) | StoreError::Reuniting => {
                Self::StoreUnavailable(error.to_string())
            }
            StoreError::Unreadable(_) => Self::Unreadable(error.to_string()),
        }
    }
}

/// Opens an attempt. A consent of which there is nothing becomes `pending`; any other stays as it is until the customer has
/// consented. Takes some 26 seconds at most; asking again opens another attempt, and the first is left to itself.
pub async fn start<S: Attempts, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    asking: &AskSettings,
    clock: &C,
    request: StartRequest,
) -> Result<Started, StartError> {
    let Opened { consent, state, version, ticket } = open(tokens, asking, request).await?;
    Ok(Started {
        consent_id: consent,
        state,
        version,
        start_url: format!("{}/start/{}", asking.public_url, ticket.expose()),
        expires_at: clock.wall().plus(ATTEMPT_LIFE),
        expires_in: ATTEMPT_LIFE.as_secs(),
    })
}

/// An attempt that was written down.
pub(super) struct Opened {
    pub(super) consent: ConsentId,
    /// What the consent is until there is a grant.
    pub(super) state: &'static str,
    pub(super) version: Version,
    pub(super) ticket: Ticket,
}

pub(super) async fn open<S: Attempts, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    asking: &AskSettings,
    request: StartRequest,
) -> Result<Opened, StartError> {
    let StartRequest { consent, provider, scope, return_url } = request;
    if !tokens.knows(&provider) {
        return Err(StartError::UnknownProvider);
    }
    let bank = asking.providers.get(&provider).ok_or(StartError::NotOffered)?;
    let scope = scope.or_else(|| bank.default_scope.clone());
    bank.rules.check(scope.as_ref().unwrap_or(&Scope::default()))?;
    if return_url.as_ref().is_some_and(|url| !asking.return_urls.contains(url)) {
        return Err(StartError::ReturnUrl);
    }
    let consent = match consent {
        Some(consent) => consent,
        None => new_consent_id()?,
    };
    let (key, grant, store) = (TokenKey::Consent(consent.clone()), GrantId::random(), tokens.store());
    let verifier = tokens.vault().seal_verifier(&key, &provider, grant, &new_verifier())?;
    let wait = Await { provider: provider.clone(), grant, life: PENDING };
    let (state, version) = match persist(|| store.await_grant(&key, &wait)).await? {
        AwaitOutcome::Pending(version) => (RecordState::Pending, version),
        AwaitOutcome::Stands { state, version } => (state, version),
        AwaitOutcome::Elsewhere(current) => return Err(StartError::Elsewhere { current }),
    };
    let ticket = new_secret(Ticket::new);
    let digest = StateDigest::of(&state_of(&ticket));
    let open = Open {
        consent: consent.clone(),
        provider: provider.clone(),
        grant,
        scope,
        return_url,
        verifier,
        life: ATTEMPT_LIFE,
    };
    persist(|| store.open(&digest, &open)).await?;
    count(tokens.metrics(), Some(&provider), "started");
    tracing::info!(?consent, %provider, %grant, "A consent was started.");
    Ok(Opened { consent, state: state.consent_state(), version, ticket })
}

/// What goes through the bank for a ticket.
pub(super) fn state_of(ticket: &Ticket) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"consentry state\0");
    context.update(ticket.expose().as_bytes());
    URL_SAFE_NO_PAD.encode(context.finish())
}

/// 32 random bytes as text.
pub(super) fn new_secret<T>(wrap: impl Fn(String) -> T) -> T {
    wrap(URL_SAFE_NO_PAD.encode([random(), random()].as_flattened()))
}

fn new_consent_id() -> Result<ConsentId, StartError> {
    // The alphabet holds hexadecimal digits.
    ConsentId::parse(&hex(&random())).map_err(|error| StartError::Unreadable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::depart::attempt_of;
    use super::*;

    fn parse(json: &serde_json::Value) -> Result<StartRequest, RequestError> {
        StartRequest::parse(json.to_string().as_bytes())
    }

    #[test]
    fn a_request_names_a_provider_and_may_leave_out_the_rest() {
        let full =
            json!({"consent_id": "c-1", "provider": "bank", "scope": "a  b", "return_url": "https://app.example/"});
        let request = parse(&full).unwrap();
        assert_eq!(request.consent.unwrap().as_str(), "c-1");
        assert_eq!(request.scope.unwrap().as_str(), "a b");
        assert_eq!(request.return_url.as_deref(), Some("https://app.example/"));
        let bare = parse(&json!({"provider": "bank", "consent_id": null, "scope": " "})).unwrap();
        assert_eq!((bare.consent, bare.scope, bare.return_url), (None, None, None));
    }

    #[test]
    fn every_fault_is_told_at_once_by_its_members_name() {
        let wrong =
            json!({"consent_id": "a b", "provider": "Bank", "scope": "\"", "return_url": 7, "access_token": "x"});
        let RequestError::Faults(faults) = parse(&wrong).unwrap_err() else { panic!("faults") };
        let mut members: Vec<_> = faults.iter().map(|fault| fault.member.as_str()).collect();
        members.sort_unstable();
        assert_eq!(members, ["access_token", "consent_id", "provider", "return_url", "scope"]);
        assert!(matches!(parse(&json!([])), Err(RequestError::NotAnObject)));
    }

    #[test]
    fn the_state_cannot_be_had_from_the_store_nor_the_ticket_from_the_state() {
        let ticket = new_secret(Ticket::new);
        let state = state_of(&ticket);
        assert_eq!(state.len(), 43);
        assert!(!state.contains(ticket.expose()) && !attempt_of(&ticket).to_string().contains(&state));
        assert_eq!(attempt_of(&ticket), StateDigest::of(&state));
        assert_ne!(state, state_of(&new_secret(Ticket::new)));
    }
}
