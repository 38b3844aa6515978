//! One question to a server and its whole answer, over a connection of its own.
//!
//! For the few things that are asked of a bank besides tokens and calls: to end a consent, and to tell of one. What the
//! answer means is for whoever asked; here it is only told apart whether the question can have arrived.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderMap, HeaderValue};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::dial::{Dialer, DialerError, NoLine, driven};
use super::names::Reachable;
use super::tls::{Identity, Roots};

/// Carries questions to one server.
#[derive(Debug)]
pub struct Courier {
    dialer: Dialer,
    authority: HeaderValue,
}

/// What a server answers. Not shown but for its size: a bank's answer is about a customer.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// All of its body.
    pub body: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({}, {} bytes)", self.status.as_u16(), self.body.len())
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// There was no connection. The server saw nothing.
    #[error("it cannot be reached: {0}")]
    NotSent(String),
    /// The question was on its way. Whether it was dealt with is not known.
    #[error("it gave no answer that can be read: {0}")]
    NoAnswer(String),
}

/// How long name resolution, TCP and TLS may take together.
const CONNECTING: Duration = Duration::from_secs(3);
/// How much of an answer is read.
const LONGEST_ANSWER: usize = 64 * 1024;
/// How long what was sent may go unacknowledged.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

impl Courier {
    /// To the server of `url`.
    pub fn new(
        url: &Uri,
        roots: &Roots,
        identity: Option<&Identity>,
        reachable: Reachable,
    ) -> Result<Self, DialerError> {
        let authority = url.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
        let authority = authority.ok_or(DialerError::Host)?;
        Ok(Self { dialer: Dialer::new(url, roots, identity, reachable, UNACKNOWLEDGED)?, authority })
    }

    /// Asks once, within `patience`. The request's target is a path; redirects are not followed.
    pub async fn ask(&self, mut request: Request<Full<Bytes>>, patience: Duration) -> Result<Answer, Undelivered> {
        request.headers_mut().insert(HOST, self.authority.clone());
        // The connection serves one request: its end is the answer's end.
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        let line = match timeout(CONNECTING.min(patience), self.dialer.dial()).await {
            Ok(Ok(line)) => line,
            Ok(Err(NoLine::Unreachable(why) | NoLine::Tls(why))) => return Err(Undelivered::NotSent(why)),
            Err(_) => return Err(Undelivered::NotSent("connecting took too long".to_owned())),
        };
        let shaken = http1::Builder::new().max_buf_size(LONGEST_ANSWER).handshake(TokioIo::new(line)).await;
        let (mut sender, driver) = shaken.map_err(|error| Undelivered::NotSent(error.to_string()))?;
        let exchange = async {
            let (head, mut body) = sender.send_request(request).await.map_err(Broken::Line)?.into_parts();
            let mut bytes = Zeroizing::new(Vec::new());
            while let Some(frame) = body.frame().await {
                let Ok(data) = frame.map_err(Broken::Line)?.into_data() else { continue };
                if bytes.len() + data.len() > LONGEST_ANSWER {
                    return Err(Broken::TooLong);
                }
                bytes.extend_from_slice(&data);
            }
            Ok(Answer { status: head.status, headers: head.headers, body: bytes })
        };
        match timeout(patience, driven(exchange, driver)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Broken::Line(error))) => Err(Undelivered::NoAnswer(error.to_string())),
            Ok(Err(Broken::TooLong)) => Err(Undelivered::NoAnswer("it is longer than is read".to_owned())),
            Err(_) => Err(Undelivered::NoAnswer("it took too long".to_owned())),
        }
    }
}

enum Broken {
    Line(hyper::Error),
    TooLong,
}

impl From<hyper::Error> for Broken {
    fn from(error: hyper::Error) -> Self {
        Self::Line(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// Asks a server that says this and hangs up.
    async fn ask(says: &'static str) -> (Result<Answer, Undelivered>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let url: Uri = format!("http://{}/", listener.local_addr().expect("bound")).parse().expect("a URL");
        let courier = Courier::new(&url, &Roots::System, None, Reachable::Everything).expect("usable");
        let server = async {
            let (mut stream, _) = listener.accept().await.expect("accepts");
            let mut heard = vec![0; 4_096];
            let read = stream.read(&mut heard).await.expect("reads");
            stream.write_all(says.as_bytes()).await.expect("writes");
            String::from_utf8_lossy(&heard[..read]).into_owned()
        };
        let request = Request::get("/v1/x?y=1").body(Full::default()).expect("a request");
        tokio::join!(courier.ask(request, Duration::from_secs(5)), server)
    }

    #[tokio::test]
    async fn a_whole_answer_comes_back_and_the_question_names_the_server() {
        let (answer, heard) = ask("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nX-Y: z\r\n\r\nno").await;
        let answer = answer.expect("it answers");
        assert_eq!((answer.status, answer.body.as_slice()), (StatusCode::NOT_FOUND, b"no".as_slice()));
        assert_eq!(answer.headers["x-y"], "z");
        assert_eq!(format!("{answer:?}"), "Answer(404, 2 bytes)");
        assert!(heard.starts_with("GET /v1/x?y=1 HTTP/1.1\r\n") && heard.contains("host: 127.0.0.1:"), "{heard}");
    }

    #[tokio::test]
    async fn what_breaks_off_is_no_answer_and_what_cannot_be_reached_saw_nothing() {
        for says in ["", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "no HTTP\r\n\r\n"] {
            let (answer, _) = ask(says).await;
            assert!(matches!(answer, Err(Undelivered::NoAnswer(_))), "{says:?}: {answer:?}");
        }
        let free = TcpListener::bind("127.0.0.1:0").await.expect("binds").local_addr().expect("bound");
        let url: Uri = format!("http://{free}/").parse().expect("a URL");
        let courier = Courier::new(&url, &Roots::System, None, Reachable::Everything).expect("usable");
        let request = Request::get("/").body(Full::default()).expect("a request");
        let answer = courier.ask(request, Duration::from_secs(5)).await;
        assert!(matches!(answer, Err(Undelivered::NotSent(_))), "{answer:?}");
    }
}
