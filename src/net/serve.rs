//! Accepts connections and speaks HTTP on them, within limits.
//!
//! Read [`serve`] first: it is the accept loop. One task per connection finds out who is at the other end and which
//! protocol it speaks, and drives it until it ends or the process does. HTTP/2 is off unless asked for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::bind::{Accepted, Accepting};
use super::callers::Room;
use super::head_timer::{HeadTimer, Heard};
use super::impatient::Impatient;
use super::preface;
use super::shutdown::Shutdown;
use super::streams::Streams;
use super::tls::thumbprint;

pub use super::application::{Application, Unhurried, unhurried};
pub use super::bind::{Bind, BindError, Listener, Peer, PeerAddress};

/// The limits of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeSettings {
    /// Connections served at once; further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// Connections of one caller (an address, or a user on a unix socket); further ones are closed. `None` lets one
    /// caller have them all.
    pub max_connections_per_caller: Option<usize>,
    /// How long a request's head may take from its first byte on.
    pub header_read_timeout: Duration,
    /// How long a connection may say nothing between requests, and before the first.
    pub idle_timeout: Duration,
    /// How long a peer may take nothing of what it is sent, before its connection is ended.
    pub write_stall_timeout: Duration,
    /// Header fields in a request's head; more are answered with 431.
    pub max_headers: usize,
    /// Bytes in a request's head; more are answered with 431.
    pub max_head_bytes: usize,
    /// Bytes that a connection buffers in each direction; at least 8 KiB.
    pub max_buffer_bytes: usize,
    /// Whether HTTP/2 is spoken: over TLS by ALPN (the TLS configuration must offer `h2`), in clear text with prior
    /// knowledge.
    pub http2: bool,
    /// Requests at once on one HTTP/2 connection.
    pub max_streams: u32,
    /// How long a TLS handshake may take.
    pub tls_handshake_timeout: Duration,
    /// Whether requests carry a [`Peer`] among their extensions, for services that ask who is at the other end.
    pub tells_peer: bool,
}

impl Default for ServeSettings {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_connections_per_caller: None,
            header_read_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(120),
            write_stall_timeout: Duration::from_secs(30),
            max_headers: 64,
            max_head_bytes: 16 * 1024,
            max_buffer_bytes: 64 * 1024,
            http2: false,
            max_streams: 64,
            tls_handshake_timeout: Duration::from_secs(10),
            tells_peer: true,
        }
    }
}

/// Serves connections until the soft shutdown, then lets the requests under way finish, and returns when every
/// connection has ended; at the hard shutdown those left are dropped. With `tls` every connection begins with a
/// handshake. A listener may be served on several threads at once, and the
/// first one's limits on connections hold for all of them together.
///
/// The service's future is dropped when its connection breaks: work that must finish belongs into a task of its own.
pub async fn serve<S: Application>(
    listener: Arc<Listener>,
    tls: Option<Arc<ServerConfig>>,
    settings: &ServeSettings,
    service: S,
    shutdown: Shutdown,
) {
    let connections = TaskTracker::new();
    let room = || Room::new(settings.max_connections, settings.max_connections_per_caller);
    let Room { slots, callers } = listener.room.get_or_init(room).clone();
    let protocols = Protocols::new(settings, tls, &shutdown, &connections);
    let Some(accepting) = accepting(&listener, &shutdown).await else { return };
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.soft() => break,
            slot = Arc::clone(&slots).acquire_owned() => match slot {
                Ok(slot) => (slot, tokio::select! {
                    biased;
                    () = shutdown.soft() => break,
                    accepted = accepting.accept() => accepted,
                }),
                Err(_) => break, // The semaphore is never closed.
            },
        };
        let (slot, accepted) = match accepted {
            (slot, Ok(accepted)) => (slot, accepted),
            (_, Err(error)) if is_the_connections_own(&error) => continue,
            (_, Err(error)) => {
                // Out of descriptors or memory, usually. Trying again at once would only burn a core.
                if pause(&listener, &error, &shutdown).await {
                    continue;
                }
                break;
            }
        };
        let place = callers.as_ref().map(|callers| callers.place(accepted.peer()));
        if matches!(place, Some(None)) {
            tracing::debug!(listener = %listener.local(), "a caller has as many connections as it may");
            continue;
        }
        let connection = protocols.clone().connection(accepted, service.clone());
        let hard = shutdown.clone();
        connections.spawn(async move {
            tokio::select! {
                biased;
                () = hard.hard() => {}
                ended = connection => if let Err(cause) = ended {
                    tracing::debug!(%cause, "a connection ended early");
                },
            }
            drop((slot, place));
        });
    }
    drop((accepting, listener));
    connections.close();
    connections.wait().await;
}

/// This runtime's end of the listener; `None` at the soft shutdown.
async fn accepting(listener: &Listener, shutdown: &Shutdown) -> Option<Accepting> {
    loop {
        match listener.accepting() {
            Ok(accepting) => return Some(accepting),
            Err(error) if !pause(listener, &error, shutdown).await => return None,
            Err(_) => {}
        }
    }
}

/// Waits a little after a failure of the listener. False at the soft shutdown.
async fn pause(listener: &Listener, error: &io::Error, shutdown: &Shutdown) -> bool {
    tracing::warn!(listener = %listener.local(), %error, "a connection could not be accepted");
    tokio::select! {
        () = shutdown.soft() => false,
        () = tokio::time::sleep(ACCEPT_BACKOFF) => true,
    }
}

const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// The one connection failed before it was accepted; the listener is fine.
fn is_the_connections_own(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::InvalidInput // TCP_NODELAY on a connection that is already gone
            | io::ErrorKind::Interrupted
    )
}

/// Why a connection ended before its peer or we wanted it to.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
    #[error("the TLS handshake took too long")]
    HandshakeTimeout,
    #[error("the connection broke before its first request: {0}")]
    Preface(io::Error),
    #[error("no request came in time")]
    PrefaceTimeout,
    #[error("HTTP/2 was negotiated but is not served here")]
    Http2Off,
    #[error("HTTP failed: {0}")]
    Http(hyper::Error),
}

/// How every connection of a listener is spoken to.
#[derive(Clone)]
struct Protocols {
    tls: Option<TlsAcceptor>,
    http1: http1::Builder,
    http2: bool,
    settings: Arc<ServeSettings>,
    tracker: TaskTracker,
    shutdown: Shutdown,
}

/// Drives a connection of hyper's to its end, and has it take nothing more on once there is `enough`. Its two kinds share no
/// trait.
macro_rules! drive {
    ($connection:expr, $enough:expr) => {{
        let mut connection = std::pin::pin!($connection);
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = $enough => {
                connection.as_mut().graceful_shutdown();
                connection.as_mut().await
            }
        };
        ended.map_err(Ended::Http)
    }};
}

impl Protocols {
    fn new(
        settings: &ServeSettings,
        tls: Option<Arc<ServerConfig>>,
        shutdown: &Shutdown,
        tracker: &TaskTracker,
    ) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            // Of a head that has begun, the timer of each connection knows more.
            .header_read_timeout(settings.idle_timeout)
            .max_headers(settings.max_headers)
            .max_header_size(settings.max_head_bytes)
            .max_buf_size(buffer_size(settings))
            .half_close(false)
            .keep_alive(true);
        Self {
            tls: tls.map(TlsAcceptor::from),
            http1,
            http2: settings.http2,
            settings: Arc::new(settings.clone()),
            tracker: tracker.clone(),
            shutdown: shutdown.clone(),
        }
    }

    fn http2_builder(&self, streams: Streams) -> http2::Builder<Streams> {
        let mut http2 = http2::Builder::new(streams);
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .max_concurrent_streams(self.settings.max_streams)
            .max_pending_accept_reset_streams(MAX_RESETS_UNSEEN)
            .max_local_error_reset_streams(MAX_RESETS_OURS)
            .max_send_buf_size(buffer_size(&self.settings))
            .max_header_list_size(u32::try_from(self.settings.max_head_bytes).unwrap_or(u32::MAX));
        http2
    }

    /// Drives one connection to its end.
    async fn connection<S: Application>(self, accepted: Accepted, service: S) -> Result<(), Ended> {
        match accepted {
            Accepted::Tcp(stream, address) => self.secured(stream, PeerAddress::Tcp(address), service).await,
            Accepted::Unix(stream, uid) => self.secured(stream, PeerAddress::Unix { uid }, service).await,
        }
    }

    /// The handshake, or a look at the first bytes; either is given up at the soft shutdown, as no request was read.
    async fn secured<I, S>(self, io: I, address: PeerAddress, service: S) -> Result<(), Ended>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Application,
    {
        let heard = Heard::default();
        let io = Impatient::new(io, self.settings.write_stall_timeout, heard.clone());
        let peer = |certificate| self.settings.tells_peer.then_some(Peer { address, certificate });
        let plain = WithPeer { peer: peer(None), inner: service };
        match &self.tls {
            // In boxes: a connection of the plainest kind would carry the room for these as long as it lives.
            Some(acceptor) => Box::pin(self.over_tls(acceptor, io, plain, peer, heard)).await,
            None if self.http2 => Box::pin(self.either(io, plain, heard)).await,
            None => self.http1(io, plain, heard).await,
        }
    }

    async fn over_tls<I, S>(
        &self,
        acceptor: &TlsAcceptor,
        io: I,
        plain: WithPeer<S>,
        peer: impl FnOnce(Option<Arc<str>>) -> Option<Peer>,
        heard: Heard,
    ) -> Result<(), Ended>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Application,
    {
        let handshake = tokio::select! {
            () = self.shutdown.soft() => return Ok(()),
            done = tokio::time::timeout(self.settings.tls_handshake_timeout, acceptor.accept(io)) => done,
        };
        let stream = handshake.map_err(|_| Ended::HandshakeTimeout)?.map_err(Ended::Handshake)?;
        let (_, session) = stream.get_ref();
        let is_h2 = session.alpn_protocol() == Some(b"h2");
        let certificate = session.peer_certificates().and_then(<[_]>::first).map(|leaf| Arc::from(thumbprint(leaf)));
        let service = WithPeer { peer: peer(certificate), ..plain };
        match (self.http2, is_h2) {
            (true, true) => self.http2(stream, service).await,
            (false, true) => Err(Ended::Http2Off),
            (_, false) => self.http1(stream, service, heard).await,
        }
    }

    /// In clear text, HTTP/2 is told from HTTP/1.1 by its first bytes.
    async fn either<I, S>(&self, io: I, service: WithPeer<S>, heard: Heard) -> Result<(), Ended>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Application,
    {
        let peeked = tokio::select! {
            () = self.shutdown.soft() => return Ok(()),
            done = tokio::time::timeout(self.settings.idle_timeout, preface::peek(io)) => done,
        };
        let (is_h2, stream) = peeked.map_err(|_| Ended::PrefaceTimeout)?.map_err(Ended::Preface)?;
        if is_h2 { self.http2(stream, service).await } else { self.http1(stream, service, heard).await }
    }

    /// Speaks HTTP/1.1 until the connection ends; at the soft shutdown the request under way is the last.
    async fn http1<I, S>(&self, io: I, service: WithPeer<S>, heard: Heard) -> Result<(), Ended>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Application,
    {
        let mut http1 = self.http1.clone();
        http1.timer(HeadTimer::new(self.settings.header_read_timeout, heard));
        drive!(http1.serve_connection(TokioIo::new(io), service), self.shutdown.soft())
    }

    /// The same over HTTP/2, where all requests under way are the last, or one that is idle for too long.
    async fn http2<I, S>(&self, io: I, service: WithPeer<S>) -> Result<(), Ended>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Application,
    {
        let streams = Streams::new(self.tracker.clone(), self.shutdown.clone());
        let count = streams.count();
        let enough = async {
            tokio::select! {
                () = self.shutdown.soft() => {}
                () = count.stand_still(self.settings.idle_timeout) => {}
            }
        };
        drive!(self.http2_builder(streams).serve_connection(TokioIo::new(io), service), enough)
    }
}

/// What a connection buffers in each direction; hyper panics below 8 KiB.
fn buffer_size(settings: &ServeSettings) -> usize {
    settings.max_buffer_bytes.max(8 * 1024)
}

/// A ping finds peers that are gone.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Streams that a peer opened and reset before we looked at them; beyond, the connection ends (CVE-2023-44487).
const MAX_RESETS_UNSEEN: usize = 20;
/// Streams that we reset because the peer broke the protocol on them; beyond, the connection ends.
const MAX_RESETS_OURS: usize = 1024;

/// Puts the [`Peer`], where it is to be told, among the extensions of every request.
struct WithPeer<S> {
    peer: Option<Peer>,
    inner: S,
}

impl<S: Service<Request<Incoming>>> Service<Request<Incoming>> for WithPeer<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if let Some(peer) = &self.peer {
            request.extensions_mut().insert(peer.clone());
        }
        self.inner.call(request)
    }
}
