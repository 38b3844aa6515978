//! The token endpoint over a connection of its own.
//!
//! No pool, no redirect, no retry: one TCP connection, one TLS handshake, one request, one answer. Bytes handed to the
//! connection are counted, because "nothing was written" is the one transport failure after which the refresh token is
//! certainly unspent.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::request::build;
use super::response::{Body, Reading, classify, is_whole_object, said};
use super::settings::Registration;
use super::{NotSent, Reply, TokenEndpoint, TokenOutcome, TokenRequest};
use crate::net::tls::{TlsError, client_config};
use crate::simulation::{self, Stream};
use crate::words::bank::BankBehaviour;
use crate::words::clock::{BootInstant, Clock};
use crate::words::pace::paced;

/// How much of an answer is read. Real ones are under 8 KiB.
const LONGEST_ANSWER: usize = 64 * 1024;
/// How long sent bytes may go unacknowledged. What has not arrived by then never will: a request that lingers in the
/// kernel, perhaps after its process, must be dead before anybody else may send the same refresh token.
pub const UNACKNOWLEDGED: Duration = Duration::from_secs(35);
/// How many headers an answer may have.
const MOST_HEADERS: usize = 1_000;

/// How long the end of the message may take once everything it has to say is there. Hanging up at once would be rude to a
/// bank that is just about to end it properly.
const LAST_WORD: Duration = Duration::from_secs(1);

/// A provider's token endpoint, reached over HTTP/1.1.
#[derive(Debug)]
pub struct HttpTokenEndpoint<C> {
    registration: Registration,
    host: String,
    port: u16,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    default_expires_in: Duration,
    trust_5xx: bool,
    clock: C,
}

/// Why a token endpoint cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The URL names no host that can be connected to.
    #[error("the token endpoint's URL names no usable host")]
    Host,
    /// The certificates do not make a TLS configuration.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A connection on which nothing was sent.
pub struct Connection<C> {
    io: Wire<C>,
    wrote: Arc<Wrote>,
}

type Wire<C> = Counting<Box<dyn Stream>, C>;

/// Whether anything was handed to a connection, and when the first of it had been.
#[derive(Default)]
struct Wrote {
    tried: AtomicBool,
    left_at: OnceLock<BootInstant>,
}

impl<C> fmt::Debug for Connection<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

impl<C: Clock> HttpTokenEndpoint<C> {
    /// Prepares the endpoint of `registration`, at a bank that behaves like this.
    pub fn new(registration: Registration, behaviour: &BankBehaviour, clock: C) -> Result<Self, EndpointError> {
        let endpoint = &registration.token_endpoint;
        let host = endpoint.host().ok_or(EndpointError::Host)?.trim_matches(['[', ']']).to_owned();
        let secure = endpoint.scheme_str() == Some("https");
        let port = endpoint.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tls = if secure {
            let name = ServerName::try_from(host.clone()).map_err(|_| EndpointError::Host)?;
            let config = client_config(&registration.roots, registration.identity.as_deref(), &[b"http/1.1"])?;
            Some((config, name))
        } else {
            None
        };
        let BankBehaviour { default_expires_in, trust_5xx, .. } = *behaviour;
        Ok(Self { registration, host, port, tls, default_expires_in, trust_5xx, clock })
    }

    pub(super) async fn tcp(&self) -> io::Result<TcpStream> {
        let found = self.registration.reachable.resolve(&self.host, self.port).await?;
        let tcp = TcpStream::connect(found.as_slice()).await?;
        tcp.set_nodelay(true)?;
        #[cfg(target_os = "linux")]
        rustix::net::sockopt::set_tcp_user_timeout(
            &tcp,
            u32::try_from(paced(UNACKNOWLEDGED).as_millis()).unwrap_or(u32::MAX),
        )?;
        Ok(tcp)
    }

    async fn open(&self) -> Result<Box<dyn Stream>, NotSent> {
        let unreachable = |error: io::Error| NotSent::Unreachable(error.to_string());
        if let Some(host) = simulation::current() {
            return host.dial(&self.host, self.port).await.map_err(unreachable);
        }
        let tcp = self.tcp().await.map_err(unreachable)?;
        let Some((config, name)) = &self.tls else { return Ok(Box::new(tcp)) };
        let connected = TlsConnector::from(Arc::clone(config)).connect(name.clone(), tcp).await;
        match connected {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) if is_tls(&error) => Err(NotSent::Tls(error.to_string())),
            Err(error) => Err(NotSent::Unreachable(error.to_string())),
        }
    }
}

impl<C: Clock> TokenEndpoint for HttpTokenEndpoint<C> {
    type Connection = Connection<C>;

    async fn connect(&self) -> Result<Connection<C>, NotSent> {
        let opened = timeout(self.registration.connect_timeout, self.open()).await;
        let io = opened.map_err(|_| NotSent::Unreachable("it took too long".to_owned()))??;
        let wrote = Arc::<Wrote>::default();
        Ok(Connection { io: Counting { io, wrote: Arc::clone(&wrote), clock: self.clock.clone() }, wrote })
    }

    async fn send(&self, connection: Connection<C>, request: &TokenRequest<'_>) -> Reply {
        let Connection { io, wrote } = connection;
        let request = match build(&self.registration, request) {
            Ok(request) => request,
            Err(impossible) => return TokenOutcome::NotSent(impossible).into(),
        };
        // A head is read as leniently as can be: an answer that is thrown away for one of its headers cannot be had
        // again, and nothing of the head is passed on.
        let handshake = http1::Builder::new()
            .max_buf_size(LONGEST_ANSWER)
            .max_headers(MOST_HEADERS)
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .ignore_invalid_headers_in_responses(true)
            .handshake(TokioIo::new(io));
        let (mut sender, driver) = match handshake.await {
            Ok(pair) => pair,
            Err(error) => return TokenOutcome::NotSent(NotSent::Unreachable(error.to_string())).into(),
        };
        let exchange = async {
            let response = sender.send_request(request).await?;
            let (head, mut body) = response.into_parts();
            let mut bytes = Zeroizing::new(Vec::with_capacity(4 * 1024));
            loop {
                // What a whole object says is said, whatever becomes of the connection after it.
                let whole = is_whole_object(&bytes);
                let next =
                    if whole { timeout(LAST_WORD, body.frame()).await.unwrap_or(None) } else { body.frame().await };
                let Some(frame) = next else { break };
                // What has arrived is still worth keeping when the rest does not come.
                let Ok(frame) = frame else { return Ok((head, bytes, Some("truncated_answer"))) };
                let Ok(data) = frame.into_data() else { continue };
                let fits = data.len().min(LONGEST_ANSWER - bytes.len());
                bytes.extend_from_slice(data.get(..fits).unwrap_or_default());
                if fits < data.len() {
                    return Ok((head, bytes, Some("oversized_answer")));
                }
            }
            Ok::<_, hyper::Error>((head, bytes, None))
        };
        let exchanged = driven(exchange, driver).await;
        let left_at = wrote.left_at.get().copied();
        let outcome = match exchanged {
            Ok((head, bytes, cut)) => {
                let Self { default_expires_in, trust_5xx, .. } = *self;
                let reading = Reading { default_expires_in, trust_5xx, now: self.clock.wall() };
                let outcome = classify(head.status, &head.headers, Body { bytes, cut }, reading);
                return Reply { outcome, said: said(head.status, &head.headers), left_at };
            }
            Err(error) if refused_our_certificate(&error) => TokenOutcome::Misconfigured { why: "certificate_refused" },
            Err(_) if !wrote.tried.load(Ordering::Acquire) => {
                TokenOutcome::NotSent(NotSent::Unreachable("the connection broke before the request".to_owned()))
            }
            Err(error) if error.is_parse() => TokenOutcome::Unknown { why: "not_http" },
            Err(_) => TokenOutcome::Unknown { why: "connection_lost" },
        };
        Reply { left_at, ..outcome.into() }
    }

    fn certificate(&self) -> Option<String> {
        self.registration.identity.as_ref().map(|identity| identity.thumbprint())
    }
}

/// Drives the connection and the exchange on it together, in one task, so that giving up the one gives up the other.
async fn driven<T, E: From<hyper::Error>, C: Clock>(
    exchange: impl Future<Output = Result<T, E>>,
    driver: http1::Connection<TokioIo<Wire<C>>, Full<Bytes>>,
) -> Result<T, E> {
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        // The exchange first: a connection that ends right after the answer has not lost it.
        biased;
        done = &mut exchange => done,
        ended = driver => match ended {
            Ok(()) => exchange.await,
            // The exchange's own error is the same failure told worse.
            Err(error) => match exchange.await {
                Ok(done) => Ok(done),
                Err(_) => Err(error.into()),
            },
        },
    }
}

/// In TLS 1.3 a server refuses our certificate after the handshake seems complete: the first thing read is its alert. It
/// comes before any HTTP, so the request was not processed.
fn refused_our_certificate(error: &hyper::Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(rustls::Error::AlertReceived(alert)) = cause
            .downcast_ref::<rustls::Error>()
            .or_else(|| cause.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<rustls::Error>())
        {
            use rustls::AlertDescription as Alert;
            return matches!(
                alert,
                Alert::BadCertificate
                    | Alert::UnsupportedCertificate
                    | Alert::CertificateRevoked
                    | Alert::CertificateExpired
                    | Alert::CertificateUnknown
                    | Alert::UnknownCA
                    | Alert::AccessDenied
                    | Alert::CertificateRequired
            );
        }
        source = cause.source();
    }
    false
}

/// TLS said no, as opposed to a connection that broke during the handshake.
fn is_tls(error: &io::Error) -> bool {
    error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some()
}

/// Notes whether and when anything was handed to the connection.
struct Counting<T, C> {
    io: T,
    wrote: Arc<Wrote>,
    clock: C,
}

/// Its parts are never pinned.
impl<T, C> Unpin for Counting<T, C> {}

impl<T: AsyncRead + Unpin, C: Clock> AsyncRead for Counting<T, C> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin, C: Clock> AsyncWrite for Counting<T, C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // From the first try on it is not certain that nothing has left: rustls may have taken part of it.
        self.wrote.tried.store(true, Ordering::Release);
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        // After the write, so that a process that stood still before it or in it is found out.
        if matches!(written, Poll::Ready(Ok(count)) if count > 0) {
            self.wrote.left_at.get_or_init(|| self.clock.boot());
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
