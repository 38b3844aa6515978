//! What a bank answers, and what of it an app gets: nothing that is framed in two ways, nothing cut short as if it were
//! whole, and never the token.

use std::io::ErrorKind;

use super::{House, get};
use crate::support::rogue::{Answer, Then};

fn bytes(text: &str, then: Then) -> Answer {
    (text.as_bytes().to_vec(), then)
}

fn ok(lines: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{lines}\r\n{body}")
}

impl House {
    /// What an app hears when the bank answers this.
    async fn hears(&self, answer: Answer) -> String {
        self.rogue.forget();
        self.rogue.next_api_answer(answer);
        self.say(get("/accounts/v1/x", "Connection: close\r\n")).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_one_message_is_told_as_the_bank_s_fault() {
    let house = House::new().await;
    let table = [
        ok("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ok("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
        ok("Content-Length: 1\r\nContent-Length: 2\r\n", "ab"),
        ok("Content-Length: 1, 2\r\n", "ab"),
        ok("Content-Length: +2\r\n", "ab"),
        ok("Content-Length: two\r\n", "ab"),
        ok("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        ok("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ok("Transfer-Encoding: identity\r\n", "ab"),
        ok("X: a\r\n b\r\nContent-Length: 0\r\n", ""),
        ok("X : a\r\nContent-Length: 0\r\n", ""),
        ok("X: a\0b\r\nContent-Length: 0\r\n", ""),
        ok("no colon\r\nContent-Length: 0\r\n", ""),
        ok(&"X: y\r\n".repeat(300), ""),
        ok(&format!("X: {}\r\n", "y".repeat(200_000)), ""),
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n".to_owned(),
        "HTTP/1.1 99 Odd\r\n\r\n".to_owned(),
        "HTTP/1.1 abc Odd\r\n\r\n".to_owned(),
        "HTTP/3.0 200 OK\r\n\r\n".to_owned(),
        "ICY 200 OK\r\n\r\n".to_owned(),
        "220 smtp.example ESMTP\r\n".to_owned(),
        "\x15\x03\x03\0\x02\x02\x46".to_owned(),
    ];
    for answer in table {
        let heard = house.hears(bytes(&answer, Then::Close)).await;
        assert!(heard.starts_with("HTTP/1.1 502 "), "{answer:.100}\n{heard}");
        assert!(heard.contains("/upstream-protocol"), "{answer:.100}\n{heard}");
        assert_eq!(house.rogue.all_requests().len(), 1, "{answer:.100}: and it is not asked again");
    }
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_short_never_ends_well() {
    let house = House::new().await;
    for answer in [
        ok("Content-Length: 10\r\n", "half"),
        ok("Transfer-Encoding: chunked\r\n", "4\r\nhalf\r\n"),
        ok("Transfer-Encoding: chunked\r\n", "a\r\nhalf"),
        ok("Transfer-Encoding: chunked\r\n", "4\r\nhalf\r\nrubbish\r\n"),
        ok("Transfer-Encoding: chunked\r\n", "4\r\nhalf\r\n0\r\n"),
        ok("Transfer-Encoding: chunked\r\n", "4\nhalf\r\n0\r\n\r\n"),
    ] {
        let heard = house.hears(bytes(&answer, Then::Close)).await;
        // Nothing at all, or that the bank is at fault, is no whole answer either.
        let Some((fields, body)) = heard.split_once("\r\n\r\n").filter(|_| !heard.starts_with("HTTP/1.1 502 ")) else {
            continue;
        };
        let chunked = fields.contains("transfer-encoding: chunked");
        assert!(chunked || fields.contains("content-length: 10"), "{answer}\n{heard}");
        assert!(if chunked { !body.ends_with("0\r\n\r\n") } else { body.len() < 10 }, "{answer}\n{heard}");
    }
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_behind_an_answer_answers_nothing() {
    let house = House::new().await;
    let stray = ok("Content-Length: 5\r\n", "stray");
    for (answer, status, body) in [
        (ok("Content-Length: 2\r\n", "ok") + &stray, 200, "ok"),
        (ok("Transfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n") + &stray, 200, "2\r\nok\r\n0\r\n\r\n"),
        ("HTTP/1.1 204 No Content\r\n\r\n".to_owned() + &stray, 204, ""),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nstray".to_owned(), 204, ""),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nstray".to_owned(), 304, ""),
    ] {
        house.rogue.forget();
        house.rogue.next_api_answer(bytes(&answer, Then::Hold));
        house.rogue.next_api_answer(bytes(&ok("Content-Length: 6\r\n", "second"), Then::Hold));
        let both = get("/accounts/v1/x", "") + &get("/accounts/v1/y", "Connection: close\r\n");
        let heard = house.say(both).await;
        let answers: Vec<_> = heard.split("HTTP/1.1 ").skip(1).collect();
        let [first, second] = answers[..] else { panic!("{answer}\n{heard}") };
        assert!(first.starts_with(&status.to_string()), "{answer}\n{heard}");
        assert_eq!(first.split_once("\r\n\r\n").unwrap().1, body, "{answer}\n{heard}");
        assert!(second.ends_with("\r\n\r\nsecond"), "{answer}\n{heard}");
        assert!(!heard.contains("stray"), "{heard}");
    }
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_answers_end_here() {
    let house = House::new().await;
    for interim in ["100 Continue", "102 Processing", "103 Early Hints\r\nLink: </x>"] {
        let answer = format!("HTTP/1.1 {interim}\r\n\r\n{}", ok("Content-Length: 2\r\n", "ok"));
        let heard = house.hears(bytes(&answer, Then::Hold)).await;
        assert!(heard.starts_with("HTTP/1.1 200 ") && heard.ends_with("\r\n\r\nok"), "{heard}");
        assert_eq!(heard.matches("HTTP/1.1 ").count(), 1, "{heard}");
        assert!(!heard.to_ascii_lowercase().contains("link"), "{heard}");
    }
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn hop_by_hop_headers_cookies_and_our_own_names_end_here() {
    let house = House::new().await;
    let lines = "Connection: x-gone, close, content-length\r\nConnection: X-Also\r\nX-Gone: 1\r\nX-Also: 2\r\n\
        Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nProxy-Connection: x\r\nTrailer: x-late\r\nUpgrade: h2c\r\n\
        Set-Cookie: a=b\r\nSet-Cookie2: a=b\r\nProxy-Status: consentry; error=forged\r\nConsentry-X: forged\r\n\
        X-Stays: 1\r\nContent-Length: 2\r\n";
    let heard = house.hears(bytes(&ok(lines, "ok"), Then::Close)).await;
    let (fields, _) = heard.split_once("\r\n\r\n").unwrap();
    let lower = fields.to_ascii_lowercase();
    for gone in [
        "x-gone",
        "x-also",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "trailer",
        "upgrade",
        "set-cookie",
        "forged",
    ] {
        assert!(!lower.contains(gone), "{gone}: {fields}");
    }
    assert!(lower.contains("x-stays: 1") && lower.contains("proxy-status: consentry\r\n"), "{fields}");
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_bank_repeats_in_a_header_is_dropped_with_an_alarm() {
    let mut house = House::new().await;
    let lines = "X-Echo: access-of-c-1\r\nX-Stays: 1\r\nX-Debug: Authorization=Bearer access-of-c-1; x\r\n\
        Location: https://elsewhere.example/?token=access-of-c-1\r\nContent-Length: 0\r\n";
    let heard = house.hears(bytes(&ok(lines, ""), Then::Hold)).await;
    assert!(!heard.contains("access-of-c-1"), "{heard}");
    assert!(heard.contains("x-stays: 1"), "{heard}");
    let alarm = house.sidecar.program.logged("The bank repeated the access token in a header; it was dropped.").await;
    assert_eq!((alarm["level"].as_str(), alarm["api"].as_str()), (Some("ERROR"), Some("accounts")), "{alarm}");
    assert!(!house.sidecar.program.output().contains("access-of-c-1"));
    assert!(house.sidecar.metrics().await.contains("consentry_token_echoes_total{api=\"accounts\"} 3"));
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_redirect_is_followed_and_one_that_leads_away_is_counted() {
    let house = House::new().await;
    let here = house.rogue.url("");
    let redirect = |status: u16, to: &str| {
        let answer = format!("HTTP/1.1 {status} Elsewhere\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
        bytes(&answer, Then::Hold)
    };
    let foreign = "http://evil.example/api/v1/y";
    for (status, to, told) in [
        (301, format!("{here}/api/v1/y"), "/accounts/v1/y".to_owned()),
        (302, "/api/v1/y".to_owned(), "/accounts/v1/y".to_owned()),
        (307, foreign.to_owned(), foreign.to_owned()),
        (308, "//evil.example/x".to_owned(), "//evil.example/x".to_owned()),
        (303, format!("{here}/admin"), format!("{here}/admin")),
    ] {
        let heard = house.hears(redirect(status, &to)).await;
        assert!(heard.starts_with(&format!("HTTP/1.1 {status} ")), "{heard}");
        assert!(heard.contains(&format!("\r\nlocation: {told}\r\n")), "{heard}");
        assert_eq!(house.rogue.all_requests().len(), 1, "{to}");
    }
    assert!(house.sidecar.metrics().await.contains("consentry_foreign_redirects_total{api=\"accounts\"} 3"));
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_is_passed_on_and_both_connections_end() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let house = House::new().await;
    // The bank answers as soon as it has the head: to it, a chunked body is over with its first bytes.
    house.rogue.answer_early(true);
    house.rogue.next_api_answer(bytes(
        "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno",
        Then::Close,
    ));
    let mut stream = house.connect().await;
    let request = super::post("Transfer-Encoding: chunked\r\n", "1\r\na\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    let ended = stream.read_to_end(&mut heard).await;
    assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    let heard = String::from_utf8_lossy(&heard).into_owned();
    assert!(heard.starts_with("HTTP/1.1 413 ") && heard.ends_with("\r\n\r\nno"), "{heard}");
    let gone = async || house.sidecar.metrics().await.contains("consentry_calls_in_flight 0");
    house.sidecar.until("the call is over", gone).await;
    house.ends_well();
}
