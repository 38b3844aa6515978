//! What a token endpoint gives: an access token, how long it lives, and perhaps the means to get the next one.

use std::fmt;
use std::time::Duration;

use super::secrets::{AccessToken, RefreshToken};

/// The successful answer of a token endpoint (RFC 6749 §5.1), cleaned: a missing life is filled in, an absurd one clamped.
#[derive(Debug)]
pub struct TokenSet {
    /// The bearer token.
    pub access: AccessToken,
    /// How long it lives from the moment the answer was read.
    pub expires_in: Duration,
    /// The new refresh token; `None` means the one that was sent stays valid (RFC 6749 §6).
    pub refresh: Option<RefreshToken>,
    /// What was granted; `None` means what was asked for (RFC 6749 §5.1).
    pub scope: Option<Scope>,
}

/// Space-separated scope tokens (RFC 6749 §3.3), in the order given.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Scope(Box<str>);

impl Scope {
    /// Joins the tokens of `text` with single spaces; control characters and quotes are not scope characters and end
    /// in `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |b: u8| matches!(b, b'!' | b'#'..=b'[' | b']'..=b'~' | b' ');
        if !text.bytes().all(allowed) {
            return None;
        }
        Some(Self(text.split_ascii_whitespace().collect::<Vec<_>>().join(" ").into()))
    }

    /// The scope as it goes on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether every token of `needed` is among this scope's tokens.
    pub fn covers(&self, needed: &Self) -> bool {
        needed.0.split(' ').filter(|token| !token.is_empty()).all(|token| self.0.split(' ').any(|own| own == token))
    }
}

/// What a call needs a consent to cover: any one of these scopes, and that one whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs(Box<[Scope]>);

impl Needs {
    /// Any one of `scopes`.
    pub fn one_of(scopes: impl IntoIterator<Item = Scope>) -> Self {
        Self(scopes.into_iter().collect())
    }

    /// Whether a consent that covers `scope` will do.
    pub fn are_met_by(&self, scope: &Scope) -> bool {
        self.0.iter().any(|needed| scope.covers(needed))
    }

    /// The scopes of which one is needed.
    pub fn scopes(&self) -> &[Scope] {
        &self.0
    }
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, scope) in self.0.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { ", or " })?;
            f.write_str(scope.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_covers_its_own_tokens_whole() {
        let held = Scope::parse("psd2:account:details:read  psd2:account:balance:read").expect("valid");
        let needs = |text| held.covers(&Scope::parse(text).expect("valid"));
        assert!(needs("psd2:account:balance:read"));
        assert!(needs(""));
        assert!(!needs("psd2:account:balance"));
        assert!(!needs("psd2:account:balance:read psd2:payment:sepa:write"));
    }

    #[test]
    fn a_scope_with_quotes_or_controls_is_none() {
        assert!(Scope::parse("a\"b").is_none());
        assert!(Scope::parse("a\\b").is_none());
        assert!(Scope::parse("a\r\nb").is_none());
    }

    #[test]
    fn of_several_needs_one_is_enough_if_it_is_met_whole() {
        let scope = |text| Scope::parse(text).expect("valid");
        let needs = Needs::one_of([scope("read write"), scope("admin")]);
        assert!(needs.are_met_by(&scope("write read")));
        assert!(needs.are_met_by(&scope("admin")));
        assert!(!needs.are_met_by(&scope("read")));
        assert!(!needs.are_met_by(&scope("")));
        assert_eq!(needs.to_string(), "read write, or admin");
    }
}
