//! Where requests go: always under the configured base, whatever the request says.
//!
//! The authority comes from the configuration as a value of its own and is never pasted to a path as text; a target of
//! `*` or `.evil.example` pasted behind `http://bank:8101` would name another host or port.

use bytes::{BufMut, BytesMut};
use http::HeaderValue;
use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

use super::host::HostPort;
use super::prefix::Rest;
use crate::words::problem::ProblemType;

/// The base URL of an upstream, such as `https://api.bank.example/psd2`.
#[derive(Clone, Debug)]
pub struct UpstreamBase {
    scheme: Scheme,
    authority: Authority,
    path: Box<str>,
    host_header: HeaderValue,
}

/// Why a text is not an upstream's base URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamBaseError {
    /// Another scheme, or none.
    #[error("it begins with neither https:// nor http://")]
    Scheme,
    /// `user@` or `user:password@`.
    #[error("it holds a user name; credentials belong elsewhere")]
    Userinfo,
    /// `?`.
    #[error("it holds a query")]
    Query,
    /// `#`.
    #[error("it holds a fragment")]
    Fragment,
    /// No host, or something that is not a host with an optional port.
    #[error("its host is not a name or address with an optional port from 1 to 65535")]
    Host,
    /// Dot segments, empty segments or characters that are not fit for a path.
    #[error("its path holds an empty segment, a dot segment or a character that is not fit for one")]
    Path,
}

/// Base, rest and query together are longer than a URI can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the target is too long for the upstream")]
pub struct TooLong;

impl TooLong {
    /// The problem an app is told.
    pub const fn problem(self) -> ProblemType {
        ProblemType::TargetTooLong
    }
}

impl UpstreamBase {
    /// Reads a base URL as configured. A slash at its end means nothing, and a default port is dropped.
    pub fn parse(text: &str) -> Result<Self, UpstreamBaseError> {
        let (scheme, after) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(after), _) => (Scheme::HTTPS, after),
            (None, Some(after)) => (Scheme::HTTP, after),
            (None, None) => return Err(UpstreamBaseError::Scheme),
        };
        if after.contains('#') {
            return Err(UpstreamBaseError::Fragment);
        }
        if after.contains('?') {
            return Err(UpstreamBaseError::Query);
        }
        let (host, path) = after.split_at(after.find('/').unwrap_or(after.len()));
        if host.contains('@') {
            return Err(UpstreamBaseError::Userinfo);
        }
        let (authority, host_header) = parse_authority(host, default_port(&scheme))?;
        let path = path.strip_suffix('/').unwrap_or(path);
        if !path.split('/').skip(1).all(fits_in_path) {
            return Err(UpstreamBaseError::Path);
        }
        Ok(Self { scheme, authority, path: path.into(), host_header })
    }

    /// Path and query of `rest` under this base, byte for byte as the app sent them.
    pub fn join(&self, rest: Rest<'_>) -> Result<PathAndQuery, TooLong> {
        let query = rest.query();
        let length = self.path.len() + rest.path().len() + query.map_or(0, |query| 1 + query.len());
        let mut target = BytesMut::with_capacity(length + 1);
        target.put_slice(self.path.as_bytes());
        target.put_slice(rest.path().as_bytes());
        if target.is_empty() {
            target.put_u8(b'/');
        }
        if let Some(query) = query {
            target.put_u8(b'?');
            target.put_slice(query.as_bytes());
        }
        // Both halves were checked to be what a path and query may hold; only their sum can be too much.
        PathAndQuery::from_maybe_shared(target.freeze()).map_err(|_| TooLong)
    }

    /// The URI of this path and query at this upstream's authority.
    pub fn absolute(&self, target: PathAndQuery) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(target);
        // With all three parts there it is one.
        Uri::from_parts(parts).unwrap_or_default()
    }

    /// The `Host` header for this upstream, built once.
    pub fn host_header(&self) -> HeaderValue {
        self.host_header.clone()
    }

    /// `http` or `https`.
    pub const fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Host and port to connect to; without a port it is the scheme's.
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The base's path without a slash at its end; empty if there is none.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether `authority` of a URL with `scheme` means this upstream's host and port.
    pub(super) fn is_at(&self, scheme: &str, authority: &str) -> bool {
        let own = HostPort::parse(self.authority.as_str());
        let same = own.zip(HostPort::parse(authority));
        scheme.eq_ignore_ascii_case(self.scheme.as_str())
            && same.is_some_and(|(own, other)| own.is_same(other, default_port(&self.scheme)))
    }
}

fn parse_authority(host: &str, default: u16) -> Result<(Authority, HeaderValue), UpstreamBaseError> {
    let parsed = HostPort::parse(host).ok_or(UpstreamBaseError::Host)?;
    let mut text = host.to_ascii_lowercase();
    match parsed.port() {
        Some(0) => return Err(UpstreamBaseError::Host),
        Some(port) if port == default => {
            text.truncate(text.rfind(':').unwrap_or(text.len()));
        }
        Some(_) | None => {}
    }
    let header = HeaderValue::from_str(&text).map_err(|_| UpstreamBaseError::Host)?;
    let authority = Authority::try_from(text).map_err(|_| UpstreamBaseError::Host)?;
    Ok((authority, header))
}

fn default_port(scheme: &Scheme) -> u16 {
    if *scheme == Scheme::HTTPS { 443 } else { 80 }
}

fn fits_in_path(segment: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~:@!$&'()*+,=".contains(&b);
    !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::prefix::PathPrefix;
    use crate::http::target::CheckedPath;
    use proptest::prelude::*;

    fn join(base: &str, target: &str) -> String {
        let path = CheckedPath::check(&Uri::try_from(target).expect("a URI"), 60_000);
        let path = path.expect("an acceptable path");
        let rest = PathPrefix::parse("/debt").expect("a prefix").strip(&path).expect("under it");
        let base = UpstreamBase::parse(base).expect("a base");
        base.absolute(base.join(rest).expect("short enough")).to_string()
    }

    #[test]
    fn the_rest_goes_under_the_base_as_it_was_sent() {
        for (base, target, wanted) in [
            ("https://bank.example", "/debt/v1/x?a=%2f&b", "https://bank.example/v1/x?a=%2f&b"),
            ("https://bank.example/", "/debt/v1/%41/", "https://bank.example/v1/%41/"),
            ("https://bank.example/psd2/", "/debt/v1", "https://bank.example/psd2/v1"),
            ("https://bank.example/psd2", "/debt", "https://bank.example/psd2"),
            ("https://bank.example/psd2", "/debt/", "https://bank.example/psd2/"),
            ("https://bank.example", "/debt", "https://bank.example/"),
            ("https://bank.example", "/debt?x", "https://bank.example/?x"),
            ("https://bank.example", "/debt/?", "https://bank.example/?"),
            ("http://[::1]:8101", "/debt/.evil", "http://[::1]:8101/.evil"),
        ] {
            assert_eq!(join(base, target), wanted, "{base} and {target}");
        }
    }

    #[test]
    fn the_host_header_leaves_a_default_port_out() {
        for (base, wanted) in [
            ("https://Bank.Example:443/x", "bank.example"),
            ("http://bank.example:80", "bank.example"),
            ("https://bank.example:80", "bank.example:80"),
            ("http://127.0.0.1:8101", "127.0.0.1:8101"),
            ("https://[::1]:443", "[::1]"),
        ] {
            let base = UpstreamBase::parse(base).expect("a base");
            assert_eq!(base.host_header(), wanted);
            assert_eq!(base.authority().as_str(), wanted);
        }
    }

    #[test]
    fn a_faulty_base_is_refused_with_its_reason() {
        for (text, fault) in [
            ("", UpstreamBaseError::Scheme),
            ("bank.example", UpstreamBaseError::Scheme),
            ("ftp://bank.example", UpstreamBaseError::Scheme),
            ("unix:/run/x", UpstreamBaseError::Scheme),
            ("https://", UpstreamBaseError::Host),
            ("https:///x", UpstreamBaseError::Host),
            ("https://bank:x", UpstreamBaseError::Host),
            ("https://bank:0", UpstreamBaseError::Host),
            ("https://bank:65536", UpstreamBaseError::Host),
            ("https://a b", UpstreamBaseError::Host),
            ("https://me:pw@bank", UpstreamBaseError::Userinfo),
            ("https://bank?x", UpstreamBaseError::Query),
            ("https://bank/x#y", UpstreamBaseError::Fragment),
            ("https://bank//x", UpstreamBaseError::Path),
            ("https://bank/x//", UpstreamBaseError::Path),
            ("https://bank/../x", UpstreamBaseError::Path),
            ("https://bank/a b", UpstreamBaseError::Path),
            ("https://bank/a%2fb", UpstreamBaseError::Path),
        ] {
            assert_eq!(UpstreamBase::parse(text).err(), Some(fault), "{text}");
        }
    }

    #[test]
    fn a_target_beyond_what_a_uri_holds_is_an_error_and_no_panic() {
        let target = format!("/debt/{}", "a".repeat(65_000));
        let path = CheckedPath::check(&Uri::try_from(target).expect("a URI"), 65_534);
        let path = path.expect("within the limit");
        let rest = PathPrefix::parse("/debt").expect("a prefix").strip(&path).expect("under it");
        let base = format!("https://bank.example/{}", "b".repeat(1_000));
        assert_eq!(UpstreamBase::parse(&base).expect("a base").join(rest), Err(TooLong));
    }

    proptest! {
        #[test]
        fn joining_keeps_every_byte_and_the_configured_authority(
            rest in "(/[A-Za-z0-9._~:@*-]{1,6}|/%41|/%C3%A9){0,6}/?",
            query in prop::option::of("[A-Za-z0-9/?%=&._:@-]{0,20}"),
        ) {
            let query = query.map(|query| format!("?{query}")).unwrap_or_default();
            let target = format!("/debt{rest}{query}");
            let uri = Uri::try_from(target.as_str()).expect("a URI");
            if CheckedPath::check(&uri, 1_000).is_ok() {
                let joined = join("https://bank.example:8443/base", &target);
                prop_assert_eq!(joined, format!("https://bank.example:8443/base{rest}{query}"));
            }
        }
    }
}
