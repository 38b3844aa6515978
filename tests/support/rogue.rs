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
    let mut read = Vec::new();
    loop {
        let mut chunk = vec![0; 65_536];
        let Ok(length @ 1..) = stream.read(&mut chunk).await else { return };
        read.extend_from_slice(&chunk[..length]);
        let text = String::from_utf8_lossy(&read).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let wanted = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() < wanted.map_or(0, |length| length.parse().unwrap()) {
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
