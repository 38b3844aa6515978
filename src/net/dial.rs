//! A connection of its own to a server that the configuration names: its name, TCP and, where the address says so, TLS.
//!
//! No pool, no proxy of the environment, no retry. Where a connection fails is told, because before the TLS handshake is
//! through nothing was sent. What is written on it and not acknowledged is given up after a time that the caller names: a
//! request that lingers in the kernel, perhaps after its process, must be dead before anybody may take it for unsent.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::names::Reachable;
use super::tls::{Identity, Roots, TlsError, client_config};
use crate::simulation::{self, Stream};
use crate::words::pace::paced;

/// Makes connections to one server.
#[derive(Debug)]
pub struct Dialer {
    host: String,
    port: u16,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    reachable: Reachable,
    unacknowledged: Duration,
}

/// Why no connections can be made as configured.
#[derive(Debug, thiserror::Error)]
pub enum DialerError {
    /// The URL names no host that can be connected to.
    #[error("the URL names no usable host")]
    Host,
    /// The certificates do not make a TLS configuration.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Why there is no connection. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoLine {
    /// Name resolution or TCP.
    Unreachable(String),
    /// The TLS handshake failed: a certificate, ours or theirs, is not accepted.
    Tls(String),
}

impl Dialer {
    /// To the host of `url`, which is reached through TLS if its scheme is `https`.
    pub fn new(
        url: &Uri,
        roots: &Roots,
        identity: Option<&Identity>,
        reachable: Reachable,
        unacknowledged: Duration,
    ) -> Result<Self, DialerError> {
        let host = url.host().ok_or(DialerError::Host)?.trim_matches(['[', ']']).to_owned();
        let secure = url.scheme_str() == Some("https");
        let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tls = if secure {
            let name = ServerName::try_from(host.clone()).map_err(|_| DialerError::Host)?;
            Some((client_config(roots, identity, &[b"http/1.1"])?, name))
        } else {
            None
        };
        Ok(Self { host, port, tls, reachable, unacknowledged })
    }

    /// A TCP connection, without TLS.
    pub async fn tcp(&self) -> io::Result<TcpStream> {
        let found = self.reachable.resolve(&self.host, self.port).await?;
        let tcp = TcpStream::connect(found.as_slice()).await?;
        tcp.set_nodelay(true)?;
        #[cfg(target_os = "linux")]
        rustix::net::sockopt::set_tcp_user_timeout(
            &tcp,
            u32::try_from(paced(self.unacknowledged).as_millis()).unwrap_or(u32::MAX),
        )?;
        Ok(tcp)
    }

    /// A connection on which nothing was sent. How long it may take is the caller's to say.
    pub async fn dial(&self) -> Result<Box<dyn Stream>, NoLine> {
        let unreachable = |error: io::Error| NoLine::Unreachable(error.to_string());
        if let Some(host) = simulation::current() {
            return host.dial(&self.host, self.port).await.map_err(unreachable);
        }
        let tcp = self.tcp().await.map_err(unreachable)?;
        let Some((config, name)) = &self.tls else { return Ok(Box::new(tcp)) };
        let connected = TlsConnector::from(Arc::clone(config)).connect(name.clone(), tcp).await;
        match connected {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) if is_tls(&error) => Err(NoLine::Tls(error.to_string())),
            Err(error) => Err(NoLine::Unreachable(error.to_string())),
        }
    }
}

/// TLS said no, as opposed to a connection that broke during the handshake.
fn is_tls(error: &io::Error) -> bool {
    error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some()
}

/// Drives the connection and the exchange on it together, in one task, so that giving up the one gives up the other.
pub async fn driven<T, E: From<hyper::Error>, W: AsyncRead + AsyncWrite + Unpin>(
    exchange: impl Future<Output = Result<T, E>>,
    driver: http1::Connection<TokioIo<W>, Full<Bytes>>,
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
