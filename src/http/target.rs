//! Which request targets go on at all.
//!
//! The upstream sees the path byte for byte as the app sent it, while routes are matched on its segments. The two agree
//! only for paths that every HTTP server reads the same way, so anything that some server resolves, decodes twice,
//! merges or cuts differently is refused here: dot segments, encoded slashes, path parameters in the middle, empty
//! segments. What a path looks like after one and after two rounds of percent-decoding is checked; a third round is not
//! offered. The query belongs to the API and is looked at only for bytes that no URI may hold.

use std::fmt;

use http::Uri;
use http::uri::PathAndQuery;

use super::segment::{self, Segments};
use crate::words::problem::ProblemType;

/// A path that every server reads alike, and its query, both byte for byte as received.
#[derive(Clone, PartialEq, Eq)]
pub struct CheckedPath(PathAndQuery);

/// Why a request target is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// `host:port` alone, the form of CONNECT (RFC 9112 §3.2.3).
    #[error("the target is an authority; a path is needed")]
    AuthorityForm,
    /// `*`, the form of OPTIONS for a whole server (RFC 9112 §3.2.4).
    #[error("the target is *; a path is needed")]
    AsteriskForm,
    /// Path and query together are longer than the limit, in bytes.
    #[error("the target is longer than {0} bytes")]
    TooLong(usize),
    /// A byte from 0x80 up, in path or query.
    #[error("the target holds a byte outside ASCII; it must be percent-encoded")]
    NotAscii,
    /// A control character or a space, raw or (in the path) encoded control characters, NUL among them.
    #[error("the target holds a control character")]
    Control,
    /// `\`, raw or encoded.
    #[error("the path holds a backslash")]
    Backslash,
    /// `%2f`, encoded once or twice.
    #[error("the path holds an encoded slash")]
    EncodedSlash,
    /// `%` without two hexadecimal digits after it.
    #[error("the path holds a percent sign that begins no escape")]
    BadEscape,
    /// Escapes that decode to something other than UTF-8, overlong forms among them.
    #[error("the path's escapes do not form UTF-8")]
    NotUtf8,
    /// Something is left to decode after two rounds.
    #[error("the path is percent-encoded more than twice")]
    EncodedTooOften,
    /// `.` or `..`, raw or encoded, with or without a path parameter.
    #[error("the path holds a dot segment")]
    DotSegment,
    /// `;` in a segment that is not the last.
    #[error("the path holds a parameter (;) before its last segment")]
    Parameter,
    /// `//`.
    #[error("the path holds an empty segment")]
    EmptySegment,
}

impl TargetError {
    /// The problem an app is told.
    pub const fn problem(self) -> ProblemType {
        match self {
            Self::TooLong(_) => ProblemType::TargetTooLong,
            Self::AuthorityForm
            | Self::AsteriskForm
            | Self::NotAscii
            | Self::Control
            | Self::Backslash
            | Self::EncodedSlash
            | Self::BadEscape
            | Self::NotUtf8
            | Self::EncodedTooOften
            | Self::DotSegment
            | Self::Parameter
            | Self::EmptySegment => ProblemType::BadRequest,
        }
    }
}

impl CheckedPath {
    /// Checks the target of a request. Origin form and absolute form pass (whose authority is
    /// [`RequestGuard`](super::request_guard::RequestGuard)'s business); `limit` is for path and query together, in bytes.
    pub fn check(uri: &Uri, limit: usize) -> Result<Self, TargetError> {
        let target = uri.path_and_query().ok_or(TargetError::AuthorityForm)?;
        if target.as_str().len() > limit {
            return Err(TargetError::TooLong(limit));
        }
        let path = target.path();
        if path == "*" {
            return Err(TargetError::AsteriskForm);
        }
        let mut rest = path.strip_prefix('/').ok_or(TargetError::AuthorityForm)?;
        while let Some((segment, after)) = rest.split_once('/') {
            if segment.is_empty() {
                return Err(TargetError::EmptySegment);
            }
            segment::check(segment, false)?;
            rest = after;
        }
        segment::check(rest, true)?;
        check_query(target.query().unwrap_or_default())?;
        Ok(Self(target.clone()))
    }

    /// The path as received; it begins with `/`.
    pub fn path(&self) -> &str {
        self.0.path()
    }

    /// The query as received, without its `?`.
    pub fn query(&self) -> Option<&str> {
        self.0.query()
    }

    /// The path's segments, to be decoded once for matching.
    pub fn segments(&self) -> Segments<'_> {
        Segments::of(self.path())
    }
}

impl fmt::Debug for CheckedPath {
    /// Paths and queries hold consent and account ids: only the size is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckedPath({} bytes)", self.0.as_str().len())
    }
}

fn check_query(query: &str) -> Result<(), TargetError> {
    if !query.is_ascii() {
        return Err(TargetError::NotAscii);
    }
    if query.bytes().any(|b| b <= b' ' || b == 0x7f) {
        return Err(TargetError::Control);
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_in_result, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(target: &[u8]) -> Result<CheckedPath, TargetError> {
        CheckedPath::check(&Uri::try_from(target).expect("a URI that hyper accepts"), 200)
    }

    #[test]
    fn ordinary_paths_pass_and_are_kept_byte_for_byte() {
        for target in [
            "/",
            "/v1/accounts/NL69ABNA9999841479/transactions?fromDate=2024-01-01&x=%2f%00//../",
            "/v1/debt/a%3Ab%20c/",
            "/caf%C3%A9/%e2%82%ac",
            "/v1/a;version=2",
            "/v1/...",
            "/v1/.hidden/a..b",
            "/100%25",
            "/a%3bb/c",
            "/v1?",
        ] {
            let path = check(target.as_bytes()).expect(target);
            assert_eq!(path.0.as_str(), target);
        }
    }

    #[test]
    fn an_absolute_target_is_reduced_to_its_path() {
        let path = check(b"http://localhost:8080/v1?x=1").expect("valid");
        assert_eq!((path.path(), path.query()), ("/v1", Some("x=1")));
    }

    #[test]
    fn every_ambiguous_target_is_refused_for_its_own_reason() {
        let rows: &[(&[u8], TargetError)] = &[
            (b"localhost:80", TargetError::AuthorityForm),
            (b"x", TargetError::AuthorityForm),
            (b"*", TargetError::AsteriskForm),
            (b"//evil/x", TargetError::EmptySegment),
            (b"/a//b", TargetError::EmptySegment),
            (b"/a//", TargetError::EmptySegment),
            (b"/a/../b", TargetError::DotSegment),
            (b"/a/.", TargetError::DotSegment),
            (b"/..", TargetError::DotSegment),
            (b"/a/%2e%2E/b", TargetError::DotSegment),
            (b"/a/.%2e", TargetError::DotSegment),
            (b"/a/%252e%252e/b", TargetError::DotSegment),
            (b"/a/%25%32%65/b", TargetError::DotSegment),
            (b"/a/..;x=1", TargetError::DotSegment),
            (b"/a/..%3bx/b", TargetError::DotSegment),
            (b"/a/%2e%2e%3b", TargetError::DotSegment),
            (b"/accounts%2f..", TargetError::EncodedSlash),
            (b"/a%2Fb", TargetError::EncodedSlash),
            (b"/a%252fb", TargetError::EncodedSlash),
            (b"/a\\b", TargetError::Backslash),
            (b"/a%5cb", TargetError::Backslash),
            (b"/a%255Cb", TargetError::Backslash),
            (b"/a%00", TargetError::Control),
            (b"/a%2500", TargetError::Control),
            (b"/a%0d%0aX:y", TargetError::Control),
            (b"/a%7f", TargetError::Control),
            (b"/a;x=1/b", TargetError::Parameter),
            (b"/;/b", TargetError::Parameter),
            (b"/a%", TargetError::BadEscape),
            (b"/a%2", TargetError::BadEscape),
            (b"/a%zz", TargetError::BadEscape),
            (b"/a%%32%65", TargetError::BadEscape),
            (b"/a%u002e", TargetError::BadEscape),
            (b"/%c0%ae%c0%ae/x", TargetError::NotUtf8),
            (b"/%25c0%25ae", TargetError::NotUtf8),
            (b"/%ff", TargetError::NotUtf8),
            (b"/%25252e", TargetError::EncodedTooOften),
            ("/é".as_bytes(), TargetError::NotAscii),
            ("/a?é".as_bytes(), TargetError::NotAscii),
        ];
        for (target, reason) in rows {
            assert_eq!(check(target), Err(*reason), "{}", target.escape_ascii());
        }
    }

    #[test]
    fn the_limit_counts_path_and_query() {
        let longest = format!("/{}?{}", "a".repeat(98), "b".repeat(100));
        assert!(check(longest.as_bytes()).is_ok());
        let longer = check(format!("{longest}b").as_bytes());
        assert_eq!(longer, Err(TargetError::TooLong(200)));
        assert_eq!(longer.expect_err("too long").problem(), ProblemType::TargetTooLong);
    }

    #[test]
    fn debug_shows_nothing_of_the_path() {
        let shown = format!("{:?}", check(b"/v1/debt/customer-4711?secret").expect("valid"));
        assert!(!shown.contains("customer") && !shown.contains("secret"), "{shown}");
    }

    /// Decodes whatever is an escape and leaves the rest, as the most forgiving server would.
    fn decode(text: &[u8]) -> Vec<u8> {
        let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let mut out = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let escape = match text[at..] {
                [b'%', high, low, ..] => digit(high).zip(digit(low)),
                _ => None,
            };
            out.push(escape.map_or(text[at], |(high, low)| high << 4 | low));
            at += if escape.is_some() { 3 } else { 1 };
        }
        out
    }

    proptest! {
        #[test]
        fn an_accepted_path_never_turns_into_another_when_decoded(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "/", "/", ".", "..", "%2e", "%2E", "%252e", "%25", "2e", "2f", "32", "65", "%", "%2f",
                    "%252f", "\\", "%5c", "%00", ";", "%3b", "a", "b", "%41", "%c0", "%af", "%ae", "5c", "//",
                ]),
                0..12,
            )
        ) {
            let target = format!("/{}", pieces.concat());
            let Ok(uri) = Uri::try_from(target.as_str()) else { return Ok(()) };
            if CheckedPath::check(&uri, 500).is_ok() {
                let pieces = |text: &[u8]| text.split(|b| *b == b'/').count();
                let segments = pieces(target.as_bytes());
                let mut seen = target.into_bytes();
                for _ in 0..4 {
                    prop_assert_eq!(pieces(&seen), segments);
                    prop_assert!(!seen.contains(&0) && !seen.contains(&b'\\'));
                    for segment in seen.split(|b| *b == b'/') {
                        let name = segment.split(|b| *b == b';').next().expect("at least one piece");
                        prop_assert!(name != b"." && name != b"..");
                    }
                    seen = decode(&seen);
                }
            }
        }

        #[test]
        fn no_target_makes_the_check_panic(target in "[/.%;\\\\a-f0-9?é*: \\x01-]{0,40}") {
            if let Ok(uri) = Uri::try_from(target.as_str()) {
                let _ = CheckedPath::check(&uri, 30);
            }
        }
    }
}
