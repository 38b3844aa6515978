//! How tokens are kept from whoever can read the store, a backup of it, or a spill.
//!
//! AES-256-GCM-SIV (RFC 8452), because a nonce that repeats, as after a cloned machine, then tells only that two
//! secrets are equal. Every blob is bound to where it belongs: prefix, provider, client registration, record, grant,
//! generation and field. A blob copied to another consent, generation or field does not open.
//!
//! The envelope: `0x01 | key id (4) | nonce (12) | ciphertext | tag (16)`.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::contract::Sealed;
use super::keys;
use crate::words::ids::{ProviderId, TokenKey, Version, hex, random};
use crate::words::secrets::{AccessToken, RefreshToken};

const FORMAT: u8 = 1;
const KEY_ID_LEN: usize = 4;

/// Seals with its first key and opens with any.
pub struct Keyring {
    first: SealKey,
    others: Vec<SealKey>,
}

/// One key of a [`Keyring`].
pub struct SealKey {
    id: [u8; KEY_ID_LEN],
    key: LessSafeKey,
}

/// Why there is no keyring.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// The text is not base64.
    #[error("the seal key {0:?} is not base64")]
    NotBase64(String),
    /// The key has the wrong length.
    #[error("the seal key {0:?} is not 32 bytes long")]
    Length(String),
    /// A keyring without keys seals nothing.
    #[error("no seal key is given")]
    Empty,
    /// Two keys have the same id, or ids that cannot be told apart in four bytes.
    #[error("two seal keys have the same id or one that is stored alike; rename the newer")]
    SameId,
}

/// Why a blob was not opened or a secret not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It was sealed with a key that is not in the keyring.
    #[error("it is sealed with the key {}, which is not in the keyring", hex(kid))]
    UnknownKey {
        /// The key id in the envelope.
        kid: [u8; 4],
    },
    /// It was altered, or belongs to another record, grant, generation or field.
    #[error("its seal does not open: it is of another key with the same id, was altered, or belongs elsewhere")]
    Tampered,
    /// It is no envelope of a known format.
    #[error("it is not a sealed value of a known format")]
    Malformed,
    /// The secret is too long to seal.
    #[error("it is too long to be sealed")]
    TooLong,
}

/// Where a sealed secret belongs. All of it is authenticated.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// The installation's key prefix.
    pub prefix: &'a str,
    /// Where the token was issued.
    pub provider: &'a ProviderId,
    /// Our client registration there.
    pub client_id: &'a str,
    /// The record.
    pub key: &'a TokenKey,
    /// The grant and generation that the token belongs to.
    pub version: Version,
}

/// Which field of a record a sealed secret is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The access token.
    Access,
    /// The refresh token, also where it is kept aside.
    Refresh,
    /// The body of an answer that could not be understood, kept for a person.
    Salvage,
    /// The PKCE verifier of an attempt.
    Verifier,
}

impl Keyring {
    /// The first key seals, all open.
    pub fn new(keys: Vec<SealKey>) -> Result<Self, KeyringError> {
        let mut keys = keys.into_iter();
        let first = keys.next().ok_or(KeyringError::Empty)?;
        let others: Vec<SealKey> = keys.collect();
        let mut ids: Vec<_> = others.iter().map(|key| key.id).chain([first.id]).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() <= others.len() {
            return Err(KeyringError::SameId);
        }
        Ok(Self { first, others })
    }

    /// Seals `secret` for the place that `binding` and `field` name.
    pub fn seal(&self, binding: &Binding<'_>, field: Field, secret: &[u8]) -> Result<Sealed, SealError> {
        let mut nonce = [0; NONCE_LEN];
        nonce.iter_mut().zip(random()).for_each(|(nonce, byte)| *nonce = byte);
        let mut text = Zeroizing::new(Vec::with_capacity(secret.len() + AES_256_GCM_SIV.tag_len()));
        text.extend_from_slice(secret);
        let aad = Aad::from(associated(binding, field));
        self.first
            .key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut *text)
            .map_err(|_| SealError::TooLong)?;
        Ok(Sealed::from_bytes([&[FORMAT][..], &self.first.id, &nonce, &text].concat()))
    }

    /// Opens what was sealed for exactly this place.
    pub fn open(&self, binding: &Binding<'_>, field: Field, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (kid, nonce, text) = split(sealed)?;
        let key = self.keys().find(|key| key.id == kid).ok_or(SealError::UnknownKey { kid })?;
        let mut buffer = Zeroizing::new(text.to_vec());
        let aad = Aad::from(associated(binding, field));
        let length = key
            .key
            .open_in_place(Nonce::assume_unique_for_key(nonce), aad, &mut buffer)
            .map_err(|_| SealError::Tampered)?
            .len();
        buffer.truncate(length);
        Ok(buffer)
    }

    /// Seals an access token.
    pub fn seal_access(&self, binding: &Binding<'_>, token: &AccessToken) -> Result<Sealed, SealError> {
        self.seal(binding, Field::Access, token.expose().as_bytes())
    }

    /// Seals a refresh token.
    pub fn seal_refresh(&self, binding: &Binding<'_>, token: &RefreshToken) -> Result<Sealed, SealError> {
        self.seal(binding, Field::Refresh, token.expose().as_bytes())
    }

    /// Opens an access token.
    pub fn open_access(&self, binding: &Binding<'_>, sealed: &Sealed) -> Result<AccessToken, SealError> {
        let bytes = self.open(binding, Field::Access, sealed)?;
        std::str::from_utf8(&bytes).map(AccessToken::new).map_err(|_| SealError::Malformed)
    }

    /// Opens a refresh token.
    pub fn open_refresh(&self, binding: &Binding<'_>, sealed: &Sealed) -> Result<RefreshToken, SealError> {
        let bytes = self.open(binding, Field::Refresh, sealed)?;
        std::str::from_utf8(&bytes).map(RefreshToken::new).map_err(|_| SealError::Malformed)
    }

    /// Whether the blob was sealed with the first key. What was not should be sealed anew before its key is retired.
    pub fn is_current(&self, sealed: &Sealed) -> bool {
        split(sealed).is_ok_and(|(kid, _, _)| kid == self.first.id)
    }

    fn keys(&self) -> impl Iterator<Item = &SealKey> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl SealKey {
    /// Reads a key of 32 bytes written in base64; white space around it does not count. `id` is the operator's name
    /// for it and is not secret.
    pub fn from_base64(id: &str, text: &str) -> Result<Self, KeyringError> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| KeyringError::NotBase64(id.to_owned()))?;
        Self::from_bytes(id, &Zeroizing::new(bytes))
    }

    /// Takes a key of 32 bytes.
    pub fn from_bytes(id: &str, bytes: &[u8]) -> Result<Self, KeyringError> {
        let key = UnboundKey::new(&AES_256_GCM_SIV, bytes).map_err(|_| KeyringError::Length(id.to_owned()))?;
        let name = digest::digest(&digest::SHA256, format!("consentry seal key {id}").as_bytes());
        let mut short = [0; KEY_ID_LEN];
        short.iter_mut().zip(name.as_ref()).for_each(|(short, byte)| *short = *byte);
        Ok(Self { id: short, key: LessSafeKey::new(key) })
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys()).finish()
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKey({})", hex(&self.id))
    }
}

/// The associated data: every part with its length before it, so that no two places are written alike.
fn associated(binding: &Binding<'_>, field: Field) -> Vec<u8> {
    let field: &[u8] = match field {
        Field::Access => b"at",
        Field::Refresh => b"rt",
        Field::Salvage => b"salvage",
        Field::Verifier => b"verifier",
    };
    let key = keys::short_name(binding.key);
    let grant = binding.version.grant.to_string();
    let generation = binding.version.generation.to_be_bytes();
    let parts: [&[u8]; 8] = [
        b"consentry",
        binding.prefix.as_bytes(),
        binding.provider.as_str().as_bytes(),
        binding.client_id.as_bytes(),
        key.as_bytes(),
        grant.as_bytes(),
        &generation,
        field,
    ];
    let mut data = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
        data.extend_from_slice(&(part.len() as u64).to_be_bytes());
        data.extend_from_slice(part);
    }
    data
}

type Envelope<'a> = ([u8; KEY_ID_LEN], [u8; NONCE_LEN], &'a [u8]);

fn split(sealed: &Sealed) -> Result<Envelope<'_>, SealError> {
    let (format, rest) = sealed.as_bytes().split_first().ok_or(SealError::Malformed)?;
    let (kid, rest) = rest.split_first_chunk().ok_or(SealError::Malformed)?;
    let (nonce, text) = rest.split_first_chunk().ok_or(SealError::Malformed)?;
    if *format != FORMAT || text.len() < AES_256_GCM_SIV.tag_len() {
        return Err(SealError::Malformed);
    }
    Ok((*kid, *nonce, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::ids::{ClientKey, ConsentId, GrantId};

    const CANARY: &str = "CANARY-refresh-8c1d";

    fn keyring(keys: &[(&str, u8)]) -> Keyring {
        Keyring::new(keys.iter().map(|(id, byte)| SealKey::from_bytes(id, &[*byte; 32]).unwrap()).collect()).unwrap()
    }

    fn consent(id: &str) -> TokenKey {
        TokenKey::Consent(ConsentId::parse(id).unwrap())
    }

    #[test]
    fn what_was_sealed_opens_and_shows_nothing_of_the_secret() {
        let (ring, key, provider) = (keyring(&[("a", 1)]), consent("c1"), ProviderId::parse("bank").unwrap());
        let version = Version::first(GrantId::random());
        let binding = Binding { prefix: "consentry", provider: &provider, client_id: "tpp", key: &key, version };
        let sealed = ring.seal_refresh(&binding, &RefreshToken::new(CANARY)).unwrap();
        assert_eq!(ring.open_refresh(&binding, &sealed).unwrap().expose(), CANARY);
        assert!(!sealed.as_bytes().windows(6).any(|window| window == b"CANARY"));
        assert!(!format!("{sealed:?}").contains("CANARY"));
        let kid = &sealed.as_bytes()[1..5];
        assert_eq!(format!("{ring:?}"), format!("[SealKey({})]", hex(kid)), "which keys, and nothing of them");
        let again = ring.seal_refresh(&binding, &RefreshToken::new(CANARY)).unwrap();
        assert_ne!(sealed, again, "every seal has its own nonce");
        let nothing = ring.seal(&binding, Field::Access, b"").unwrap();
        assert_eq!(ring.open(&binding, Field::Access, &nothing).unwrap().as_slice(), b"");
    }

    #[test]
    fn a_blob_opens_nowhere_but_where_it_belongs() {
        let ring = keyring(&[("a", 1)]);
        let (provider, other) = (ProviderId::parse("bank").unwrap(), ProviderId::parse("bank2").unwrap());
        let (key, other_key) = (consent("c1"), consent("c2"));
        let client = TokenKey::Client(ClientKey::new(provider.clone(), None, None));
        let version = Version::first(GrantId::random());
        let home = Binding { prefix: "consentry", provider: &provider, client_id: "tpp", key: &key, version };
        let sealed = ring.seal(&home, Field::Refresh, CANARY.as_bytes()).unwrap();
        let elsewhere = [
            Binding { prefix: "consentry2", ..home },
            Binding { provider: &other, ..home },
            Binding { client_id: "tpp2", ..home },
            Binding { key: &other_key, ..home },
            Binding { key: &client, ..home },
            Binding { version: version.next(), ..home },
            Binding { version: Version::first(GrantId::random()), ..home },
            // The parts' borders are bound too.
            Binding { prefix: "consentryb", client_id: "pp", ..home },
        ];
        for binding in elsewhere {
            assert_eq!(ring.open(&binding, Field::Refresh, &sealed), Err(SealError::Tampered), "{binding:?}");
        }
        assert_eq!(ring.open(&home, Field::Access, &sealed), Err(SealError::Tampered));
        assert_eq!(ring.open(&home, Field::Salvage, &sealed), Err(SealError::Tampered));
        assert!(ring.open(&home, Field::Refresh, &sealed).is_ok());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (ring, key, provider) = (keyring(&[("a", 1)]), consent("c1"), ProviderId::parse("bank").unwrap());
        let version = Version::first(GrantId::random());
        let binding = Binding { prefix: "p", provider: &provider, client_id: "tpp", key: &key, version };
        let sealed = ring.seal(&binding, Field::Access, b"secret").unwrap();
        for place in 0..sealed.as_bytes().len() {
            let mut bytes = sealed.as_bytes().to_vec();
            bytes[place] ^= 1;
            assert!(ring.open(&binding, Field::Access, &Sealed::from_bytes(bytes)).is_err(), "byte {place}");
        }
        for length in 0..1 + 4 + 12 + 16 {
            let short = Sealed::from_bytes(&sealed.as_bytes()[..length]);
            assert_eq!(ring.open(&binding, Field::Access, &short), Err(SealError::Malformed), "{length} bytes");
        }
    }

    #[test]
    fn a_new_first_key_seals_while_the_old_one_still_opens() {
        let (old, both) = (keyring(&[("a", 1)]), keyring(&[("b", 2), ("a", 1)]));
        let (key, provider) = (consent("c1"), ProviderId::parse("bank").unwrap());
        let version = Version::first(GrantId::random());
        let binding = Binding { prefix: "p", provider: &provider, client_id: "tpp", key: &key, version };
        let sealed = old.seal(&binding, Field::Access, b"secret").unwrap();
        assert_eq!(both.open(&binding, Field::Access, &sealed).unwrap().as_slice(), b"secret");
        assert!(old.is_current(&sealed) && !both.is_current(&sealed));
        let fresh = both.seal(&binding, Field::Access, b"secret").unwrap();
        assert!(matches!(old.open(&binding, Field::Access, &fresh), Err(SealError::UnknownKey { .. })));
    }

    #[test]
    fn a_keyring_says_what_is_wrong_with_its_keys() {
        assert_eq!(SealKey::from_base64("k", "not base64!").unwrap_err(), KeyringError::NotBase64("k".into()));
        assert_eq!(SealKey::from_base64("k", "c2hvcnQ=").unwrap_err(), KeyringError::Length("k".into()));
        assert_eq!(Keyring::new(vec![]).unwrap_err(), KeyringError::Empty);
        let twins = vec![SealKey::from_bytes("k", &[1; 32]).unwrap(), SealKey::from_bytes("k", &[2; 32]).unwrap()];
        assert_eq!(Keyring::new(twins).unwrap_err(), KeyringError::SameId);
        let text = format!(" {}\n", STANDARD.encode([7; 32]));
        assert!(SealKey::from_base64("k", &text).is_ok());
    }
}
