//! One plain HTTP call to a listener on this machine: the admin API, the proxy, or the sandbox's control.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::net::serve::Bind;

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    bytes: Bytes,
}

impl Answer {
    /// The body, or null where it is not JSON.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_default()
    }

    /// The body as text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// Nobody listens there.
    #[error("nothing listens on {0}")]
    NotRunning(Bind),
    /// Somebody does, and does not answer as expected.
    #[error("{0} does not answer as it should: {1}")]
    Failed(Bind, String),
}

/// What is asked.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    patience: Duration,
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, path: &'a str) -> Self {
        Self { method, path, headers: HeaderMap::new(), body: Bytes::new(), patience: PATIENCE }
    }

    pub(super) fn json(mut self, body: Bytes) -> Self {
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.body = body;
        self
    }

    /// Lets it take longer, or less long.
    pub(super) fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Calls, and reads all of the answer, within its time.
    pub(super) async fn send(self, bind: &Bind) -> Result<Answer, CallError> {
        let (failed, patience) = (|why: String| CallError::Failed(bind.clone(), why), self.patience);
        let exchange = async {
            let response = self.exchange(bind).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
            Ok(Answer { status, bytes: body.map_err(|error| failed(error.to_string()))?.to_bytes() })
        };
        timeout(patience, exchange).await.map_err(|_| failed(TOO_LONG.to_owned()))?
    }

    /// Calls, and gives the answer when its head is there, within its time.
    pub(super) async fn begin(self, bind: &Bind) -> Result<Response<Incoming>, CallError> {
        let late = |_| CallError::Failed(bind.clone(), TOO_LONG.to_owned());
        timeout(self.patience, self.exchange(bind)).await.map_err(late)?
    }

    async fn exchange(self, bind: &Bind) -> Result<Response<Incoming>, CallError> {
        let failed = |why: String| CallError::Failed(bind.clone(), why);
        let nobody = |_| CallError::NotRunning(bind.clone());
        match bind {
            Bind::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(nobody)?;
                self.over(stream, &address.to_string()).await.map_err(failed)
            }
            Bind::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(nobody)?;
                self.over(stream, "localhost").await.map_err(failed)
            }
        }
    }

    async fn over<T>(self, stream: T, host: &str) -> Result<Response<Incoming>, String>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let failed = |error: &dyn std::error::Error| error.to_string();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(self.method)
            .uri(self.path)
            .body(Full::new(self.body))
            .map_err(|error| failed(&error))?;
        *request.headers_mut() = self.headers;
        request.headers_mut().insert(HOST, HeaderValue::from_str(host).map_err(|error| failed(&error))?);
        sender.send_request(request).await.map_err(|error| failed(&error))
    }
}

/// How long a call takes at most unless it says otherwise.
const PATIENCE: Duration = Duration::from_secs(10);
const MOST_BYTES: usize = 16 * 1024 * 1024;
const TOO_LONG: &str = "it took too long";
