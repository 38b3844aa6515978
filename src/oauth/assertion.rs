//! Client authentication by a signed assertion: `private_key_jwt` (RFC 7523 §2.2, OpenID Connect Core §9).
//!
//! Each request carries a new one, since its `jti` may be used once: a request that is repeated is another request. It lives for
//! a minute, so that one which leaks is of little use, and is meant for one authorization server alone (`aud`).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use zeroize::Zeroizing;

use crate::words::clock::WallTime;
use crate::words::ids::{hex, random};
use crate::words::secrets::{ClientAssertion, Renewable};
use crate::words::signing::{NotSigned, SigningKey};

/// The value of `client_assertion_type` that goes with an assertion.
pub(super) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How assertions of one client are made.
#[derive(Clone, Debug)]
pub struct Asserting {
    /// What signs them.
    pub key: Renewable<SigningKey>,
    /// What the bank calls that key (`kid`), where it has several.
    pub key_id: Option<String>,
    /// Whom they are for: the authorization server, as it calls itself.
    pub audience: String,
    /// How long each lives.
    pub life: Duration,
}

impl Asserting {
    /// How long an assertion lives unless the operator says otherwise.
    pub const LIFE: Duration = Duration::from_secs(60);

    /// A new assertion for the client of this name.
    pub(super) fn assert(&self, client_id: &str, now: WallTime) -> Result<ClientAssertion, NotSigned> {
        let key = self.key.current();
        let mut header = json!({ "alg": key.algorithm(), "typ": "JWT" });
        if let (Some(members), Some(key_id)) = (header.as_object_mut(), &self.key_id) {
            members.insert("kid".to_owned(), key_id.as_str().into());
        }
        let second = |time: WallTime| time.as_millis() / 1_000;
        let claims = json!({
            "iss": client_id,
            "sub": client_id,
            "aud": self.audience,
            "jti": hex(&random()),
            "iat": second(now),
            "exp": second(now.plus(self.life)),
        });
        let encode = |part: &serde_json::Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let mut token = Zeroizing::new(format!("{}.{}", encode(&header), encode(&claims)));
        let signature = key.sign(token.as_bytes())?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(ClientAssertion::new(std::mem::take(&mut *token)))
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use serde_json::Value;

    use super::*;
    use crate::words::signing::tests::keys;

    fn decoded(part: &str) -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
    }

    #[test]
    fn each_assertion_is_signed_names_its_audience_ends_soon_and_is_another() {
        let [_, p256] = keys();
        let key = Renewable::new(SigningKey::from_pem(p256.as_bytes()).expect("a key"));
        let life = Duration::from_secs(60);
        let asserting = Asserting {
            key: key.clone(),
            key_id: Some("12456".to_owned()),
            audience: "https://bank.example/token".to_owned(),
            life,
        };
        let now = WallTime::from_millis(1_795_000_000_999);
        let assertion = asserting.assert("us", now).expect("signs");
        let parts: Vec<&str> = assertion.expose().split('.').collect();
        let [header, claims, signature] = parts.as_slice() else { panic!("three parts") };
        assert_eq!(decoded(header), json!({"alg": "ES256", "typ": "JWT", "kid": "12456"}));
        let claims = decoded(claims);
        for (name, value) in [("iss", "us"), ("sub", "us"), ("aud", "https://bank.example/token")] {
            assert_eq!(claims[name], value, "{name}");
        }
        assert_eq!((claims["iat"].as_u64(), claims["exp"].as_u64()), (Some(1_795_000_000), Some(1_795_000_060)));
        let signed = assertion.expose().rsplit_once('.').expect("a signature").0;
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.current().public().to_vec());
        public.verify(signed.as_bytes(), &signature).expect("it verifies");

        let again = asserting.assert("us", now).expect("signs");
        let jti =
            |assertion: &ClientAssertion| decoded(assertion.expose().split('.').nth(1).expect("claims"))["jti"].clone();
        assert_ne!(jti(&assertion), jti(&again));
        assert_eq!(jti(&again).as_str().map(str::len), Some(32));
        let nameless = Asserting { key_id: None, ..asserting };
        let header = nameless.assert("us", now).expect("signs");
        assert_eq!(decoded(header.expose().split('.').next().expect("a header")).get("kid"), None);
    }
}
