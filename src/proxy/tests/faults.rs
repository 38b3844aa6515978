//! Banks that cannot be reached, do not answer, or answer with something else.

use std::time::Duration;

use tokio::net::TcpListener;

use super::app::Reply;
use super::bank::{Bank, Conn, OK, Say};
use super::house::{C1, Plan};

fn told(reply: &Reply) -> (u16, String, String) {
    let slug = reply.problem().unwrap_or_else(|| format!("the bank's: {}", reply.head));
    (reply.status(), slug, reply.json()["processed"].as_str().unwrap_or_default().to_owned())
}

fn unreachable(processed: &str) -> (u16, String, String) {
    (502, "upstream-unreachable".to_owned(), processed.to_owned())
}

#[tokio::test]
async fn a_bank_where_nobody_listens_is_unreachable() {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("binds").local_addr().expect("bound");
    let house = Plan::at(&format!("http://{free}")).open().await;
    let reply = house.get("/api/v1/x").await;
    assert_eq!(told(&reply), unreachable("no"));
    assert!(reply.json()["detail"].as_str().is_some_and(|detail| detail.contains("refused")));
}

#[tokio::test]
async fn a_bank_whose_name_nobody_knows_is_unreachable() {
    // No resolver has to be asked: a label has at most 63 characters.
    let house = Plan::at(&format!("http://{}.invalid", "x".repeat(64))).open().await;
    let reply = house.get("/api/v1/x").await;
    assert_eq!(told(&reply), unreachable("no"));
    assert!(reply.json()["detail"].as_str().is_some_and(|detail| detail.contains("resolved")));
}

#[tokio::test]
async fn a_bank_that_does_not_answer_times_out() {
    let bank = Bank::saying(&[Say::Nothing]).await;
    let mut plan = Plan::of(&bank);
    plan.limits().upstream_response_timeout = Duration::from_millis(50);
    let house = plan.open().await;
    let wanted = (504, "upstream-timeout".to_owned(), "unknown".to_owned());
    assert_eq!(told(&house.get("/api/v1/x").await), wanted);
    assert_eq!(bank.seen().len(), 1);
}

#[tokio::test]
async fn an_upload_that_moves_does_not_time_out() {
    let bank = Bank::saying(&[OK]).await;
    let mut plan = Plan::of(&bank);
    plan.limits().upstream_response_timeout = Duration::from_millis(400);
    let house = plan.open().await;
    let mut app = house.app().await;
    app.send(format!("POST /api/v1/x HTTP/1.1\r\nHost: localhost\r\n{C1}Transfer-Encoding: chunked\r\n\r\n")).await;
    for _ in 0..10 {
        app.send("1\r\na\r\n").await;
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    assert_eq!(app.ask("0\r\n\r\n").await.status(), 200);
}

#[tokio::test]
async fn what_is_not_acceptable_http_is_told_as_such() {
    let many =
        Box::leak(format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", "A: b\r\n".repeat(300)).into_boxed_str());
    for answer in [
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n folded\r\nContent-Length: 0\r\n\r\n",
        many,
    ] {
        let script = Box::leak(Box::new([Say::Last(answer)]));
        let bank = Bank::saying(script).await;
        let house = Plan::of(&bank).open().await;
        let wanted = (502, "upstream-protocol".to_owned(), "unknown".to_owned());
        assert_eq!(told(&house.get("/api/v1/x").await), wanted, "{answer:.60}");
        assert_eq!(bank.seen().len(), 1, "and it is not asked again");
    }
}

#[tokio::test]
async fn interim_answers_end_here() {
    let bank = Bank::saying(&[Say::Bytes(
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )])
    .await;
    let house = Plan::of(&bank).open().await;
    let reply = house.get("/api/v1/x").await;
    assert_eq!((reply.status(), reply.header("link")), (200, None));
}

#[tokio::test]
async fn a_lost_reply_is_asked_for_again_where_that_does_no_harm() {
    for line in ["GET /api/v1/x", "HEAD /api/v1/x", "PUT /api/v1/x", "DELETE /api/v1/x", "GET /api/own/x"] {
        let bank = Bank::saying(&[Say::Close, OK]).await;
        let house = Plan::of(&bank).open().await;
        assert_eq!(house.ask(line, C1, "").await.status(), 200, "{line}");
        assert_eq!(bank.seen().len(), 2);
    }
}

#[tokio::test]
async fn a_lost_reply_is_asked_for_again_once() {
    let bank = Bank::saying(&[Say::Close]).await;
    let house = Plan::of(&bank).open().await;
    assert_eq!(told(&house.get("/api/v1/x").await), unreachable("unknown"));
    assert_eq!(bank.seen().len(), 2);
}

#[tokio::test]
async fn a_lost_reply_is_not_asked_for_again_where_it_could_do_harm() {
    for (line, body) in
        [("POST /api/v1/x", ""), ("PUT /api/v1/x", "body"), ("GET /api/once/x", ""), ("GET /api/v1/x", "b")]
    {
        let bank = Bank::saying(&[Say::Close, OK]).await;
        let house = Plan::of(&bank).open().await;
        assert_eq!(told(&house.ask(line, C1, body).await), unreachable("unknown"), "{line}");
        assert_eq!(bank.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_kept_connection_that_the_bank_closed_costs_nothing() {
    let bank = Bank::saying(&[Say::Last("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")]).await;
    let house = Plan::of(&bank).open().await;
    for _ in 0..5 {
        assert_eq!(house.get("/api/v1/x").await.status(), 200);
    }
    assert_eq!(bank.seen().len(), 5);
}

#[tokio::test]
async fn on_a_kept_connection_too_a_lost_reply_is_asked_for_again_only_where_that_does_no_harm() {
    for (line, body, status, seen) in [
        ("GET /api/v1/x", "", 200, 3),
        ("POST /api/v1/x", "", 502, 2),
        ("PUT /api/v1/x", "body", 502, 2),
        ("GET /api/v1/x", "body", 502, 2),
        ("GET /api/once/x", "", 502, 2),
    ] {
        let bank = Bank::saying(&[OK, Say::Close, OK]).await;
        let house = Plan::of(&bank).open().await;
        assert_eq!(house.get("/api/v1/first").await.status(), 200);
        let reply = house.ask(line, C1, body).await;
        assert_eq!((reply.status(), bank.seen().len()), (status, seen), "{line} {body}");
    }
}

#[tokio::test]
async fn a_connection_to_the_bank_is_kept_for_the_configured_time_and_no_longer() {
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let bank = Bank::with(move |mut conn: Conn| {
        let tell = tell.clone();
        async move {
            conn.request().await;
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            conn.request().await;
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            assert!(conn.closes().await);
            tell.send(()).await.expect("heard");
        }
    })
    .await;
    let mut plan = Plan::of(&bank);
    plan.limits().upstream_idle_timeout = Duration::from_millis(500);
    let house = plan.open().await;
    for _ in 0..2 {
        assert_eq!(house.get("/api/v1/x").await.status(), 200);
    }
    assert_eq!(super::within(told.recv()).await, Some(()), "both came on one connection, and it ended by itself");
}

#[tokio::test]
async fn stray_bytes_behind_an_answer_answer_nothing() {
    let stray = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray";
    let script = Box::leak(Box::new([Say::Bytes(stray), OK]));
    let bank = Bank::saying(script).await;
    let house = Plan::of(&bank).open().await;
    let mut app = house.app().await;
    let request = format!("GET /api/v1/x HTTP/1.1\r\nHost: localhost\r\n{C1}\r\n");
    assert_eq!(app.ask(&request).await.text(), "ok");
    assert_eq!(app.ask(&request).await.text(), "ok");
}
