//! Client authentication by signed assertions (RFC 7523), as strict as a bank may be.
//!
//! Where a bank's knobs name keys of its client, it asks for an assertion and takes nothing else: signed by one of those keys,
//! of and about this client, meant for this bank, neither too old nor from the future, of five minutes at most, and never seen.

use std::collections::HashMap;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answers::Form;
use crate::words::clock::WallTime;

const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How long an assertion may live, in seconds.
const LONGEST_LIFE: u64 = 300;
/// How far its clock may be ahead, in seconds.
const AHEAD: u64 = 10;
/// Names that are remembered at most. A bank that is full takes no more assertions.
const MOST_SEEN: usize = 100_000;

/// A key of the client, as it is registered at the bank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientKey {
    /// What assertions call it; absent, they call it nothing.
    #[serde(default)]
    pub kid: Option<String>,
    /// `PS256` or `ES256`.
    pub alg: String,
    /// Its public half in base64: an `RSAPublicKey` in DER, or a point in its uncompressed form.
    pub public: String,
}

/// The names of assertions that were taken, each until it ends.
#[derive(Debug, Default)]
pub(super) struct Seen(HashMap<String, u64>);

/// What is wrong with an assertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadAssertion {
    Missing,
    Type,
    Malformed,
    Key,
    Signature,
    Client,
    Audience,
    Time,
    Replayed,
}

/// Whom an assertion has to be of, and for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) keys: &'a [ClientKey],
    pub(super) client_id: &'a str,
    pub(super) audience: &'a str,
}

impl Seen {
    /// Takes the assertion of a form, once.
    pub(super) fn check(&mut self, form: &Form, wanted: Wanted<'_>, now: WallTime) -> Result<(), BadAssertion> {
        let assertion = form.get("client_assertion").ok_or(BadAssertion::Missing)?;
        if form.get("client_assertion_type") != Some(TYPE) {
            return Err(BadAssertion::Type);
        }
        if form.get("client_id").is_some_and(|client_id| client_id != wanted.client_id) {
            return Err(BadAssertion::Client);
        }
        let (signed, signature) = assertion.rsplit_once('.').ok_or(BadAssertion::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(BadAssertion::Malformed)?;
        let (header, claims) = (json(header)?, json(claims)?);
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| BadAssertion::Malformed)?;
        let key = wanted.keys.iter().find(|key| header["kid"].as_str() == key.kid.as_deref());
        let key = key.filter(|key| header["alg"].as_str() == Some(key.alg.as_str())).ok_or(BadAssertion::Key)?;
        let algorithm: &dyn VerificationAlgorithm = match key.alg.as_str() {
            "PS256" => &RSA_PSS_2048_8192_SHA256,
            "ES256" => &ECDSA_P256_SHA256_FIXED,
            _ => return Err(BadAssertion::Key),
        };
        let public = STANDARD.decode(&key.public).map_err(|_| BadAssertion::Key)?;
        let verified = UnparsedPublicKey::new(algorithm, public).verify(signed.as_bytes(), &signature);
        verified.map_err(|_| BadAssertion::Signature)?;
        if ["iss", "sub"].iter().any(|name| claims[*name].as_str() != Some(wanted.client_id)) {
            return Err(BadAssertion::Client);
        }
        if claims["aud"].as_str() != Some(wanted.audience) {
            return Err(BadAssertion::Audience);
        }
        let now = now.as_millis() / 1_000;
        let second = |name: &str| claims[name].as_u64().ok_or(BadAssertion::Malformed);
        let (issued, ends) = (second("iat")?, second("exp")?);
        if ends <= now || issued > now + AHEAD || ends.saturating_sub(issued) > LONGEST_LIFE {
            return Err(BadAssertion::Time);
        }
        let name = claims["jti"].as_str().filter(|name| !name.is_empty()).ok_or(BadAssertion::Malformed)?;
        self.0.retain(|_, ends| *ends > now);
        if self.0.contains_key(name) || self.0.len() >= MOST_SEEN {
            return Err(BadAssertion::Replayed);
        }
        self.0.insert(name.to_owned(), ends);
        Ok(())
    }
}

fn json(part: &str) -> Result<Value, BadAssertion> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| BadAssertion::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| BadAssertion::Malformed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::words::signing::SigningKey;
    use crate::words::signing::tests::keys;

    const NOW: WallTime = WallTime::from_millis(1_795_000_000_000);
    const SECOND: u64 = 1_795_000_000;

    fn claims(jti: &str) -> Value {
        json!({"iss": "us", "sub": "us", "aud": "bank", "jti": jti, "iat": SECOND, "exp": SECOND + 60})
    }

    fn assertion(key: &SigningKey, header: &Value, claims: &Value) -> String {
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = key.sign(signed.as_bytes()).expect("signs");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn form(assertion: &str) -> Form {
        let kind = "urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
        Form::parse(format!("client_assertion_type={kind}&client_assertion={assertion}").as_bytes())
    }

    #[test]
    fn an_assertion_is_taken_once_and_only_if_everything_about_it_is_right() {
        for pem in keys() {
            let key = SigningKey::from_pem(pem.as_bytes()).expect("a key");
            let registered =
                ClientKey { kid: Some("k".into()), alg: key.algorithm().into(), public: STANDARD.encode(key.public()) };
            let registered = [registered];
            let wanted = Wanted { keys: &registered, client_id: "us", audience: "bank" };
            let header = json!({"alg": key.algorithm(), "kid": "k"});
            let mut seen = Seen::default();
            let mut check = |text: &str| seen.check(&form(text), wanted, NOW);
            let good = assertion(&key, &header, &claims("1"));
            assert_eq!(check(&good), Ok(()));
            assert_eq!(check(&good), Err(BadAssertion::Replayed));
            let mut with = |name: &str, value: Value| {
                let mut claims = claims("2");
                claims[name] = value;
                check(&assertion(&key, &header, &claims))
            };
            assert_eq!(with("aud", json!("another")), Err(BadAssertion::Audience));
            assert_eq!(with("aud", json!(["bank"])), Err(BadAssertion::Audience), "a string alone");
            assert_eq!(with("sub", json!("them")), Err(BadAssertion::Client));
            assert_eq!(with("exp", json!(SECOND)), Err(BadAssertion::Time));
            assert_eq!(with("exp", json!(SECOND + 301)), Err(BadAssertion::Time));
            assert_eq!(with("iat", json!(SECOND + 11)), Err(BadAssertion::Time));
            assert_eq!(with("jti", json!("")), Err(BadAssertion::Malformed));
            let other = json!({"alg": key.algorithm(), "kid": "other"});
            assert_eq!(check(&assertion(&key, &other, &claims("3"))), Err(BadAssertion::Key));
            let none = json!({"alg": "none", "kid": "k"});
            assert_eq!(check(&assertion(&key, &none, &claims("3"))), Err(BadAssertion::Key));
            let parts: Vec<&str> = good.split('.').collect();
            let forged = URL_SAFE_NO_PAD.encode(claims("4").to_string());
            assert_eq!(check(&format!("{}.{forged}.{}", parts[0], parts[2])), Err(BadAssertion::Signature));
            assert_eq!(check("x"), Err(BadAssertion::Malformed));
            assert_eq!(check(&assertion(&key, &header, &claims("5"))), Ok(()));
        }
        let wanted = Wanted { keys: &[], client_id: "us", audience: "bank" };
        assert_eq!(Seen::default().check(&Form::parse(b""), wanted, NOW), Err(BadAssertion::Missing));
        let untyped = Form::parse(b"client_assertion=a.b.c");
        assert_eq!(Seen::default().check(&untyped, wanted, NOW), Err(BadAssertion::Type));
    }
}
