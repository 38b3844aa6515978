//! `Location` of a bank's response, turned so that the app comes back through this proxy.
//!
//! Redirects are passed on, never followed. One that stays under the upstream's base is rewritten to the local prefix;
//! every other is left as it is, since it leads elsewhere and the app has to decide about that.

use bytes::{BufMut, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};

use super::prefix::PathPrefix;
use super::upstream_uri::UpstreamBase;

/// What became of a response's `Location`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocationFate {
    /// There is none.
    Absent,
    /// It pointed under the upstream's base and points under the local prefix.
    Rewritten,
    /// It is relative to the request's own path and is right as it is.
    Untouched,
    /// It leads out of the upstream's base, or cannot be read; left as it is, and worth counting.
    Foreign,
}

/// Rewrites the `Location` of a response of `base`, which is served under `prefix`.
pub fn rewrite(headers: &mut HeaderMap, base: &UpstreamBase, prefix: &PathPrefix) -> LocationFate {
    let mut lines = headers.get_all(header::LOCATION).iter();
    let Some(location) = lines.next() else { return LocationFate::Absent };
    if lines.next().is_some() {
        return LocationFate::Foreign;
    }
    match local(location, base, prefix) {
        Some(Target::Local(rewritten)) => {
            headers.insert(header::LOCATION, rewritten);
            LocationFate::Rewritten
        }
        Some(Target::Relative) => LocationFate::Untouched,
        None => LocationFate::Foreign,
    }
}

enum Target {
    Local(HeaderValue),
    Relative,
}

fn local(location: &HeaderValue, base: &UpstreamBase, prefix: &PathPrefix) -> Option<Target> {
    let location = location.to_str().ok()?;
    // Browsers drop tabs and outer spaces before they read a URL, and `/\t/evil.example` names a host to them.
    if location.bytes().any(|b| b <= b' ') {
        return None;
    }
    let (scheme, after_scheme) = split_scheme(location);
    let target = match (scheme, after_scheme.strip_prefix("//")) {
        (_, Some(rest)) => {
            let (authority, target) = rest.split_at(rest.find(END_OF_HOST).unwrap_or(rest.len()));
            let scheme = scheme.unwrap_or(base.scheme().as_str());
            base.is_at(scheme, authority).then_some(target)?
        }
        (Some(_), None) => return None,
        (None, None) if location.starts_with('/') => location,
        (None, None) if location.starts_with('\\') => return None,
        (None, None) => return Some(Target::Relative),
    };
    let rest = under(target, base.path())?;
    let mut rewritten = BytesMut::with_capacity(prefix.as_str().len() + rest.len() + 1);
    rewritten.put_slice(prefix.as_str().as_bytes());
    if rewritten.is_empty() && !rest.starts_with('/') {
        rewritten.put_u8(b'/');
    }
    rewritten.put_slice(rest.as_bytes());
    HeaderValue::from_maybe_shared(rewritten.freeze()).ok().map(Target::Local)
}

/// What follows the base's path in a path-absolute target, if it is plainly under it: a path that a client would
/// resolve to something else, or read as naming a host, is not.
fn under<'l>(target: &'l str, base: &str) -> Option<&'l str> {
    let rest = target.strip_prefix(base)?;
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let whole_segments = path.is_empty() || path.starts_with('/');
    let resolves_elsewhere = path.starts_with("//") || path.contains('\\') || path.split('/').any(is_dots);
    (whole_segments && !resolves_elsewhere).then_some(rest)
}

/// `.` and `..` in every spelling that URL parsers take for them.
fn is_dots(segment: &str) -> bool {
    let mut dots = 0;
    let mut rest = segment;
    while !rest.is_empty() {
        let encoded = rest.get(..3).filter(|start| start.eq_ignore_ascii_case("%2e"));
        rest = match (rest.strip_prefix('.'), encoded) {
            (Some(after), _) => after,
            (None, Some(_)) => rest.get(3..).unwrap_or_default(),
            (None, None) => return false,
        };
        dots += 1;
    }
    matches!(dots, 1 | 2)
}

/// A URI reference in its scheme, if it has one, and what follows the colon (RFC 3986 §4.1).
fn split_scheme(reference: &str) -> (Option<&str>, &str) {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    let fits =
        |scheme: &str| scheme.bytes().all(allowed) && scheme.starts_with(|first: char| first.is_ascii_alphabetic());
    match reference.split_once(':') {
        Some((scheme, after)) if fits(scheme) => (Some(scheme), after),
        Some(_) | None => (None, reference),
    }
}

const END_OF_HOST: [char; 4] = ['/', '?', '#', '\\'];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rewritten(base: &str, prefix: &str, location: &str) -> (LocationFate, String) {
        let base = UpstreamBase::parse(base).expect("a base");
        let prefix = PathPrefix::parse(prefix).expect("a prefix");
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, HeaderValue::from_str(location).expect("a value"));
        let fate = rewrite(&mut headers, &base, &prefix);
        let value = headers[header::LOCATION].to_str().expect("ASCII").to_owned();
        (fate, value)
    }

    #[test]
    fn a_location_under_the_base_comes_back_through_the_prefix() {
        let base = "https://bank.example/psd2";
        for (location, wanted) in [
            ("https://bank.example/psd2/v1/x?y=1#z", "/accounts/v1/x?y=1#z"),
            ("HTTPS://BANK.example:443/psd2/v1", "/accounts/v1"),
            ("//bank.example/psd2/v1", "/accounts/v1"),
            ("/psd2/v1/..x", "/accounts/v1/..x"),
            ("/psd2", "/accounts"),
            ("/psd2?x=/../", "/accounts?x=/../"),
            ("/psd2/", "/accounts/"),
        ] {
            let found = rewritten(base, "/accounts", location);
            assert_eq!(found, (LocationFate::Rewritten, wanted.into()), "{location}");
        }
        for (location, wanted) in [("https://bank.example", "/"), ("/", "/"), ("https://bank.example?x", "/?x")] {
            let found = rewritten("https://bank.example", "/", location);
            assert_eq!(found, (LocationFate::Rewritten, wanted.into()), "{location}");
        }
    }

    #[test]
    fn every_other_location_is_left_as_it_is() {
        for (location, fate) in [
            ("next", LocationFate::Untouched),
            ("?page=2", LocationFate::Untouched),
            ("", LocationFate::Untouched),
            ("../up", LocationFate::Untouched),
            ("x/y:z", LocationFate::Untouched),
            ("https://login.bank.example/psd2/x", LocationFate::Foreign),
            ("http://bank.example/psd2/x", LocationFate::Foreign),
            ("https://bank.example:8443/psd2/x", LocationFate::Foreign),
            ("https://me@bank.example/psd2/x", LocationFate::Foreign),
            ("https://bank.example/psd2x", LocationFate::Foreign),
            ("https://bank.example/", LocationFate::Foreign),
            ("https://bank.example\\psd2", LocationFate::Foreign),
            ("//evil.example/psd2", LocationFate::Foreign),
            ("/other", LocationFate::Foreign),
            ("/psd2/../x", LocationFate::Foreign),
            ("/psd2/%2E./x", LocationFate::Foreign),
            ("/psd2/..\\x", LocationFate::Foreign),
            ("/psd2//evil", LocationFate::Foreign),
            ("/psd2/\t/evil", LocationFate::Foreign),
            ("\\\\evil\\x", LocationFate::Foreign),
            ("mybank:app", LocationFate::Foreign),
            ("https:/psd2", LocationFate::Foreign),
        ] {
            let found = rewritten("https://bank.example/psd2", "/accounts", location);
            assert_eq!(found, (fate, location.into()), "{location}");
        }
    }

    #[test]
    fn none_and_several_locations_change_nothing() {
        let base = UpstreamBase::parse("https://bank.example").expect("a base");
        let prefix = PathPrefix::parse("/a").expect("a prefix");
        let mut headers = HeaderMap::new();
        assert_eq!(rewrite(&mut headers, &base, &prefix), LocationFate::Absent);
        headers.append(header::LOCATION, HeaderValue::from_static("/x"));
        headers.append(header::LOCATION, HeaderValue::from_static("/y"));
        let before = headers.clone();
        assert_eq!(rewrite(&mut headers, &base, &prefix), LocationFate::Foreign);
        assert_eq!(headers, before);
    }

    proptest! {
        #[test]
        fn a_rewritten_location_stays_on_this_host_and_under_the_prefix(
            location in "((https?:)?//(bank\\.example|evil|[a-z@:.\\\\]{0,6}))?[/a.%2eE\\\\?:#\t]{0,12}",
            prefix in prop::sample::select(vec!["/", "/accounts"]),
        ) {
            let (fate, value) = rewritten("https://bank.example", prefix, &location);
            if fate == LocationFate::Rewritten {
                prop_assert!(value.starts_with(prefix), "{}", value);
                prop_assert!(!value.starts_with("//") && !value.starts_with("/\\"), "{}", value);
                prop_assert!(!value.contains('\t'), "{:?}", value);
            } else {
                prop_assert_eq!(value, location);
            }
        }
    }
}
