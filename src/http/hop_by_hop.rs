//! Headers that end at this proxy (RFC 9110 §7.6.1).
//!
//! A message may have several `Connection` lines, and each may name several headers, so all of them are read before
//! anything is removed. Our own headers are added after stripping: `Connection: authorization` removes what the app
//! sent, never the token.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::words::problem::ProblemType;

/// A `Connection` header that cannot be honoured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// It names a header that frames or routes the message, without which the rest means something else.
    #[error("Connection names {0}, which is not a header of one connection")]
    Protected(&'static str),
    /// Something other than a list of header names.
    #[error("Connection holds something that is not a header name")]
    NotAName,
}

impl ConnectionError {
    /// The problem an app is told.
    pub const fn problem(self) -> ProblemType {
        match self {
            Self::Protected(_) | Self::NotAName => ProblemType::BadRequest,
        }
    }
}

/// The headers that `Connection` names, over all its lines, but for `close` and `keep-alive`, which name none.
pub fn nominated(headers: &HeaderMap) -> Result<Vec<HeaderName>, ConnectionError> {
    let mut names = Vec::new();
    for option in headers.get_all(header::CONNECTION).iter().flat_map(options) {
        let name = HeaderName::from_bytes(option).map_err(|_| ConnectionError::NotAName)?;
        for protected in ["host", "content-length", "transfer-encoding"] {
            if name == protected {
                return Err(ConnectionError::Protected(protected));
            }
        }
        names.push(name);
    }
    Ok(names)
}

/// Takes the hop-by-hop headers off a request, those that `Connection` names included. An error leaves it as it was.
pub fn strip_request(headers: &mut HeaderMap) -> Result<(), ConnectionError> {
    let named = nominated(headers)?;
    remove_all(headers, &named);
    Ok(())
}

/// Takes the hop-by-hop headers off a response. Words of its `Connection` that are no header names are ignored; the
/// length of the body is known from the message itself, so naming `Content-Length` does no harm.
pub fn strip_response(headers: &mut HeaderMap) {
    let named = nominated_leniently(headers);
    remove_all(headers, &named);
}

/// What a response's `Connection` names.
pub(super) fn nominated_leniently(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(header::CONNECTION).iter();
    lines.flat_map(options).filter_map(|option| HeaderName::from_bytes(option).ok()).collect()
}

/// Whether a header of this (lower-case) name belongs to one connection, named by `Connection` or not.
pub fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

fn remove_all(headers: &mut HeaderMap, named: &[HeaderName]) {
    let fixed: Vec<_> = headers.keys().filter(|name| is_hop_by_hop(name.as_str())).cloned().collect();
    for name in fixed.iter().chain(named) {
        headers.remove(name);
    }
}

fn options(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let names_a_header = |option: &&[u8]| {
        !option.is_empty() && !option.eq_ignore_ascii_case(b"close") && !option.eq_ignore_ascii_case(b"keep-alive")
    };
    line.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(names_a_header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn left(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn every_connection_line_is_honoured() {
        let mut request = headers(&[
            ("connection", "x-a, close"),
            ("connection", ",X-B ,\tkeep-alive"),
            ("x-a", "1"),
            ("x-a", "2"),
            ("x-b", "3"),
            ("x-c", "4"),
            ("authorization", "app's own"),
        ]);
        assert_eq!(strip_request(&mut request), Ok(()));
        assert_eq!(left(&request), ["authorization", "x-c"]);
    }

    #[test]
    fn hop_by_hop_headers_go_even_if_connection_is_absent() {
        let fixed = [
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authenticate", "Basic"),
            ("proxy-authorization", "Basic eA=="),
            ("te", "trailers"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("accept", "*/*"),
        ];
        let (mut request, mut response) = (headers(&fixed), headers(&fixed));
        assert_eq!(strip_request(&mut request), Ok(()));
        strip_response(&mut response);
        assert_eq!((left(&request), left(&response)), (vec!["accept"], vec!["accept"]));
    }

    #[test]
    fn a_request_that_names_framing_or_host_is_refused_whatever_the_line_and_case() {
        for (first, second, fault) in [
            ("Host", "close", ConnectionError::Protected("host")),
            ("close", "x, CONTENT-LENGTH", ConnectionError::Protected("content-length")),
            ("x", "transfer-encoding", ConnectionError::Protected("transfer-encoding")),
            ("x y", "close", ConnectionError::NotAName),
            ("close", "\"x\"", ConnectionError::NotAName),
        ] {
            let mut request = headers(&[("connection", first), ("connection", second), ("x", "1")]);
            let before = request.clone();
            assert_eq!(strip_request(&mut request), Err(fault), "{first} / {second}");
            assert_eq!(request, before, "a refused request is left as it was");
        }
    }

    #[test]
    fn a_response_is_cleaned_as_far_as_its_connection_can_be_read() {
        let mut response = headers(&[
            ("connection", "no name, set-cookie, content-length"),
            ("set-cookie", "a=b"),
            ("content-length", "3"),
            ("content-type", "text/plain"),
        ]);
        strip_response(&mut response);
        assert_eq!(left(&response), ["content-type"]);
    }

    proptest! {
        #[test]
        fn stripping_leaves_no_nominated_and_no_hop_by_hop_header(
            lines in prop::collection::vec("[a-z, ]{0,12}", 0..4),
            names in prop::collection::vec("[a-z]|te|upgrade|keep-alive|trailer", 0..12),
        ) {
            let mut request = HeaderMap::new();
            for line in &lines {
                request.append(header::CONNECTION, HeaderValue::from_str(line).expect("letters"));
            }
            for name in &names {
                let name = HeaderName::from_bytes(name.as_bytes()).expect("letters");
                request.append(name, HeaderValue::from_static("x"));
            }
            let Ok(named) = nominated(&request) else { return Ok(()) };
            prop_assert_eq!(strip_request(&mut request), Ok(()));
            for name in named {
                prop_assert!(!request.contains_key(name));
            }
            for name in request.keys() {
                prop_assert!(!is_hop_by_hop(name.as_str()));
            }
        }
    }
}
