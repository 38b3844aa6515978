//! Makes connections to one authority.
//!
//! Where a connection leads is the configuration's business alone: no proxy of the environment is asked.

use std::time::Duration;

use http::Uri;
use http::uri::{PathAndQuery, Scheme};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connection as _, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::{Service as _, ServiceExt as _};

use super::fault::{NoConnection, refused};
use crate::net::names::Reachable;
use crate::net::tls::{TlsError, client_config};
use crate::proxy::settings::Api;

/// A connection, before anything was said on it.
pub(super) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Makes connections to one API.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    line: Line,
    to: Uri,
}

#[derive(Clone, Debug)]
enum Line {
    Plain(HttpConnector<Reachable>),
    Secure(HttpsConnector<HttpConnector<Reachable>>),
}

/// Finds peers that vanished without a word.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

impl Connector {
    /// To where `api` is.
    pub(super) fn new(api: &Api) -> Result<Self, TlsError> {
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
        Ok(Self { line, to: api.upstream.absolute(PathAndQuery::from_static("/")) })
    }

    /// Makes one. How long that may take is the caller's to say.
    pub(super) async fn connect(&self) -> Result<Stream, NoConnection> {
        match self.line.clone() {
            Line::Plain(mut http) => {
                let plain = http.ready().await.map_err(|error| refused(&error))?.call(self.to.clone());
                plain.await.map(MaybeHttpsStream::Http).map_err(|error| refused(&error))
            }
            Line::Secure(mut https) => {
                let secure = https.ready().await.map_err(|error| refused(error.as_ref()))?.call(self.to.clone());
                secure.await.map_err(|error| refused(error.as_ref()))
            }
        }
    }
}

/// Whether both sides agreed on HTTP/2 in the handshake (RFC 9113 §3.2).
pub(super) fn speaks_http2(stream: &Stream) -> bool {
    stream.connected().is_negotiated_h2()
}
