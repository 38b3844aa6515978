//! A consent of a person at a terminal, where the bank sends browsers back to an address at which nobody listens.
//!
//! [`begin_login`] opens an attempt and ties it at once to a key that it gives to the caller alone: the caller takes the
//! place of the browser's cookie. The person's browser goes to the bank and ends at an address that it cannot open; the
//! person copies it, and [`finish_login`] takes it together with the key. Whoever has only one of the two gets nowhere: not
//! with an address that somebody else was sent to, nor with one that was read over a shoulder. Such an attempt is not
//! finished at the callback listener, and none that began there is finished here; see [`Way`].

use std::fmt;

use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use super::depart::{Held, Stay, send_off};
use super::exchange::{Arrival, Return, Way, come_back};
use super::members::Members;
use super::query::Parameters;
use super::request::RequestError;
use super::settings::AskSettings;
use super::show::json;
use super::start::{ATTEMPT_LIFE, Opened, StartError, StartRequest, new_secret, open};
use crate::oauth::TokenEndpoint;
use crate::store::Attempts;
use crate::token::Tokens;
use crate::words::clock::{Clock, WallTime};
use crate::words::ids::{ConsentId, Version};
use crate::words::secrets::BrowserKey;

/// An attempt that waits for a person. As JSON, times are RFC 3339, durations whole seconds.
#[derive(Serialize)]
pub struct LoginStarted {
    /// The name the app knows the consent by, its own or a new one.
    #[serde(serialize_with = "json::consent_id")]
    pub consent_id: ConsentId,
    /// What the consent is until the person has consented.
    pub state: &'static str,
    /// What the record holds.
    #[serde(serialize_with = "json::text")]
    pub version: Version,
    /// Where the person's browser goes: the bank.
    pub authorize_url: String,
    /// What the address begins with that the browser ends at.
    pub redirect_uri: String,
    /// What finishes the attempt together with that address. A secret of the caller.
    #[serde(serialize_with = "exposed")]
    pub key: BrowserKey,
    /// Until when, by the calendar of this machine.
    #[serde(serialize_with = "json::text")]
    pub expires_at: WallTime,
    /// The same in seconds.
    pub expires_in: u64,
}

impl fmt::Debug for LoginStarted {
    /// The address holds the state.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { consent_id, state, version, .. } = self;
        write!(f, "LoginStarted({consent_id:?}, {state}, {version})")
    }
}

/// The one answer that gives the key out.
fn exposed<S: Serializer>(key: &BrowserKey, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(key.expose())
}

/// What finishes an attempt.
pub struct LoginReturn {
    url: Zeroizing<String>,
    key: BrowserKey,
}

impl fmt::Debug for LoginReturn {
    /// The address holds a code.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoginReturn([redacted])")
    }
}

impl LoginReturn {
    /// Reads the members `url`, the address that the browser ended at, and `key`; any other member is a fault.
    pub fn parse(json: &[u8]) -> Result<Self, RequestError> {
        let mut members = Members::read(json, &["url", "key"])?;
        let url = members.required("url", LONGEST_URL, Ok);
        let key =
            members.required("key", LONGEST_KEY, |mut text| Ok(BrowserKey::new(std::mem::take::<String>(&mut *text))));
        match (url, key) {
            (Some(url), Some(key)) if members.faults.is_empty() => Ok(Self { url, key }),
            _ => Err(RequestError::Faults(members.faults)),
        }
    }
}

/// Bytes of an address: codes of some banks are long.
const LONGEST_URL: usize = 8 * 1024;
const LONGEST_KEY: usize = 128;

/// Why an address finishes nothing. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// It is not where the bank sends browsers.
    #[error(
        "the address does not begin with the provider's pasted_redirect_uri; paste all of what the browser ended at"
    )]
    Elsewhere,
    /// It holds no answer of a bank.
    #[error("the address holds no answer of the bank: state, and either code or error")]
    NoAnswer,
}

/// Opens an attempt for a person who brings the address back by hand. Otherwise as [`start`](super::start()).
pub async fn begin_login<S: Attempts, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    asking: &AskSettings,
    clock: &C,
    request: StartRequest,
) -> Result<LoginStarted, StartError> {
    let bank = asking.providers.get(&request.provider);
    let redirect_uri = match bank.map(|bank| bank.pasted_redirect_uri.clone()) {
        Some(Some(redirect_uri)) => redirect_uri,
        Some(None) => return Err(StartError::NotPasted),
        // Which of the two faults it is, is found out there.
        None => String::new(),
    };
    let Opened { consent, state, version, ticket } = open(tokens, asking, request).await?;
    let key = new_secret(BrowserKey::new);
    let sent = send_off(tokens, asking, &ticket, (Way::Pasted, &key)).await.map_err(|stay| match stay {
        Stay::StoreUnavailable => StartError::StoreUnavailable("the token store does not answer".to_owned()),
        Stay::Misconfigured => StartError::Unreadable("the attempt does not open".to_owned()),
        // It was opened a moment ago, and nobody else knows of it.
        Stay::Unknown | Stay::Foreign | Stay::Used => {
            StartError::StoreUnavailable("the token store has forgotten the attempt".to_owned())
        }
    })?;
    let authorize_url = sent.map_err(|held| match held {
        Held::BankUnavailable => StartError::BankUnavailable,
        Held::Refused => StartError::RequestRefused,
    })?;
    Ok(LoginStarted {
        consent_id: consent,
        state,
        version,
        authorize_url,
        redirect_uri,
        key,
        expires_at: clock.wall().plus(ATTEMPT_LIFE),
        expires_in: ATTEMPT_LIFE.as_secs(),
    })
}

/// Takes the address that a person's browser ended at, with the key of its attempt. Whatever follows goes on if the caller
/// does not wait; asking again tells how it ended.
pub async fn finish_login<S: Attempts, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    asking: &AskSettings,
    clock: &C,
    returned: LoginReturn,
) -> Result<Arrival, LoginError> {
    let LoginReturn { url, key } = returned;
    let mut own = asking.providers.values().filter_map(|bank| bank.pasted_redirect_uri.as_deref());
    let query = own.find_map(|own| query_of(&url, own)).ok_or(LoginError::Elsewhere)?;
    let Parameters { state, issuer, answer } = Parameters::parse(query).ok_or(LoginError::NoAnswer)?;
    let returned = Return { state, way: Way::Pasted, browser: Some(key), issuer, answer };
    Ok(come_back(tokens, asking, clock, returned).await)
}

/// What the bank added to its redirect URI.
fn query_of<'u>(url: &'u str, redirect_uri: &str) -> Option<&'u str> {
    let url = url.trim();
    let url = url.split_once('#').map_or(url, |(url, _)| url);
    let joint = if redirect_uri.contains('?') { '&' } else { '?' };
    url.strip_prefix(redirect_uri)?.strip_prefix(joint)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_address_is_taken_only_where_the_bank_sends_browsers() {
        const OURS: &str = "https://localhost/auth";
        let cases = [
            ("https://localhost/auth?code=a&state=b", Some("code=a&state=b")),
            (" https://localhost/auth?error=e&state=b#\n", Some("error=e&state=b")),
            ("https://localhost/author?code=a&state=b", None),
            ("https://localhost/auth/?code=a", None),
            ("https://localhost.example/auth?code=a", None),
            ("code=a&state=b", None),
            ("https://localhost/auth#code=a", None),
        ];
        for (url, query) in cases {
            assert_eq!(query_of(url, OURS), query, "{url}");
        }
        assert_eq!(query_of("https://us.example/cb?own=1&code=a", "https://us.example/cb?own=1"), Some("code=a"));
    }

    #[test]
    fn a_return_has_its_two_members_and_shows_neither() {
        let parse = |json: serde_json::Value| LoginReturn::parse(json.to_string().as_bytes());
        let returned = parse(json!({"url": "https://localhost/auth?code=CANARY", "key": "CANARY"})).unwrap();
        assert!(!format!("{returned:?}").contains("CANARY"));
        for wrong in [json!({"url": "x"}), json!({"key": "x"}), json!({"url": "x", "key": "y", "code": "z"}), json!([])]
        {
            assert!(parse(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
