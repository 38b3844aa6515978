//! Token endpoints and APIs that answer with anything but what they should.

use std::fs;

use http::{Method, StatusCode};
use serde_json::json;

use super::{TOKENS, framed, import, no_panic, say, told};
use crate::support::bank::Bank;
use crate::support::redis::free_port;
use crate::support::rogue::{Rogue, Then, answer};
use crate::support::sidecar::Replica;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_token_endpoint_answers_the_refresh_token_is_sent_once_and_the_consent_kept() {
    let uncertain = (503, "token-refresh-uncertain", "uncertain", 1);
    let served = (200, "", "active", 2);
    let unspent = |status, problem| (status, problem, "active", 1);
    let long = format!(r#"{{"access_token":"{}"}}"#, "a".repeat(70_000));
    let life = |expires_in: &str| {
        let body = format!(r#"{{"access_token":"new-access","refresh_token":"r","expires_in":{expires_in}}}"#);
        (answer(200, &body), Then::Hold)
    };
    let error = |status, code: &str| (answer(status, &format!(r#"{{"error":"{code}"}}"#)), Then::Hold);
    let table = [
        // Whole token sets, whatever is wrong around them.
        ((answer(200, TOKENS), Then::Hold), served, ""),
        ((answer(201, TOKENS), Then::Hold), served, ""),
        ((answer(200, &format!("\u{feff}{TOKENS}")), Then::Hold), served, ""),
        ((framed("", TOKENS), Then::Close), served, ""),
        ((framed("", TOKENS), Then::Hold), served, ""),
        ((framed("Content-Length: 500\r\n", TOKENS), Then::Close), served, ""),
        ((framed("Content-Length: 500\r\n", TOKENS), Then::Hold), served, ""),
        (
            (framed("Transfer-Encoding: chunked\r\n", &format!("{:x}\r\n{TOKENS}\r\n", TOKENS.len())), Then::Close),
            served,
            "",
        ),
        ((answer(200, r#"{"access_token":"new-access"}"#), Then::Hold), served, ""),
        (life("\"3600\""), served, ""),
        (life("0"), served, ""),
        (life("-1"), served, ""),
        (life("1e18"), served, ""),
        // A yes that cannot be read.
        ((answer(200, "<html>welcome</html>"), Then::Hold), uncertain, "unreadable_answer"),
        ((answer(200, ""), Then::Hold), uncertain, "unreadable_answer"),
        ((answer(200, r#"{"access_token":5}"#), Then::Hold), uncertain, "unreadable_answer"),
        ((answer(200, r#"{"access_token":""}"#), Then::Hold), uncertain, "empty_access_token"),
        ((answer(200, &long), Then::Hold), uncertain, "oversized_answer"),
        ((framed("Content-Length: 500\r\n", &TOKENS[..40]), Then::Close), uncertain, "truncated_answer"),
        // Nobody knows.
        ((answer(500, ""), Then::Hold), uncertain, "server_error"),
        ((answer(503, "<html>"), Then::Hold), uncertain, "server_error"),
        ((answer(429, "<html>"), Then::Hold), uncertain, "rate_limited"),
        ((answer(400, "<html>"), Then::Hold), uncertain, "unexpected_answer"),
        ((answer(204, ""), Then::Hold), uncertain, "unexpected_status"),
        ((b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(), Then::Close), uncertain, "not_http"),
        ((Vec::new(), Then::Close), uncertain, "connection_lost"),
        // No, in the bank's own words.
        (error(401, "invalid_client"), unspent(502, "provider-misconfigured"), "invalid_client"),
        (error(400, "invalid_scope"), unspent(502, "provider-misconfigured"), "invalid_scope"),
        ((answer(302, ""), Then::Hold), unspent(502, "provider-misconfigured"), "redirect"),
        (error(400, "invalid_request"), unspent(503, "token-endpoint-unavailable"), "invalid_request"),
        (error(429, "slow_down"), unspent(503, "token-endpoint-unavailable"), "rate_limited"),
        (
            error(400, "invalid_grant"),
            (403, "consent-reauthorization-required", "reauthorization_required", 1),
            "revoked_or_expired",
        ),
    ];
    let (bank, rogue) = (Bank::start().await, Rogue::start().await);
    let replica = Replica::embedded(&bank).before_rogue(&bank, &rogue);
    let sidecar = replica.start().await;
    // A success in between, so that it is this answer that is met and not a breaker.
    let (good, bad): (Vec<_>, Vec<_>) = table.into_iter().partition(|(_, outcome, _)| *outcome == served);
    let (mut good, mut bad) = (good.into_iter(), bad.into_iter());
    let in_turn =
        std::iter::from_fn(|| Some([good.next(), bad.next()])).take_while(|pair| pair.iter().any(Option::is_some));
    for (n, (answer, (status, problem, state, generation), why)) in in_turn.flatten().flatten().enumerate() {
        let consent = format!("c-{n}");
        let row = format!("row {n}: {why:?} {:.60}", String::from_utf8_lossy(&answer.0));
        import(&sidecar, &consent, 0).await;
        let before = sidecar.consent(&consent).await;
        rogue.next_token_answer(answer);
        for _ in 0..2 {
            let answer = sidecar.balances(&consent).await;
            assert_eq!(told(&answer), (status, problem.to_owned()), "{row}: {answer:?}");
            assert_eq!(answer.headers.contains_key("retry-after"), status == 503, "{row}");
        }
        let bodies = rogue.token_requests();
        let spent = bodies.iter().filter(|body| body.contains(&format!("refresh_token=refresh-of-{consent}&"))).count();
        assert_eq!((spent, bodies.len()), (1, n + 1), "{row}: each refresh token is sent once");
        // A caller is served as soon as the new tokens are on disk; the store may have them a moment later.
        sidecar.until(&row, async || sidecar.consent(&consent).await["generation"] == generation).await;
        let view = sidecar.consent(&consent).await;
        assert_eq!((view["state"].as_str(), view["generation"].as_u64()), (Some(state), Some(generation)), "{row}");
        if generation == 1 {
            assert_eq!(view["why"], why, "{row}");
            assert_eq!(view["refresh_token_fingerprint"], before["refresh_token_fingerprint"], "{row}: it is kept");
        }
    }
    let output = sidecar.program.output();
    for line in ["The token endpoint cannot be used with our settings.", "The bank did not process a token request."] {
        assert!(output.contains(line), "{line} is not in {output}");
    }
    no_panic(&sidecar);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_endpoint_that_cannot_be_spoken_to_is_sent_nothing_and_it_heals_by_itself() {
    let bank = Bank::start().await;
    let endpoint = bank.endpoints["abn_amro"]["token_endpoint"].as_str().unwrap();
    let client_auth = "client_auth: {method: tls_client_auth, certificate: {file: tpp.crt}, key: {file: tpp.key}}";
    let foreign_roots = |replica: Replica| {
        let stranger = rcgen::generate_simple_self_signed(["stranger.example".to_owned()]).unwrap();
        fs::write(replica.home().join("stranger.pem"), stranger.cert.pem()).unwrap();
        replica.change("    ca_file: ca.pem\n  norsk-gjeld", "    ca_file: stranger.pem\n  norsk-gjeld")
    };
    let port = http::Uri::try_from(endpoint).unwrap().port_u16().unwrap().to_string();
    let nobody = endpoint.replace(&port, &free_port().to_string());
    let cases = [
        (foreign_roots(Replica::embedded(&bank)), (502, "provider-misconfigured"), "tls_refused"),
        (
            Replica::embedded(&bank).change(client_auth, "client_auth: {method: none}"),
            (502, "provider-misconfigured"),
            "certificate_refused",
        ),
        (Replica::embedded(&bank).change(endpoint, &nobody), (503, "token-endpoint-unavailable"), "unreachable"),
    ];
    for (replica, (status, problem), why) in cases {
        let mut sidecar = replica.start().await;
        let granted = bank.grant(0).await;
        sidecar.import("c-1", &granted).await;
        let answer = sidecar.balances("c-1").await;
        assert_eq!(told(&answer), (status, problem.to_owned()), "{why}: {answer:?}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(why), "{answer:?}");
        let view = sidecar.consent("c-1").await;
        assert_eq!((view["state"].as_str(), view["why"].as_str()), (Some("active"), Some(why)));
        assert_eq!(bank.count("abn", "refreshes").await, 0, "{why}");
        sidecar.program.signal("TERM");
        assert!(sidecar.program.ended().await.success());
        no_panic(&sidecar);

        // The same store, with settings that are right.
        let mended = Replica::embedded(&bank);
        fs::copy(replica.home().join("tokens.redb"), mended.home().join("tokens.redb")).unwrap();
        let sidecar = mended.start().await;
        sidecar.until("it has healed", async || sidecar.balances("c-1").await.status == StatusCode::OK).await;
        assert_eq!((bank.count("abn", "refreshes").await, bank.reuse_events().await), (1, 0), "{why}");
        bank.control(Method::POST, "/reset-counters", &json!(null)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_from_an_api_is_a_problem_and_a_body_cut_short_never_ends_cleanly() {
    let (bank, rogue) = (Bank::start().await, Rogue::start().await);
    let replica = Replica::embedded(&bank).before_rogue(&bank, &rogue);
    let sidecar = replica.start().await;
    import(&sidecar, "c-1", 3_600).await;
    let many = "X-Many: y\r\n".repeat(300);
    let answers = [
        framed("Content-Length: 3\r\nContent-Length: 4\r\n", "abc"),
        framed("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
        framed("Transfer-Encoding: gzip\r\n", "abc"),
        framed(&many, ""),
        framed(&format!("X: {}\r\n", "y".repeat(300_000)), ""),
        framed("X: a\r\n b\r\n", ""),
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".to_vec(),
        b"HTTP/1.1 099 What\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
        b"\x16\x03\x01\r\n\r\n".to_vec(),
    ];
    for bytes in answers {
        let row = format!("{:.60}", String::from_utf8_lossy(&bytes));
        rogue.next_api_answer((bytes, Then::Close));
        let answer = sidecar.balances("c-1").await;
        assert_eq!(told(&answer), (502, "upstream-protocol".to_owned()), "{row}: {answer:?}");
        assert_eq!(sidecar.balances("c-1").await.status, StatusCode::OK, "after {row}");
    }
    let get = "GET /accounts/v1/x HTTP/1.1\r\nHost: localhost\r\nConsent-ID: c-1\r\nConnection: close\r\n\r\n";
    for (head, body) in [
        ("Content-Length: 100\r\n", "abcde"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nabcde\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nabcde\r\nZZ\r\nabc"),
    ] {
        rogue.next_api_answer((framed(head, body), Then::Close));
        let heard = say(&sidecar, get.as_bytes()).await;
        // What breaks before the head is out takes the head along.
        assert!(heard.is_empty() || heard.starts_with("HTTP/1.1 200"), "{heard}");
        assert!(!heard.ends_with("0\r\n\r\n") && !heard.contains("content-length: 5\r\n"), "{heard}");
    }
    // Stray bytes behind an answer answer nobody.
    let poison = [answer(200, "{}"), answer(200, r#"{"said":"poison"}"#)].concat();
    rogue.next_api_answer((poison, Then::Hold));
    for _ in 0..3 {
        assert!(!String::from_utf8_lossy(&sidecar.balances("c-1").await.body).contains("poison"));
    }
    assert!(rogue.token_requests().is_empty());
    no_panic(&sidecar);
}
