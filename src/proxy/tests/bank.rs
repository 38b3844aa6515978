//! A bank that answers by script and remembers what it saw.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::app::{find, header};
use super::within;

/// A listening bank. What it saw can be asked while it runs.
pub(super) struct Bank {
    pub(super) address: SocketAddr,
    seen: watch::Receiver<Vec<Seen>>,
    accepting: tokio::task::JoinHandle<()>,
}

/// One request as it came in.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
    /// Whether the body ended as its framing says.
    pub(super) whole: bool,
}

/// What a script says in answer to one request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Say {
    /// These bytes; the connection stays.
    Bytes(&'static str),
    /// These bytes, and the connection ends.
    Last(&'static str),
    /// Nothing, and the connection ends.
    Close,
    /// Nothing, for as long as anybody waits.
    Nothing,
}

/// One connection to the bank.
pub(super) struct Conn {
    pub(super) stream: TcpStream,
    read: Vec<u8>,
    seen: Arc<watch::Sender<Vec<Seen>>>,
}

pub(super) const OK: Say = Say::Bytes("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");

impl Bank {
    /// Answers one request after the other, over all connections, by the script; its last word is repeated.
    pub(super) async fn saying(script: &'static [Say]) -> Self {
        let next = Arc::new(Mutex::new(0));
        Self::with(move |mut conn| {
            let next = Arc::clone(&next);
            async move {
                while conn.request().await.whole {
                    let at = {
                        let mut next = next.lock().expect("no panic");
                        *next += 1;
                        (*next - 1).min(script.len() - 1)
                    };
                    match script[at] {
                        Say::Bytes(bytes) => conn.send(bytes).await,
                        Say::Last(bytes) => return conn.send(bytes).await,
                        Say::Close => return,
                        Say::Nothing => std::future::pending().await,
                    }
                }
            }
        })
        .await
    }

    /// Does on every connection what `talk` says.
    pub(super) async fn with<F, T>(talk: T) -> Self
    where
        T: Fn(Conn) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("bound");
        let (sender, seen) = watch::channel(Vec::new());
        let sender = Arc::new(sender);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("a socket");
                tokio::spawn(talk(Conn { stream, read: Vec::new(), seen: Arc::clone(&sender) }));
            }
        });
        Self { address, seen, accepting }
    }

    /// The requests so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    /// The only request so far.
    pub(super) fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.into_iter().next().expect("one")
    }

    /// Waits until what was seen fits.
    pub(super) async fn until(&self, fits: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let mut seen = self.seen.clone();
        let fitting = within(seen.wait_for(|seen| fits(seen))).await.expect("the bank runs");
        fitting.clone()
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Conn {
    /// The next request with its body, noted when it has ended, one way or the other. Empty where there is none.
    pub(super) async fn request(&mut self) -> Seen {
        let head = self.head().await;
        if head.is_empty() {
            return Seen::default();
        }
        let (body, whole) = self.body(&head).await;
        let seen = Seen { head, body, whole };
        self.note(seen.clone());
        seen
    }

    pub(super) fn note(&self, seen: Seen) {
        self.seen.send_modify(|all| all.push(seen));
    }

    pub(super) async fn head(&mut self) -> String {
        loop {
            if let Some(end) = find(&self.read, b"\r\n\r\n") {
                return String::from_utf8_lossy(&self.read.drain(..end + 4).collect::<Vec<_>>()).into_owned();
            }
            if !self.more().await {
                return String::new();
            }
        }
    }

    pub(super) async fn body(&mut self, head: &str) -> (Vec<u8>, bool) {
        let length = header(head, "content-length").map_or(0, |length| length.parse().expect("a number"));
        let chunked = header(head, "transfer-encoding").is_some();
        let ended = |read: &[u8]| {
            if chunked { read == b"0\r\n\r\n" || read.ends_with(b"\r\n0\r\n\r\n") } else { read.len() >= length }
        };
        while !ended(&self.read) {
            if !self.more().await {
                return (std::mem::take(&mut self.read), false);
            }
        }
        (std::mem::take(&mut self.read), true)
    }

    /// Reads on until these bytes have come.
    pub(super) async fn until(&mut self, wanted: &[u8]) -> bool {
        while find(&self.read, wanted).is_none() {
            if !self.more().await {
                return false;
            }
        }
        true
    }

    /// Waits until the other side closes; whether it did within ten seconds.
    pub(super) async fn closes(&mut self) -> bool {
        let closing = async { while matches!(self.stream.read_buf(&mut self.read).await, Ok(1..)) {} };
        tokio::time::timeout(Duration::from_secs(10), closing).await.is_ok()
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    async fn more(&mut self) -> bool {
        let read = tokio::time::timeout(Duration::from_secs(10), self.stream.read_buf(&mut self.read)).await;
        matches!(read, Ok(Ok(1..)))
    }
}
