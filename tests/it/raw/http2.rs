//! HTTP/2 from apps, where it is switched on: the same rules as for HTTP/1.1, and floods that end with their connection.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout};

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Fate, HEADERS, PING, Peer, REFUSED_STREAM,
    RST_STREAM, SETTINGS, fields, frame,
};
use super::{House, Seen, get};
use crate::support::rogue::Then;

type Field<'a> = (&'a [u8], &'a [u8]);

const METHOD: Field<'_> = (b":method", b"GET");
const SCHEME: Field<'_> = (b":scheme", b"http");
const PATH: Field<'_> = (b":path", b"/accounts/v1/x");
const AUTHORITY: Field<'_> = (b":authority", b"localhost");
const CONSENT: Field<'_> = (b"consent-id", b"c-1");

async fn house() -> House {
    House::changed(|replica| replica.change("proxy: {listen", "proxy: {http2: true, listen")).await
}

impl House {
    async fn peer(&self) -> Peer {
        Peer::new(self.connect().await).await
    }

    /// What becomes of these fields on a connection of their own.
    async fn fate(&self, section: &[Field<'_>]) -> Fate {
        self.peer().await.ask(1, &fields(section)).await
    }

    /// Somebody else's calls are served.
    async fn serves_others(&self) {
        for _ in 0..5 {
            let began = Instant::now();
            let heard = self.say(get("/accounts/v1/other", "Connection: close\r\n")).await;
            assert!(heard.starts_with("HTTP/1.1 200 "), "{heard}");
            assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        }
    }
}

fn ordinary<'a>(more: &[Field<'a>]) -> Vec<Field<'a>> {
    let mut all = vec![METHOD, SCHEME, PATH, AUTHORITY, CONSENT];
    all.extend_from_slice(more);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_written_anew_for_the_bank() {
    let house = house().await;
    let more: &[Field<'_>] = &[
        (b"authorization", b"Bearer evil"),
        (b"cookie", b"evil=1"),
        (b"cookie", b"more=1"),
        (b"te", b"trailers"),
        (b"x-stays", b"1"),
    ];
    assert_eq!(house.fate(&ordinary(more)).await, Fate::Answered(200));
    assert_eq!(house.fate(&[METHOD, SCHEME, PATH, CONSENT, (b"host", b"localhost")]).await, Fate::Answered(200));
    let both = ordinary(&[(b"host", b"localhost")]);
    assert_eq!(house.fate(&both).await, Fate::Answered(200));
    let seen: Vec<_> = house.rogue.all_requests().iter().map(|request| Seen::of(request)).collect();
    assert_eq!(seen[0].line, "GET /api/v1/x HTTP/1.1");
    assert_eq!(seen[0].headers, ["authorization: Bearer access-of-c-1", "via: 2 consentry", "x-stays: 1"]);
    assert_eq!(seen[1], seen[2]);
    // HTTP/1.1 is still spoken.
    house.serves_others().await;
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ambiguous_or_forbidden_is_refused() {
    let house = house().await;
    let table: &[(&[Field<'_>], u16)] = &[
        (&[METHOD, SCHEME, PATH, AUTHORITY, CONSENT, (b"host", b"evil.example")], 400),
        (&[METHOD, SCHEME, PATH, AUTHORITY, CONSENT, (b"host", b"localhost"), (b"host", b"localhost")], 400),
        (&[METHOD, SCHEME, PATH, CONSENT], 400),
        (&[METHOD, SCHEME, PATH, CONSENT, (b":authority", b"me@localhost")], 400),
        (&[METHOD, SCHEME, PATH, (b":authority", b"me@localhost"), CONSENT], 400),
        (&[METHOD, SCHEME, PATH, (b":authority", b"evil.example"), CONSENT], 400),
        (&[METHOD, (b":scheme", b"ftp"), PATH, AUTHORITY, CONSENT], 400),
        (&[(b":method", b"CONNECT"), AUTHORITY, CONSENT], 405),
        (&[(b":method", b"TRACE"), SCHEME, PATH, AUTHORITY, CONSENT], 405),
        (&[(b":method", b"OPTIONS"), SCHEME, (b":path", b"*"), AUTHORITY, CONSENT], 400),
        (&[METHOD, SCHEME, (b":path", b"/accounts/v1/../x"), AUTHORITY, CONSENT], 400),
        (&[METHOD, SCHEME, (b":path", b"/accounts/v1%2fx"), AUTHORITY, CONSENT], 400),
        (&[METHOD, SCHEME, (b":path", b"//evil.example/x"), AUTHORITY, CONSENT], 400),
        (&[METHOD, SCHEME, (b":path", b"http://evil.example/x"), AUTHORITY, CONSENT], 400),
        (&[METHOD, SCHEME, (b":path", b"accounts/v1/x"), AUTHORITY, CONSENT], 400),
        (&[METHOD, SCHEME, (b":path", b""), AUTHORITY, CONSENT], 400),
        (&[METHOD, SCHEME, PATH, AUTHORITY, CONSENT, CONSENT], 400),
        (&[METHOD, SCHEME, PATH, AUTHORITY], 400),
        (&[METHOD, SCHEME, PATH, AUTHORITY, CONSENT, (b"x", b"caf\xc3\xa9")], 400),
        (&[METHOD, SCHEME, PATH, AUTHORITY, CONSENT, (b"expect", b"200-ok")], 417),
        (&[METHOD, SCHEME, PATH, AUTHORITY, CONSENT, (b"origin", b"https://evil.example")], 400),
        // Refused by the protocol itself: the stream is reset, or the connection ends.
        (&[METHOD, SCHEME, PATH, AUTHORITY, CONSENT, (b"connection", b"x")], 400),
        (&[METHOD, SCHEME, PATH, AUTHORITY, CONSENT, (b"transfer-encoding", b"chunked")], 400),
        (&[METHOD, SCHEME, PATH, AUTHORITY, CONSENT, (b"upgrade", b"websocket")], 400),
        (&[METHOD, SCHEME, PATH, AUTHORITY, CONSENT, (b"keep-alive", b"1")], 400),
        (&[METHOD, SCHEME, PATH, AUTHORITY, CONSENT, (b"proxy-connection", b"x")], 400),
        (&[METHOD, SCHEME, PATH, AUTHORITY, CONSENT, (b"te", b"gzip")], 400),
        (&[METHOD, SCHEME, PATH, AUTHORITY, CONSENT, (b"X-Upper", b"1")], 400),
        (&[METHOD, SCHEME, PATH, AUTHORITY, CONSENT, (b"x y", b"1")], 400),
        (&[METHOD, SCHEME, PATH, AUTHORITY, CONSENT, (b"x:y", b"1")], 400),
        (&[METHOD, SCHEME, PATH, AUTHORITY, CONSENT, (b"x", b"a\r\nauthorization: Bearer evil")], 400),
        (&[METHOD, SCHEME, PATH, AUTHORITY, CONSENT, (b"x", b"a\0b")], 400),
        (&[METHOD, METHOD, SCHEME, PATH, AUTHORITY, CONSENT], 400),
        (&[SCHEME, PATH, AUTHORITY, CONSENT], 400),
        (&[METHOD, SCHEME, PATH, AUTHORITY, CONSENT, (b":path", b"/accounts/v1/y")], 400),
        (&[METHOD, SCHEME, PATH, AUTHORITY, CONSENT, (b":status", b"200")], 400),
        (&[METHOD, SCHEME, PATH, AUTHORITY, CONSENT, (b"content-length", b"5")], 400),
        (&[METHOD, SCHEME, PATH, AUTHORITY, CONSENT, (b"content-length", b"0"), (b"content-length", b"5")], 400),
    ];
    for (section, status) in table {
        let fate = house.fate(section).await;
        let refused = match fate {
            Fate::Answered(told) => told == *status,
            Fate::Reset(_) | Fate::GoAway(_) => *status == 400,
            Fate::Cut(_) | Fate::Closed => false,
        };
        let shown: Vec<_> =
            section.iter().map(|(n, v)| (String::from_utf8_lossy(n), String::from_utf8_lossy(v))).collect();
        assert!(refused, "{fate:?} instead of {status}: {shown:?}");
        assert_eq!(house.rogue.all_requests(), [""; 0], "{shown:?}");
    }
    house.serves_others().await;
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_is_told_so() {
    let house = house().await;
    let value = [b'y'; 200];
    for lines in [90, 250] {
        let section = fields(&ordinary(&vec![(&b"x-many"[..], &value[..]); lines]));
        let mut peer = house.peer().await;
        let (first, rest) = section.split_at(section.len().min(16_000));
        let mut bytes = frame(HEADERS, END_STREAM, 1, first);
        for part in rest.chunks(16_000) {
            bytes.extend(frame(CONTINUATION, 0, 1, part));
        }
        bytes.extend(frame(CONTINUATION, END_HEADERS, 1, &[]));
        peer.send(&bytes).await;
        assert_eq!(peer.fate(1).await, Fate::Answered(431), "{lines} lines");
    }
    assert_eq!(house.rogue.all_requests(), [""; 0]);
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_short_resets_its_stream_and_no_other() {
    let house = house().await;
    let mut peer = house.peer().await;
    for (nth, answer) in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nrubbish\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        house.rogue.next_api_answer((answer.as_bytes().to_vec(), Then::Close));
        let id = 1 + 4 * u32::try_from(nth).unwrap();
        let fate = peer.ask(id, &fields(&ordinary(&[]))).await;
        assert!(matches!(fate, Fate::Cut(200) | Fate::Reset(_)), "{fate:?}: {answer}");
        let other = Peer::new(house.connect().await).await.ask(1, &fields(&ordinary(&[]))).await;
        assert_eq!(other, Fate::Answered(200));
        let same = fields(&[(b":method", b"DELETE"), SCHEME, PATH, AUTHORITY]);
        // No consent is named, so that the answer is ours and its status is not one that was indexed.
        assert_eq!(peer.ask(id + 2, &same).await, Fate::Answered(400), "the connection lives on");
    }
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_keep_its_word_never_ends_at_the_bank() {
    let house = house().await;
    let head = fields(&[(b":method", b"POST"), SCHEME, PATH, AUTHORITY, CONSENT, (b"content-length", b"9")]);
    for (body, flags) in [(&b"short"[..], END_STREAM), (b"much too long", END_STREAM), (b"much too long", 0)] {
        let mut peer = house.peer().await;
        let mut bytes = frame(HEADERS, END_HEADERS, 1, &head);
        bytes.extend(frame(DATA, flags, 1, body));
        peer.send(&bytes).await;
        let fate = peer.fate(1).await;
        assert!(matches!(fate, Fate::Reset(_) | Fate::GoAway(_) | Fate::Answered(400)), "{fate:?}");
    }
    assert_eq!(house.rogue.all_requests(), [""; 0]);
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_beyond_the_limit_are_refused() {
    let house = House::changed(|replica| {
        replica.change("proxy: {listen", "proxy: {http2: true, limits: {max_streams: 2}, listen")
    })
    .await;
    for _ in 0..2 {
        house.rogue.next_api_answer((Vec::new(), Then::Hold));
    }
    let mut peer = house.peer().await;
    // The limit counts from when the peer has acknowledged it.
    assert_eq!(peer.ask(1, &fields(&[METHOD, SCHEME, PATH, AUTHORITY])).await, Fate::Answered(400));
    for id in [3, 5] {
        peer.send(&frame(HEADERS, END_STREAM | END_HEADERS, id, &fields(&ordinary(&[])))).await;
    }
    house.sidecar.until("both hang", async || house.rogue.all_requests().len() == 2).await;
    assert_eq!(peer.ask(7, &fields(&ordinary(&[]))).await, Fate::Reset(REFUSED_STREAM));
    house.serves_others().await;
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_end_with_their_connection_and_disturb_nobody() {
    let house = house().await;
    let head = fields(&ordinary(&[]));
    let whole = END_STREAM | END_HEADERS;

    let mut resets = Vec::new();
    for id in (1..8_000).step_by(2) {
        resets.extend(frame(HEADERS, whole, id, &head));
        resets.extend(frame(RST_STREAM, 0, id, &8_u32.to_be_bytes()));
    }
    let mut continuations = frame(HEADERS, END_STREAM, 1, &head);
    for _ in 0..4_000 {
        continuations.extend(frame(CONTINUATION, 0, 1, &fields(&[(b"x", b"y")])));
    }
    let mut empty = frame(HEADERS, END_HEADERS, 1, &fields(&ordinary(&[(b"x", b"y")])));
    for _ in 0..200_000 {
        empty.extend(frame(DATA, 0, 1, &[]));
    }
    for (what, flood) in [("resets", resets), ("continuations", continuations), ("empty frames", empty)] {
        let mut peer = house.peer().await;
        peer.send(&flood).await;
        let fate = peer.fate(1_000_001).await;
        assert!(matches!(fate, Fate::GoAway(ENHANCE_YOUR_CALM) | Fate::Closed), "{what}: {fate:?}");
        house.serves_others().await;
    }
    for (what, one) in [("pings", frame(PING, 0, 0, b"12345678")), ("settings", frame(SETTINGS, 0, 0, &[]))] {
        // Nobody reads the answers, so the other side stops to take more; it holds its own and nothing else.
        let mut stream = house.peer().await.stream;
        let flood = one.repeat(2_000_000 / one.len());
        let flooding = tokio::spawn(async move {
            let _ = timeout(Duration::from_secs(5), stream.write_all(&flood.repeat(20))).await;
            stream
        });
        house.serves_others().await;
        let most = house.sidecar.program.resident_kib();
        assert!(most < 96 * 1024, "{what}: {most} KiB");
        drop(flooding.await);
    }
    house.serves_others().await;
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_streams_ends_after_its_idle_time() {
    let house = House::changed(|replica| {
        replica.change("proxy: {listen", "proxy: {http2: true, limits: {idle_timeout: 1s}, listen")
    })
    .await;
    let mut peer = house.peer().await;
    assert_eq!(peer.ask(1, &fields(&ordinary(&[]))).await, Fate::Answered(200));
    assert_eq!(peer.fate(3).await, Fate::Closed);
    house.ends_well();
}
