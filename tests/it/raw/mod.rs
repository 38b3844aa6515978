//! Bytes that no client library would send, over real sockets to the real binary, and what of them reaches the bank.
//!
//! The rows are those of `docs/bad-input.md`. Behind each message stands a second one: after a refusal nobody may read
//! it, and after a message that passes it must be the next that the bank gets.

// Where a message ends.
mod framing;
// Host, methods, and what a header may say.
mod heads;
// Paths, and the consent's name.
mod targets;
// What banks answer.
mod answers;
// HTTP/2, frame by frame.
mod frames;
mod http2;
// Limits, and peers that are slow.
mod limits;
// Where connections lead, and where not.
mod reach;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use std::time::Duration;

use crate::breaking::{import, no_panic};
use crate::support::bank::Bank;
use crate::support::rogue::Rogue;
use crate::support::sidecar::{Replica, Sidecar};

const HOST: &str = "Host: localhost\r\n";
const C1: &str = "Consent-ID: c-1\r\n";

/// A sidecar before a bank that writes down what it hears, with a consent `c-1`.
struct House {
    sidecar: Sidecar,
    rogue: Rogue,
    _bank: Bank,
    _replica: Replica,
}

impl House {
    async fn new() -> Self {
        Self::changed(|replica| replica).await
    }

    async fn changed(change: impl FnOnce(Replica) -> Replica) -> Self {
        let (bank, rogue) = (Bank::start().await, Rogue::start().await);
        let replica = change(Replica::embedded(&bank).before_rogue(&bank, &rogue));
        let sidecar = replica.start().await;
        import(&sidecar, "c-1", 3_600).await;
        Self { sidecar, rogue, _bank: bank, _replica: replica }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.sidecar.url("").trim_start_matches("http://")).await.unwrap()
    }

    /// Sends bytes on a connection of their own, and gives all that is answered until the other side ends it.
    async fn say(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        // A listener that has heard enough may hang up before everything is sent.
        let _ = stream.write_all(bytes.as_ref()).await;
        hear(&mut stream).await
    }

    /// Sends a message with a sound one behind it, so that it shows where the first is thought to end. What the bank heard
    /// before is forgotten.
    async fn say_with_one_behind(&self, message: &[u8]) -> String {
        self.rogue.forget();
        let behind = get("/accounts/v1/behind", "Connection: close\r\n");
        self.say([message, behind.as_bytes()].concat()).await
    }

    /// A message that is refused with this status, and of which the bank hears nothing, nor of what stands behind it.
    async fn refuses(&self, message: impl AsRef<[u8]>, status: u16) {
        let message = message.as_ref();
        let shown = String::from_utf8_lossy(message);
        let heard = self.say_with_one_behind(message).await;
        assert!(heard.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:.300}\n{heard}");
        assert_eq!(heard.matches("HTTP/1.1 ").count(), 1, "one answer, and the end: {shown:.300}\n{heard}");
        assert_eq!(self.rogue.all_requests(), [""; 0], "{shown:.300}");
        assert!(self.rogue.connections().iter().all(|heard| heard.bytes.is_empty()), "{shown:.300}");
    }

    /// A message that passes, and what stands behind it as well. Gives the answer to the first and what the bank saw of it.
    async fn passes(&self, message: impl AsRef<[u8]>) -> (String, Seen) {
        let message = message.as_ref();
        let shown = String::from_utf8_lossy(message);
        let heard = self.say_with_one_behind(message).await;
        let seen = self.rogue.all_requests();
        assert_eq!(seen.len(), 2, "{shown:.300}\n{heard}\n{seen:?}");
        assert!(seen[1].starts_with("GET /api/v1/behind HTTP/1.1\r\n"), "{shown:.300}\n{}", seen[1]);
        assert_eq!(Seen::of(&seen[1]).body, "");
        let first = heard.split("HTTP/1.1 ").nth(1).unwrap();
        assert_eq!(heard.matches("HTTP/1.1 ").count(), 2, "{shown:.300}\n{heard}");
        (format!("HTTP/1.1 {first}"), Seen::of(&seen[0]))
    }

    fn ends_well(&self) {
        no_panic(&self.sidecar);
    }
}

/// What is heard until the other side ends the connection.
async fn hear(stream: &mut TcpStream) -> String {
    let mut heard = Vec::new();
    let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut heard)).await.expect("an end within 20 seconds");
    String::from_utf8_lossy(&heard).into_owned()
}

/// A request for the consent `c-1`, with further header lines.
fn get(target: &str, more: &str) -> String {
    format!("GET {target} HTTP/1.1\r\n{HOST}{C1}{more}\r\n")
}

/// The same with a body, whose framing is among the header lines.
fn post(more: &str, body: &str) -> String {
    format!("POST /accounts/v1/x HTTP/1.1\r\n{HOST}{C1}{more}\r\n{body}")
}

/// A request as the bank saw it, without what is made anew for each.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    line: String,
    /// Every header line, in order of their names.
    headers: Vec<String>,
    body: String,
}

impl Seen {
    fn of(request: &str) -> Self {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let mut lines = head.split("\r\n").map(str::to_owned);
        let line = lines.next().unwrap();
        let ours = ["traceparent: ", "x-request-id: ", "host: 127.0.0.1:", "api-key: "];
        let mut headers: Vec<_> = lines.filter(|line| !ours.iter().any(|name| line.starts_with(name))).collect();
        headers.sort_unstable();
        Self { line, headers, body: body.to_owned() }
    }

    /// Asserts that besides what every call carries there are these header lines and no other.
    fn has(&self, more: &[&str]) {
        let mut wanted = vec!["authorization: Bearer access-of-c-1", "via: 1.1 consentry"];
        wanted.extend_from_slice(more);
        wanted.sort_unstable();
        assert_eq!(self.headers, wanted);
    }
}
