//! The token endpoint over real sockets: what a bank's server does to a connection, and what we make of it.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::settings::{ClientAuth, Registration};
use super::*;
use crate::net::tls::{self, Identity, Roots, server_config};
use crate::words::bank::BankBehaviour;
use crate::words::clock::SystemClock;
use crate::words::ids::ProviderId;

const TOKENS: &str = r#"{"access_token":"a","refresh_token":"r","expires_in":60}"#;

#[tokio::test]
async fn an_answer_that_ends_with_the_connection_is_read_whatever_tls_says_about_the_end() {
    let pki = Pki::new();
    // The bank's server closes TCP and sends no close_notify, as many do behind `Connection: close`.
    let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{TOKENS}");
    let outcome = pki.ask(&tls::ClientAuth::Off, answer).await;
    assert_eq!(refresh_token(outcome), "r");
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_kept_as_far_as_it_came() {
    let pki = Pki::new();
    let cut = &TOKENS[..TOKENS.len() - 1];
    let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{cut}");
    let TokenOutcome::Unreadable { why, body } = pki.ask(&tls::ClientAuth::Off, answer).await else { panic!("cut") };
    assert_eq!((why, body.as_slice()), ("truncated_answer", cut.as_bytes()));
    let long = format!("HTTP/1.0 200 OK\r\n\r\n{{\"access_token\":\"{}\"}}", "x".repeat(70_000));
    let TokenOutcome::Unreadable { why, body } = ask(long).await else { panic!("too long") };
    assert_eq!((why, body.len()), ("oversized_answer", 64 * 1024));
}

#[tokio::test]
async fn a_head_that_other_clients_would_put_up_with_does_not_cost_the_tokens_below_it() {
    let length = TOKENS.len();
    let many = "X-Many: v\r\n".repeat(150);
    let heads = [
        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nBad Name: v\r\n"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nX-Spaced : v\r\n"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nX-Folded: v\r\n more\r\n"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{many}"),
        "HTTP/1.0 200 OK\r\n".to_owned(),
        "HTTP/1.1 203 Non-Authoritative Information\r\n".to_owned(),
        format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: {length}\r\n"),
    ];
    for head in heads {
        assert_eq!(refresh_token(ask(format!("{head}\r\n{TOKENS}")).await), "r", "{head}");
    }
}

#[tokio::test]
async fn a_connection_that_the_bank_closed_before_the_request_carried_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let endpoint = endpoint(&listener, "http", Roots::System, None);
    let connection = endpoint.connect().await.expect("connects");
    drop(listener.accept().await.expect("accepts"));
    // Until our side has seen the end of the connection.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let Reply { outcome, .. } = endpoint.send(connection, &request(&refresh())).await;
    assert!(matches!(outcome, TokenOutcome::NotSent(_)), "{outcome:?}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_request_that_does_not_arrive_is_dead_before_anybody_else_may_send() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let tcp = endpoint(&listener, "http", Roots::System, None).tcp().await.expect("connects");
    let lingers = rustix::net::sockopt::tcp_user_timeout(&tcp).expect("readable");
    assert_eq!(Duration::from_millis(lingers.into()), UNACKNOWLEDGED);
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_request_leaves_its_fate_unknown() {
    let outcome = ask(String::new()).await;
    assert!(matches!(outcome, TokenOutcome::Unknown { why: "connection_lost" }), "{outcome:?}");
}

#[tokio::test]
async fn a_certificate_that_the_bank_does_not_accept_spends_nothing() {
    let pki = Pki::new();
    let required = tls::ClientAuth::Required(pki.roots());
    let outcome = pki.ask(&required, "HTTP/1.1 200 OK\r\n\r\n".to_owned()).await;
    assert!(matches!(outcome, TokenOutcome::Misconfigured { why: "certificate_refused" }), "{outcome:?}");
}

fn refresh_token(outcome: TokenOutcome) -> String {
    match outcome {
        TokenOutcome::Granted(set) => set.refresh.expect("a refresh token").expose().to_owned(),
        other => panic!("granted: {other:?}"),
    }
}

fn refresh() -> RefreshToken {
    RefreshToken::new("old")
}

fn request(refresh: &RefreshToken) -> TokenRequest<'_> {
    TokenRequest::Refresh { refresh, scope: None }
}

/// What becomes of a request to which a bank without TLS gives this answer.
async fn ask(answer: String) -> TokenOutcome {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let endpoint = endpoint(&listener, "http", Roots::System, None);
    let bank = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accepts");
        converse(&mut stream, &answer).await;
    });
    let outcome = exchange(&endpoint).await;
    bank.await.expect("no panic");
    outcome
}

async fn exchange(endpoint: &HttpTokenEndpoint<SystemClock>) -> TokenOutcome {
    let sent = async {
        match endpoint.connect().await {
            Ok(connection) => endpoint.send(connection, &request(&refresh())).await.outcome,
            Err(not_sent) => TokenOutcome::NotSent(not_sent),
        }
    };
    timeout(Duration::from_secs(10), sent).await.expect("an outcome")
}

/// Reads a whole token request, and answers it.
async fn converse(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), answer: &str) {
    let mut seen = Vec::new();
    while !seen.ends_with(b"client_id=tpp") {
        if stream.read_buf(&mut seen).await.unwrap_or_default() == 0 {
            return;
        }
    }
    let _gone = stream.write_all(answer.as_bytes()).await;
    let _gone = stream.flush().await;
}

fn endpoint(
    listener: &TcpListener,
    scheme: &str,
    roots: Roots,
    identity: Option<Arc<Identity>>,
) -> HttpTokenEndpoint<SystemClock> {
    let port = listener.local_addr().expect("bound").port();
    let registration = Registration {
        provider: ProviderId::parse("bank").expect("valid"),
        token_endpoint: format!("{scheme}://127.0.0.1:{port}/token").parse().expect("a URI"),
        revocation_endpoint: None,
        pushed_authorization_request_endpoint: None,
        client_id: "tpp".to_owned(),
        client_auth: ClientAuth::None,
        identity,
        roots,
        reachable: crate::net::names::Reachable::Everything,
        connect_timeout: Duration::from_secs(3),
    };
    HttpTokenEndpoint::new(registration, &BankBehaviour::default(), SystemClock).expect("usable")
}

/// An issuer of certificates.
struct Pki {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("signs") }
    }

    fn roots(&self) -> Roots {
        Roots::Pem(self.issuer.pem().into_bytes())
    }

    fn identity(&self) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("signs");
        Identity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).expect("belongs together")
    }

    /// What becomes of a request to which a bank with TLS gives this answer, and then closes TCP without a word.
    async fn ask(&self, client_auth: &tls::ClientAuth, answer: String) -> TokenOutcome {
        let config = server_config(&self.identity(), client_auth, &[b"http/1.1"]).expect("fits");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let endpoint = endpoint(&listener, "https", self.roots(), None);
        let bank = tokio::spawn(async move {
            let (stream, _): (TcpStream, _) = listener.accept().await.expect("accepts");
            if let Ok(mut stream) = TlsAcceptor::from(config).accept(stream).await {
                converse(&mut stream, &answer).await;
            }
        });
        let outcome = exchange(&endpoint).await;
        bank.await.expect("no panic");
        outcome
    }
}
