//! What a request's head must satisfy before anybody looks at what it asks for.
//!
//! hyper parses HTTP well and leaves a proxy's own questions open: it takes two `Host` lines or none, every method, a
//! doubled `chunked`, bytes outside ASCII. Each is answered here, once, for HTTP/1 and HTTP/2 alike. The path is
//! [`target`](super::target)'s business.

use std::sync::OnceLock;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Uri, Version};

use super::host::{HostNames, HostPort};
use crate::words::problem::ProblemType;

/// The checks of one listener.
#[derive(Clone, Debug)]
pub struct RequestGuard {
    names: HostNames,
    limits: HeadLimits,
    /// The first `Host` that was one of the names. Most apps send the same each time, and whether it is one depends on
    /// nothing else, so that it need not be read again.
    familiar: OnceLock<Box<[u8]>>,
}

/// Limits of a request's head, the target aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Header lines.
    pub lines: usize,
    /// Bytes of names and values together, with four for each line's separators.
    pub bytes: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { lines: 64, bytes: 16 * 1024 }
    }
}

/// Why a request is refused. The texts repeat nothing of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// More header lines than the limit.
    #[error("the request has more than {0} header lines")]
    TooManyHeaders(usize),
    /// More bytes of headers than the limit.
    #[error("the request's headers are larger than {0} bytes")]
    HeadersTooLarge(usize),
    /// A header value with a byte from 0x80 up (obs-text of RFC 9110 §5.5).
    #[error("a header value holds a byte outside ASCII")]
    ObsText,
    /// CONNECT or TRACE.
    #[error("CONNECT and TRACE are not forwarded")]
    Method,
    /// Neither `Host` nor an authority; in HTTP/1.1, no `Host` (RFC 9112 §3.2).
    #[error("the Host header is missing")]
    HostMissing,
    /// More than one `Host` line.
    #[error("there is more than one Host header")]
    HostTwice,
    /// A `Host` or authority that is not a host with an optional port; userinfo, for one.
    #[error("the host is malformed")]
    HostMalformed,
    /// `Host` and the target's authority differ.
    #[error("the Host header and the target's authority differ")]
    HostContradiction,
    /// A host that is not one of the listener's names.
    #[error("the host is not a name of this listener")]
    HostForeign,
    /// An absolute target whose scheme is neither http nor https.
    #[error("the target's scheme is not http")]
    Scheme,
    /// A web page of another origin made the browser send this.
    #[error("the request comes from a web page of another origin")]
    OriginForeign,
    /// Both framings, or `chunked` more than once or not alone on its line.
    #[error("the request's framing is ambiguous")]
    Framing,
    /// A transfer coding other than chunked.
    #[error("the only transfer coding understood is chunked")]
    TransferCoding,
    /// An upgrade: WebSocket, h2c.
    #[error("the protocol cannot be upgraded here")]
    Upgrade,
    /// An expectation other than 100-continue.
    #[error("the only expectation understood is 100-continue")]
    Expectation,
}

impl Refused {
    /// The problem an app is told.
    pub const fn problem(self) -> ProblemType {
        match self {
            Self::TooManyHeaders(_) | Self::HeadersTooLarge(_) => ProblemType::HeadersTooLarge,
            Self::Method => ProblemType::MethodNotAllowed,
            Self::TransferCoding | Self::Upgrade => ProblemType::NotSupported,
            Self::Expectation => ProblemType::ExpectationFailed,
            Self::ObsText
            | Self::HostMissing
            | Self::HostTwice
            | Self::HostMalformed
            | Self::HostContradiction
            | Self::HostForeign
            | Self::Scheme
            | Self::OriginForeign
            | Self::Framing => ProblemType::BadRequest,
        }
    }
}

impl RequestGuard {
    /// A listener that answers to these names, and takes heads as large as this.
    pub const fn new(names: HostNames, limits: HeadLimits) -> Self {
        Self { names, limits, familiar: OnceLock::new() }
    }

    /// Checks the head of a request as hyper hands it over, before any header is removed.
    pub fn check<B>(&self, request: &Request<B>) -> Result<(), Refused> {
        self.check_from(Head::of(request), check_origin)
    }

    /// [`RequestGuard::check`] of a head whose body is elsewhere already.
    pub fn check_parts(&self, parts: &Parts) -> Result<(), Refused> {
        let Parts { method, uri, version, headers, .. } = parts;
        self.check_from(Head { method, uri, version: *version, headers }, check_origin)
    }

    /// [`RequestGuard::check`] for a listener that other sites send browsers to: a page of another origin may lead there, and
    /// neither embed it nor fetch from it in the background.
    pub fn check_navigation<B>(&self, request: &Request<B>) -> Result<(), Refused> {
        self.check_from(Head::of(request), |headers, _| check_fetch(headers))
    }

    fn is_familiar(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        self.familiar.get().is_some_and(|familiar| sole_host(uri, headers) == Some(familiar))
    }

    fn check_from(
        &self,
        Head { method, uri, version, headers }: Head<'_>,
        check_page: impl FnOnce(&HeaderMap, HostPort<'_>) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let seen = self.limits.check(headers)?;
        if matches!(*method, Method::CONNECT | Method::TRACE) {
            return Err(Refused::Method);
        }
        // Looking a header up costs more than looking at all of them once, and most requests have none of these.
        if seen.of_a_page || !self.is_familiar(uri, headers) {
            let host = check_host(uri, version, headers, &self.names)?;
            if seen.of_a_page {
                check_page(headers, host)?;
            }
            if let Some(text) = sole_host(uri, headers) {
                self.familiar.get_or_init(|| text.into());
            }
        }
        if seen.of_framing {
            check_framing(headers)?;
        }
        if seen.upgrade {
            return Err(Refused::Upgrade);
        }
        let continues = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
        if seen.expect && !headers.get_all(header::EXPECT).iter().all(continues) {
            return Err(Refused::Expectation);
        }
        Ok(())
    }
}

/// What a request names as its host in one `Host` line and nowhere else.
fn sole_host<'r>(uri: &Uri, headers: &'r HeaderMap) -> Option<&'r [u8]> {
    let mut lines = headers.get_all(header::HOST).iter();
    let line = lines.next().filter(|_| uri.scheme().is_none() && uri.authority().is_none())?;
    lines.next().is_none().then(|| line.as_bytes())
}

/// What is looked at.
#[derive(Clone, Copy)]
struct Head<'r> {
    method: &'r Method,
    uri: &'r Uri,
    version: Version,
    headers: &'r HeaderMap,
}

impl<'r> Head<'r> {
    fn of<B>(request: &'r Request<B>) -> Self {
        Self { method: request.method(), uri: request.uri(), version: request.version(), headers: request.headers() }
    }
}

/// Which headers that need a closer look a request has.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "one for each look")]
struct Seen {
    of_a_page: bool,
    of_framing: bool,
    upgrade: bool,
    expect: bool,
}

impl HeadLimits {
    fn check(self, headers: &HeaderMap) -> Result<Seen, Refused> {
        if headers.len() > self.lines {
            return Err(Refused::TooManyHeaders(self.lines));
        }
        let (mut bytes, mut seen) = (0, Seen::default());
        for (name, value) in headers {
            seen.of_a_page |= *name == header::ORIGIN || *name == SEC_FETCH_SITE;
            seen.of_framing |= *name == header::TRANSFER_ENCODING;
            seen.upgrade |= *name == header::UPGRADE;
            seen.expect |= *name == header::EXPECT;
            bytes += name.as_str().len() + value.len() + 4;
            if !value.as_bytes().is_ascii() {
                return Err(Refused::ObsText);
            }
        }
        if bytes > self.bytes { Err(Refused::HeadersTooLarge(self.bytes)) } else { Ok(seen) }
    }
}

fn check_host<'r>(
    uri: &'r Uri,
    version: Version,
    headers: &'r HeaderMap,
    names: &HostNames,
) -> Result<HostPort<'r>, Refused> {
    if uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err(Refused::Scheme);
    }
    let parse = |text: &'r str| HostPort::parse(text).ok_or(Refused::HostMalformed);
    let authority = uri.authority().map(|authority| parse(authority.as_str())).transpose()?;
    let mut lines = headers.get_all(header::HOST).iter();
    let line = lines.next();
    if lines.next().is_some() {
        return Err(Refused::HostTwice);
    }
    let line = line.map(|value| value.to_str().map_err(|_| Refused::HostMalformed).and_then(parse)).transpose()?;
    let host = match (authority, line) {
        (Some(authority), Some(line)) if authority != line => {
            return Err(Refused::HostContradiction);
        }
        (_, Some(line)) => line,
        (Some(authority), None) if version >= Version::HTTP_2 => authority,
        (_, None) => return Err(Refused::HostMissing),
    };
    if names.contain(host) { Ok(host) } else { Err(Refused::HostForeign) }
}

/// No page belongs to a proxy, so only an `Origin` equal to the very host that was called is ours. Fetch Metadata covers
/// the requests that carry no `Origin`, such as an image's.
fn check_origin(headers: &HeaderMap, host: HostPort<'_>) -> Result<(), Refused> {
    let mut ours = false;
    for origin in headers.get_all(header::ORIGIN) {
        if !is_own_origin(origin, host) {
            return Err(Refused::OriginForeign);
        }
        ours = true;
    }
    for site in headers.get_all(SEC_FETCH_SITE) {
        let fits = match site.as_bytes() {
            b"same-origin" | b"none" => true,
            b"same-site" => ours,
            _ => false,
        };
        if !fits {
            return Err(Refused::OriginForeign);
        }
    }
    Ok(())
}

/// Fetch Metadata of a navigation at the top of a window, that a person asked for and no prefetch did.
fn check_fetch(headers: &HeaderMap) -> Result<(), Refused> {
    let is = |name: &HeaderName, wanted: &[u8]| headers.get_all(name).iter().all(|value| value.as_bytes() == wanted);
    let early = headers.contains_key(SEC_PURPOSE);
    if is(&SEC_FETCH_MODE, b"navigate") && is(&SEC_FETCH_DEST, b"document") && !early {
        Ok(())
    } else {
        Err(Refused::OriginForeign)
    }
}

fn is_own_origin(origin: &HeaderValue, host: HostPort<'_>) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let (authority, default_port) = match (origin.strip_prefix("http://"), origin.strip_prefix("https://")) {
        (Some(authority), _) => (authority, 80),
        (None, Some(authority)) => (authority, 443),
        (None, None) => return false,
    };
    HostPort::parse(authority).is_some_and(|origin| origin.is_same(host, default_port))
}

fn check_framing(headers: &HeaderMap) -> Result<(), Refused> {
    let mut lines = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(first) = lines.next() else { return Ok(()) };
    let alone = first.as_bytes().eq_ignore_ascii_case(b"chunked") && lines.next().is_none();
    if alone && !headers.contains_key(header::CONTENT_LENGTH) {
        return Ok(());
    }
    let known = |coding: &[u8]| {
        let coding = coding.trim_ascii();
        coding.is_empty() || coding.eq_ignore_ascii_case(b"chunked")
    };
    let all = headers.get_all(header::TRANSFER_ENCODING).iter();
    if all.flat_map(|line| line.as_bytes().split(|b| *b == b',')).all(known) {
        Err(Refused::Framing)
    } else {
        Err(Refused::TransferCoding)
    }
}

/// Fetch Metadata Request Headers, §2.
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const SEC_PURPOSE: HeaderName = HeaderName::from_static("sec-purpose");
/// The same, §2.4.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[cfg(test)]
#[expect(clippy::unwrap_in_result, reason = "a test fails by panicking")]
mod tests;
