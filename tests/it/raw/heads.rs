//! Who is called, by which method, and what a header may bring about.

use super::{C1, HOST, House, get, post};

#[tokio::test(flavor = "multi_thread")]
async fn the_host_is_one_name_of_this_proxy() {
    let house = House::new().await;
    let ok = get("/accounts/v1/x", "");
    for head in [
        ok.replacen(HOST, "", 1),
        ok.replacen(HOST, "Host: localhost\r\nHost: localhost\r\n", 1),
        ok.replacen(HOST, "Host: localhost\r\nHost: evil.example\r\n", 1),
        ok.replacen("localhost", "", 1),
        ok.replacen("localhost", "evil.example", 1),
        ok.replacen("localhost", "localhost:", 1),
        ok.replacen("localhost", "localhost:x", 1),
        ok.replacen("localhost", "localhost:99999", 1),
        ok.replacen("localhost", "a/b@c", 1),
        ok.replacen("localhost", "me@localhost", 1),
        ok.replacen("localhost", "localhost, evil.example", 1),
        ok.replacen("localhost", "localhost evil.example", 1),
        ok.replacen("localhost", "localhost.evil.example", 1),
        ok.replacen("localhost", "localhost%00.evil.example", 1),
        ok.replacen("localhost", "127.1", 1),
        ok.replacen("localhost", "[::1", 1),
    ] {
        house.refuses(head, 400).await;
    }
    for name in ["localhost", "LocalHost:8080", "127.0.0.1", "[::1]:1"] {
        let (_, seen) = house.passes(ok.replacen("localhost", name, 1)).await;
        seen.has(&[]);
    }
    let hosts = house.rogue.connections().iter().flat_map(|heard| heard.bytes.clone()).collect::<Vec<_>>();
    let text = String::from_utf8_lossy(&hosts).into_owned();
    assert!(!text.to_ascii_lowercase().contains("host: localhost"), "the bank is called by its own name: {text}");
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_is_a_path_or_names_this_very_proxy() {
    let house = House::new().await;
    for (target, status) in [
        ("http://evil.example/accounts/v1/x", 400),
        ("http://localhost@evil.example/accounts/v1/x", 400),
        ("http://user@localhost/accounts/v1/x", 400),
        ("http://localhost:1/accounts/v1/x", 400),
        ("ftp://localhost/accounts/v1/x", 400),
        ("//evil.example/accounts/v1/x", 400),
        ("evil.example:80", 400),
        ("evil", 400),
        ("*", 400),
        ("?x=1", 400),
    ] {
        house.refuses(get(target, ""), status).await;
    }
    house.refuses(get("*", "").replacen("GET", "OPTIONS", 1), 400).await;
    house.refuses(get("localhost:80", "").replacen("GET", "CONNECT", 1), 405).await;
    house.refuses(get("evil.example:443", "").replacen("GET", "CONNECT", 1), 405).await;
    let (_, seen) = house.passes(get("http://localhost/accounts/v1/x?a=http://evil.example/", "")).await;
    assert_eq!(seen.line, "GET /api/v1/x?a=http://evil.example/ HTTP/1.1");
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_are_those_of_the_route() {
    let routes = "routes: [{match: \"GET,POST /v1/**\", token: consent}]";
    let house = House::changed(|replica| replica.change("routes: [{match: \"/v1/**\", token: consent}]", routes)).await;
    for method in ["TRACE", "CONNECT"] {
        house.refuses(get("/accounts/v1/x", "").replacen("GET", method, 1), 405).await;
    }
    for method in ["get", "Get", "FOO", "G!#$%&'*+-.^_`|~T", "PROPFIND", "PRI"] {
        house.rogue.forget();
        let heard = house.say(get("/accounts/v1/x", "Connection: close\r\n").replacen("GET", method, 1)).await;
        assert!(heard.starts_with("HTTP/1.1 405 "), "{method}\n{heard}");
        assert!(heard.contains("\r\nallow: GET, POST\r\n"), "{heard}");
        assert_eq!(house.rogue.all_requests(), [""; 0]);
    }
    for method in ["G(T", "G T", "", "G\0T", "G\u{e9}T"] {
        house.refuses(get("/accounts/v1/x", "").replacen("GET", method, 1), 400).await;
    }
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_connection_names_is_stripped_and_ours_is_put_on_afterwards() {
    let house = House::new().await;
    for line in [
        "Connection: host\r\n",
        "Connection: close, Content-Length\r\n",
        "Connection: x\r\nConnection: TRANSFER-ENCODING\r\n",
        "Connection: x y\r\n",
        "Connection: \"x\"\r\n",
        "Connection: (x)\r\n",
    ] {
        house.refuses(get("/accounts/v1/x", line), 400).await;
    }
    house.refuses(post("Connection: content-length\r\nContent-Length: 5\r\n", "abcde"), 400).await;
    for more in [
        "Connection: authorization\r\n",
        "Connection: authorization, api-key, via, host-x\r\nAuthorization: Bearer evil\r\nAPI-Key: evil\r\n",
        "Connection: consent-id\r\n",
        "Connection: x-request-id, traceparent\r\n",
        "Connection: x-evil\r\nX-Evil: 1\r\nX-Evil: 2\r\n",
        "Connection: keep-alive, ,,\tx-evil\r\nConnection: x-other\r\nX-Evil: 1\r\nX-Other: 2\r\nKeep-Alive: timeout=5\r\n",
        "Proxy-Connection: keep-alive\r\nTE: trailers\r\nTrailer: x\r\nProxy-Authenticate: x\r\n",
    ] {
        let (_, seen) = house.passes(get("/accounts/v1/x", more)).await;
        seen.has(&[]);
    }
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_credential_and_no_alias_of_one_passes() {
    let house = House::new().await;
    let more = "Authorization: Bearer evil\r\nAuthorization: Basic evil\r\nProxy-Authorization: evil\r\nDPoP: evil\r\n\
        Cookie: evil=1\r\nCookie2: evil\r\nAPI-Key: evil\r\nAPI_Key: evil\r\nConsent_ID: evil\r\nConsentry-X: evil\r\n\
        X-Forwarded-For: evil\r\nX_Forwarded_For: evil\r\nForwarded: for=evil\r\nProxy_Authorization: evil\r\n\
        Content_Length: 5\r\nTransfer_Encoding: chunked\r\nProxy: http://evil.example\r\n";
    let (_, seen) = house.passes(get("/accounts/v1/x", more)).await;
    // `Proxy` is a header like any other to HTTP; what a CGI makes of it is no business of ours.
    seen.has(&["proxy: http://evil.example"]);
    let (_, seen) = house.passes(get("/accounts/v1/x", "PSU-IP-Address: 192.0.2.1\r\nx-jws-signature: a..b\r\n")).await;
    seen.has(&["psu-ip-address: 192.0.2.1", "x-jws-signature: a..b"]);
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_upgraded() {
    let house = House::new().await;
    for more in [
        "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n",
        "Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "Upgrade: websocket\r\n",
        "Upgrade:\r\n",
    ] {
        house.refuses(get("/accounts/v1/x", more), 501).await;
    }
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_expectation_is_100_continue_and_it_is_met_here() {
    let house = House::new().await;
    for expectation in ["200-ok", "100-continue, x", "100-continue;q=1", ""] {
        let more = format!("Expect: {expectation}\r\nContent-Length: 5\r\n");
        house.refuses(post(&more, "abcde"), 417).await;
    }
    // The answer 100 stands before the final one.
    house.rogue.forget();
    let more = "Expect: 100-continue\r\nContent-Length: 5\r\nConnection: close\r\n";
    let heard = house.say(post(more, "abcde")).await;
    let statuses: Vec<_> = heard.split("HTTP/1.1 ").skip(1).map(|answer| answer.get(..3).unwrap()).collect();
    assert!(statuses == ["100", "200"] || statuses == ["200"], "{heard}");
    let [request] = &house.rogue.all_requests()[..] else { panic!("one call") };
    assert!(!request.contains("expect:") && request.ends_with("\r\n\r\nabcde"), "{request}");
    // A call that is refused is not asked for its body.
    let heard = house
        .say(post("Expect: 100-continue\r\nContent-Length: 5\r\nConnection: close\r\n", "").replacen("c-1", "c-9", 1))
        .await;
    assert!(heard.starts_with("HTTP/1.1 404 "), "{heard}");
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_targets_and_bodies_have_their_limits() {
    let house =
        House::changed(|replica| replica.change("proxy: {listen", "proxy: {limits: {max_body_size: 10B}, listen"))
            .await;
    let x = |count: usize| "x".repeat(count);
    house.refuses(get("/accounts/v1/x", &"X: y\r\n".repeat(63)), 431).await;
    house.refuses(get("/accounts/v1/x", &"X: y\r\n".repeat(500)), 431).await;
    house.refuses(get("/accounts/v1/x", &format!("X: {}\r\n", x(16_384))), 431).await;
    house.refuses(get("/accounts/v1/x", &format!("X: {}\r\n", x(200_000))), 431).await;
    house.refuses(get("/accounts/v1/x", &format!("{}: y\r\n", x(17_000))), 431).await;
    house.refuses(get(&format!("/accounts/v1/{}", x(8_192)), ""), 414).await;
    house.refuses(get(&format!("/accounts/v1/x?{}", x(8_192)), ""), 414).await;
    for framing in ["Content-Length: 11\r\n", "Content-Length: 9223372036854775807\r\n"] {
        house.rogue.forget();
        let heard = house.say(post(&format!("{framing}Connection: close\r\n"), "")).await;
        assert!(heard.starts_with("HTTP/1.1 413 "), "{heard}");
        assert_eq!(house.rogue.all_requests(), [""; 0]);
    }
    let chunked = "Transfer-Encoding: chunked\r\nConnection: close\r\n";
    let heard = house.say(post(chunked, "8\r\n01234567\r\n8\r\n01234567\r\n0\r\n\r\n")).await;
    assert!(heard.starts_with("HTTP/1.1 413 "), "{heard}");
    assert_eq!(house.rogue.all_requests(), [""; 0], "the bank must not take it for the whole");
    let (_, seen) = house.passes(get("/accounts/v1/x", &"X: y\r\n".repeat(62))).await;
    assert_eq!(seen.headers.len(), 62 + 2);
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_web_page_reaches_the_proxy() {
    let house = House::new().await;
    for more in [
        "Origin: https://evil.example\r\n",
        "Origin: null\r\n",
        "Origin: http://localhost.evil.example\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
    ] {
        house.refuses(get("/accounts/v1/x", more), 400).await;
    }
    let preflight = get("/accounts/v1/x", "Origin: https://evil.example\r\nAccess-Control-Request-Method: GET\r\n");
    house.refuses(preflight.replacen("GET", "OPTIONS", 1), 400).await;
    house.refuses(get("/accounts/v1/x", "Via: 1.1 consentry\r\nConnection: close\r\n"), 508).await;
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_call_s_body_is_never_read_as_a_request() {
    let house = House::new().await;
    let hidden = get("/accounts/v1/hidden", "");
    let framing = format!("Content-Length: {}\r\n", hidden.len());
    for (refused, status) in [
        (format!("POST /nothing HTTP/1.1\r\n{HOST}{C1}{framing}\r\n{hidden}"), 404),
        (format!("POST /accounts/v9 HTTP/1.1\r\n{HOST}{C1}{framing}\r\n{hidden}"), 403),
        (format!("POST /accounts/v1/x HTTP/1.1\r\n{HOST}Consent-ID: c-9\r\n{framing}\r\n{hidden}"), 404),
        (format!("POST /accounts/v1/x HTTP/1.1\r\n{HOST}{framing}\r\n{hidden}"), 400),
    ] {
        house.rogue.forget();
        let heard = house.say(refused.clone() + &get("/accounts/v1/behind", "Connection: close\r\n")).await;
        assert!(heard.starts_with(&format!("HTTP/1.1 {status} ")), "{refused}\n{heard}");
        let hidden_was_read = house.rogue.all_requests().iter().any(|request| request.contains("/hidden"));
        assert!(!hidden_was_read, "{refused}\n{heard}");
    }
    house.ends_well();
}
