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

use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::pushed::{Push, read_push};
use super::request::{build, build_push, build_revocation};
use super::response::{Body, Reading, classify, is_whole_object, read_revocation, said};
use super::settings::Registration;
use super::{NotSent, Reply, Revocation, RevocationRequest, TokenEndpoint, TokenOutcome, TokenRequest};
use crate::net::courier::{Courier, Undelivered};
use crate::net::dial::{Dialer, DialerError, NoLine, driven};
use crate::simulation::Stream;
use crate::words::bank::BankBehaviour;
use crate::words::clock::{BootInstant, Clock};
use crate::words::failure::FailureClass;
use crate::words::said::Said;

/// How much of an answer is read. Real ones are under 8 KiB.
const LONGEST_ANSWER: usize = 64 * 1024;
/// How long sent bytes may go unacknowledged. What has not arrived by then never will: a request that lingers in the
/// kernel, perhaps after its process, must be dead before anybody else may send the same refresh token.
pub const UNACKNOWLEDGED: Duration = Duration::from_secs(35);
/// How many headers an answer may have.
const MOST_HEADERS: usize = 1_000;

/// How long the answer to a revocation may take. It may be asked for again.
const REVOKING: Duration = Duration::from_secs(10);
/// How long an authorization request may take to be pushed. A customer waits for it, and may ask again.
const PUSHING: Duration = Duration::from_secs(10);

/// How long the end of the message may take once everything it has to say is there. Hanging up at once would be rude to a
/// bank that is just about to end it properly.
const LAST_WORD: Duration = Duration::from_secs(1);

/// A provider's token endpoint, reached over HTTP/1.1.
#[derive(Debug)]
pub struct HttpTokenEndpoint<C> {
    registration: Registration,
    dialer: Dialer,
    /// Where tokens are revoked, where the bank offers that.
    revocation: Option<Courier>,
    /// Where authorization requests are pushed, where they are.
    pushing: Option<Courier>,
    default_expires_in: Duration,
    trust_5xx: bool,
    clock: C,
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
    pub fn new(registration: Registration, behaviour: &BankBehaviour, clock: C) -> Result<Self, DialerError> {
        let Registration { token_endpoint, roots, reachable, .. } = &registration;
        let identity = registration.identity.as_deref();
        let dialer = Dialer::new(token_endpoint, roots, identity, *reachable, UNACKNOWLEDGED)?;
        let courier =
            |url: &Option<_>| url.as_ref().map(|url| Courier::new(url, roots, identity, *reachable)).transpose();
        let revocation = courier(&registration.revocation_endpoint)?;
        let pushing = courier(&registration.pushed_authorization_request_endpoint)?;
        let BankBehaviour { default_expires_in, trust_5xx, .. } = *behaviour;
        Ok(Self { registration, dialer, revocation, pushing, default_expires_in, trust_5xx, clock })
    }

    async fn open(&self) -> Result<Box<dyn Stream>, NotSent> {
        self.dialer.dial().await.map_err(|none| match none {
            NoLine::Unreachable(why) => NotSent::Unreachable(why),
            NoLine::Tls(why) => NotSent::Tls(why),
        })
    }

    #[cfg(test)]
    pub(super) async fn tcp(&self) -> io::Result<tokio::net::TcpStream> {
        self.dialer.tcp().await
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
        let request = match build(&self.registration, request, self.clock.wall()) {
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

    fn revokes(&self) -> bool {
        self.revocation.is_some()
    }

    async fn revoke(&self, request: &RevocationRequest<'_>) -> Revocation {
        let Some(courier) = &self.revocation else { return Revocation::Unsupported };
        let Ok(built) = build_revocation(&self.registration, request, self.clock.wall()) else {
            return Revocation::Refused { why: FailureClass::RequestImpossible, said: Said::default() };
        };
        match courier.ask(built, REVOKING).await {
            Ok(answer) => read_revocation(&answer),
            Err(Undelivered::NotSent(_)) => {
                Revocation::Refused { why: FailureClass::Unreachable, said: Said::default() }
            }
            Err(Undelivered::NoAnswer(_)) => {
                Revocation::Unknown { why: FailureClass::ConnectionLost, said: Said::default() }
            }
        }
    }

    fn takes_pushed(&self) -> bool {
        self.pushing.is_some()
    }

    async fn push(&self, form: &str) -> Push {
        let impossible = || Push::Refused { why: FailureClass::RequestImpossible, said: Said::default() };
        let Some(courier) = &self.pushing else { return impossible() };
        let Ok(built) = build_push(&self.registration, form, self.clock.wall()) else { return impossible() };
        match courier.ask(built, PUSHING).await {
            Ok(answer) => read_push(&answer),
            Err(Undelivered::NotSent(_)) => Push::Away { why: FailureClass::Unreachable },
            Err(Undelivered::NoAnswer(_)) => Push::Away { why: FailureClass::ConnectionLost },
        }
    }

    fn certificate(&self) -> Option<String> {
        self.registration.identity.as_ref().map(|identity| identity.thumbprint())
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
