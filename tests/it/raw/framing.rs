//! Where a message ends must not be a question: what could be read in two ways is refused, and whatever passes is framed
//! anew, in one way.

use tokio::io::AsyncWriteExt as _;

use super::{C1, HOST, House, get, hear, post};

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn both_framings_are_read_as_chunks_and_nothing_is_read_behind_them() {
    let house = House::new().await;
    for both in [format!("Content-Length: 5\r\n{CHUNKED}"), format!("{CHUNKED}Content-Length: 5\r\n")] {
        house.rogue.forget();
        let hidden = get("/accounts/v1/behind", "");
        let heard = house.say(post(&both, &format!("3\r\nabc\r\n0\r\n\r\n{hidden}"))).await;
        assert_eq!(heard.matches("HTTP/1.1 ").count(), 1, "{heard}");
        let seen = house.rogue.all_requests();
        assert!(seen.len() <= 1, "{seen:?}");
        for request in &seen {
            assert!(!request.contains("content-length"), "{request}");
            assert!(request.ends_with("\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), "{request}");
        }
    }
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_is_one_decimal_number() {
    let house = House::new().await;
    for length in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5_0\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: five\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length : 5\r\n",
        " Content-Length: 5\r\n",
        "Content-Length\t: 5\r\n",
    ] {
        house.refuses(post(length, "abcde"), 400).await;
    }
    let (_, seen) = house.passes(post("Content-Length: 5\r\nContent-Length: 5\r\n", "abcde")).await;
    seen.has(&["content-length: 5"]);
    assert_eq!(seen.body, "abcde");
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_transfer_coding_is_one_chunked() {
    let house = House::new().await;
    let body = "3\r\nabc\r\n0\r\n\r\n";
    for (coding, status) in [
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Transfer-Encoding: chunked, chunked\r\n", 400),
        ("Transfer-Encoding: identity, chunked\r\n", 501),
        ("Transfer-Encoding: gzip, chunked\r\n", 501),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", 501),
        ("Transfer-Encoding: chunked, gzip\r\n", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", 400),
        ("Transfer-Encoding: xchunked\r\n", 400),
        ("Transfer-Encoding: chunkedx\r\n", 400),
        ("Transfer-Encoding: chunked;q=1\r\n", 400),
        ("Transfer-Encoding: \"chunked\"\r\n", 400),
        ("Transfer-Encoding: \x0bchunked\r\n", 400),
        ("Transfer-Encoding:\r\n", 400),
        ("Transfer-Encoding : chunked\r\n", 400),
        ("Transfer-Encoding: chun\r\n ked\r\n", 400),
    ] {
        house.refuses(post(coding, body), status).await;
    }
    house.refuses(post(CHUNKED, body).replacen("HTTP/1.1", "HTTP/1.0", 1), 400).await;
    let (_, seen) = house.passes(post("transfer-encoding: CHUNKED\r\n", body)).await;
    seen.has(&["transfer-encoding: chunked"]);
    assert_eq!(seen.body, body);
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_may_have_a_body_and_it_is_framed_anew() {
    let house = House::new().await;
    let request = post(CHUNKED, "3\r\nabc\r\n0\r\n\r\n").replacen("POST", "GET", 1);
    let (_, seen) = house.passes(request).await;
    assert_eq!(seen.body, "3\r\nabc\r\n0\r\n\r\n");
    seen.has(&["transfer-encoding: chunked"]);
    let (_, seen) = house.passes(get("/accounts/v1/x", "Content-Length: 3\r\n") + "abc").await;
    seen.has(&["content-length: 3"]);
    assert_eq!(seen.body, "abc");
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_are_read_strictly_and_a_broken_one_never_ends_the_bank_s() {
    let house = House::new().await;
    for broken in [
        "0x3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "1_0\r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "3;a\rb\r\nabc\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        "g\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\n\r\n",
    ] {
        house.rogue.forget();
        let heard = house.say(post(CHUNKED, broken) + &get("/accounts/v1/behind", "")).await;
        assert_eq!(heard.matches("HTTP/1.1 ").count(), 1, "{broken:?}\n{heard}");
        assert!(heard.starts_with("HTTP/1.1 400 "), "{broken:?}\n{heard}");
        house.rogue_never_heard_an_end(broken).await;
    }
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn chunk_extensions_and_trailers_end_here() {
    let house = House::new().await;
    for (sent, seen_by_the_bank) in [
        ("3;name=value\r\nabc\r\n0\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n"),
        ("3 \r\nabc\r\n0\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n"),
        ("0003\r\nabc\r\n000\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n"),
        ("3\r\nabc\r\n0\r\nAuthorization: Bearer evil\r\nContent-Length: 5\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n"),
        ("0\r\n\r\n", "0\r\n\r\n"),
    ] {
        let (_, seen) = house.passes(post(&format!("{CHUNKED}Trailer: authorization\r\n"), sent)).await;
        assert_eq!(seen.body, seen_by_the_bank, "{sent:?}");
        seen.has(&["transfer-encoding: chunked"]);
    }
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_read_strictly_and_written_anew() {
    let house = House::new().await;
    let ok = get("/accounts/v1/x", "");
    for head in [
        get("/accounts/v1/x", "X: a\r\n b\r\n"),
        get("/accounts/v1/x", "X: a\r\n\tb\r\n"),
        get("/accounts/v1/x", "X: a\rb\r\n"),
        get("/accounts/v1/x", "X: a\0b\r\n"),
        get("/accounts/v1/x", "X: a\x01b\r\n"),
        get("/accounts/v1/x", "X: a\x7fb\r\n"),
        get("/accounts/v1/x", "X : a\r\n"),
        get("/accounts/v1/x", ": a\r\n"),
        get("/accounts/v1/x", "no colon\r\n"),
        get("/accounts/v1/x", "X\0: a\r\n"),
        get("/accounts/v1/x", "X(: a\r\n"),
        get("/accounts/v1/x", "X\u{e9}: a\r\n"),
        get("/accounts/v1/x", "X: \u{e9}\r\n"),
        ok.replacen("\r\nHost", "\r\n Host", 1),
        ok.replacen("GET /", "GET\t/", 1),
        ok.replacen("GET /", "GET  /", 1),
        ok.replacen(" HTTP/1.1", "  HTTP/1.1", 1),
        ok.replacen("GET ", " GET ", 1),
        ok.replacen(" HTTP/1.1", "", 1),
        ok.replacen("HTTP/1.1", "HTTP/1.2", 1),
        ok.replacen("HTTP/1.1", "HTTP/0.9", 1),
        ok.replacen("HTTP/1.1", "HTTP/2.0", 1),
        ok.replacen("HTTP/1.1", "http/1.1", 1),
        ok.replacen("HTTP/1.1", "HTTP/1.1\0", 1),
        "\x16\x03\x01\x02\0\x01\0\x01\u{7f}\x03\x03\r\n\r\n".to_owned(),
    ] {
        house.refuses(head, 400).await;
    }
    // HTTP/2 is off: its preface is understood, and nobody answers.
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    assert_eq!(house.say(preface.to_owned() + &get("/accounts/v1/behind", "")).await, "");
    assert_eq!(house.rogue.all_requests(), [""; 0]);
    // A line may end with LF alone (RFC 9112 §2.2), and one empty line may come before a request: what goes on does not.
    for head in [ok.replace("\r\n", "\n"), format!("\r\n{ok}"), format!("\n{ok}")] {
        let (_, seen) = house.passes(head).await;
        seen.has(&[]);
        let heard = house.rogue.connections();
        let bytes: Vec<u8> = heard.iter().flat_map(|heard| heard.bytes.clone()).collect();
        let bare = bytes.windows(2).any(|pair| pair[1] == b'\n' && pair[0] != b'\r');
        assert!(!bare, "{}", String::from_utf8_lossy(&bytes));
    }
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_never_ends_at_the_bank() {
    let house = House::new().await;
    let mut stream = house.connect().await;
    stream.write_all(post(CHUNKED, "3\r\nabc\r\n").as_bytes()).await.unwrap();
    let arrived = async || house.rogue.connections().iter().any(|heard| heard.bytes.ends_with(b"3\r\nabc\r\n"));
    house.sidecar.until("the bank has the first chunk", arrived).await;
    drop(stream);
    house.rogue_never_heard_an_end("hung up").await;
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_of_http_1_0_gets_no_chunks_and_the_connection_ends() {
    let house = House::new().await;
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    house.rogue.next_api_answer((chunked.into(), crate::support::rogue::Then::Hold));
    let mut stream = house.connect().await;
    let request = format!("GET /accounts/v1/x HTTP/1.0\r\n{HOST}{C1}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let heard = hear(&mut stream).await;
    assert!(heard.starts_with("HTTP/1.0 200 ") && heard.ends_with("\r\n\r\nok"), "{heard}");
    assert!(!heard.to_ascii_lowercase().contains("transfer-encoding"), "{heard}");
    house.refuses(format!("GET /accounts/v1/x HTTP/1.0\r\n{C1}\r\n").replace("/1.0", "/1.1"), 400).await;
    house.ends_well();
}

impl House {
    /// Whatever reached the bank is ended without the chunk that would make it whole.
    async fn rogue_never_heard_an_end(&self, what: &str) {
        let ended = async || self.rogue.connections().iter().all(|heard| heard.bytes.is_empty() || heard.ended);
        self.sidecar.until("the call at the bank is broken off", ended).await;
        assert_eq!(self.rogue.all_requests(), [""; 0], "{what:?}");
        for heard in self.rogue.connections() {
            assert!(!heard.bytes.ends_with(b"0\r\n\r\n"), "{what:?}: {}", String::from_utf8_lossy(&heard.bytes));
        }
    }
}
