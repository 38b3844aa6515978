//! The guard's table of refusals, and what it lets through.

use super::*;

type Lines<'a> = &'a [(&'static str, &'a [u8])];

fn check(method: Method, uri: &str, version: Version, lines: Lines<'_>) -> Result<(), Refused> {
    let fresh = RequestGuard::new(HostNames::loopback(None), HeadLimits { lines: 6, bytes: 200 });
    let seasoned = fresh.clone();
    let usual = Request::builder().uri("/").header("host", "localhost:8080").body(()).expect("a request");
    assert_eq!(seasoned.check(&usual), Ok(()));
    assert_eq!(seasoned.familiar.get().map(|host| &**host), Some(&b"localhost:8080"[..]));
    let mut request = Request::builder().method(method).uri(uri).version(version);
    for (name, value) in lines {
        request = request.header(*name, HeaderValue::from_bytes(value).expect("a header value"));
    }
    let request = request.body(()).expect("a request");
    let checked = fresh.check(&request);
    assert_eq!(seasoned.check(&request), checked, "whatever came before");
    checked
}

fn get(lines: Lines<'_>) -> Result<(), Refused> {
    let mut all = vec![("host", &b"localhost:8080"[..])];
    all.extend_from_slice(lines);
    check(Method::GET, "/v1", Version::HTTP_11, &all)
}

#[test]
fn ordinary_requests_pass() {
    let rows: &[Lines<'_>] = &[
        &[],
        &[("transfer-encoding", b"Chunked")],
        &[("content-length", b"3")],
        &[("expect", b"100-Continue")],
        &[("origin", b"http://localhost:8080"), ("sec-fetch-site", b"same-origin")],
        &[("origin", b"http://LOCALHOST:8080"), ("sec-fetch-site", b"same-site")],
        &[("sec-fetch-site", b"none")],
    ];
    for row in rows {
        assert_eq!(get(row), Ok(()), "{row:?}");
    }
}

#[test]
fn each_bad_head_is_refused_for_its_own_reason() {
    let rows: &[(Lines<'_>, Refused)] = &[
        (&[("host", b"localhost:8080")], Refused::HostTwice),
        (&[("host", b"evil")], Refused::HostTwice),
        (&[("x", b"caf\xc3\xa9")], Refused::ObsText),
        (&[("x", b"\x80")], Refused::ObsText),
        (&[("transfer-encoding", b"chunked, chunked")], Refused::Framing),
        (&[("transfer-encoding", b"chunked"), ("transfer-encoding", b"chunked")], Refused::Framing),
        (&[("transfer-encoding", b"")], Refused::Framing),
        (&[("transfer-encoding", b"chunked,")], Refused::Framing),
        (&[("transfer-encoding", b"chunked"), ("content-length", b"3")], Refused::Framing),
        (&[("transfer-encoding", b"gzip, chunked")], Refused::TransferCoding),
        (&[("transfer-encoding", b"identity, chunked")], Refused::TransferCoding),
        (&[("transfer-encoding", b"chunked"), ("transfer-encoding", b"gzip")], Refused::TransferCoding),
        (&[("upgrade", b"websocket")], Refused::Upgrade),
        (&[("upgrade", b"h2c"), ("connection", b"upgrade")], Refused::Upgrade),
        (&[("expect", b"200-ok")], Refused::Expectation),
        (&[("expect", b"100-continue, x")], Refused::Expectation),
        (&[("expect", b"100-continue"), ("expect", b"x")], Refused::Expectation),
        (&[("origin", b"https://evil.example")], Refused::OriginForeign),
        (&[("origin", b"null")], Refused::OriginForeign),
        (&[("origin", b"")], Refused::OriginForeign),
        (&[("origin", b"http://localhost:3000")], Refused::OriginForeign),
        (&[("origin", b"http://127.0.0.1:8080")], Refused::OriginForeign),
        (&[("origin", b"http://localhost")], Refused::OriginForeign),
        (&[("origin", b"http://x@localhost:8080")], Refused::OriginForeign),
        (&[("origin", b"http://localhost:8080"), ("origin", b"http://evil")], Refused::OriginForeign),
        (&[("sec-fetch-site", b"cross-site")], Refused::OriginForeign),
        (&[("sec-fetch-site", b"same-site")], Refused::OriginForeign),
        (&[("sec-fetch-site", b"unheard-of")], Refused::OriginForeign),
        (&[("sec-fetch-site", b"none"), ("sec-fetch-site", b"cross-site")], Refused::OriginForeign),
    ];
    for (lines, reason) in rows {
        assert_eq!(get(lines), Err(*reason), "{lines:?}");
    }
}

#[test]
fn the_host_must_be_one_valid_name_of_this_listener() {
    use Version as V;
    let rows: &[(&str, Version, Lines<'_>, Result<(), Refused>)] = &[
        ("/", V::HTTP_11, &[("host", b"127.0.0.1")], Ok(())),
        ("/", V::HTTP_11, &[], Err(Refused::HostMissing)),
        ("/", V::HTTP_10, &[], Err(Refused::HostMissing)),
        ("/", V::HTTP_11, &[("host", b"")], Err(Refused::HostMalformed)),
        ("/", V::HTTP_11, &[("host", b"a/b@c")], Err(Refused::HostMalformed)),
        ("/", V::HTTP_11, &[("host", b"me@localhost")], Err(Refused::HostMalformed)),
        ("/", V::HTTP_11, &[("host", b"evil.example")], Err(Refused::HostForeign)),
        ("/", V::HTTP_2, &[], Err(Refused::HostMissing)),
        ("/", V::HTTP_2, &[("host", b"localhost")], Ok(())),
        ("http://localhost/", V::HTTP_2, &[], Ok(())),
        ("http://localhost/", V::HTTP_2, &[("host", b"LocalHost")], Ok(())),
        ("http://localhost/", V::HTTP_2, &[("host", b"[::1]")], Err(Refused::HostContradiction)),
        ("http://a@localhost/", V::HTTP_2, &[], Err(Refused::HostMalformed)),
        ("http://evil/", V::HTTP_2, &[], Err(Refused::HostForeign)),
        ("http://localhost/", V::HTTP_11, &[], Err(Refused::HostMissing)),
        ("http://localhost/", V::HTTP_11, &[("host", b"localhost")], Ok(())),
        ("http://evil/x", V::HTTP_11, &[("host", b"evil")], Err(Refused::HostForeign)),
        ("http://evil/", V::HTTP_11, &[("host", b"localhost")], Err(Refused::HostContradiction)),
        ("ftp://localhost/", V::HTTP_11, &[("host", b"localhost")], Err(Refused::Scheme)),
    ];
    for (uri, version, lines, wanted) in rows {
        assert_eq!(check(Method::GET, uri, *version, lines), *wanted, "{uri} {version:?} {lines:?}");
    }
}

#[test]
fn tunnels_and_echoes_are_refused_and_odd_methods_are_left_to_the_routes() {
    let host: Lines<'_> = &[("host", b"localhost")];
    for method in [Method::CONNECT, Method::TRACE] {
        assert_eq!(check(method, "/", Version::HTTP_11, host), Err(Refused::Method));
    }
    let odd = Method::from_bytes(b"get").expect("a token");
    assert_eq!(check(odd, "/", Version::HTTP_11, host), Ok(()));
}

#[test]
fn a_head_may_reach_its_limits_and_not_pass_them() {
    let value = |n| vec![b'x'; n];
    // "host: localhost:8080" and its line end are 4 + 14 + 4 bytes of the 200.
    let fits = value(200 - 22 - 5);
    assert_eq!(get(&[("a", &fits)]), Ok(()));
    let over = value(200 - 22 - 4);
    assert_eq!(get(&[("a", &over)]), Err(Refused::HeadersTooLarge(200)));
    assert_eq!(get(&[("a", &b""[..]); 5]), Ok(()));
    assert_eq!(get(&[("a", &b""[..]); 6]), Err(Refused::TooManyHeaders(6)));
}

#[test]
fn each_refusal_has_the_status_the_table_gives_it() {
    for (refused, status) in [
        (Refused::HostForeign, 400),
        (Refused::Framing, 400),
        (Refused::Method, 405),
        (Refused::Expectation, 417),
        (Refused::TooManyHeaders(1), 431),
        (Refused::HeadersTooLarge(1), 431),
        (Refused::TransferCoding, 501),
        (Refused::Upgrade, 501),
    ] {
        assert_eq!(refused.problem().status(), status, "{refused:?}");
    }
}

#[test]
fn other_sites_may_lead_a_browser_where_navigations_are_expected_and_no_further() {
    let guard = RequestGuard::new(HostNames::loopback(None), HeadLimits::default());
    let navigate = |lines: Lines<'_>| {
        let mut request = Request::builder().uri("/callback").header("host", "localhost:8090");
        for (name, value) in lines {
            request = request.header(*name, HeaderValue::from_bytes(value).expect("a header value"));
        }
        guard.check_navigation(&request.body(()).expect("a request"))
    };
    let from_the_bank: Lines<'_> =
        &[("sec-fetch-site", b"cross-site"), ("sec-fetch-mode", b"navigate"), ("sec-fetch-dest", b"document")];
    assert_eq!(navigate(from_the_bank), Ok(()));
    assert_eq!(navigate(&[]), Ok(()));
    let rows: &[Lines<'_>] = &[
        &[("sec-fetch-site", b"cross-site"), ("sec-fetch-mode", b"navigate"), ("sec-fetch-dest", b"iframe")],
        &[("sec-fetch-site", b"cross-site"), ("sec-fetch-mode", b"no-cors"), ("sec-fetch-dest", b"image")],
        &[("sec-fetch-site", b"none"), ("sec-fetch-mode", b"navigate"), ("sec-purpose", b"prefetch;prerender")],
    ];
    for row in rows {
        assert_eq!(navigate(row), Err(Refused::OriginForeign), "{row:?}");
    }
    assert_eq!(
        guard.check(
            &Request::builder()
                .header("host", "localhost")
                .header("sec-fetch-site", "cross-site")
                .body(())
                .expect("a request")
        ),
        Err(Refused::OriginForeign)
    );
}
