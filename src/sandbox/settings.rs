//! What the imitated banks are set to: ports, credentials, and the knobs in which real banks differ.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use super::assertions::ClientKey;

/// The sandbox as a whole. The default is strict and takes any free ports.
#[derive(Clone, Debug)]
pub struct SandboxSettings {
    /// Loopback ports of the listeners.
    pub ports: Ports,
    /// Serve the two API listeners in plain HTTP. The token endpoints keep their TLS.
    pub plain_apis: bool,
    /// Serve the pages that a customer sees in plain HTTP, for browsers that do not know the sandbox's authority.
    pub plain_pages: bool,
    /// The `API-Key` that ABN AMRO's APIs accept.
    pub api_key: String,
    /// The `client_id` that belongs to the client certificate.
    pub abn_amro_client_id: String,
    /// How the imitated ABN AMRO behaves until told otherwise.
    pub abn_amro: AbnAmroKnobs,
    /// Our client at the imitated Norsk Gjeldsinformasjon.
    pub norsk_gjeld_client_id: String,
    /// Its secret; any characters, it travels form-encoded (RFC 6749 §2.3.1).
    pub norsk_gjeld_client_secret: String,
    /// How the imitated Norsk Gjeldsinformasjon behaves until told otherwise.
    pub norsk_gjeld: NorskGjeldKnobs,
    /// Consents that each bank holds at most.
    pub max_consents: usize,
}

/// Loopback ports; 0 takes any free one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// ABN AMRO's token endpoint, with mutual TLS.
    pub abn_token: u16,
    /// ABN AMRO's APIs.
    pub abn_api: u16,
    /// Norsk Gjeldsinformasjon's authorization server.
    pub nogi_access: u16,
    /// Norsk Gjeldsinformasjon's APIs.
    pub nogi_api: u16,
    /// The control API, in plain HTTP.
    pub control: u16,
    /// The pages that a customer's browser sees.
    pub pages: u16,
}

impl Default for SandboxSettings {
    fn default() -> Self {
        Self {
            ports: Ports::default(),
            plain_apis: false,
            plain_pages: false,
            api_key: "X1QTWZre0fnW72l263yrhAWB2FDwx3tg".to_owned(),
            abn_amro_client_id: "TPP_test".to_owned(),
            abn_amro: AbnAmroKnobs::default(),
            norsk_gjeld_client_id: "my-client".to_owned(),
            norsk_gjeld_client_secret: "norsk-gjeld-sandbox-secret".to_owned(),
            norsk_gjeld: NorskGjeldKnobs::default(),
            max_consents: 200_000,
        }
    }
}

/// In what authorization servers of ABN AMRO's kind differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AbnAmroKnobs {
    /// How long an access token lives, in seconds.
    pub access_token_life_s: u64,
    /// What the answer says about that; absent, the truth.
    pub expires_in: Option<ToldLife>,
    /// Whether a refresh replaces the refresh token.
    pub rotation: bool,
    /// How long a refresh token stays at least, in seconds; a refresh before that answers with the same one.
    pub rotation_interval_s: u64,
    /// How long after its first use a spent refresh token is still accepted, in seconds.
    pub grace_s: u64,
    /// What a spent refresh token does that comes after its grace, and a code that comes twice.
    pub reuse_policy: ReusePolicy,
    /// What a refresh does to the access tokens before it.
    pub old_access_token: OldAccessToken,
    /// How long a consent lives, in seconds.
    pub consent_life_s: u64,
    /// How long a consent may go without a refresh, in seconds; absent, for as long as it lives.
    pub consent_idle_s: Option<u64>,
    /// Where customers may be sent back to. Compared character by character.
    #[serde(deserialize_with = "redirect_uris")]
    pub redirect_uris: Vec<String>,
    /// How long a code can be exchanged, in seconds.
    pub code_life_s: u64,
    /// Answer the authorize request at once, as if the customer had agreed for the account of the bank's documents.
    pub auto_approve: bool,
    /// The client's keys. Where there are any, it proves itself with an assertion that one of them has signed, and with nothing
    /// else.
    pub client_keys: Vec<ClientKey>,
    /// Whom assertions have to be for; absent, the token endpoint.
    pub assertion_audience: Option<String>,
}

impl Default for AbnAmroKnobs {
    fn default() -> Self {
        Self {
            access_token_life_s: 7_200,
            expires_in: None,
            rotation: true,
            rotation_interval_s: 0,
            grace_s: 0,
            reuse_policy: ReusePolicy::RevokeFamily,
            old_access_token: OldAccessToken::Keep,
            consent_life_s: 90 * 24 * 60 * 60,
            consent_idle_s: None,
            redirect_uris: vec!["http://localhost:8090/callback".to_owned(), "https://localhost/auth".to_owned()],
            code_life_s: 60,
            auto_approve: false,
            client_keys: Vec::new(),
            assertion_audience: None,
        }
    }
}

/// Absolute URIs without a fragment (RFC 6749 §3.1.2), in characters that a header can carry.
fn redirect_uris<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let uris = Vec::<String>::deserialize(from)?;
    let fits = |uri: &String| {
        uri.split_once(':').is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty())
            && uri.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
    };
    match uris.iter().find(|uri| !fits(uri)) {
        Some(_) => Err(serde::de::Error::custom("a redirect URI is absolute, in ASCII, and has no fragment")),
        None => Ok(uris),
    }
}

/// What a spent refresh token does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReusePolicy {
    /// The request is refused, nothing else.
    Reject,
    /// The request is refused and the consent is dead.
    RevokeFamily,
}

/// What becomes of an access token when the consent is refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OldAccessToken {
    /// It lives until its own end.
    Keep,
    /// It dies at once.
    Kill,
}

/// What a token answer says in `expires_in`: a number, a string sent as it is, or with `"missing"` nothing at all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ToldLife {
    /// Sent as a JSON number.
    Number(serde_json::Number),
    /// Sent as a JSON string; `missing` leaves the member out.
    Text(String),
}

impl ToldLife {
    /// The member's value; `None` leaves it out.
    pub(super) fn value(&self) -> Option<Value> {
        match self {
            Self::Number(number) => Some(Value::Number(number.clone())),
            Self::Text(text) if text == "missing" => None,
            Self::Text(text) => Some(Value::String(text.clone())),
        }
    }
}

/// What can be set at Norsk Gjeldsinformasjon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NorskGjeldKnobs {
    /// How long an access token lives, in seconds; the answer names one second less.
    pub access_token_life_s: u64,
    /// Where persons may be sent back to. Compared character by character.
    #[serde(deserialize_with = "redirect_uris")]
    pub redirect_uris: Vec<String>,
    /// How long a code can be exchanged, in seconds.
    pub code_life_s: u64,
    /// Answer the authorize request at once, as if the first person of the service's documents had agreed.
    pub auto_approve: bool,
    /// Creditors that do not answer a lookup.
    pub creditors_missing: u8,
    /// The client's keys. Where there are any, it proves itself with an assertion that one of them has signed, and with nothing
    /// else.
    pub client_keys: Vec<ClientKey>,
    /// Whom assertions have to be for; absent, the token endpoint.
    pub assertion_audience: Option<String>,
}

impl Default for NorskGjeldKnobs {
    fn default() -> Self {
        let redirect_uris = ["http://localhost:8090/callback", "https://api-eksempelbank.no/v1/callback"];
        Self {
            access_token_life_s: 3_600,
            redirect_uris: redirect_uris.map(str::to_owned).to_vec(),
            code_life_s: 600,
            auto_approve: false,
            creditors_missing: 0,
            client_keys: Vec::new(),
            assertion_audience: None,
        }
    }
}

/// Applies a JSON merge patch (RFC 7396, one level deep) to a set of knobs; the error says what does not fit.
pub(super) fn patched<K: Serialize + serde::de::DeserializeOwned>(
    knobs: &K,
    patch: Map<String, Value>,
) -> Result<K, serde_json::Error> {
    let mut merged = serde_json::to_value(knobs)?;
    if let Some(members) = merged.as_object_mut() {
        members.extend(patch);
    }
    serde_json::from_value(merged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_changes_what_it_names_and_refuses_what_it_does_not_know() {
        let knobs = AbnAmroKnobs::default();
        let patch = |knobs: &AbnAmroKnobs, patch: Value| patched(knobs, patch.as_object().expect("an object").clone());
        let changed = patch(&knobs, json!({"grace_s": 60, "expires_in": "missing"}));
        let changed = changed.expect("fits");
        assert_eq!((changed.grace_s, changed.rotation), (60, true));
        let back = patch(&changed, json!({"grace_s": 0, "expires_in": null})).expect("fits");
        assert_eq!(back, knobs);
        for bad in [
            json!({"grace": 60}),
            json!({"reuse_policy": "shrug"}),
            json!({"redirect_uris": ["/cb"]}),
            json!({"redirect_uris": ["https://x/#a"]}),
        ] {
            assert!(patch(&knobs, bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_told_life_is_a_number_a_string_or_nothing() {
        let told = |json| serde_json::from_value::<ToldLife>(json).expect("fits").value();
        assert_eq!(told(json!(0)), Some(json!(0)));
        assert_eq!(told(json!("7200")), Some(json!("7200")));
        assert_eq!(told(json!("missing")), None);
    }
}
