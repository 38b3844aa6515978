//! TLS to the bank: whom it trusts, who we are, and HTTP/2 where the bank has it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::app::Reply;
use super::bank::{Bank, Conn};
use super::house::{C1, Plan};
use super::within;
use crate::net::tls::{ClientAuth, Identity, Roots, server_config};

#[tokio::test]
async fn a_bank_whose_certificate_is_not_trusted_gets_not_a_byte_of_the_call() {
    let (pki, stranger) = (Pki::new(), Pki::new());
    let long_ago = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    };
    for (what, identity) in [
        ("of somebody else", stranger.issue("localhost")),
        ("of another name", pki.issue("elsewhere.example")),
        ("expired", pki.issue_with("localhost", long_ago)),
    ] {
        let (tell, mut told) = mpsc::channel(1);
        let acceptor: TlsAcceptor = server_config(&identity, &ClientAuth::Off, &[b"http/1.1"]).expect("valid").into();
        let bank = Bank::with(move |conn: Conn| {
            let (acceptor, tell) = (acceptor.clone(), tell.clone());
            async move { tell.send(acceptor.accept(conn.stream).await.is_ok()).await.expect("heard") }
        })
        .await;
        let mut plan = at(&bank);
        plan.api().roots = pki.roots();
        let house = plan.open().await;
        assert_unreachable(&house.get("/api/v1/x").await, "TLS");
        assert_eq!(within(told.recv()).await, Some(false), "{what}");
    }
}

#[tokio::test]
async fn a_handshake_that_stands_still_is_given_up_in_time() {
    let bank = Bank::with(|mut conn: Conn| async move { assert!(conn.closes().await) }).await;
    let mut plan = at(&bank);
    plan.api().roots = Pki::new().roots();
    plan.limits().upstream_connect_timeout = Duration::from_millis(50);
    let house = plan.open().await;
    assert_unreachable(&house.get("/api/v1/x").await, "too long");
}

#[tokio::test]
async fn a_bank_that_wants_our_certificate_gets_it_and_without_it_is_unreachable() {
    let pki = Pki::new();
    for identity in [Some(Arc::new(pki.issue("client"))), None] {
        let bank = speaking(pki.acceptor(&ClientAuth::Required(pki.roots()), b"http/1.1"), Version::HTTP_11).await;
        let mut plan = at(&bank);
        plan.api().roots = pki.roots();
        plan.api().identity.clone_from(&identity);
        let house = plan.open().await;
        let reply = house.get("/api/v1/x").await;
        match identity {
            Some(_) => assert_eq!(reply.status(), 200),
            None => assert_unreachable(&reply, "TLS"),
        }
    }
}

#[tokio::test]
async fn http_2_is_spoken_where_the_bank_has_it() {
    let pki = Pki::new();
    let bank = speaking(pki.acceptor(&ClientAuth::Off, b"h2"), Version::HTTP_2).await;
    let mut plan = at(&bank);
    plan.api().roots = pki.roots();
    let house = plan.open().await;
    let reply = house.ask("POST /api/v1/x?y=1", &format!("{C1}Connection: close, x\r\nX: 1\r\n"), "the body").await;
    assert_eq!(reply.status(), 200, "{reply:?}");
    assert!(reply.head.starts_with("HTTP/1.1 "));
    let port = bank.address.port();
    let wanted = format!("HTTP/2.0 POST https://localhost:{port}/base/v1/x?y=1 Bearer CANARY-c1-1 - the body");
    assert_eq!(reply.text(), wanted);
}

/// A bank behind TLS that tells what it was asked: version, method, target, credential, `Host`, body.
async fn speaking(acceptor: TlsAcceptor, version: Version) -> Bank {
    Bank::with(move |conn: Conn| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(conn.stream).await else { return };
            let io = TokioIo::new(stream);
            let service = service_fn(tell);
            let ended = if version == Version::HTTP_2 {
                hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
            } else {
                hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
            };
            drop(ended);
        }
    })
    .await
}

async fn tell(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
    let (credential, host) = (header("authorization"), header("host"));
    let line = format!("{:?} {} {} {credential} {host}", request.version(), request.method(), request.uri());
    let body = request.into_body().collect().await.expect("whole").to_bytes();
    let text = format!("{line} {}", String::from_utf8_lossy(&body));
    Ok(Response::new(Full::new(Bytes::from(text))))
}

fn at(bank: &Bank) -> Plan {
    Plan::at(&format!("https://localhost:{}/base", bank.address.port()))
}

fn assert_unreachable(reply: &Reply, why: &str) {
    assert_eq!(reply.problem().as_deref(), Some("upstream-unreachable"), "{reply:?}");
    let json = reply.json();
    assert_eq!(json["processed"], "no");
    assert!(json["detail"].as_str().is_some_and(|detail| detail.contains(why)), "{json}");
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
        self.issue_with(name, |_| {})
    }

    fn issue_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        change(&mut params);
        let certificate = params.signed_by(&key, &self.0).expect("signs");
        Identity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).expect("they match")
    }

    fn roots(&self) -> Roots {
        Roots::Pem(self.0.pem().into_bytes())
    }

    fn acceptor(&self, clients: &ClientAuth, protocol: &[u8]) -> TlsAcceptor {
        server_config(&self.issue("localhost"), clients, &[protocol]).expect("valid").into()
    }
}
