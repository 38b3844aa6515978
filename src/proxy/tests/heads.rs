//! What passes in either direction, what ends here, and what is added.

use http::HeaderName;

use super::app::{header, headers};
use super::bank::{Bank, OK, Say};
use super::house::{C1, Plan};
use crate::http::prefix::PathPrefix;
use crate::words::bank::BankBehaviour;

#[tokio::test]
async fn what_ends_here_is_taken_off_and_ours_is_put_on_afterwards() {
    let bank = Bank::saying(&[OK]).await;
    let house = Plan::of(&bank).open().await;
    let sent = "Connection: authorization, x-gone\r\nConnection: api-key, keep-alive\r\nX-Gone: 1\r\nKeep-Alive: 5\r\n\
        Proxy-Authorization: x\r\nCookie: a=b\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=x\r\nTE: trailers\r\n\
        Consentry-Debug: 1\r\nconsent_id: c2\r\nAPI_Key: forged\r\nAuthorization: Basic x\r\n";
    assert_eq!(house.ask("GET /api/v1/x", &format!("{C1}{sent}"), "").await.status(), 200);
    let head = bank.only().head;
    for name in [
        "connection",
        "x-gone",
        "keep-alive",
        "proxy-authorization",
        "cookie",
        "x-forwarded-for",
        "forwarded",
        "te",
        "consentry-debug",
        "consent_id",
        "consent-id",
        "api_key",
        "expect",
    ] {
        assert_eq!(headers(&head, name), [""; 0], "{name}");
    }
    assert_eq!(headers(&head, "authorization"), ["Bearer CANARY-c1-1"]);
    assert_eq!(headers(&head, "api-key"), ["KEY-12345678"]);
    assert_eq!(headers(&head, "host"), [bank.address.to_string()]);
    assert_eq!(headers(&head, "via"), ["1.1 consentry"]);
}

#[tokio::test]
async fn psu_and_signature_headers_pass_and_are_not_invented() {
    let bank = Bank::saying(&[OK]).await;
    let house = Plan::of(&bank).open().await;
    let sent = "PSU-IP-Address: 1.2.3.4\r\nx-fapi-customer-ip-address: 1.2.3.4\r\nDigest: SHA-256=x\r\n\
        Signature: a\r\nSignature: b\r\nVia: 1.0 fred\r\nIdempotency-Key: \"k\"\r\n";
    house.ask("GET /api/v1/x", &format!("{C1}{sent}"), "").await;
    house.get("/api/v1/x").await;
    let [with, without] = &bank.seen()[..] else { panic!("two calls") };
    assert_eq!(header(&with.head, "psu-ip-address"), Some("1.2.3.4"));
    assert_eq!(header(&with.head, "x-fapi-customer-ip-address"), Some("1.2.3.4"));
    assert_eq!(headers(&with.head, "signature"), ["a", "b"]);
    assert_eq!(headers(&with.head, "via"), ["1.0 fred", "1.1 consentry"]);
    assert_eq!(header(&with.head, "idempotency-key"), Some("\"k\""));
    for name in ["psu-ip-address", "x-fapi-customer-ip-address", "digest", "x-forwarded-for"] {
        assert_eq!(header(&without.head, name), None);
    }
}

#[tokio::test]
async fn path_and_query_pass_byte_for_byte_under_the_base() {
    let bank = Bank::saying(&[OK]).await;
    let house = Plan::of(&bank).open().await;
    for (target, wanted) in [
        ("/api/v1/a%20b%C3%A9/~x?q=%2f..%2F&&=;+*'", "/base/v1/a%20b%C3%A9/~x?q=%2f..%2F&&=;+*'"),
        ("/api/v1/?", "/base/v1/?"),
        ("/%61pi/v1", "/base/v1"),
        ("http://localhost/api/v1/x?http://y", "/base/v1/x?http://y"),
        ("/api/v1/x;p=1", "/base/v1/x;p=1"),
    ] {
        assert_eq!(house.get(target).await.status(), 200, "{target}");
        let line = bank.seen().pop().map(|seen| seen.head.lines().next().unwrap_or_default().to_owned());
        assert_eq!(line, Some(format!("GET {wanted} HTTP/1.1")));
    }
}

#[tokio::test]
async fn the_longest_prefix_wins() {
    let (one, other) = (Bank::saying(&[OK]).await, Bank::saying(&[OK]).await);
    let mut plan = Plan::of(&one);
    let mut longer = Plan::at(&format!("http://{}", other.address)).settings.apis.remove(0);
    longer.prefix = PathPrefix::parse("/api/v1/longer").expect("a prefix");
    longer.name = "longer".to_owned();
    plan.settings.apis.push(longer);
    let house = plan.open().await;
    house.get("/api/v1/longer/v1/x").await;
    house.get("/api/v1/longerx").await;
    assert!(other.only().head.starts_with("GET /v1/x "));
    assert!(one.only().head.starts_with("GET /base/v1/longerx "));
}

#[tokio::test]
async fn a_call_has_a_request_id_that_bank_and_app_both_see() {
    let bank =
        Bank::saying(&[OK, OK, Say::Bytes("HTTP/1.1 200 OK\r\nX-Trace-ID: the bank's\r\nContent-Length: 0\r\n\r\n")])
            .await;
    let mut plan = Plan::of(&bank);
    let request_id_headers = ["x-request-id", "x-trace-id"].map(HeaderName::from_static).to_vec();
    plan.behaviour = BankBehaviour { request_id_headers, ..BankBehaviour::default() };
    let house = plan.open().await;
    let made = house.get("/api/v1/x").await;
    let sent = format!("{C1}X-Trace-ID: mine\r\n");
    let kept = house.ask("GET /api/v1/x", &sent, "").await;
    let banks = house.ask("GET /api/v1/x", &sent, "").await;
    let seen = bank.seen();
    let id = made.header("x-request-id").expect("one was made");
    assert_eq!((id.len(), header(&seen[0].head, "x-request-id")), (36, Some(id)));
    assert_eq!((kept.header("x-trace-id"), kept.header("x-request-id")), (Some("mine"), None));
    assert_eq!((header(&seen[1].head, "x-trace-id"), header(&seen[1].head, "x-request-id")), (Some("mine"), None));
    assert_eq!(banks.header("x-trace-id"), Some("the bank's"));
}

#[tokio::test]
async fn a_trace_goes_on_or_begins() {
    let bank = Bank::saying(&[OK]).await;
    let house = Plan::of(&bank).open().await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    house.ask("GET /api/v1/x", &format!("{C1}traceparent: {parent}\r\ntracestate: a=b\r\n"), "").await;
    house.get("/api/v1/x").await;
    let [goes_on, begins] = &bank.seen()[..] else { panic!("two calls") };
    let next = header(&goes_on.head, "traceparent").expect("a trace");
    assert!(next.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && next.ends_with("-01") && next != parent);
    assert_eq!(header(&goes_on.head, "tracestate"), Some("a=b"));
    assert!(header(&begins.head, "traceparent").is_some_and(|trace| trace.ends_with("-00")));
}

#[tokio::test]
async fn the_bank_s_head_is_cleaned_and_marked_as_passed_on() {
    let bank = Bank::saying(&[Say::Bytes(
        "HTTP/1.1 418 Own Words\r\nConnection: x-gone\r\nX-Gone: 1\r\nKeep-Alive: 5\r\nSet-Cookie: a=b\r\n\
         Proxy-Status: consentry; error=forged\r\nProxy-Authenticate: x\r\nETag: \"e\"\r\nX: 1\r\nX: 2\r\n\
         WWW-Authenticate: Bearer\r\nContent-Length: 2\r\n\r\nok",
    )])
    .await;
    let house = Plan::of(&bank).open().await;
    let reply = house.get("/api/v1/x").await;
    assert_eq!((reply.status(), reply.text()), (418, "ok"));
    for name in ["x-gone", "keep-alive", "set-cookie", "proxy-authenticate", "connection"] {
        assert_eq!(reply.header(name), None, "{name}");
    }
    assert_eq!(headers(&reply.head, "proxy-status"), ["consentry"]);
    assert_eq!(headers(&reply.head, "x"), ["1", "2"]);
    assert_eq!((reply.header("etag"), reply.header("www-authenticate")), (Some("\"e\""), Some("Bearer")));
}

#[tokio::test]
async fn cookies_and_the_consent_s_name_pass_where_the_settings_say_so() {
    let bank = Bank::saying(&[Say::Bytes("HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")]).await;
    let mut plan = Plan::of(&bank);
    plan.api().forward_cookies = true;
    let house = plan.open().await;
    let reply = house.ask("GET /api/named/x", &format!("{C1}Cookie: c=d\r\n"), "").await;
    assert_eq!(reply.header("set-cookie"), Some("a=b"));
    let head = bank.only().head;
    assert_eq!((header(&head, "cookie"), header(&head, "consent-id")), (Some("c=d"), Some("c1")));
}

#[tokio::test]
async fn redirects_come_back_through_the_proxy_and_are_not_followed() {
    let bank = Bank::saying(&[
        Say::Bytes("HTTP/1.1 302 Found\r\nLocation: /base/v1/next?x=1\r\nContent-Length: 0\r\n\r\n"),
        Say::Bytes("HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/\r\nContent-Length: 0\r\n\r\n"),
    ])
    .await;
    let house = Plan::of(&bank).open().await;
    assert_eq!(house.get("/api/v1/x").await.header("location"), Some("/api/v1/next?x=1"));
    assert_eq!(house.get("/api/v1/x").await.header("location"), Some("https://elsewhere.example/"));
    assert_eq!(bank.seen().len(), 2);
}

#[tokio::test]
async fn answers_without_a_body_stay_without_one() {
    let bank = Bank::saying(&[
        Say::Bytes("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"),
        Say::Bytes("HTTP/1.1 204 No Content\r\n\r\n"),
        Say::Bytes("HTTP/1.1 304 Not Modified\r\nETag: \"e\"\r\n\r\n"),
        Say::Bytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        OK,
    ])
    .await;
    let house = Plan::of(&bank).open().await;
    let mut app = house.app().await;
    let request = |method: &str| format!("{method} /api/v1/x HTTP/1.1\r\nHost: localhost\r\n{C1}\r\n");
    assert_eq!(app.ask(request("HEAD")).await.header("content-length"), Some("7"));
    let deleted = app.ask(request("DELETE")).await;
    assert_eq!((deleted.status(), deleted.header("content-length")), (204, None));
    assert_eq!(app.ask(request("GET")).await.status(), 304);
    assert_eq!(app.ask(request("HEAD")).await.header("content-length"), None);
    assert_eq!(app.ask(request("GET")).await.text(), "ok", "the connection is still in step");
}

#[tokio::test]
async fn an_app_that_speaks_http_1_0_gets_no_chunks() {
    let bank =
        Bank::saying(&[Say::Bytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")]).await;
    let house = Plan::of(&bank).open().await;
    let mut app = house.app().await;
    let reply = app.ask(format!("GET /api/v1/x HTTP/1.0\r\nHost: localhost\r\n{C1}\r\n")).await;
    assert!(reply.head.starts_with("HTTP/1.0 200"), "{}", reply.head);
    assert_eq!((reply.header("transfer-encoding"), reply.text()), (None, "ok"));
    let head = bank.only().head;
    assert!(head.starts_with("GET /base/v1/x HTTP/1.1\r\n"));
    assert_eq!(header(&head, "via"), Some("1.0 consentry"));
}

#[tokio::test]
async fn a_bank_that_speaks_http_1_0_is_answered_on_in_1_1() {
    let bank = Bank::saying(&[Say::Last("HTTP/1.0 200 OK\r\n\r\nto the end")]).await;
    let house = Plan::of(&bank).open().await;
    let reply = house.get("/api/v1/x").await;
    assert!(reply.head.starts_with("HTTP/1.1 200"));
    assert_eq!((reply.text(), reply.whole), ("to the end", true));
}
