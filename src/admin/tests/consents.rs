//! The admin listener: who may do what, and every answer to an import.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::{CONSENT, HISTORY, HOST, KEY, REVIVE, SOON, Server, TOKENS, admin, tokens};
use crate::admin::Writes;
use crate::consent::testing::{Bench, Fault, consent_id};
use crate::net::serve::Bind;
use crate::words::ids::{GrantId, Version};

#[tokio::test]
async fn an_import_creates_a_consent_that_can_then_be_looked_at() {
    let server = Server::admin(Bench::new()).await;
    let created = server.put(&[], &tokens("r1")).await;
    assert_eq!(created.status, 201, "{created:?}");
    let view = created.json();
    let tag = format!("\"{}.1\"", view["grant"].as_str().unwrap());
    assert_eq!(created.header("etag"), Some(tag.as_str()));
    assert_eq!(created.header("content-type"), Some("application/json"));
    assert_eq!(created.header("cache-control"), Some("no-store"));
    assert_eq!((&view["state"], &view["access_token_expires_in"]), (&json!("active"), &json!(3600)));

    let shown = server.ask("GET", CONSENT, &[], "").await;
    assert_eq!((shown.status, shown.header("etag")), (200, Some(tag.as_str())));
    assert_eq!(shown.json(), view);
    let head = server.ask("HEAD", CONSENT, &[], "").await;
    assert_eq!((head.status, head.header("etag"), head.body.as_str()), (200, Some(tag.as_str()), ""));
}

#[tokio::test]
async fn an_existing_consent_is_replaced_by_naming_its_version_and_in_no_other_way() {
    let server = Server::admin(Bench::new()).await;
    let created = server.put(&[], &tokens("r1")).await;
    let tag = created.header("etag").unwrap().to_owned();
    let current = tag.trim_matches('"');
    let stale = format!("\"{}\"", Version::first(GrantId::random()));

    for (headers, status, kind) in [
        (vec![], 428, "precondition-required"),
        (vec![("If-None-Match", "*")], 428, "precondition-required"),
        (vec![("If-Match", stale.as_str())], 412, "precondition-failed"),
    ] {
        let refused = server.put(&headers, &tokens("r2")).await;
        let problem = refused.problem(kind);
        assert_eq!((refused.status, refused.header("etag")), (status, Some(tag.as_str())));
        assert_eq!((&problem["current"], &problem["generation"]), (&json!(current), &json!(1)));
        assert!(status != 428 || problem["detail"].as_str().unwrap().contains(&format!("If-Match: {tag}")));
    }
    for unreadable in ["*", current, &format!("W/{tag}"), &format!("{tag}, {tag}")] {
        let refused = server.put(&[("If-Match", unreadable)], &tokens("r2")).await;
        let problem = refused.problem("bad-request");
        assert_eq!((refused.status, &problem["who_acts"]), (400, &json!("caller")), "{unreadable}");
    }
    assert_eq!(server.ask("GET", CONSENT, &[], "").await.header("etag"), Some(tag.as_str()), "nothing has changed");

    let replaced = server.put(&[("If-Match", &tag)], &tokens("r2")).await;
    assert_eq!(replaced.status, 200, "{replaced:?}");
    assert_ne!(replaced.header("etag"), Some(tag.as_str()));
    assert_eq!(server.ask("GET", CONSENT, &[], "").await.header("etag"), replaced.header("etag"));
}

#[tokio::test]
async fn replacing_what_is_not_there_fails_its_precondition() {
    let server = Server::admin(Bench::new()).await;
    let some = format!("\"{}\"", Version::first(GrantId::random()));
    let refused = server.put(&[("If-Match", &some)], &tokens("r")).await;
    assert!(refused.problem("precondition-failed").get("current").is_none());
    assert_eq!((refused.status, refused.header("etag")), (412, None));
    let unknown = server.ask("GET", CONSENT, &[], "").await;
    unknown.problem("consent-unknown");
    assert_eq!(unknown.status, 404);
}

#[tokio::test]
async fn a_refresh_token_that_is_being_spent_is_a_conflict() {
    let server = Server::admin(Bench::new()).await;
    let tag = server.put(&[], &tokens("r1")).await.header("etag").unwrap().to_owned();
    server.bench.spend(&consent_id()).await;
    let refused = server.put(&[("If-Match", &tag)], &tokens("r1")).await;
    refused.problem("refresh-token-spent");
    assert_eq!((refused.status, refused.header("etag")), (409, Some(tag.as_str())));
    assert_eq!(server.bench.bank.calls(), 0);
}

#[tokio::test]
async fn a_body_is_refused_with_every_fault_and_none_of_its_values() {
    let server = Server::admin(Bench::new()).await;
    let bad =
        r#"{"provider": "CANARY Bank", "access_token": "CANARY\n", "expires_in": "CANARY", "CANARY-1": "CANARY"}"#;
    let refused = server.put(&[], bad).await;
    let members: Vec<_> = refused.problem("import-invalid")["faults"].as_array().unwrap().clone();
    assert_eq!((refused.status, members.len()), (422, 4), "{refused:?}");
    assert!(members.iter().any(|fault| fault["member"] == "access_token"));

    let elsewhere = tokens("r").replace("\"bank\"", "\"elsewhere\"");
    let refused = server.put(&[], &elsewhere).await;
    refused.problem("provider-unknown");
    assert_eq!(refused.status, 422);

    for broken in ["", "{\"access_token\": \"CANARY", "[\"CANARY\"]"] {
        let refused = server.put(&[], broken).await;
        refused.problem("bad-request");
        assert_eq!(refused.status, 400, "{broken}");
    }
}

#[tokio::test]
async fn only_json_of_bounded_size_that_arrives_is_read() {
    let server = Server::admin(Bench::new()).await;
    let auth = format!("Authorization: Bearer {KEY}\r\n");
    for kind in ["", "Content-Type: text/plain\r\n", "Content-Type: application/x-www-form-urlencoded\r\n"] {
        let refused =
            server.raw(&format!("PUT {TOKENS} HTTP/1.1\r\n{HOST}{auth}{kind}Content-Length: 2\r\n\r\n{{}}")).await;
        refused.problem("media-type-unsupported");
        assert_eq!(refused.status, 415, "{kind}");
    }
    let head = format!("PUT {TOKENS} HTTP/1.1\r\n{HOST}{auth}Content-Type: application/json\r\n");
    let announced = server.raw(&format!("{head}Content-Length: 65537\r\n\r\n")).await;
    announced.problem("request-too-large");
    let chunk = "x".repeat(33 * 1024);
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n8400\r\n{chunk}\r\n8400\r\n{chunk}\r\n");
    let chunked = server.raw(&chunked).await;
    chunked.problem("request-too-large");
    assert_eq!((announced.status, chunked.status), (413, 413));
    let never_sent = server.raw(&format!("{head}Content-Length: 10\r\n\r\n{{")).await;
    never_sent.problem("request-timeout");
    assert_eq!(never_sent.status, 408);
}

#[tokio::test]
async fn a_body_that_trickles_in_is_given_up_as_a_whole() {
    let server = Server::admin(Bench::new()).await;
    let mut stream = server.connect().await;
    let head =
        format!("PUT {TOKENS} HTTP/1.1\r\n{HOST}Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\n");
    stream.write_all(format!("{head}Content-Length: 60000\r\n\r\n").as_bytes()).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let trickle = async {
        while to.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut byte = [0; 12];
    tokio::select! {
        () = trickle => {}
        read = tokio::time::timeout(SOON, from.read_exact(&mut byte)) => { read.unwrap().unwrap(); }
    }
    assert_eq!(&byte, b"HTTP/1.1 408");
}

#[tokio::test]
async fn writing_takes_the_key_and_reading_does_not() {
    let server = Server::admin(Bench::new()).await;
    for authorization in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic Q0FOQVJZ\r\n"] {
        let body = tokens("r");
        let head = format!("PUT {TOKENS} HTTP/1.1\r\n{HOST}{authorization}Content-Type: application/json\r\n");
        let refused = server.raw(&format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await;
        refused.problem("admin-key-needed");
        assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")), "{authorization}");
    }
    assert_eq!(server.ask("GET", CONSENT, &[], "").await.status, 404, "nothing was written");

    let keyless = Server::admin_with(Bench::new(), None, Writes::Guarded).await;
    let refused = keyless.put(&[], &tokens("r")).await;
    refused.problem("write-forbidden");
    assert_eq!(refused.status, 403);
    let open = Server::admin_with(Bench::new(), None, Writes::Open).await;
    assert_eq!(open.put(&[], &tokens("r")).await.status, 201);
}

#[tokio::test]
async fn on_a_unix_socket_this_user_needs_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let bind = Bind::Unix(folder.path().join("admin.sock"));
    let bench = Bench::new();
    let admin = admin(&bench, None, Writes::Guarded, None);
    let server = Server::start(bench, &bind, admin.into_service()).await;
    let mut stream = UnixStream::connect(folder.path().join("admin.sock")).await.unwrap();
    let body = tokens("r");
    let head = format!("PUT {TOKENS} HTTP/1.1\r\n{HOST}Content-Type: application/json\r\nConnection: close\r\n");
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    let created = server.exchange(&mut stream, &request).await;
    assert_eq!(created.status, 201, "{created:?}");
}

#[tokio::test]
async fn a_web_page_and_a_rebound_name_are_refused() {
    let server = Server::admin(Bench::new()).await;
    for (headers, status) in [
        ("Host: evil.example\r\n", 400),
        ("", 400),
        ("Host: localhost\r\nOrigin: https://evil.example\r\n", 400),
        ("Host: localhost\r\nSec-Fetch-Site: cross-site\r\n", 400),
        ("Host: localhost\r\n", 404),
        ("Host: [::1]:9090\r\n", 404),
        ("Host: consentry.internal:9090\r\n", 404),
    ] {
        let answer = server.raw(&format!("GET {CONSENT} HTTP/1.1\r\n{headers}\r\n")).await;
        assert_eq!(answer.status, status, "{headers}");
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_apart() {
    let server = Server::admin(Bench::new()).await;
    for path in ["/", "/v1", "/v1/consents/", "/v2/consents/a", "/v1/consents/a/b", "/v1/consents/a/tokens/"] {
        let answer = server.ask("GET", path, &[], "").await;
        answer.problem("no-such-resource");
        assert_eq!(answer.status, 404, "{path}");
    }
    for (path, kind) in [
        ("/v1/consents/a%20b", "consent-id-invalid"),
        (&format!("/v1/consents/{}", "x".repeat(129)), "consent-id-invalid"),
        ("/v1/consents/a/../b", "bad-request"),
        ("/v1//consents/a", "bad-request"),
    ] {
        let answer = server.ask("GET", path, &[], "").await;
        answer.problem(kind);
        assert_eq!(answer.status, 400, "{path}");
    }
    for (method, path, allow) in [
        ("PUT", CONSENT, "GET, HEAD, DELETE"),
        ("POST", CONSENT, "GET, HEAD, DELETE"),
        ("GET", TOKENS, "PUT"),
        ("POST", TOKENS, "PUT"),
        ("POST", HISTORY, "GET, HEAD"),
        ("GET", REVIVE, "POST"),
        ("PUT", "/v1/consents", "GET, HEAD, POST"),
        ("TRACE", CONSENT, "GET, HEAD, PUT, POST, DELETE"),
    ] {
        let answer = server.ask(method, path, &[], "").await;
        answer.problem("method-not-allowed");
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{method} {path}");
    }
    let escaped = server.ask("GET", "/v1/consents/customer%2D4711", &[], "").await;
    escaped.problem("consent-unknown");
}

#[tokio::test]
async fn a_history_is_shown_to_everybody_who_may_look_and_a_revival_needs_the_key() {
    let server = Server::admin(Bench::new()).await;
    server.ask("GET", HISTORY, &[], "").await.problem("consent-unknown");
    let created = server.put(&[], &tokens("r1")).await;
    let tag = created.header("etag").unwrap().to_owned();
    let history = server.ask("GET", HISTORY, &[], "").await;
    assert_eq!((history.status, history.header("etag")), (200, Some(tag.as_str())));
    let view = history.json();
    assert_eq!(
        (&view["consent_id"], &view["state"], &view["who_acts"]),
        (&json!("customer-4711"), &json!("active"), &json!("nobody"))
    );
    assert_eq!(view["events"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&view["events"][0]["event"], &view["events"][0]["at"]),
        (&json!("seeded"), &json!("2025-10-09T08:53:20Z"))
    );
    for text in ["summary", "do"] {
        assert!(view[text].as_str().unwrap().ends_with('.'), "{view}");
    }

    let unnamed = server.ask("POST", REVIVE, &[("Content-Type", "application/json")], "{}").await;
    assert_eq!(unnamed.status, 401);
    for (body, kind, status) in [
        ("{}", "consent-not-suspended", 409),
        ("", "consent-not-suspended", 409),
        ("[]", "bad-request", 400),
        ("{\"replaced\": 1}", "bad-request", 400),
        ("{\"other\": true}", "bad-request", 400),
        ("{\"replaced\": true}", "precondition-required", 428),
    ] {
        let refused = server.revive(&[], body).await;
        refused.problem(kind);
        assert_eq!(refused.status, status, "{body}");
    }
    let nothing = server.revive(&[("If-Match", &tag)], "{\"replaced\": true}").await;
    let problem = nothing.problem("nothing-to-revive");
    assert_eq!(problem["current"], tag.trim_matches('"'));
    server.bench.suspend(&consent_id()).await;
    let stale = format!("\"{}\"", Version::first(GrantId::random()));
    server.revive(&[("If-Match", &stale)], "{}").await.problem("precondition-failed");
    let revived = server.revive(&[("If-Match", &tag)], "{}").await;
    assert_eq!(
        (revived.status, revived.header("etag"), &revived.json()["state"]),
        (200, Some(tag.as_str()), &json!("active"))
    );
    assert_eq!(server.bench.bank.calls(), 0, "nothing is sent");
}

#[tokio::test]
async fn a_revival_is_repeated_while_the_store_does_not_answer() {
    let server = Server::admin(Bench::new()).await;
    let away = Fault::Unavailable(Duration::ZERO);
    server.put(&[], &tokens("r1")).await;
    let faults: [(&[Fault], u16, &str); 4] = [
        (&[away, Fault::LostReply], 200, ""),
        (&[away, away, away], 503, "store-unavailable"),
        (&[Fault::Refused], 503, "store-unavailable"),
        (&[Fault::Unreadable], 503, "consent-unreadable"),
    ];
    for (faults, status, kind) in faults {
        server.bench.suspend(&consent_id()).await;
        server.bench.faults.next(faults.iter().copied());
        let answer = server.revive(&[], "{}").await;
        assert_eq!(answer.status, status, "{answer:?}");
        if !kind.is_empty() {
            answer.problem(kind);
        }
    }
    server.bench.faults.next([away]);
    server.ask("GET", HISTORY, &[], "").await.problem("store-unavailable");
}

#[tokio::test]
async fn a_store_that_fails_is_told_by_name() {
    let server = Server::admin(Bench::new()).await;
    let away = Fault::Unavailable(Duration::ZERO);
    let rows: [(&[Fault], &str); 3] = [
        (&[away, away, away], "store-unavailable"),
        (&[Fault::Refused], "store-unavailable"),
        (&[Fault::Unreadable], "consent-unreadable"),
    ];
    for (faults, kind) in rows {
        server.bench.faults.next(faults.iter().copied());
        let refused = server.put(&[], &tokens("r")).await;
        refused.problem(kind);
        assert_eq!(refused.status, 503);
        assert_eq!(refused.header("retry-after").is_some(), kind == "store-unavailable");
    }
    for (fault, kind) in [(away, "store-unavailable"), (Fault::Unreadable, "consent-unreadable")] {
        server.bench.faults.next([fault]);
        let refused = server.ask("GET", CONSENT, &[], "").await;
        refused.problem(kind);
        assert_eq!(refused.status, 503);
    }
    server.bench.faults.next([Fault::Silence]);
    let refused = server.put(&[], &tokens("r")).await;
    refused.problem("store-unavailable");
    assert_eq!(refused.status, 503, "the whole request is bounded");
}
