//! The connections to one API of a bank.
//!
//! Where they lead is the configuration's business alone: no redirect is followed and no proxy of the environment is
//! asked. A request that never left, because its kept-alive connection was closed just before, is sent on another
//! connection; any other failure is told, and whether to repeat is for the caller to decide. Beside this: `connect` makes
//! connections, `pool` keeps those that are open, `bank_body` holds one until an answer is through, and `fault` says what
//! went wrong.

mod bank_body;
mod connect;
mod fault;
mod pool;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{self, HeaderMap};
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response};
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::Mutex;
use tokio::time::timeout;

pub(super) use self::bank_body::BankBody;
use self::bank_body::Borrowed;
use self::connect::{Connector, Stream, speaks_http2};
use self::fault::classify;
pub(super) use self::fault::{NoConnection, UpstreamFault};
use self::pool::{Line, Pool};
use super::body::{RequestBody, Rest};
use super::settings::{Api, Limits};
use crate::http::upstream_uri::UpstreamBase;
use crate::net::tls::TlsError;
use crate::net::workers;

/// One API's connections.
#[derive(Debug)]
pub(super) struct Upstream {
    connector: Connector,
    base: UpstreamBase,
    pool: Arc<Pool>,
    /// Held while the first connection is made to an upstream that may turn out to speak HTTP/2: the others wait to share it.
    opening: Mutex<()>,
    /// Whether the upstream was seen to speak HTTP/1.1, so that nobody needs to wait for another's connection.
    speaks_http1: AtomicBool,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    connect_timeout: Duration,
    response_timeout: Duration,
}

/// Makes the request that is sent, all of it but for its authority.
pub(super) trait Make: Fn(RequestBody) -> Request<RequestBody> + Sync {}

impl<F: Fn(RequestBody) -> Request<RequestBody> + Sync> Make for F {}

/// What a connection buffers in each direction.
const BUFFER: usize = 64 * 1024;
/// Bytes of headers in an answer over HTTP/2.
const ANSWER_HEAD: u32 = 64 * 1024;
/// Finds peers that vanished without a word.
const PING_INTERVAL: Duration = Duration::from_secs(20);

impl Upstream {
    /// Prepares the connections of `api`; none is made before it is needed.
    pub(super) fn new(api: &Api, limits: &Limits) -> Result<Self, TlsError> {
        let mut http1 = http1::Builder::new();
        http1.max_buf_size(BUFFER);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_send_buf_size(BUFFER)
            .max_header_list_size(ANSWER_HEAD)
            .keep_alive_interval(PING_INTERVAL);
        Ok(Self {
            connector: Connector::new(api)?,
            base: api.upstream.clone(),
            pool: Pool::new(limits.upstream_idle_timeout),
            opening: Mutex::new(()),
            speaks_http1: AtomicBool::new(*api.upstream.scheme() == Scheme::HTTP),
            http1,
            http2,
            connect_timeout: limits.upstream_connect_timeout,
            response_timeout: limits.upstream_response_timeout,
        })
    }

    /// Sends a request and waits for the head of its answer. The time for it begins anew while the request's body still
    /// moves: an upload may take as long as it takes. `make` makes the head: once, and again where it had not left.
    pub(super) async fn send(&self, make: &impl Make, body: RequestBody) -> Result<Box<Response<Rest>>, UpstreamFault> {
        let watch = body.watch();
        let mut sending = std::pin::pin!(self.exchange(make, body));
        let mut seen = 0;
        loop {
            match timeout(self.response_timeout, &mut sending).await {
                Ok(Ok(response)) => return check(response),
                Ok(Err(fault)) => {
                    let body = watch.as_ref().and_then(|watch| watch.fault());
                    return Err(body.map_or(fault, UpstreamFault::Body));
                }
                Err(_) => match watch.as_ref().map(|watch| watch.frames()) {
                    Some(frames) if frames != seen => seen = frames,
                    Some(_) | None => return Err(UpstreamFault::Timeout),
                },
            }
        }
    }

    /// Sends a request on an open connection, or on a new one. One that was closed before anything was written on it
    /// gives the request back, and it goes on the next.
    async fn exchange(&self, make: &impl Make, mut body: RequestBody) -> Result<Box<Response<Rest>>, UpstreamFault> {
        while let Some(line) = self.pool.take() {
            match self.send_on(line, make, body).await {
                Ok(response) => return Ok(response),
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => body = unsent.into_body(),
                    None => return Err(classify(failed.error())),
                },
            }
        }
        // In a box: it is rare, and every call would be larger for it.
        let opening = Box::pin(timeout(self.connect_timeout, self.open()));
        let opened = opening.await.unwrap_or(Err(NoConnection::TimedOut));
        let line = opened.map_err(UpstreamFault::Unreachable)?;
        Box::pin(self.send_on(line, make, body)).await.map_err(|failed| classify(failed.error()))
    }

    async fn send_on(
        &self,
        line: Line,
        make: &impl Make,
        body: RequestBody,
    ) -> Result<Box<Response<Rest>>, Box<TrySendError<Request<RequestBody>>>> {
        let mut request = make(body);
        match line {
            Line::Alone(mut line) => {
                self.address(&mut request, Form::Origin);
                let response = line.try_send_request(request).await.map_err(Box::new)?;
                let line = Borrowed { line, pool: Arc::clone(&self.pool), rack: workers::current() };
                Ok(Box::new(response.map(|incoming| Rest::Coming(BankBody::new(incoming, Some(line))))))
            }
            Line::Shared(mut line) => {
                self.address(&mut request, Form::Absolute);
                let response = line.try_send_request(request).await.map_err(Box::new)?;
                Ok(Box::new(response.map(|incoming| Rest::Coming(BankBody::new(incoming, None)))))
            }
        }
    }

    /// Opens a connection, or waits for one that another call opens and that can be shared.
    async fn open(&self) -> Result<Line, NoConnection> {
        let mut first = None;
        if !self.speaks_http1.load(Ordering::Acquire) {
            first = Some(self.opening.lock().await);
            if let Some(line) = self.pool.take() {
                return Ok(line);
            }
            if self.speaks_http1.load(Ordering::Acquire) {
                first = None;
            }
        }
        let stream = self.connector.connect().await?;
        let is_http2 = speaks_http2(&stream);
        self.speaks_http1.store(!is_http2, Ordering::Release);
        let line = if is_http2 { self.share(stream).await } else { self.own(stream).await };
        drop(first);
        line.map_err(|error| match classify(&error) {
            UpstreamFault::Unreachable(reason) => reason,
            _ => NoConnection::Other,
        })
    }

    async fn own(&self, stream: Stream) -> Result<Line, hyper::Error> {
        let (mut line, connection) = self.http1.handshake(stream).await?;
        tokio::spawn(async move { note_end(connection.await) });
        // A server that refuses our certificate says so now, before anything is sent.
        line.ready().await?;
        Ok(Line::Alone(line))
    }

    async fn share(&self, stream: Stream) -> Result<Line, hyper::Error> {
        let (line, connection) = self.http2.handshake(stream).await?;
        tokio::spawn(async move { note_end(connection.await) });
        self.pool.share(line.clone());
        Ok(Line::Shared(line))
    }

    /// Names the target as the protocol has it: over HTTP/1.1 the path, with the authority in `Host` (RFC 9112 §3.2), over
    /// HTTP/2 all of it (RFC 9113 §8.3.1).
    fn address(&self, request: &mut Request<RequestBody>, form: Form) {
        match form {
            Form::Origin => {
                if request.uri().authority().is_some() {
                    *request.uri_mut() = target_of(request).into();
                }
                request.headers_mut().insert(header::HOST, self.base.host_header());
            }
            Form::Absolute => {
                *request.uri_mut() = self.base.absolute(target_of(request));
                request.headers_mut().remove(header::HOST);
            }
        }
    }
}

fn target_of<B>(request: &Request<B>) -> PathAndQuery {
    request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

/// How a request names its target.
#[derive(Clone, Copy, Debug)]
enum Form {
    Origin,
    Absolute,
}

fn note_end(ended: Result<(), hyper::Error>) {
    if let Err(cause) = ended {
        tracing::debug!(%cause, "A connection to a bank's API ended early.");
    }
}

/// Refuses heads that hyper takes and that must not be passed on.
fn check<B>(response: Box<Response<B>>) -> Result<Box<Response<B>>, UpstreamFault> {
    if response.status().is_informational() {
        return Err(UpstreamFault::Protocol("it switches protocols unasked"));
    }
    check_framing(response.headers()).map(|()| response)
}

/// An answer that is framed twice may have been made to be read in two ways (RFC 9112 §6.1), and a coding besides
/// `chunked` cannot be told to the app once `Transfer-Encoding` is stripped.
fn check_framing(headers: &HeaderMap) -> Result<(), UpstreamFault> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    if headers.contains_key(header::CONTENT_LENGTH) {
        return Err(UpstreamFault::Protocol("it is framed in two ways"));
    }
    if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(UpstreamFault::Protocol("its transfer coding is not chunked"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn framing(lines: &[(&'static str, &'static str)]) -> Result<(), UpstreamFault> {
        let line = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        check_framing(&lines.iter().map(line).collect())
    }

    #[test]
    fn an_answer_is_framed_in_one_way_that_can_be_passed_on() {
        assert_eq!(framing(&[]), Ok(()));
        assert_eq!(framing(&[("content-length", "5")]), Ok(()));
        assert_eq!(framing(&[("transfer-encoding", "Chunked")]), Ok(()));
        for lines in [
            &[("transfer-encoding", "chunked"), ("content-length", "5")][..],
            &[("transfer-encoding", "gzip, chunked")],
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "identity")],
        ] {
            assert!(matches!(framing(lines), Err(UpstreamFault::Protocol(_))), "{lines:?}");
        }
    }
}
