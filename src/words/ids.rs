//! Names: of consents, providers, grants, generations, attempts.
//!
//! Each is parsed once, at the edge, into a type that cannot be wrong. Nothing here is secret, but a consent id is the
//! app's own business: `Debug` shows a short fingerprint of it, and it is written out only by an explicit `as_str`.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::{digest, rand};

use crate::simulation;

/// The name of a consent: 1 to 128 of `A-Z a-z 0-9 . _ ~ : -`, not `.` or `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsentId(Arc<str>);

/// Why a string is not a consent id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsentIdError {
    /// Zero bytes.
    #[error("it is empty")]
    Empty,
    /// More than 128 bytes.
    #[error("it is longer than 128 characters")]
    TooLong,
    /// A byte outside the alphabet, or a path's dot segment.
    #[error("it may hold only A-Z a-z 0-9 . _ ~ : - and may not be . or ..")]
    Character,
}

impl ConsentId {
    /// Checks a consent id as an app sent it, after any percent-decoding.
    pub fn parse(id: &str) -> Result<Self, ConsentIdError> {
        if id.is_empty() {
            return Err(ConsentIdError::Empty);
        }
        if id.len() > 128 {
            return Err(ConsentIdError::TooLong);
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b':' | b'-');
        if !id.bytes().all(allowed) || id == "." || id == ".." {
            return Err(ConsentIdError::Character);
        }
        Ok(Self(Arc::from(id)))
    }

    /// The id itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Eight hexadecimal digits that stand for this id in logs.
    pub fn fingerprint(&self) -> String {
        hex(&digest::digest(&digest::SHA256, self.0.as_bytes()).as_ref()[..4])
    }
}

impl fmt::Debug for ConsentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConsentId({})", self.fingerprint())
    }
}

/// The name of a provider in the configuration: 1 to 64 of `a-z 0-9 - _`, beginning with a letter.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderId(Arc<str>);

impl ProviderId {
    /// Checks a provider's name; `None` if it does not fit the alphabet.
    pub fn parse(name: &str) -> Option<Self> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        let fits =
            (1..=64).contains(&name.len()) && name.bytes().all(allowed) && name.as_bytes()[0].is_ascii_lowercase();
        fits.then(|| Self(Arc::from(name)))
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ProviderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ProviderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A client-credentials token's name: the provider it is asked of, and what it is asked for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientKey {
    /// Whose token endpoint.
    pub provider: ProviderId,
    /// 32 hexadecimal digits over audience and scope.
    pub digest: Arc<str>,
}

impl ClientKey {
    /// Names the client token of `provider` for this audience and scope. Absent and empty are different.
    pub fn new(provider: ProviderId, audience: Option<&str>, scope: Option<&str>) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [audience, scope] {
            match part {
                Some(text) => {
                    context.update(&(text.len() as u64 + 1).to_be_bytes());
                    context.update(text.as_bytes());
                }
                None => context.update(&0_u64.to_be_bytes()),
            }
        }
        Self { provider, digest: Arc::from(hex(&context.finish().as_ref()[..16])) }
    }
}

/// What a stored token set belongs to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TokenKey {
    /// One customer's consent.
    Consent(ConsentId),
    /// Our own client, at one provider for one audience and scope.
    Client(ClientKey),
}

/// One act of consenting. A re-consent under the same consent id is a new grant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantId([u8; 16]);

impl GrantId {
    /// A new grant's name, from the system's random numbers.
    pub fn random() -> Self {
        Self(random())
    }

    /// Reads 32 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        parse_hex(text).map(Self)
    }
}

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// Counts the token sets of one grant, from 1.
pub type Generation = u64;

/// Which token set of which grant. The pair that every comparison is made with; written `{grant}.{generation}`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Version {
    /// The act of consenting.
    pub grant: GrantId,
    /// Its token set.
    pub generation: Generation,
}

impl Version {
    /// The first token set of a new grant.
    pub fn first(grant: GrantId) -> Self {
        Self { grant, generation: 1 }
    }

    /// The token set that replaces this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self { generation: self.generation.saturating_add(1), ..self }
    }

    /// Whether this is a later token set of the same grant.
    pub fn is_newer_than(self, other: Self) -> bool {
        self.grant == other.grant && self.generation > other.generation
    }

    /// Reads `{grant}.{generation}`, the form of an entity tag without its quotes.
    pub fn parse(text: &str) -> Option<Self> {
        let (grant, generation) = text.split_once('.')?;
        let digits = !generation.is_empty() && generation.bytes().all(|b| b.is_ascii_digit());
        let generation = digits.then(|| generation.parse().ok()).flatten()?;
        Some(Self { grant: GrantId::parse(grant)?, generation })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.grant, self.generation)
    }
}

/// One attempt at a refresh by one process: `replica/boot nonce/number`. Names the lease, the intent and the commit, so
/// that a script repeated after a lost reply recognises its own work.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AttemptId(Arc<str>);

impl AttemptId {
    /// The `number`th attempt of the process that `replica` names.
    pub fn new(replica: &str, number: u64) -> Self {
        Self(Arc::from(format!("{replica}/{number}")))
    }

    /// An attempt id read back from a store or a spill.
    pub fn from_stored(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The id as stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Counts the leases of one record; a lease is valid while no higher fence was granted.
pub type Fence = u64;

/// A short name for a refresh token that can be compared and stored, and from which it cannot be recovered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// Wraps the leading bytes of a keyed digest.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Reads 32 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        parse_hex(text).map(Self)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

macro_rules! digests {
    ($($(#[$doc:meta])* $name:ident, $what:literal;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Of this text.
            pub fn of(text: &str) -> Self {
                let mut bytes = [0; 32];
                bytes.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
                Self(bytes)
            }

            /// Reads 64 hexadecimal digits.
            pub fn parse(text: &str) -> Option<Self> {
                let (first, last) = text.split_at_checked(32)?;
                let mut bytes = [0; 32];
                let (left, right) = bytes.split_at_mut(16);
                left.copy_from_slice(&parse_hex(first)?);
                right.copy_from_slice(&parse_hex(last)?);
                Some(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            /// Its first digits tell it apart.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($what, "({})"), hex(&self.0[..4]))
            }
        }
    )* };
}

digests! {
    /// A digest of the `state` that goes through a bank: what an attempt is kept under, and from which the state cannot be
    /// had.
    StateDigest, "StateDigest";
    /// A digest of what an attempt's browser presents.
    BrowserDigest, "BrowserDigest";
    /// A digest of what is counted together under a quota of a consent.
    QuotaGroup, "QuotaGroup";
    /// A digest of a bank's own name for a consent: what such a name is kept under, whatever is in it.
    BankNameDigest, "BankNameDigest";
}

/// One call of an app: by this it is counted once, however often its step is repeated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId([u8; 16]);

impl CallId {
    /// Of bytes that were drawn for this call alone.
    pub const fn from_random(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Reads 32 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        parse_hex(text).map(Self)
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// Sixteen hexadecimal digits that tell texts apart, and from which they cannot be had.
pub fn short_digest(text: &str) -> String {
    hex(&digest::digest(&digest::SHA256, text.as_bytes()).as_ref()[..8])
}

/// Sixteen bytes from the operating system.
///
/// # Panics
/// If the operating system has no random numbers, in which case nothing here can be done safely.
pub fn random() -> [u8; 16] {
    if let Some(host) = simulation::current() {
        return host.random();
    }
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).expect("the operating system provides random numbers");
    bytes
}

/// Sixteen random bytes for a name that others are told, such as a call's. Each thread draws many at once: the system
/// takes about as long for a thousand bytes as for sixteen.
///
/// # Panics
/// As [`random`].
pub fn random_name() -> [u8; 16] {
    const AT_ONCE: usize = 64;
    thread_local! {
        static DRAWN: RefCell<Vec<[u8; 16]>> = const { RefCell::new(Vec::new()) };
    }
    if simulation::current().is_some() {
        return random();
    }
    DRAWN.with_borrow_mut(|drawn| {
        drawn.pop().unwrap_or_else(|| {
            drawn.resize(AT_ONCE, [0; 16]);
            rand::fill(drawn.as_flattened_mut()).expect("the operating system provides random numbers");
            drawn.pop().unwrap_or_else(random)
        })
    })
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect()
}

/// Writes lower-case hexadecimal to where there is room for it: two digits a byte.
pub fn write_hex(to: &mut [u8], bytes: &[u8]) {
    for (pair, byte) in to.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

fn parse_hex(text: &str) -> Option<[u8; 16]> {
    let digits = text.as_bytes();
    if digits.len() != 32 {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_names_that_are_drawn_are_alike() {
        let names: std::collections::BTreeSet<_> = (0..1_000).map(|_| random_name()).collect();
        assert_eq!(names.len(), 1_000);
    }

    #[test]
    fn a_consent_id_keeps_to_its_alphabet_and_length() {
        for good in ["a", "A-1_b~c:d.e", "...", &"x".repeat(128)] {
            assert!(ConsentId::parse(good).is_ok(), "{good}");
        }
        assert_eq!(ConsentId::parse(""), Err(ConsentIdError::Empty));
        assert_eq!(ConsentId::parse(&"x".repeat(129)), Err(ConsentIdError::TooLong));
        for bad in [".", "..", "a b", "a/b", "{a}", "a,b", "é", "a\r\n", "a%2e", "a+b"] {
            assert_eq!(ConsentId::parse(bad), Err(ConsentIdError::Character), "{bad:?}");
        }
    }

    #[test]
    fn a_consent_id_is_not_written_out_by_debug() {
        let id = ConsentId::parse("customer-4711").expect("valid");
        assert!(!format!("{id:?}").contains("customer"));
    }

    #[test]
    fn a_version_reads_back_what_it_writes() {
        let version = Version { grant: GrantId::random(), generation: 42 };
        assert_eq!(Version::parse(&version.to_string()), Some(version));
        for bad in ["", ".", "xyz.1", "00.1", &format!("{}.+1", version.grant), &format!("{}.", version.grant)] {
            assert_eq!(Version::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn only_a_later_generation_of_the_same_grant_is_newer() {
        let first = Version::first(GrantId::random());
        assert!(first.next().is_newer_than(first));
        assert!(!first.is_newer_than(first));
        assert!(!Version { grant: GrantId::random(), generation: 9 }.is_newer_than(first));
    }

    #[test]
    fn a_digest_reads_back_what_it_writes() {
        let digest = StateDigest::of("abc");
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(StateDigest::parse(&digest.to_string()), Some(digest));
        for bad in ["", "ba78", &"x".repeat(64), &format!("{digest}0"), &"é".repeat(32)] {
            assert_eq!(StateDigest::parse(bad), None, "{bad}");
        }
        assert_eq!(format!("{:?}", BrowserDigest::of("abc")), "BrowserDigest(ba7816bf)");
    }

    #[test]
    fn client_keys_tell_audience_from_scope() {
        let provider = ProviderId::parse("norsk-gjeld").expect("valid");
        let key = |audience, scope| ClientKey::new(provider.clone(), audience, scope);
        assert_ne!(key(Some("a"), Some("b")), key(Some("b"), Some("a")));
        assert_ne!(key(Some("ab"), None), key(Some("a"), Some("b")));
        assert_ne!(key(Some(""), None), key(None, Some("")));
        assert_eq!(key(Some("a"), Some("b")), key(Some("a"), Some("b")));
    }

    #[test]
    fn provider_names_fit_into_keys_and_labels() {
        assert!(ProviderId::parse("abn-amro_2").is_some());
        for bad in ["", "2banks", "Bank", "a b", "a/b", "{a}"] {
            assert!(ProviderId::parse(bad).is_none(), "{bad:?}");
        }
    }
}
