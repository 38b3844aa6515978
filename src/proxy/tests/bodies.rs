//! Bodies: streamed both ways, bounded, and never ended before their end.

use std::time::Duration;

use http::StatusCode;

use super::app::header;
use super::bank::{Bank, Conn, OK, Say, Seen};
use super::house::{C1, Plan};
use crate::words::bank::{BodyMatcher, Matcher};

const HEAD: &str = "POST /api/v1/x HTTP/1.1\r\nHost: localhost\r\nConsent-ID: c1\r\n";
const CHUNKED_ANSWER: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

#[tokio::test]
async fn every_chunk_arrives_before_the_next_is_sent() {
    // The bank sends back each chunk that it gets, inside an answer that began before the request ended.
    let bank = Bank::with(|mut conn: Conn| async move {
        conn.head().await;
        conn.send(CHUNKED_ANSWER).await;
        for n in 0..5 {
            assert!(conn.until(format!("1\r\n{n}\r\n").as_bytes()).await);
            conn.send(format!("1\r\n{n}\r\n")).await;
        }
        assert!(conn.until(b"0\r\n\r\n").await);
        conn.send("0\r\n\r\n").await;
    })
    .await;
    let house = Plan::of(&bank).open().await;
    let mut app = house.app().await;
    app.send(format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n")).await;
    assert!(app.head().await.starts_with("HTTP/1.1 200"));
    for n in 0..5 {
        app.send(format!("1\r\n{n}\r\n")).await;
        assert_eq!(app.chunk().await, Some(n.to_string().into_bytes()));
    }
    app.send("0\r\n\r\n").await;
    assert_eq!(app.chunk().await, Some(Vec::new()));
}

#[tokio::test]
async fn large_bodies_pass_whole_in_both_directions() {
    const SIZE: usize = 8 * 1024 * 1024;
    let bank = Bank::with(|mut conn: Conn| async move {
        let seen = conn.request().await;
        conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", seen.body.len())).await;
        conn.send(seen.body).await;
    })
    .await;
    let house = Plan::of(&bank).open().await;
    let body: Vec<u8> = (0..SIZE).map(|at| u8::try_from(at % 251).expect("small")).collect();
    let mut request = format!("{HEAD}Content-Length: {SIZE}\r\n\r\n").into_bytes();
    request.extend(&body);
    let reply = house.app().await.ask(request).await;
    assert_eq!(reply.status(), 200);
    assert!(reply.body == body, "not a byte differs");
}

#[tokio::test]
async fn a_get_with_a_body_of_unknown_length_keeps_it() {
    let bank = Bank::saying(&[OK]).await;
    let house = Plan::of(&bank).open().await;
    let head = HEAD.replace("POST", "GET");
    let reply = house.app().await.ask(format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")).await;
    assert_eq!(reply.status(), 200);
    let seen = bank.only();
    assert_eq!((seen.body, seen.whole), (b"3\r\nabc\r\n0\r\n\r\n".to_vec(), true));
}

#[tokio::test]
async fn a_body_is_asked_for_only_once_a_token_is_at_hand() {
    for body in ["short", &"long".repeat(30_000)] {
        let bank = Bank::saying(&[OK]).await;
        let house = Plan::of(&bank).open().await;
        house.shelf.answers(false);
        let mut app = house.app().await;
        app.send(format!("{HEAD}Expect: 100-continue\r\nContent-Length: {}\r\n\r\n", body.len())).await;
        super::within(async {
            while house.shelf.reads() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let early = tokio::time::timeout(Duration::from_millis(30), app.stream.readable()).await;
        assert!(early.is_err(), "no interim answer yet");
        house.shelf.answers(true);
        assert!(app.head().await.starts_with("HTTP/1.1 100"));
        assert_eq!(app.ask(body).await.status(), 200);
        let seen = bank.only();
        assert_eq!((seen.body, header(&seen.head, "expect")), (body.as_bytes().to_vec(), None));
    }
}

#[tokio::test]
async fn a_refused_call_is_not_asked_for_its_body() {
    let bank = Bank::saying(&[OK]).await;
    let house = Plan::of(&bank).open().await;
    let head = HEAD.replace("c1", "nobody");
    let reply = house.app().await.ask(format!("{head}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")).await;
    assert_eq!(reply.status(), 404);
}

#[tokio::test]
async fn a_streamed_body_that_grows_too_large_is_cut_off() {
    let bank = Bank::saying(&[OK]).await;
    let mut plan = Plan::of(&bank);
    plan.limits().max_body_bytes = Some(10);
    let house = plan.open().await;
    let mut app = house.app().await;
    app.send(format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n8\r\n01234567\r\n")).await;
    app.send("8\r\n01234567\r\n").await;
    let head = app.head().await;
    assert!(head.starts_with("HTTP/1.1 413"), "{head}");
    assert!(head.contains("error="));
    let seen = bank.until(|seen| seen.len() == 1).await;
    assert!(!seen[0].whole, "the bank must not take it for the whole: {seen:?}");
}

#[tokio::test]
async fn a_body_that_stands_still_is_given_up() {
    for (framing, part) in [("Content-Length: 9", "short"), ("Transfer-Encoding: chunked", "5\r\nshort\r\n")] {
        let bank = Bank::saying(&[OK]).await;
        let mut plan = Plan::of(&bank);
        plan.limits().body_idle_timeout = Duration::from_millis(50);
        let house = plan.open().await;
        let mut app = house.app().await;
        app.send(format!("{HEAD}{framing}\r\n\r\n{part}")).await;
        let head = app.head().await;
        assert!(head.starts_with("HTTP/1.1 408"), "{head}");
        if framing.starts_with("Transfer") {
            let seen = bank.until(|seen| seen.len() == 1).await;
            assert!(!seen[0].whole, "{seen:?}");
        } else {
            assert!(bank.seen().is_empty(), "a short body is not forwarded in part");
        }
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_breaks_off_at_the_bank_too() {
    for ending in [None, Some("not a chunk\r\n")] {
        let (tell, mut told) = tokio::sync::mpsc::channel(1);
        let bank = Bank::with(move |mut conn: Conn| {
            let tell = tell.clone();
            async move {
                let head = conn.head().await;
                assert!(conn.until(b"abc").await);
                tell.send(()).await.expect("heard");
                let (body, whole) = conn.body(&head).await;
                conn.note(Seen { head, body, whole });
            }
        })
        .await;
        let house = Plan::of(&bank).open().await;
        let mut app = house.app().await;
        app.send(format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")).await;
        super::within(told.recv()).await.expect("the bank has the first part");
        match ending {
            Some(rubbish) => app.send(rubbish).await,
            None => drop(app),
        }
        let seen = bank.until(|seen| seen.len() == 1).await;
        assert!(!seen[0].whole, "{seen:?}");
    }
}

#[tokio::test]
async fn an_app_that_hangs_up_ends_the_call_at_the_bank() {
    let (tell, mut told) = tokio::sync::mpsc::channel(2);
    let bank = Bank::with(move |mut conn: Conn| {
        let tell = tell.clone();
        async move {
            conn.request().await;
            tell.send("asked").await.expect("heard");
            assert!(conn.closes().await);
            tell.send("closed").await.expect("heard");
        }
    })
    .await;
    let house = Plan::of(&bank).open().await;
    let mut app = house.app().await;
    app.send(format!("{HEAD}Content-Length: 2\r\n\r\nok")).await;
    assert_eq!(super::within(told.recv()).await, Some("asked"));
    drop(app);
    assert_eq!(super::within(told.recv()).await, Some("closed"));
}

#[tokio::test]
async fn an_answer_that_comes_before_the_body_is_through_is_passed_on() {
    let bank = Bank::with(|mut conn: Conn| async move {
        conn.head().await;
        conn.send("HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno").await;
    })
    .await;
    let house = Plan::of(&bank).open().await;
    let mut app = house.app().await;
    app.send(format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n")).await;
    let head = app.head().await;
    assert!(head.starts_with("HTTP/1.1 413") && header(&head, "proxy-status") == Some("consentry"), "{head}");
    assert_eq!(app.body(&head).await, (b"no".to_vec(), true));
}

#[tokio::test]
async fn a_bank_s_body_that_breaks_off_breaks_off_for_the_app() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nrubbish\r\n",
    ] {
        let script = Box::leak(Box::new([Say::Last(answer)]));
        let bank = Bank::saying(script).await;
        let house = Plan::of(&bank).open().await;
        let mut app = house.app().await;
        app.send(format!("GET /api/v1/x HTTP/1.1\r\nHost: localhost\r\n{C1}\r\n")).await;
        let head = app.head().await;
        let whole = !head.is_empty() && app.body(&head).await.1;
        assert!(!whole, "{answer}");
    }
}

#[tokio::test]
async fn a_rejection_that_breaks_off_while_it_is_read_breaks_off_for_the_app() {
    let bank = Bank::saying(&[Say::Last("HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")]).await;
    let mut plan = Plan::of(&bank);
    let body = Some(BodyMatcher { pointer: "/error".to_owned(), any_of: vec!["x".to_owned()] });
    plan.behaviour.consent_dead = vec![Matcher { body, ..Matcher::status(StatusCode::FORBIDDEN) }];
    let house = plan.open().await;
    let mut app = house.app().await;
    app.send(format!("GET /api/v1/x HTTP/1.1\r\nHost: localhost\r\n{C1}\r\n")).await;
    let head = app.head().await;
    assert!(head.is_empty() || !app.body(&head).await.1);
}

#[tokio::test]
async fn a_bank_s_body_that_stands_still_is_cut_off() {
    let bank = Bank::with(|mut conn: Conn| async move {
        conn.head().await;
        conn.send(CHUNKED_ANSWER).await;
        conn.send("1\r\na\r\n").await;
        assert!(conn.closes().await);
    })
    .await;
    let mut plan = Plan::of(&bank);
    plan.limits().body_idle_timeout = Duration::from_millis(50);
    let house = plan.open().await;
    let mut app = house.app().await;
    app.send(format!("GET /api/v1/x HTTP/1.1\r\nHost: localhost\r\n{C1}\r\n")).await;
    let head = app.head().await;
    assert_eq!(app.body(&head).await, (b"a".to_vec(), false));
    super::within(async {
        while house.metrics.calls_in_flight.get() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_bank_s_body_that_moves_without_end_is_cut_off() {
    let bank = Bank::with(|mut conn: Conn| async move {
        conn.head().await;
        conn.send(CHUNKED_ANSWER).await;
        loop {
            conn.send("1\r\na\r\n").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let mut plan = Plan::of(&bank);
    plan.limits().request_timeout = Duration::from_millis(400);
    let house = plan.open().await;
    let mut app = house.app().await;
    app.send(format!("GET /api/v1/x HTTP/1.1\r\nHost: localhost\r\n{C1}\r\n")).await;
    let head = app.head().await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let (body, whole) = super::within(app.body(&head)).await;
    assert!(!whole && body.len() > 3, "{} bytes", body.len());
}

#[tokio::test]
async fn trailers_end_here_unless_they_are_allowed() {
    let bank = Bank::saying(&[Say::Bytes(
        "HTTP/1.1 200 OK\r\nTrailer: x-secret\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Secret: 1\r\n\r\n",
    )])
    .await;
    let house = Plan::of(&bank).open().await;
    let mut app = house.app().await;
    let request = format!("{HEAD}TE: trailers\r\nTrailer: authorization\r\nTransfer-Encoding: chunked\r\n\r\n");
    let reply = app.ask(format!("{request}2\r\nok\r\n0\r\nAuthorization: forged\r\n\r\n")).await;
    assert_eq!((reply.text(), reply.whole, reply.header("trailer")), ("ok", true, None));
    assert_eq!(bank.only().body, b"2\r\nok\r\n0\r\n\r\n");
}
