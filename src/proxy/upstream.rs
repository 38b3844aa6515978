//! The connections to one API of a bank.
//!
//! Where they lead is the configuration's business alone: no redirect is followed and no proxy of the environment is
//! asked. A request that never left, because its kept-alive connection was closed just before, is sent on another
//! connection by the pool; any other failure is told, and whether to repeat is for the caller to decide.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{self, HeaderMap};
use http::uri::Scheme;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::Service;

use super::body::{BodyFault, RequestBody};
use super::settings::{Api, Limits};
use crate::net::names::{PrivateAddress, Reachable};
use crate::net::tls::{TlsError, client_config};

/// One API's connections.
#[derive(Debug)]
pub(super) struct Upstream {
    client: Client<Connector, RequestBody>,
    response_timeout: Duration,
}

/// Why there is no answer of the bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UpstreamFault {
    /// No connection; nothing was sent.
    #[error("no connection to the bank's API: {0}")]
    Unreachable(NoConnection),
    /// The head of an answer did not come in time.
    #[error("the bank's API did not answer in time")]
    Timeout,
    /// What came is not an answer that can be passed on.
    #[error("the bank's API answered with something that is not acceptable HTTP: {0}")]
    Protocol(&'static str),
    /// The connection ended after the request was sent, or part of it, and before an answer.
    #[error("the connection to the bank's API ended before an answer came")]
    Lost,
    /// The app's own body failed, so the request was broken off.
    #[error(transparent)]
    Body(BodyFault),
}

/// Why no connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoConnection {
    /// The resolver knows no address, or did not answer.
    #[error("its name cannot be resolved")]
    Name,
    /// It leads to a private address alone, and this bank is not to be found there.
    #[error("its name leads to a private address, which is refused")]
    Private,
    /// Nobody listens there.
    #[error("the connection was refused")]
    Refused,
    /// Name resolution, TCP and TLS together took longer than allowed.
    #[error("connecting took too long")]
    TimedOut,
    /// One of the certificates, or another part of TLS, is not accepted by one of the sides.
    #[error("the TLS handshake failed")]
    Tls,
    /// Any other reason.
    #[error("connecting failed")]
    Other,
}

/// What a connection buffers in each direction.
const BUFFER: usize = 64 * 1024;
/// Bytes of headers in an answer over HTTP/2.
const ANSWER_HEAD: u32 = 64 * 1024;
/// Finds peers that vanished without a word.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
const PING_INTERVAL: Duration = Duration::from_secs(20);

impl Upstream {
    /// Prepares the connections of `api`; none is made before it is needed.
    pub(super) fn new(api: &Api, limits: &Limits) -> Result<Self, TlsError> {
        let mut http = HttpConnector::new_with_resolver(api.reachable);
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_keepalive(Some(TCP_KEEPALIVE));
        let line = if *api.upstream.scheme() == Scheme::HTTPS {
            let tls = client_config(&api.roots, api.identity.as_deref(), &[b"h2", b"http/1.1"])?;
            Line::Secure(HttpsConnector::from((http, tls)))
        } else {
            Line::Plain(http)
        };
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(limits.upstream_idle_timeout)
            .retry_canceled_requests(true)
            .http1_max_buf_size(BUFFER)
            .http2_max_send_buf_size(BUFFER)
            .http2_max_header_list_size(ANSWER_HEAD)
            .http2_keep_alive_interval(PING_INTERVAL)
            .build(Connector { line, limit: limits.upstream_connect_timeout });
        Ok(Self { client, response_timeout: limits.upstream_response_timeout })
    }

    /// Sends a request and waits for the head of its answer. The time for it begins anew while the request's body still
    /// moves: an upload may take as long as it takes.
    pub(super) async fn send(&self, request: Request<RequestBody>) -> Result<Response<Incoming>, UpstreamFault> {
        let watch = request.body().watch();
        let mut sending = self.client.request(request);
        let mut seen = 0;
        loop {
            match timeout(self.response_timeout, &mut sending).await {
                Ok(Ok(response)) => return check(response),
                Ok(Err(error)) => {
                    let body = watch.as_ref().and_then(|watch| watch.fault());
                    return Err(body.map_or_else(|| classify(&error), UpstreamFault::Body));
                }
                Err(_) => match watch.as_ref().map(|watch| watch.frames()) {
                    Some(frames) if frames != seen => seen = frames,
                    Some(_) | None => return Err(UpstreamFault::Timeout),
                },
            }
        }
    }
}

/// Refuses heads that hyper takes and that must not be passed on.
fn check(response: Response<Incoming>) -> Result<Response<Incoming>, UpstreamFault> {
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

fn classify(error: &ClientError) -> UpstreamFault {
    if let Some(reason) = find::<ConnectFault>(error) {
        return UpstreamFault::Unreachable(reason.0);
    }
    if error.is_connect() {
        return UpstreamFault::Unreachable(NoConnection::Other);
    }
    // In TLS 1.3 a server refuses our certificate after the handshake seems complete: the first thing read is its alert.
    // It comes before any HTTP, so the request was not processed.
    if find::<rustls::Error>(error).is_some_and(|error| matches!(error, rustls::Error::AlertReceived(_))) {
        return UpstreamFault::Unreachable(NoConnection::Tls);
    }
    match find::<hyper::Error>(error) {
        Some(cause) if cause.is_parse_too_large() => UpstreamFault::Protocol("its head is too large"),
        Some(cause) if cause.is_parse() => UpstreamFault::Protocol("it cannot be parsed"),
        Some(cause) if cause.is_user() => UpstreamFault::Body(BodyFault::Broken),
        Some(_) | None => UpstreamFault::Lost,
    }
}

/// The first error of this type among an error and its causes, those wrapped in an I/O error included.
fn find<'e, E: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e E> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<E>() {
            return Some(found);
        }
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    None
}

/// Makes connections, within a time that covers all of it: hyper's own limit leaves out names and TLS.
#[derive(Clone, Debug)]
struct Connector {
    line: Line,
    limit: Duration,
}

#[derive(Clone, Debug)]
enum Line {
    Plain(HttpConnector<Reachable>),
    Secure(HttpsConnector<HttpConnector<Reachable>>),
}

/// The client's word for a failed connection, found again by [`classify`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct ConnectFault(NoConnection);

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectFault;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, ConnectFault>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectFault>> {
        match &mut self.line {
            Line::Plain(http) => http.poll_ready(cx).map_err(|error| refused(&error)),
            Line::Secure(https) => https.poll_ready(cx).map_err(|error| refused(error.as_ref())),
        }
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let limit = self.limit;
        match &mut self.line {
            Line::Plain(http) => {
                let connecting = http.call(to);
                let connecting = async { connecting.await.map_err(|error| refused(&error)) };
                Box::pin(async move { within(limit, connecting).await.map(MaybeHttpsStream::Http) })
            }
            Line::Secure(https) => {
                let connecting = https.call(to);
                let connecting = async { connecting.await.map_err(|error| refused(error.as_ref())) };
                Box::pin(within(limit, connecting))
            }
        }
    }
}

async fn within<T>(
    limit: Duration,
    connecting: impl Future<Output = Result<T, ConnectFault>>,
) -> Result<T, ConnectFault> {
    timeout(limit, connecting).await.unwrap_or(Err(ConnectFault(NoConnection::TimedOut)))
}

fn refused(error: &(dyn StdError + 'static)) -> ConnectFault {
    if find::<rustls::Error>(error).is_some() {
        return ConnectFault(NoConnection::Tls);
    }
    if find::<PrivateAddress>(error).is_some() {
        return ConnectFault(NoConnection::Private);
    }
    // The connector says in words alone that it was the name.
    if error.to_string().starts_with("dns error") {
        return ConnectFault(NoConnection::Name);
    }
    ConnectFault(match find::<io::Error>(error).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => NoConnection::Refused,
        Some(io::ErrorKind::TimedOut) => NoConnection::TimedOut,
        Some(_) | None => NoConnection::Other,
    })
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

    #[test]
    fn a_cause_is_found_inside_an_io_error() {
        let error = io::Error::other(io::Error::other(ConnectFault(NoConnection::Tls)));
        assert_eq!(find::<ConnectFault>(&error).map(|fault| fault.0), Some(NoConnection::Tls));
        assert!(find::<hyper::Error>(&error).is_none());
    }
}
