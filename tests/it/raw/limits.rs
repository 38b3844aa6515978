//! Limits, and peers that are slow: each holds what is its own, for a time that ends.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::{House, get, hear, post};
use crate::support::rogue::Then;

async fn limited(limits: &str) -> House {
    let with = format!("proxy: {{limits: {{{limits}}}, listen");
    House::changed(|replica| replica.change("proxy: {listen", &with)).await
}

/// Sends one byte after the other until the other side answers or ends the connection, and gives what it said.
async fn drip(stream: &mut TcpStream, bytes: &[u8]) -> String {
    for byte in bytes.iter().cycle() {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        if timeout(Duration::from_millis(50), stream.readable()).await.is_ok() {
            break;
        }
    }
    hear(stream).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_comes_slowly_is_given_up_long_before_a_connection_that_is_idle() {
    let house = limited("header_read_timeout: 1s, idle_timeout: 1m").await;
    let began = Instant::now();
    let mut idle = house.connect().await;
    let mut half = house.connect().await;
    half.write_all(b"GET /accounts/v1/x HTTP/1.1\r\nHost: loc").await.unwrap();
    assert_eq!(hear(&mut half).await, "", "there is no request to answer");
    let mut dripping = house.connect().await;
    assert_eq!(timeout(Duration::from_secs(20), drip(&mut dripping, b"X: y\r\n")).await.expect("an end"), "");
    // The same after a request that was answered.
    let mut kept = house.connect().await;
    kept.write_all((get("/accounts/v1/x", "") + "GET /acc").as_bytes()).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    kept.write_all(b"ounts").await.unwrap();
    let heard = hear(&mut kept).await;
    assert!(heard.starts_with("HTTP/1.1 200 ") && heard.matches("HTTP/1.1 ").count() == 1, "{heard}");
    assert!(began.elapsed() >= Duration::from_secs(3), "one after the other");
    idle.write_all(get("/accounts/v1/x", "Connection: close\r\n").as_bytes()).await.unwrap();
    assert!(hear(&mut idle).await.starts_with("HTTP/1.1 200 "), "it may be idle for longer");
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_ends_after_its_time() {
    let house = limited("idle_timeout: 1s").await;
    let mut never = house.connect().await;
    assert_eq!(hear(&mut never).await, "");
    let mut once = house.connect().await;
    once.write_all(get("/accounts/v1/x", "").as_bytes()).await.unwrap();
    assert!(hear(&mut once).await.starts_with("HTTP/1.1 200 "));
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stands_still_or_drips_without_end_is_given_up() {
    let house = limited("body_idle_timeout: 1s, request_timeout: 3s").await;
    let chunked = post("Transfer-Encoding: chunked\r\n", "");
    let heard = house.say(chunked.clone() + "3\r\nabc\r\n").await;
    assert!(heard.starts_with("HTTP/1.1 408 "), "{heard}");
    let began = Instant::now();
    let mut stream = house.connect().await;
    stream.write_all(chunked.as_bytes()).await.unwrap();
    let heard = timeout(Duration::from_secs(20), drip(&mut stream, b"1\r\na\r\n")).await.expect("an end");
    assert!(heard.starts_with("HTTP/1.1 408 ") && heard.contains("as a whole"), "{heard}");
    assert!(began.elapsed() >= Duration::from_secs(2), "it moved all the time");
    assert_eq!(house.rogue.all_requests(), [""; 0], "the bank must not take it for the whole");
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_has_no_more_connections_than_it_may() {
    let house = limited("max_connections_per_caller: 2").await;
    let (first, second) = (house.connect().await, house.connect().await);
    let mut third = house.connect().await;
    assert_eq!(hear(&mut third).await, "", "closed without a word");
    drop(first);
    let answered = async || {
        let mut stream = house.connect().await;
        let _ = stream.write_all(get("/accounts/v1/x", "Connection: close\r\n").as_bytes()).await;
        hear(&mut stream).await.starts_with("HTTP/1.1 200 ")
    };
    house.sidecar.until("the place is free again", answered).await;
    drop(second);
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bank_that_stands_still_leaves_room_for_the_others_and_overload_is_told_at_once() {
    let house = limited("max_in_flight: 4").await;
    for _ in 0..3 {
        house.rogue.next_api_answer((Vec::new(), Then::Hold));
    }
    let mut hanging = Vec::new();
    for _ in 0..3 {
        let mut stream = house.connect().await;
        stream.write_all(get("/accounts/v1/x", "").as_bytes()).await.unwrap();
        hanging.push(stream);
    }
    house.sidecar.until("three hang", async || house.rogue.all_requests().len() == 3).await;
    let began = Instant::now();
    let heard = house.say(get("/accounts/v1/x", "Connection: close\r\n")).await;
    assert!(heard.starts_with("HTTP/1.1 503 ") && heard.contains("/overloaded"), "{heard}");
    assert!(heard.contains("\r\nretry-after: 1\r\n"), "{heard}");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let other = house.say("GET /debt/v1/debt/c-9/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(!other.contains("/overloaded"), "{other}");
    drop(hanging);
    let answered =
        async || house.say(get("/accounts/v1/x", "Connection: close\r\n")).await.starts_with("HTTP/1.1 200 ");
    house.sidecar.until("the room is free again", answered).await;
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_connections_of_any_slow_kind_disturb_nobody() {
    let house = House::new().await;
    let half = post("Transfer-Encoding: chunked\r\n", "1\r\na\r\n");
    let mut slow = Vec::new();
    for bytes in ["", "GET /accounts/v1/x HTTP/1.1\r\nHost: lo", &half] {
        for _ in 0..200 {
            let mut stream = house.connect().await;
            stream.write_all(bytes.as_bytes()).await.unwrap();
            slow.push(stream);
        }
    }
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        let began = Instant::now();
        let heard = house.say(get("/accounts/v1/x", "Connection: close\r\n")).await;
        assert!(heard.starts_with("HTTP/1.1 200 "), "{heard}");
        slowest = slowest.max(began.elapsed());
    }
    assert!(slowest < Duration::from_secs(8), "{slowest:?}");
    assert_eq!(slow.len(), 600);
    house.ends_well();
}
