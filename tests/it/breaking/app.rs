//! Requests that mean two things, headers that want the token, and connections that say nothing.

use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{import, no_panic, say};
use crate::support::bank::Bank;
use crate::support::client::App;
use crate::support::rogue::{Rogue, Then, answer};
use crate::support::sidecar::Replica;

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_mean_two_things_get_no_answer_of_the_bank_and_nothing_behind_them_is_read() {
    let (bank, rogue) = (Bank::start().await, Rogue::start().await);
    let replica = Replica::embedded(&bank).before_rogue(&bank, &rogue);
    let sidecar = replica.start().await;
    import(&sidecar, "c-1", 3_600).await;
    let own = "Host: localhost\r\nConsent-ID: c-1\r\n";
    let post = |more: &str, body: &str| format!("POST /accounts/v1/x HTTP/1.1\r\n{own}{more}\r\n{body}");
    let get = |more: &str| post(more, "").replacen("POST", "GET", 1);
    let chunked = "Transfer-Encoding: chunked\r\n";
    let table = [
        (post("Content-Length: 5\r\nContent-Length: 6\r\n", "abcde"), 400),
        (post("Content-Length: 5, 5\r\n", "abcde"), 400),
        (post("Content-Length: +5\r\n", "abcde"), 400),
        (post("Content-Length: 0x5\r\n", "abcde"), 400),
        (post("Content-Length : 5\r\n", "abcde"), 400),
        (post(&chunked.repeat(2), "0\r\n\r\n"), 400),
        (post("Transfer-Encoding: identity, chunked\r\n", "0\r\n\r\n"), 501),
        (post("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"), 400),
        (post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"), 400),
        (post(chunked, "0\r\n\r\n").replacen("1.1", "1.0", 1), 400),
        (post(chunked, "0x3\r\nabc\r\n0\r\n\r\n"), 400),
        (post(chunked, "3\nabc\n0\n\n"), 400),
        (post(chunked, "fffffffffffffffff\r\nabc\r\n0\r\n\r\n"), 400),
        (get("X: a\r\n b\r\n"), 400),
        (get("X: a\rb\r\n"), 400),
        (get("X: a\0b\r\n"), 400),
        (get("Host: localhost\r\n"), 400),
        (get("").replacen("Host: localhost\r\n", "", 1), 400),
        (get("").replacen("localhost", "evil.example", 1), 400),
        (get("Origin: http://evil.example\r\n"), 400),
        (get("Sec-Fetch-Site: cross-site\r\n"), 400),
        (get("Connection: host\r\n"), 400),
        (get("Connection: content-length\r\n"), 400),
        (get("").replacen("/accounts", "http://evil.example/accounts", 1), 400),
        (get("Connection: upgrade\r\nUpgrade: websocket\r\n"), 501),
        (post("Expect: 200-ok\r\nContent-Length: 5\r\n", "abcde"), 417),
        (get("").replacen("GET", "TRACE", 1), 405),
        (get(&"X-Many: y\r\n".repeat(70)), 431),
        (get(&format!("X: {}\r\n", "y".repeat(17_000))), 431),
        (get("").replacen("HTTP/1.1", "HTTP/2.0", 1), 400),
        ("\x16\x03\x01\x02\0\x01\0\x01\u{7f}\x03\x03".to_owned(), 400),
    ];
    let hidden = get("").replace("/v1/x", "/v1/hidden");
    for (request, status) in table {
        let heard = say(&sidecar, format!("{request}{hidden}").as_bytes()).await;
        assert!(heard.starts_with(&format!("HTTP/1.1 {status} ")), "{request}\n{heard}");
        assert_eq!(heard.matches("HTTP/1.1 ").count(), 1, "{request}\n{heard}");
    }
    // Both framings: the chunks count, and the connection ends with that answer.
    let both = post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n");
    let heard = say(&sidecar, format!("{both}{hidden}").as_bytes()).await;
    assert_eq!(heard.matches("HTTP/1.1 ").count(), 1, "{heard}");
    assert!(rogue.requests("/api/v1/hidden").is_empty());
    assert_eq!(sidecar.balances("c-1").await.status, StatusCode::OK);
    no_panic(&sidecar);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_app_sends_cannot_take_the_token_away_or_put_another_in_its_place() {
    let (bank, rogue) = (Bank::start().await, Rogue::start().await);
    let replica = Replica::embedded(&bank).before_rogue(&bank, &rogue);
    let sidecar = replica.start().await;
    import(&sidecar, "c-1", 3_600).await;
    let start = "GET /accounts/v1/x HTTP/1.1\r\nHost: localhost\r\nConsent-ID: c-1\r\nConnection: close\r\n";
    for more in [
        "Connection: authorization, api-key\r\nAuthorization: Bearer evil\r\n",
        "Authorization: Bearer evil\r\nAuthorization: Basic evil\r\nAPI-Key: evil\r\n",
        "Connection: consent-id\r\nConsent_ID: evil\r\nCookie: evil=1\r\nProxy-Authorization: evil\r\nDPoP: evil\r\n",
        "X-Forwarded-For: evil\r\nForwarded: for=evil\r\nX-Forwarded-Host: evil\r\n",
        "TE: evil\r\nTrailer: evil\r\nKeep-Alive: evil\r\nProxy-Connection: evil\r\n",
    ] {
        let heard = say(&sidecar, format!("{start}{more}\r\n").as_bytes()).await;
        assert!(heard.starts_with("HTTP/1.1 200"), "{more}{heard}");
        let seen = rogue.requests("/api/v1/x").pop().unwrap();
        assert!(seen.contains("\r\nauthorization: Bearer access-of-c-1\r\n"), "{more}{seen}");
        assert_eq!(seen.matches("authorization").count(), 1, "{more}{seen}");
        assert_eq!(seen.matches("api-key").count(), 1, "{more}{seen}");
        assert!(!seen.contains("evil") && !seen.to_ascii_lowercase().contains("consent-id"), "{more}{seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_that_open_connections_and_say_nothing_use_up_neither_probes_nor_refreshes() {
    let bank = Bank::start().await;
    let replica = Replica::embedded(&bank).open_files(64);
    let mut sidecar = replica.start().await;
    let warned = sidecar
        .program
        .logged("The limit of open files (ulimit -n) is too low for proxy.limits.max_connections.")
        .await;
    assert_eq!((warned["open_files"].as_u64(), warned["taken"].as_u64()), (Some(64), Some(8)));
    sidecar.import("c-1", &bank.grant(0).await).await;
    let address = sidecar.url("").trim_start_matches("http://").to_owned();
    let mut silent = Vec::new();
    for _ in 0..7 {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    assert_eq!(sidecar.balances("c-1").await.status, StatusCode::OK, "one place is left, and a refresh works");
    for _ in 0..100 {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    let call = tokio::spawn({
        let (app, url) = (App::new(), sidecar.balances_url());
        async move { app.get(&url, &[("consent-id", "c-1")]).await }
    });
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(sidecar.app.get(&sidecar.health_url(path), &[]).await.status, StatusCode::OK, "{path}");
    }
    drop(silent);
    assert_eq!(call.await.unwrap().status, StatusCode::OK, "it waited for its turn");
    assert!(!sidecar.program.output().contains("a connection could not be accepted"), "it never ran out");
    no_panic(&sidecar);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_takes_nothing_of_its_answer_is_given_up() {
    const LENGTH: usize = 30_000_000;
    let (bank, rogue) = (Bank::start().await, Rogue::start().await);
    let limits = "proxy: {limits: {body_idle_timeout: 1s}, listen";
    let replica = Replica::embedded(&bank)
        .before_rogue(&bank, &rogue)
        .change("proxy: {listen", limits)
        .change("level: info", "level: debug");
    let mut sidecar = replica.start().await;
    import(&sidecar, "c-1", 3_600).await;
    rogue.next_api_answer((answer(200, &"z".repeat(LENGTH)), Then::Hold));
    let mut stream = TcpStream::connect(sidecar.url("").trim_start_matches("http://")).await.unwrap();
    let call = "GET /accounts/v1/x HTTP/1.1\r\nHost: localhost\r\nConsent-ID: c-1\r\n\r\n";
    stream.write_all(call.as_bytes()).await.unwrap();
    let ended = sidecar.program.logged("a connection ended early").await;
    assert!(ended["cause"].as_str().unwrap().contains("HTTP failed"), "{ended}");
    let mut taken = Vec::new();
    let _ = stream.read_to_end(&mut taken).await;
    assert!(taken.len() < LENGTH, "{} bytes: not all of it was waiting in buffers", taken.len());
    no_panic(&sidecar);
}
