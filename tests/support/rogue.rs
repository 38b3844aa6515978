//! A bank that answers with whatever bytes it is told to: token endpoint and API over plain HTTP on one port.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What happens to a connection after its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// It is closed.
    Close,
    /// It stays open, and nothing more comes.
    Hold,
}

/// An answer, byte for byte.
pub(crate) type Answer = (Vec<u8>, Then);

pub(crate) struct Rogue {
    port: u16,
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    token: VecDeque<Answer>,
    api: VecDeque<Answer>,
    /// The head and body of every request that arrived whole, in one text.
    requests: Vec<String>,
    connections: Vec<Heard>,
    early: bool,
}

/// What came in on one connection, byte for byte.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    pub(crate) bytes: Vec<u8>,
    /// Whether the other side has ended it.
    pub(crate) ended: bool,
}

impl Rogue {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::<Mutex<Shared>>::default();
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&serving)));
            }
        });
        Self { port, shared, task }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The next token request is answered so.
    pub(crate) fn next_token_answer(&self, answer: Answer) {
        self.shared.lock().unwrap().token.push_back(answer);
    }

    /// The next call of the API is answered so.
    pub(crate) fn next_api_answer(&self, answer: Answer) {
        self.shared.lock().unwrap().api.push_back(answer);
    }

    /// Every request so far to this path.
    pub(crate) fn requests(&self, path: &str) -> Vec<String> {
        let shared = self.shared.lock().unwrap();
        shared.requests.iter().filter(|request| request.split(' ').nth(1) == Some(path)).cloned().collect()
    }

    /// Every connection so far, the first one first.
    pub(crate) fn connections(&self) -> Vec<Heard> {
        self.shared.lock().unwrap().connections.clone()
    }

    /// Whether it answers as soon as it has a head, whatever body is to come.
    pub(crate) fn answer_early(&self, early: bool) {
        self.shared.lock().unwrap().early = early;
    }

    /// Forgets what it heard.
    pub(crate) fn forget(&self) {
        let mut shared = self.shared.lock().unwrap();
        shared.requests.clear();
        // Connections that are still open go on writing into their own places.
        shared.connections.iter_mut().for_each(|heard| heard.bytes.clear());
    }

    /// Every request so far, whatever it asked for.
    pub(crate) fn all_requests(&self) -> Vec<String> {
        self.shared.lock().unwrap().requests.clone()
    }

    /// The body of every token request so far.
    pub(crate) fn token_requests(&self) -> Vec<String> {
        let body = |request: String| request.split_once("\r\n\r\n").unwrap().1.to_owned();
        self.requests("/token").into_iter().map(body).collect()
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A complete answer with a length.
pub(crate) fn answer(status: u16, body: &str) -> Vec<u8> {
    let kind = if body.starts_with('<') { "text/html" } else { "application/json" };
    let length = body.len();
    format!("HTTP/1.1 {status} Said So\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

async fn serve(mut stream: TcpStream, shared: Arc<Mutex<Shared>>) {
    let place = {
        let mut shared = shared.lock().unwrap();
        shared.connections.push(Heard::default());
        shared.connections.len() - 1
    };
    let mut read = Vec::new();
    loop {
        let mut chunk = vec![0; 65_536];
        let Ok(length @ 1..) = stream.read(&mut chunk).await else {
            shared.lock().unwrap().connections[place].ended = true;
            return;
        };
        read.extend_from_slice(&chunk[..length]);
        shared.lock().unwrap().connections[place].bytes.extend_from_slice(&chunk[..length]);
        let text = String::from_utf8_lossy(&read).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let early = shared.lock().unwrap().early;
        if !early && !is_whole(head, body) {
            continue;
        }
        read.clear();
        let (bytes, then) = {
            let mut shared = shared.lock().unwrap();
            let is_token = text.starts_with("POST /token ");
            shared.requests.push(text);
            let told = if is_token { shared.token.pop_front() } else { shared.api.pop_front() };
            told.unwrap_or_else(|| (answer(200, r#"{"said":"ok"}"#), Then::Hold))
        };
        let _ = stream.write_all(&bytes).await;
        if then == Then::Close {
            return;
        }
    }
}

/// Whether a body has ended, by its framing.
fn is_whole(head: &str, body: &str) -> bool {
    if head.lines().any(|line| line == "transfer-encoding: chunked") {
        return body == "0\r\n\r\n" || body.ends_with("\r\n0\r\n\r\n");
    }
    let wanted = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= wanted.map_or(0, |length| length.parse().unwrap())
}
