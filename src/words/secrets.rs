//! What must never be printed.
//!
//! Every secret is a type of its own: no `Display`, no `Serialize`, no `Clone`, a `Debug` that shows the kind alone, and
//! its memory zeroed on drop. `expose()` is the only way out and is easily searched for. A header value made from a
//! secret is marked sensitive, which keeps it out of `Debug` output and of HPACK's tables. Copies inside hyper, rustls
//! and the kernel are out of reach of this file.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::{constant_time, hmac};
use http::HeaderValue;
use zeroize::Zeroizing;

use super::ids::Fingerprint;

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub struct $name(Zeroizing<Box<str>>);

        impl $name {
            /// Takes the secret over; the caller's `String` is moved, not copied.
            pub fn new(secret: impl Into<Box<str>>) -> Self {
                Self(Zeroizing::new(secret.into()))
            }

            /// The secret itself. Every use is a place to look at twice.
            pub fn expose(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

secret! {
    /// A bearer token for a bank's API (RFC 6749 §1.4).
    AccessToken
}
secret! {
    /// What a new access token is bought with (RFC 6749 §1.5). Spent once where the bank rotates.
    RefreshToken
}
secret! {
    /// What a bank gives a customer's browser for us, to be exchanged once (RFC 6749 §1.3.1).
    AuthorizationCode
}
secret! {
    /// What proves that whoever exchanges a code asked for it (RFC 7636 §4.1).
    CodeVerifier
}
secret! {
    /// The name of an authorization request that the bank holds: whoever has it may go on with it, once (RFC 9126 §7.1).
    RequestUri
}
secret! {
    /// What a start address holds: whoever has it may open the attempt that it names, once.
    Ticket
}
secret! {
    /// What ties an attempt to the browser that began it.
    BrowserKey
}
secret! {
    /// Our password at a token endpoint (RFC 6749 §2.3.1).
    ClientSecret
}
secret! {
    /// What our client proves itself with once, signed (RFC 7523 §2.2).
    ClientAssertion
}
secret! {
    /// The value of a static header such as `API-Key`.
    HeaderSecret
}
secret! {
    /// What a caller of the admin listener proves itself with.
    AdminKey
}
secret! {
    /// A password of the store.
    StorePassword
}

/// A secret that may be replaced while it is in use. Cheap to clone; all clones are replaced together.
pub struct Renewable<T>(Arc<RwLock<Arc<T>>>);

impl<T> Renewable<T> {
    /// One that begins with `secret`.
    pub fn new(secret: T) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(secret))))
    }

    /// The secret as it is now. What goes on with it for longer goes on with an old one.
    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another in its place. The one before is overwritten once nobody uses it any more.
    pub fn replace(&self, secret: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(secret);
    }
}

impl<T> Clone for Renewable<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: fmt::Debug> fmt::Debug for Renewable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.current().fmt(f)
    }
}

/// The bytes of an authorization header or of a secret header may not hold anything outside visible ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it holds a character that a header cannot carry")]
pub struct NotAHeaderValue;

impl AccessToken {
    /// `Bearer {token}` as a sensitive header value (RFC 6750 §2.1).
    pub fn to_bearer(&self) -> Result<HeaderValue, NotAHeaderValue> {
        let mut line = Zeroizing::new(String::with_capacity(7 + self.0.len()));
        line.push_str("Bearer ");
        line.push_str(&self.0);
        sensitive(&line)
    }
}

impl HeaderSecret {
    /// The header's value, marked sensitive.
    pub fn to_header_value(&self) -> Result<HeaderValue, NotAHeaderValue> {
        sensitive(&self.0)
    }
}

impl RefreshToken {
    /// A keyed digest of the token, the same for the same token and `context`. `context` names the installation and
    /// the client registration, so that fingerprints of two installations cannot be compared.
    pub fn fingerprint(&self, context: &str) -> Fingerprint {
        let key = hmac::Key::new(hmac::HMAC_SHA256, context.as_bytes());
        let tag = hmac::sign(&key, self.0.as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&tag.as_ref()[..16]);
        Fingerprint::from_bytes(bytes)
    }
}

impl ClientSecret {
    /// Whether it is this text. Compares in constant time.
    pub fn is(&self, text: &str) -> bool {
        constant_time::verify_slices_are_equal(self.0.as_bytes(), text.as_bytes()).is_ok()
    }
}

impl AdminKey {
    /// Compares in constant time.
    pub fn matches(&self, presented: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(self.0.as_bytes(), presented).is_ok()
    }
}

fn sensitive(text: &str) -> Result<HeaderValue, NotAHeaderValue> {
    if !text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return Err(NotAHeaderValue);
    }
    let mut value = HeaderValue::from_str(text).map_err(|_| NotAHeaderValue)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "CANARY-7f3b";

    #[test]
    fn debug_shows_the_kind_and_nothing_of_the_secret() {
        let shown = [
            format!("{:?}", AccessToken::new(CANARY)),
            format!("{:?}", RefreshToken::new(CANARY)),
            format!("{:?}", AuthorizationCode::new(CANARY)),
            format!("{:?}", CodeVerifier::new(CANARY)),
            format!("{:?}", Ticket::new(CANARY)),
            format!("{:?}", BrowserKey::new(CANARY)),
            format!("{:?}", ClientSecret::new(CANARY)),
            format!("{:?}", ClientAssertion::new(CANARY)),
            format!("{:?}", HeaderSecret::new(CANARY)),
            format!("{:?}", AdminKey::new(CANARY)),
            format!("{:?}", StorePassword::new(CANARY)),
            format!("{:?}", AccessToken::new(CANARY).to_bearer()),
        ];
        for line in shown {
            assert!(!line.contains("CANARY"), "{line}");
        }
    }

    #[test]
    fn a_bearer_value_is_sensitive_and_spelled_as_rfc_6750_says() {
        let value = AccessToken::new("abc.DEF~1+/=").to_bearer().expect("visible ASCII");
        assert!(value.is_sensitive());
        assert_eq!(value, "Bearer abc.DEF~1+/=");
    }

    #[test]
    fn a_token_that_would_split_a_header_is_refused() {
        for bad in ["a\r\nX: y", "a\0", "é"] {
            assert_eq!(AccessToken::new(bad).to_bearer(), Err(NotAHeaderValue));
        }
    }

    #[test]
    fn fingerprints_depend_on_token_and_context() {
        let one = RefreshToken::new("one");
        assert_eq!(one.fingerprint("a"), RefreshToken::new("one").fingerprint("a"));
        assert_ne!(one.fingerprint("a"), one.fingerprint("b"));
        assert_ne!(one.fingerprint("a"), RefreshToken::new("two").fingerprint("a"));
    }

    #[test]
    fn a_renewable_secret_is_replaced_for_every_clone_and_shown_by_none() {
        let secret = Renewable::new(ClientSecret::new(CANARY));
        let clone = secret.clone();
        let before = clone.current();
        secret.replace(ClientSecret::new("CANARY-new"));
        assert_eq!((clone.current().expose(), before.expose()), ("CANARY-new", CANARY));
        assert!(clone.current().is("CANARY-new") && !clone.current().is(CANARY));
        assert!(!format!("{clone:?}").contains("CANARY"));
    }
}
