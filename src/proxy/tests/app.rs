//! An app that writes bytes and shows the answer as it came.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::within;

/// One connection of an app.
pub(super) struct App {
    pub(super) stream: TcpStream,
    read: Vec<u8>,
}

/// An answer: its head as text, its body decoded.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
    /// Whether the body ended as its framing says.
    pub(super) whole: bool,
}

impl App {
    pub(super) async fn connect(to: SocketAddr) -> Self {
        Self { stream: within(TcpStream::connect(to)).await.expect("connects"), read: Vec::new() }
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within(self.stream.write_all(bytes.as_ref())).await.expect("writes");
    }

    /// Sends a request and reads the whole answer to it.
    pub(super) async fn ask(&mut self, request: impl AsRef<[u8]>) -> Reply {
        let no_body = request.as_ref().starts_with(b"HEAD ");
        self.send(request).await;
        let head = self.head().await;
        let bodiless = no_body || [" 204 ", " 304 "].iter().any(|code| head.contains(code));
        let (body, whole) = if bodiless { (Vec::new(), true) } else { self.body(&head).await };
        Reply { head, body, whole }
    }

    /// The next head, the interim ones included; empty if the connection ended first.
    pub(super) async fn head(&mut self) -> String {
        loop {
            if let Some(end) = find(&self.read, b"\r\n\r\n") {
                let head = self.read.drain(..end + 4).collect();
                return String::from_utf8(head).expect("ASCII");
            }
            if !self.more().await {
                return String::new();
            }
        }
    }

    /// Reads until at least `bytes` are there and takes them.
    pub(super) async fn take(&mut self, bytes: usize) -> Option<Vec<u8>> {
        while self.read.len() < bytes {
            if !self.more().await {
                return None;
            }
        }
        Some(self.read.drain(..bytes).collect())
    }

    /// The body of the answer with this head, and whether it ended as it should.
    pub(super) async fn body(&mut self, head: &str) -> (Vec<u8>, bool) {
        if let Some(length) = header(head, "content-length") {
            let length = length.parse().expect("a number");
            return match self.take(length).await {
                Some(body) => (body, true),
                None => (std::mem::take(&mut self.read), false),
            };
        }
        if header(head, "transfer-encoding").is_none() {
            while self.more().await {}
            return (std::mem::take(&mut self.read), true);
        }
        let mut body = Vec::new();
        loop {
            let Some(chunk) = self.chunk().await else { return (body, false) };
            if chunk.is_empty() {
                return (body, true);
            }
            body.extend(chunk);
        }
    }

    /// The next chunk of a chunked body; empty for the last, `None` where there is none.
    pub(super) async fn chunk(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = find(&self.read, b"\r\n") {
                let line: Vec<_> = self.read.drain(..end + 2).collect();
                let size = std::str::from_utf8(&line[..end]).expect("ASCII");
                let size = usize::from_str_radix(size, 16).expect("a size");
                let mut data = self.take(size + 2).await?;
                assert_eq!(data.split_off(size), b"\r\n", "nothing but the end of the chunk, and no trailer");
                return Some(data);
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Whether the other side has closed, or does so in time.
    pub(super) async fn is_closed(&mut self) -> bool {
        while self.more().await {}
        true
    }

    async fn more(&mut self) -> bool {
        matches!(within(self.stream.read_buf(&mut self.read)).await, Ok(1..))
    }
}

impl Reply {
    pub(super) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The slug of a problem of ours; the bank's answers have none.
    pub(super) fn problem(&self) -> Option<String> {
        self.header("proxy-status").filter(|line| line.contains("error="))?;
        let json = self.json();
        assert_eq!(json["status"], self.status());
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        Some(json["type"].as_str()?.rsplit('/').next()?.to_owned())
    }
}

/// The value of the first header of this name, whatever its case.
pub(super) fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    headers(head, name).into_iter().next()
}

/// The values of all headers of this name.
pub(super) fn headers<'h>(head: &'h str, name: &str) -> Vec<&'h str> {
    let lines = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
}

pub(super) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
