//! Refresh tokens that say, to this process alone, which consent they belong to and which number they have there.
//!
//! So a spent token is recognised for ever without a list of all that were ever spent. To everybody else a token is 42
//! random letters and digits, as PingFederate's are.

use aws_lc_rs::hmac;

use super::super::answers::base62;
use crate::words::ids::random;

/// Digits of the masked consent and number: 128 bits.
const MASKED: usize = 22;
/// Digits of the authentication tag: 119 bits.
const TAG: usize = 20;

/// The key that tokens are sealed with; every process has its own.
#[derive(Debug)]
pub(super) struct Seal(hmac::Key);

impl Default for Seal {
    fn default() -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, &random()))
    }
}

impl Seal {
    /// The token of `number` of the consent at `index`; the same every time.
    pub(super) fn token(&self, index: u64, number: u64) -> String {
        let plain = u128::from(index) << 64 | u128::from(number);
        // The tag is over the plain text and masks it: a synthetic nonce.
        let tag = self.digest(b't', plain) >> 9;
        let masked = plain ^ self.digest(b'm', tag);
        let mut token = base62(masked, MASKED);
        token.push_str(&base62(tag, TAG));
        token
    }

    /// The index and number of a token that this seal made.
    pub(super) fn open(&self, token: &str) -> Option<(u64, u64)> {
        let (masked, tag) = token.split_at_checked(MASKED)?;
        let plain = number(masked)? ^ self.digest(b'm', number(tag)?);
        let index = u64::try_from(plain >> 64).ok()?;
        let sequence = u64::try_from(plain & u128::from(u64::MAX)).ok()?;
        (self.token(index, sequence) == token).then_some((index, sequence))
    }

    fn digest(&self, purpose: u8, value: u128) -> u128 {
        let mut message = [purpose; 17];
        message[1..].copy_from_slice(&value.to_be_bytes());
        let tag = hmac::sign(&self.0, &message);
        let mut first = [0; 16];
        first.copy_from_slice(&tag.as_ref()[..16]);
        u128::from_be_bytes(first)
    }
}

/// Reads a number written by [`base62`].
fn number(text: &str) -> Option<u128> {
    text.bytes().try_fold(0_u128, |sum, byte| {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            _ => return None,
        };
        sum.checked_mul(62)?.checked_add(u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_to_what_it_was_made_of() {
        let seal = Seal::default();
        for (index, sequence) in [(0, 1), (7, 2), (199_999, u64::MAX), (u64::MAX, 0)] {
            let token = seal.token(index, sequence);
            assert_eq!(token.len(), 42);
            assert!(token.bytes().all(|b| b.is_ascii_alphanumeric()));
            assert_eq!(seal.open(&token), Some((index, sequence)));
        }
    }

    #[test]
    fn any_other_text_is_unknown() {
        let seal = Seal::default();
        let token = seal.token(1, 1);
        for at in 0..token.len() {
            let other = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
            let mut changed = token.clone();
            changed.replace_range(at..=at, other);
            assert_eq!(seal.open(&changed), None);
        }
        let long = format!("{token}A");
        for bad in ["", "short", "é".repeat(21).as_str(), long.as_str(), &"9".repeat(42)] {
            assert_eq!(seal.open(bad), None);
        }
        assert_eq!(Seal::default().open(&token), None, "another process does not know it");
    }
}
