//! The bank of the suite: a token endpoint that rotates and takes a spent refresh token for a theft, and an API that looks
//! at every token it is shown. It does to an answer what a fault says, and remembers everything.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;

use crate::support::authority::Authority;

/// Every token begins so, whichever it is.
pub(crate) const TOKENS: &str = "suite-token-";
/// Longer than a call is on its way from the look at its token to here, even on a busy machine.
const UNDER_WAY: Duration = Duration::from_millis(2_500);

/// What happens to a token request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It is processed only after so long, if its sender is still there.
    ThinksBefore(Duration),
    /// It is processed, and answered after so long.
    ThinksAfter(Duration),
    /// It is not processed; these bytes are the answer, and the connection ends.
    Instead(Vec<u8>),
    /// It is not processed, and the connection is reset.
    Unread,
    /// It is processed, and the connection is reset.
    Lost,
    /// It is processed without a new refresh token.
    KeepsRefresh,
}

/// How a token request ended at the bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With new tokens.
    Granted,
    /// With new tokens for a spent one, within its grace.
    InGrace,
    /// A spent refresh token was presented.
    Reused,
    /// It was refused: unknown, or its consent is over.
    Refused,
    /// A fault kept it from being processed.
    NotProcessed,
}

/// What the API was shown wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Another consent's token.
    Wrong,
    /// One that had expired before it can have been on its way.
    Expired,
}

/// A token set as the bank grants it.
pub(crate) struct Granted {
    pub(crate) access: String,
    pub(crate) refresh: String,
}

pub(crate) struct Bank {
    port: u16,
    scheme: &'static str,
    pub(crate) ca_pem: String,
    books: Arc<Mutex<Books>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Books {
    consents: HashMap<String, Consent>,
    access: HashMap<String, (String, Instant)>,
    faults: VecDeque<Fault>,
    every: Option<Fault>,
    life: Duration,
    grace: Duration,
    made: u64,
    asked: Vec<(String, Ended)>,
    arrived: usize,
    shown: Vec<Shown>,
}

#[derive(Default)]
struct Consent {
    refresh: String,
    spent: HashMap<String, Instant>,
    dead: bool,
    rotations: u64,
}

impl Bank {
    /// Issues access tokens that live for `life`, and takes spent refresh tokens for `grace`.
    pub(crate) async fn start(tls: bool, life: Duration, grace: Duration) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let authority = Authority::new();
        let acceptor = tls.then(|| acceptor(&authority));
        let books = Arc::new(Mutex::new(Books { life, grace, ..Books::default() }));
        let serving = Arc::clone(&books);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (books, acceptor) = (Arc::clone(&serving), acceptor.clone());
                tokio::spawn(async move {
                    let reset = match acceptor {
                        None => serve(stream, &books).await,
                        Some(acceptor) => match acceptor.accept(stream).await {
                            Ok(stream) => serve(stream, &books).await,
                            Err(_) => None,
                        },
                    };
                    if let Some(stream) = reset {
                        let _ = stream.socket().set_zero_linger();
                    }
                });
            }
        });
        Self { port, scheme: if tls { "https" } else { "http" }, ca_pem: authority.pem, books, task }
    }

    pub(crate) fn token_endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}/token", self.scheme, self.port)
    }

    pub(crate) fn api(&self) -> String {
        format!("{}://127.0.0.1:{}/api", self.scheme, self.port)
    }

    /// Grants a consent whose access token lives for `life`.
    pub(crate) fn grant(&self, consent: &str, life: Duration) -> Granted {
        let mut books = self.books();
        let (access, refresh) = (books.make("access"), books.make("refresh"));
        books.access.insert(access.clone(), (consent.to_owned(), Instant::now() + life));
        books.consents.insert(consent.to_owned(), Consent { refresh: refresh.clone(), ..Consent::default() });
        Granted { access, refresh }
    }

    /// What happens to the next token request.
    pub(crate) fn next(&self, fault: Fault) {
        self.books().faults.push_back(fault);
    }

    /// What happens to every token request that no other fault is for.
    pub(crate) fn every(&self, fault: Option<Fault>) {
        self.books().every = fault;
    }

    /// Token requests that have arrived.
    pub(crate) fn arrived(&self) -> usize {
        self.books().arrived
    }

    /// How often any consent's request ended so.
    pub(crate) fn count(&self, ended: Ended) -> usize {
        self.books().asked.iter().filter(|asked| asked.1 == ended).count()
    }

    /// How often a consent's access token was replaced.
    pub(crate) fn rotations(&self, consent: &str) -> u64 {
        self.books().consents[consent].rotations
    }

    /// What the API was shown that it should not have been.
    pub(crate) fn shown(&self) -> Vec<Shown> {
        self.books().shown.clone()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn acceptor(authority: &Authority) -> TlsAcceptor {
    let (certificate, key) = authority.issue("127.0.0.1");
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap()))
}

impl Books {
    fn make(&mut self, kind: &str) -> String {
        self.made += 1;
        format!("{TOKENS}{kind}-{:08}-{:016x}", self.made, rand())
    }

    /// Processes a refresh; `None`: it is refused. `rotate`: the answer has a new refresh token. The new access token's
    /// life begins with the answer, which comes after `thinking`.
    fn refresh(&mut self, presented: &str, rotate: bool, thinking: Duration) -> Option<Value> {
        let found = self.consents.iter().find(|(_, it)| it.refresh == presented || it.spent.contains_key(presented));
        let Some(id) = found.map(|(id, _)| id.clone()) else {
            self.asked.push((String::new(), Ended::Refused));
            return None;
        };
        let (access, refresh) = (self.make("access"), self.make("refresh"));
        let (grace, life) = (self.grace, self.life);
        let consent = self.consents.get_mut(&id)?;
        let in_grace = consent.spent.get(presented).map(|since| since.elapsed() < grace);
        let ended = match in_grace {
            _ if consent.dead => Ended::Refused,
            Some(false) => Ended::Reused,
            Some(true) => Ended::InGrace,
            None => Ended::Granted,
        };
        self.asked.push((id.clone(), ended));
        if matches!(ended, Ended::Reused | Ended::Refused) {
            consent.dead = true;
            return None;
        }
        let mut answer = json!({ "access_token": access, "token_type": "Bearer", "expires_in": life.as_secs() });
        if rotate {
            let spent = std::mem::replace(&mut consent.refresh, refresh.clone());
            consent.spent.entry(spent).or_insert_with(Instant::now);
            answer["refresh_token"] = json!(refresh);
        }
        consent.rotations += 1;
        self.access.insert(access, (id, Instant::now() + thinking + life));
        Some(answer)
    }

    /// Whether this token may see this consent's data.
    fn look(&mut self, token: Option<&str>, consent: &str) -> bool {
        let Some((owner, until)) = token.and_then(|token| self.access.get(token)) else { return false };
        let late = Instant::now().saturating_duration_since(*until);
        if owner != consent {
            self.shown.push(Shown::Wrong);
            return false;
        }
        if late > UNDER_WAY {
            self.shown.push(Shown::Expired);
        }
        late.is_zero() && !self.consents[consent].dead
    }
}

/// A stream whose TCP connection can be reset.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {
    fn socket(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Stream for tokio_rustls::server::TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// A request, as far as the bank wants to know it.
struct Request {
    target: String,
    headers: HashMap<String, String>,
    body: String,
}

/// Serves a connection to its end. A stream that is given back is to be reset.
async fn serve<S: Stream + 'static>(mut stream: S, books: &Mutex<Books>) -> Option<Box<dyn Stream>> {
    let mut read = Vec::new();
    while let Some(request) = next_request(&mut stream, &mut read).await {
        if request.target != "/token" {
            let answer = api(&request, books);
            stream.write_all(&answer).await.ok()?;
            continue;
        }
        let fault = {
            let mut books = books.lock().unwrap();
            books.arrived += 1;
            books.faults.pop_front().or_else(|| books.every.clone())
        };
        let presented = form_value(&request.body, "refresh_token").unwrap_or_default();
        let process = |rotate, thinking| {
            let answer = books.lock().unwrap().refresh(&presented, rotate, thinking);
            answer.map_or_else(|| answer_of(400, r#"{"error":"invalid_grant"}"#), |it| answer_of(200, &it.to_string()))
        };
        let passed_over = || {
            let mut books = books.lock().unwrap();
            let found =
                books.consents.iter().find(|(_, it)| it.refresh == presented || it.spent.contains_key(&presented));
            let id = found.map(|(id, _)| id.clone()).unwrap_or_default();
            books.asked.push((id, Ended::NotProcessed));
        };
        let bytes = match fault {
            None => process(true, Duration::ZERO),
            Some(Fault::KeepsRefresh) => process(false, Duration::ZERO),
            Some(Fault::ThinksAfter(time)) => {
                let answer = process(true, time);
                sleep(time).await;
                answer
            }
            Some(Fault::ThinksBefore(time)) => {
                let mut more = [0; 1];
                tokio::select! {
                    () = sleep(time) => process(true, Duration::ZERO),
                    _ = stream.read(&mut more) => {
                        passed_over();
                        return None;
                    }
                }
            }
            Some(Fault::Instead(bytes)) => {
                passed_over();
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                return None;
            }
            Some(Fault::Unread) => {
                passed_over();
                return Some(Box::new(stream));
            }
            Some(Fault::Lost) => {
                process(true, Duration::ZERO);
                return Some(Box::new(stream));
            }
        };
        stream.write_all(&bytes).await.ok()?;
    }
    None
}

fn api(request: &Request, books: &Mutex<Books>) -> Vec<u8> {
    let Some(consent) = request.target.strip_prefix("/api/consents/") else { return answer_of(404, "{}") };
    let token = request.headers.get("authorization").and_then(|value| value.strip_prefix("Bearer "));
    if books.lock().unwrap().look(token, consent) {
        answer_of(200, &json!({ "served": consent }).to_string())
    } else {
        answer_of(401, r#"{"error":"invalid_token"}"#)
    }
}

async fn next_request<S: Stream>(stream: &mut S, read: &mut Vec<u8>) -> Option<Request> {
    loop {
        let text = String::from_utf8_lossy(read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let mut lines = head.lines();
            let target = lines.next()?.split(' ').nth(1)?.to_owned();
            let headers: HashMap<_, _> = lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect();
            let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            if body.len() >= length {
                let body = body[..length].to_owned();
                read.drain(..head.len() + 4 + length);
                return Some(Request { target, headers, body });
            }
        }
        let mut chunk = vec![0; 16_384];
        let Ok(length @ 1..) = stream.read(&mut chunk).await else { return None };
        read.extend_from_slice(&chunk[..length]);
    }
}

/// A value of a form. Tokens of this bank need no encoding.
fn form_value(body: &str, name: &str) -> Option<String> {
    body.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
}

/// A whole answer.
pub(crate) fn answer_of(status: u16, body: &str) -> Vec<u8> {
    let kind = if body.starts_with('<') { "text/html" } else { "application/json" };
    let mut head = format!("HTTP/1.1 {status} So\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
    if status == 401 {
        let _ = write!(head, "WWW-Authenticate: Bearer error=\"invalid_token\"\r\n");
    }
    format!("{head}\r\n{body}").into_bytes()
}

/// A number that differs from one run to the next.
fn rand() -> u64 {
    RandomState::new().hash_one(0)
}
