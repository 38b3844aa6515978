//! The key that our client signs with, where it proves itself with a signed assertion (RFC 7523).
//!
//! Like every secret it is a type of its own that shows its kind alone. It is read from PKCS#8 in PEM, and what is wrong with a
//! file is said so that whoever made it knows what to do, without a byte of it.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PSS_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// A private key for signatures. Its algorithm follows from its kind.
pub struct SigningKey(Kind);

enum Kind {
    /// PS256 (RFC 7518 §3.5).
    Rsa(rsa::KeyPair),
    /// ES256 (RFC 7518 §3.4).
    P256(EcdsaKeyPair),
}

/// Why a file holds no key to sign with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// Something else, or nothing.
    #[error("it holds no private key in PEM (-----BEGIN PRIVATE KEY-----)")]
    NotPem,
    /// A key under a pass phrase.
    #[error("its private key is encrypted; take that off with: openssl pkcs8 -topk8 -nocrypt -in FILE -out NEW")]
    Encrypted,
    /// A key of a form that is older than PKCS#8.
    #[error("its private key is not PKCS#8; change its form with: openssl pkcs8 -topk8 -nocrypt -in FILE -out NEW")]
    NotPkcs8,
    /// A certificate, or a public key.
    #[error("it holds what is public of a key, and the private key is needed")]
    Public,
    /// More than one key, of which nobody says which.
    #[error("it holds more than one private key")]
    Several,
    /// Cut off, garbled, or of a kind that is not used for signatures here.
    #[error("its private key is damaged, or neither RSA of 2048 to 8192 bits nor on the curve P-256")]
    Unsupported,
}

/// The key could not sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key does not sign")]
pub struct NotSigned;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

impl SigningKey {
    /// Reads the one PKCS#8 private key of a PEM file.
    pub fn from_pem(pem: &[u8]) -> Result<Self, SigningKeyError> {
        let text = std::str::from_utf8(pem).map_err(|_| SigningKeyError::NotPem)?;
        let Some((_, after)) = text.split_once(BEGIN) else { return Err(what_it_is(text)) };
        let (body, rest) = after.split_once(END).ok_or(SigningKeyError::Unsupported)?;
        if rest.contains(BEGIN) {
            return Err(SigningKeyError::Several);
        }
        let mut dense = Zeroizing::new(String::with_capacity(body.len()));
        dense.extend(body.chars().filter(|c| !c.is_ascii_whitespace()));
        let der = Zeroizing::new(STANDARD.decode(dense.as_bytes()).map_err(|_| SigningKeyError::Unsupported)?);
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der) {
            return Ok(Self(Kind::P256(pair)));
        }
        let pair = rsa::KeyPair::from_pkcs8(&der).map_err(|_| SigningKeyError::Unsupported)?;
        let bits = pair.public_modulus_len() * 8;
        if (2_048..=8_192).contains(&bits) { Ok(Self(Kind::Rsa(pair))) } else { Err(SigningKeyError::Unsupported) }
    }

    /// The name of its algorithm (RFC 7518 §3.1).
    pub const fn algorithm(&self) -> &'static str {
        match &self.0 {
            Kind::Rsa(_) => "PS256",
            Kind::P256(_) => "ES256",
        }
    }

    /// Signs `message`.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, NotSigned> {
        let random = SystemRandom::new();
        match &self.0 {
            Kind::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PSS_SHA256, &random, message, &mut signature).map_err(|_| NotSigned)?;
                Ok(signature)
            }
            Kind::P256(pair) => {
                let signature = pair.sign(&random, message).map_err(|_| NotSigned)?;
                Ok(signature.as_ref().to_vec())
            }
        }
    }

    /// What is public of it, as signatures are verified with it.
    pub fn public(&self) -> &[u8] {
        match &self.0 {
            Kind::Rsa(pair) => pair.public_key().as_ref(),
            Kind::P256(pair) => pair.public_key().as_ref(),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.algorithm())
    }
}

/// What a text is that holds no PKCS#8 key.
fn what_it_is(text: &str) -> SigningKeyError {
    if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || text.contains("Proc-Type: 4,ENCRYPTED") {
        SigningKeyError::Encrypted
    } else if text.contains("-----BEGIN RSA PRIVATE KEY-----") || text.contains("-----BEGIN EC PRIVATE KEY-----") {
        SigningKeyError::NotPkcs8
    } else if text.contains("-----BEGIN CERTIFICATE-----") || text.contains("-----BEGIN PUBLIC KEY-----") {
        SigningKeyError::Public
    } else {
        SigningKeyError::NotPem
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    fn pem(der: &[u8]) -> String {
        format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(der))
    }

    /// New keys of both kinds, as files hold them.
    pub(crate) fn keys() -> [String; 2] {
        let rsa = rsa::KeyPair::generate(KeySize::Rsa2048).expect("a key");
        let rsa: Pkcs8V1Der<'_> = rsa.as_der().expect("a form");
        let p256 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).expect("a key");
        [pem(rsa.as_ref()), pem(p256.as_ref())]
    }

    #[test]
    fn both_kinds_of_keys_sign_what_their_public_half_verifies() {
        let [rsa, p256] = keys().map(|pem| SigningKey::from_pem(pem.as_bytes()).expect("a key"));
        let signature = rsa.sign(b"message").expect("signs");
        assert_eq!(rsa.algorithm(), "PS256");
        UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, rsa.public()).verify(b"message", &signature).expect("valid");
        let signature = p256.sign(b"message").expect("signs");
        assert_eq!((p256.algorithm(), signature.len()), ("ES256", 64), "r and s side by side (RFC 7518 §3.4)");
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, p256.public()).verify(b"message", &signature).expect("valid");
        assert_eq!(format!("{rsa:?} {p256:?}"), "SigningKey(PS256) SigningKey(ES256)");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        use SigningKeyError as Fault;
        let [rsa, p256] = keys();
        let cut = rsa.replace(END, "");
        let garbled = rsa.replacen("MII", "!!!", 1);
        let boxed = |name: &str| format!("-----BEGIN {name}-----\nAAAA\n-----END {name}-----\n");
        for (text, fault) in [
            (String::new(), Fault::NotPem),
            ("-----BEGIN PRIVATE".to_owned(), Fault::NotPem),
            (boxed("ENCRYPTED PRIVATE KEY"), Fault::Encrypted),
            (boxed("RSA PRIVATE KEY"), Fault::NotPkcs8),
            (boxed("EC PRIVATE KEY"), Fault::NotPkcs8),
            (boxed("CERTIFICATE"), Fault::Public),
            (boxed("PRIVATE KEY"), Fault::Unsupported),
            (cut, Fault::Unsupported),
            (garbled, Fault::Unsupported),
            (format!("{rsa}{p256}"), Fault::Several),
        ] {
            assert_eq!(SigningKey::from_pem(text.as_bytes()).expect_err("refused"), fault, "{fault:?}");
        }
        let with_certificate = format!("{}{p256}", boxed("CERTIFICATE"));
        assert!(SigningKey::from_pem(with_certificate.as_bytes()).is_ok(), "what else is there is passed over");
    }
}
