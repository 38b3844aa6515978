//! Paths: what is let through means one thing, and stays where the configuration puts it.

use std::borrow::Cow;

use consentry::http::pattern::PathPattern;
use consentry::http::prefix::PathPrefix;
use consentry::http::target::CheckedPath;
use consentry::http::upstream_uri::UpstreamBase;
use http::Uri;

/// A target that passes has no second reading, and the URI made of it lies under the base.
pub(super) fn path(data: &[u8]) {
    let Ok(uri) = Uri::try_from(data) else { return };
    let Ok(checked) = CheckedPath::check(&uri, 8_192) else { return };
    assert_eq!(Some(checked.path()), uri.path_and_query().map(http::uri::PathAndQuery::path), "byte for byte");
    assert_eq!(checked.query(), uri.query());
    let mut reading = Cow::Borrowed(checked.path().as_bytes());
    for _ in 0..3 {
        assert_unambiguous(&reading, checked.path());
        reading = Cow::Owned(decoded(&reading));
    }
    let base = UpstreamBase::parse("https://bank.example:8443/psd2").expect("a base");
    let prefix = PathPrefix::parse("/accounts").expect("a prefix");
    let Some(rest) = prefix.strip(&checked) else { return };
    assert!(checked.path().ends_with(rest.path()));
    let first = checked.segments().next().expect("a prefix is a segment");
    assert_eq!(first.decoded(), "accounts");
    if PathPattern::parse("/v1/**").expect("a pattern").matches(rest).is_some() {
        assert_eq!(rest.segments().next().expect("one is needed").decoded(), "v1");
    }
    let joined = base.absolute(base.join(rest).expect("short enough"));
    assert_eq!(joined.scheme_str(), Some("https"));
    assert_eq!(joined.authority().map(http::uri::Authority::as_str), Some("bank.example:8443"));
    assert_eq!(joined.path(), format!("/psd2{}", rest.path()));
    assert_eq!(joined.query(), checked.query());
}

/// No server resolves, cuts or merges anything in it.
fn assert_unambiguous(reading: &[u8], path: &str) {
    assert!(std::str::from_utf8(reading).is_ok(), "not UTF-8 in some reading");
    assert!(!reading.contains(&b'\\') && !reading.iter().any(|byte| *byte < b' ' || *byte == 0x7f));
    let slashes = |bytes: &[u8]| bytes.split(|byte| *byte == b'/').count();
    assert_eq!(slashes(reading), slashes(path.as_bytes()), "a slash came out of an escape");
    for segment in reading.split(|byte| *byte == b'/') {
        let bare = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        assert!(bare != b"." && bare != b"..", "a dot segment in some reading");
    }
}

/// Decoded once, by the plainest means.
fn decoded(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        let escape = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let value = escape.filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let value = value.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *byte == b'%');
        out.push(value.unwrap_or(*byte));
        rest = if value.is_some() { &after[2..] } else { after };
    }
    out
}
