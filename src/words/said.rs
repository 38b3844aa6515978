//! What a bank said to a token request, as far as it helps a person who asks the bank about it.

use std::fmt;
use std::sync::Arc;

/// What is known of a token request that was sent. Nothing of it decides anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The status code of the answer; `None` where none came, or nothing was sent.
    pub status: Option<u16>,
    /// What the bank calls the request.
    pub request_id: Option<BankRequestId>,
    /// Whether the request may have left after our right to send it was over: this process stood still in between.
    pub late: bool,
}

/// What a bank calls a request: 1 to 100 visible ASCII characters, as a header of its answer had them.
#[derive(Clone, PartialEq, Eq)]
pub struct BankRequestId(Arc<str>);

impl BankRequestId {
    /// Checks a header's value; `None` for what is empty, longer, or holds anything else.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let fits = (1..=100).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
        let text = std::str::from_utf8(value).ok().filter(|_| fits)?;
        Some(Self(Arc::from(text)))
    }

    /// The id as the bank wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for BankRequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_short_and_visible() {
        for good in ["a", "7c0b2c4e-1d1f-4b38-9c51-7a5c3d1c6b1e", &"x".repeat(100)] {
            assert_eq!(BankRequestId::parse(good.as_bytes()).expect("fits").as_str(), good);
        }
        for bad in ["", "a b", "a\n", "é", &"x".repeat(101)] {
            assert!(BankRequestId::parse(bad.as_bytes()).is_none(), "{bad:?}");
        }
    }
}
