//! Heads: what the guard lets through has one host and one framing, and what is forwarded carries no credential.

use consentry::http::forwarding::ForwardRules;
use consentry::http::hop_by_hop::{is_hop_by_hop, nominated};
use consentry::http::host::HostNames;
use consentry::http::request_guard::{HeadLimits, RequestGuard};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri};

/// The checks of a listener on this machine.
pub(super) fn guard() -> RequestGuard {
    RequestGuard::new(HostNames::loopback(None), HeadLimits::default())
}

/// What an API that has a key of its own is sent of these headers; `None` where they are refused.
pub(super) fn clean(headers: &HeaderMap) -> Option<HeaderMap> {
    let rules = ForwardRules::new(HeaderName::from_static("consent-id"), vec![HeaderName::from_static("api-key")]);
    Some(rules.forwarded(headers, &nominated(headers).ok()?, 0))
}

/// The first line is a method and a target, each further line a header.
pub(super) fn request_head(data: &[u8]) {
    let Some(request) = read(data) else { return };
    if guard().check(&request).is_err() {
        return;
    }
    let count = |name: &str| request.headers().get_all(name).iter().count();
    assert_eq!(count("host"), 1, "HTTP/1.1 has exactly one");
    assert!(!matches!(*request.method(), Method::CONNECT | Method::TRACE));
    assert!(count("transfer-encoding") <= 1 && count("transfer-encoding") * count("content-length") == 0);
    assert!(request.headers().values().all(|value| value.as_bytes().is_ascii()));
    assert_eq!(count("upgrade"), 0);
    let host = request.headers()["host"].to_str().expect("ASCII").to_ascii_lowercase();
    assert!(["localhost", "127.0.0.1", "["].iter().any(|own| host.starts_with(own)), "{host}");

    if let Some(headers) = clean(request.headers()) {
        assert_clean(&headers, request.headers());
    }
}

/// Nothing that ends here is left, and what is left was there before, unchanged and in its order.
pub(super) fn assert_clean(headers: &HeaderMap, before: &HeaderMap) {
    for name in headers.keys() {
        let dashed = name.as_str().replace('_', "-");
        let stops = ["authorization", "dpop", "cookie", "host", "expect", "forwarded", "consent-id", "api-key"];
        assert!(!stops.contains(&dashed.as_str()), "{name} passes");
        assert!(!is_hop_by_hop(&dashed) && !dashed.starts_with("proxy-"), "{name} passes");
        assert!(!dashed.starts_with("x-forwarded-") && !dashed.starts_with("consentry-"), "{name} passes");
        let (now, then) = (headers.get_all(name), before.get_all(name));
        assert!(now.iter().eq(then.iter()), "{name} was changed");
    }
    for line in before.get_all("connection") {
        for option in line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let is_word = option.eq_ignore_ascii_case(b"close") || option.eq_ignore_ascii_case(b"keep-alive");
            let named = HeaderName::from_bytes(option).ok().filter(|_| !is_word);
            assert!(named.is_none_or(|name| !headers.contains_key(name)), "a nominated header passes");
        }
    }
}

fn read(data: &[u8]) -> Option<Request<()>> {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut words = lines.next()?.splitn(2, |byte| *byte == b' ');
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(words.next()?).ok()?;
    *request.uri_mut() = Uri::try_from(words.next()?).ok()?;
    for line in lines {
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let name = HeaderName::from_bytes(halves.next()?).ok()?;
        request.headers_mut().append(name, HeaderValue::from_bytes(halves.next()?.trim_ascii()).ok()?);
    }
    Some(request)
}
