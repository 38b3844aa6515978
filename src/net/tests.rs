//! The server over real sockets: who is at the other end, which protocol is spoken, what the limits do, how it ends.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::serve::{Bind, Listener, Peer, PeerAddress, ServeSettings, serve};
use super::shutdown::Shutdown;
use super::tls::{ClientAuth, Identity, Roots, client_config, server_config};

/// Every wait in these tests ends by then, as a failure.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_request_carries_the_address_it_came_from_and_the_connection_is_kept() {
    let server = Server::plain(ServeSettings::default()).await;
    let mut stream = server.connect().await;
    let own = stream.local_addr().expect("connected").to_string();
    for _ in 0..2 {
        let answer = ask(&mut stream, "GET /peer HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(&own), "{answer}");
    }
}

#[tokio::test]
async fn a_unix_peer_is_known_by_its_user() {
    let folder = tempfile::tempdir().expect("a folder");
    let bind = Bind::Unix(folder.path().join("s"));
    let listener = Listener::bind(&bind).await.expect("binds");
    let _server = Server::start(listener, None, ServeSettings::default());
    let mut stream = UnixStream::connect(folder.path().join("s")).await.expect("connects");
    let answer = ask(&mut stream, "GET /peer HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let own = rustix::process::getuid().as_raw();
    assert!(answer.contains(&format!("uid {own}")), "{answer}");
}

#[tokio::test]
async fn too_many_or_too_large_headers_are_answered_with_431() {
    let settings = ServeSettings { max_headers: 8, max_head_bytes: 2_000, ..ServeSettings::default() };
    let server = Server::plain(settings).await;
    let many = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(8));
    let large = format!("GET / HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n", "b".repeat(3_000));
    for head in [many, large] {
        let answer = ask(&mut server.connect().await, &head).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed_in_time() {
    for http2 in [false, true] {
        let idle_timeout = Duration::from_millis(100);
        let settings = ServeSettings { idle_timeout, http2, ..ServeSettings::default() };
        let server = Server::plain(settings).await;
        closes(&mut server.connect().await).await;
        let mut half = server.connect().await;
        half.write_all(b"PRI * HT").await.expect("writes");
        closes(&mut half).await;
    }
}

#[tokio::test]
async fn a_handshake_that_never_comes_is_given_up() {
    let tls_handshake_timeout = Duration::from_millis(100);
    let settings = ServeSettings { tls_handshake_timeout, ..ServeSettings::default() };
    let pki = Pki::new();
    let server = Server::tls(&pki, &ClientAuth::Off, settings).await;
    closes(&mut server.connect().await).await;
}

#[tokio::test]
async fn http2_is_spoken_in_clear_text_and_over_tls_when_it_is_on() {
    let settings = ServeSettings { http2: true, ..ServeSettings::default() };
    let server = Server::plain(settings.clone()).await;
    assert!(http2_peer(server.connect().await).await.starts_with("tcp 127.0.0.1:"));
    let mut stream = server.connect().await;
    let answer = ask(&mut stream, "GET /peer HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "HTTP/1.1 is still spoken: {answer}");

    let pki = Pki::new();
    let server = Server::tls(&pki, &ClientAuth::Off, settings).await;
    let stream = pki.connect(&server, None, &[b"h2"]).await.expect("handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert!(http2_peer(stream).await.starts_with("tcp 127.0.0.1:"));
}

#[tokio::test]
async fn http2_is_not_spoken_when_it_is_off() {
    let server = Server::plain(ServeSettings::default()).await;
    let mut stream = server.connect().await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("writes");
    let mut answer = Vec::new();
    let _ = within(stream.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"\0\0"), "no SETTINGS frame");
}

#[tokio::test]
async fn the_thumbprint_of_a_verified_certificate_reaches_the_service() {
    let pki = Pki::new();
    let optional = ClientAuth::Optional(pki.roots());
    let server = Server::tls(&pki, &optional, ServeSettings::default()).await;
    let client = pki.issue("client");
    let mut stream = pki.connect(&server, Some(&client), &[]).await.expect("handshake");
    let answer = ask(&mut stream, "GET /peer HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(answer.contains(&client.thumbprint()), "{answer}");

    let mut stream = pki.connect(&server, None, &[]).await.expect("handshake");
    let answer = ask(&mut stream, "GET /peer HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(answer.contains("no certificate"), "{answer}");
}

#[tokio::test]
async fn a_required_certificate_must_be_there_and_be_ours() {
    let pki = Pki::new();
    let required = ClientAuth::Required(pki.roots());
    let server = Server::tls(&pki, &required, ServeSettings::default()).await;
    let ours = pki.issue("client");
    let foreign = Pki::new().issue("client");
    for (identity, accepted) in [(Some(&ours), true), (Some(&foreign), false), (None, false)] {
        let answer = match pki.connect(&server, identity, &[]).await {
            Ok(mut stream) => ask(&mut stream, "GET /peer HTTP/1.1\r\nHost: h\r\n\r\n").await,
            Err(_) => String::new(),
        };
        assert_eq!(answer.starts_with("HTTP/1.1 200"), accepted, "{answer}");
    }
}

#[tokio::test]
async fn a_connection_beyond_the_limit_waits_for_a_free_place() {
    let settings = ServeSettings { max_connections: 1, ..ServeSettings::default() };
    let server = Server::plain(settings).await;
    let mut first = server.connect().await;
    ask(&mut first, "GET /peer HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut second = server.connect().await;
    second.write_all(b"GET /peer HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("writes");
    let early = tokio::time::timeout(Duration::from_millis(100), second.readable()).await;
    assert!(early.is_err(), "nobody reads it yet");
    drop(first);
    assert!(answer(&mut second).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn softly_shut_down_it_finishes_what_it_has_and_takes_nothing_new() {
    let mut server = Server::plain(ServeSettings::default()).await;
    let mut idle = server.connect().await;
    ask(&mut idle, "GET /peer HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("writes");
    within(server.arrived.notified()).await;
    server.shutdown.begin();
    closes(&mut idle).await;
    assert!(!server.ended.is_finished());
    server.go_on.notify_one();
    assert!(answer(&mut busy).await.starts_with("HTTP/1.1 200"));
    within(&mut server.ended).await.expect("ends");
    assert!(TcpStream::connect(server.address()).await.is_err(), "nobody listens");
}

#[tokio::test]
async fn hard_shut_down_it_drops_what_is_left() {
    for http2 in [false, true] {
        let settings = ServeSettings { http2, ..ServeSettings::default() };
        let mut server = Server::plain(settings).await;
        let stream = server.connect().await;
        let request = tokio::spawn(async move {
            if http2 {
                http2_get(stream, "/wait").await.map(|_| ()).map_err(drop)
            } else {
                let mut stream = stream;
                stream.write_all(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n").await.map_err(drop)?;
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await.map_err(drop)?;
                if rest.is_empty() { Err(()) } else { Ok(()) }
            }
        });
        within(server.arrived.notified()).await;
        server.shutdown.begin();
        server.shutdown.force();
        within(&mut server.ended).await.expect("ends");
        assert_eq!(within(request).await.expect("ran"), Err(()), "no answer was made up");
    }
}

/// A server of `/peer`, which tells who asked, and `/wait`, which answers when told to.
struct Server {
    local: Bind,
    shutdown: Shutdown,
    arrived: Arc<Notify>,
    go_on: Arc<Notify>,
    ended: JoinHandle<()>,
}

impl Server {
    async fn plain(settings: ServeSettings) -> Self {
        Self::start(any_port().await, None, settings)
    }

    async fn tls(pki: &Pki, clients: &ClientAuth, settings: ServeSettings) -> Self {
        let alpn: &[&[u8]] = if settings.http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        let config = server_config(&pki.issue("localhost"), clients, alpn).expect("valid");
        Self::start(any_port().await, Some(config), settings)
    }

    fn start(listener: Listener, tls: Option<Arc<rustls::ServerConfig>>, settings: ServeSettings) -> Self {
        let local = listener.local().clone();
        let shutdown = Shutdown::new();
        let (arrived, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (tell, wait) = (Arc::clone(&arrived), Arc::clone(&go_on));
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
            async move {
                if request.uri().path() == "/wait" {
                    tell.notify_one();
                    wait.notified().await;
                }
                let peer = request.extensions().get::<Peer>().map(told).unwrap_or_default();
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(peer))))
            }
        });
        let stop = shutdown.clone();
        let ended = tokio::spawn(async move { serve(Arc::new(listener), tls, &settings, service, stop).await });
        Self { local, shutdown, arrived, go_on, ended }
    }

    fn address(&self) -> std::net::SocketAddr {
        match &self.local {
            Bind::Tcp(address) => *address,
            Bind::Unix(_) => panic!("a TCP server"),
        }
    }

    async fn connect(&self) -> TcpStream {
        within(TcpStream::connect(self.address())).await.expect("connects")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.force();
    }
}

/// A certificate authority that lasts as long as a test.
struct Pki(CertifiedIssuer<'static, KeyPair>);

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("signs"))
    }

    fn issue(&self, name: &str) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.0).expect("signs");
        Identity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).expect("they match")
    }

    fn roots(&self) -> Roots {
        Roots::Pem(self.0.pem().into_bytes())
    }

    async fn connect(
        &self,
        server: &Server,
        identity: Option<&Identity>,
        alpn: &[&[u8]],
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let config = client_config(&self.roots(), identity, alpn).expect("valid");
        let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
        let tcp = server.connect().await;
        within(tokio_rustls::TlsConnector::from(config).connect(name, tcp)).await
    }
}

fn told(peer: &Peer) -> String {
    let address = match peer.address {
        PeerAddress::Tcp(address) => format!("tcp {address}"),
        PeerAddress::Unix { uid } => format!("uid {}", uid.expect("the kernel tells")),
    };
    format!("{address}, {}", peer.certificate.as_deref().unwrap_or("no certificate"))
}

async fn any_port() -> Listener {
    Listener::bind(&"127.0.0.1:0".parse().expect("valid")).await.expect("binds")
}

async fn within<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(SOON, work).await.expect("in time")
}

/// Sends a request without a body and reads the answer; empty if the connection was closed without one.
async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> String {
    if stream.write_all(request.as_bytes()).await.is_err() {
        return String::new();
    }
    answer(stream).await
}

async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut read = Vec::new();
    let complete = |read: &[u8]| {
        let text = String::from_utf8_lossy(read).into_owned();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
        (body.len() >= length.parse().ok()?).then_some(text.clone())
    };
    loop {
        if let Some(text) = complete(&read) {
            return text;
        }
        match within(stream.read_buf(&mut read)).await {
            Ok(0) | Err(_) => return String::from_utf8_lossy(&read).into_owned(),
            Ok(_) => {}
        }
    }
}

/// Waits until the other end has closed the connection.
async fn closes(stream: &mut (impl AsyncRead + Unpin)) {
    let mut rest = Vec::new();
    let _ = within(stream.read_to_end(&mut rest)).await;
}

async fn http2_peer(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> String {
    let response = http2_get(stream, "/peer").await.expect("answers");
    assert_eq!(response.status(), StatusCode::OK);
    let body = response.into_body().collect().await.expect("whole").to_bytes();
    String::from_utf8_lossy(&body).into_owned()
}

async fn http2_get(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    path: &str,
) -> hyper::Result<Response<Incoming>> {
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let uri = format!("http://localhost{path}");
    let request = Request::get(uri).body(Empty::<Bytes>::new()).expect("a request");
    within(sender.send_request(request)).await
}
