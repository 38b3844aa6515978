//! The sandbox over its real sockets. Every connection is a new one and every wait is bounded.

mod abn_amro;
mod abn_authorize;
mod abn_codes;
mod browser;
mod control;
mod faults;
mod nogi_authorize;
mod nogi_codes;
mod nogi_feed;
mod norsk_gjeld;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Sandbox;
use super::certificates::PemPair;
use super::endpoints::Endpoints;
use super::settings::SandboxSettings;
use crate::net::shutdown::Shutdown;
use crate::net::tls::{Identity, Roots, client_config};
use crate::words::clock::{ManualClock, WallTime};

const SOON: Duration = Duration::from_secs(20);
/// 2026-11-22T00:00:00Z.
const TODAY: WallTime = WallTime::from_millis(1_795_305_600_000);

/// A running sandbox on a clock that the test moves, and a client of it.
struct Bench {
    endpoints: Endpoints,
    clock: ManualClock,
    ca: String,
    tpp: PemPair,
    stranger: PemPair,
    shutdown: Shutdown,
}

/// What came back. `body` is what arrived before the connection ended.
#[derive(Debug)]
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    whole: bool,
}

/// Nothing came back, or the connection could not be made.
#[derive(Debug, PartialEq, Eq)]
struct NoReply;

impl Bench {
    async fn new() -> Self {
        Self::with(SandboxSettings::default()).await
    }

    async fn with(settings: SandboxSettings) -> Self {
        let clock = ManualClock::new(TODAY);
        let sandbox = Sandbox::start_at(settings, clock.clone()).await.expect("starts");
        let shutdown = Shutdown::new();
        let bench = Self {
            endpoints: sandbox.endpoints().clone(),
            clock,
            ca: sandbox.ca_pem(),
            tpp: sandbox.client_pem().clone(),
            stranger: sandbox.stranger_pem().expect("signs"),
            shutdown: shutdown.clone(),
        };
        tokio::spawn(sandbox.run(shutdown));
        bench
    }

    /// One request on a connection of its own, with the TPP's certificate or none.
    async fn send(
        &self,
        identity: Option<&PemPair>,
        url: &str,
        request: http::request::Builder,
        body: impl Into<Bytes>,
    ) -> Result<Reply, NoReply> {
        let uri: Uri = url.parse().expect("a URL");
        let authority = uri.authority().expect("a host").to_string();
        let tcp = TcpStream::connect(&authority).await.map_err(|_| NoReply)?;
        let target = uri.path_and_query().expect("a path").as_str();
        let request = request.uri(target).header("host", authority);
        let request = request.body(Full::new(body.into())).expect("a request");
        if uri.scheme_str() == Some("http") {
            return within(exchange(tcp, request)).await;
        }
        let identity: Option<Identity> = identity.map(|pair| pair.identity().expect("fits"));
        let roots = Roots::Pem(self.ca.clone().into_bytes());
        let config = client_config(&roots, identity.as_ref(), &[b"http/1.1"]).expect("valid");
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = within(TlsConnector::from(config).connect(name, tcp)).await;
        within(exchange(tls.map_err(|_| NoReply)?, request)).await
    }

    /// A form to ABN AMRO's token endpoint, with the TPP's certificate.
    async fn abn_token(&self, form: &str) -> Result<Reply, NoReply> {
        let url = &self.endpoints.abn_amro.token_endpoint;
        self.send(Some(&self.tpp), url, form_post(), form.to_owned()).await
    }

    async fn refresh(&self, token: &str) -> Result<Reply, NoReply> {
        let client = "grant_type=refresh_token&client_id=TPP_test";
        self.abn_token(&format!("{client}&refresh_token={token}")).await
    }

    /// A code to ABN AMRO's token endpoint; `more` is put behind the form.
    async fn exchange(&self, code: &str, redirect_uri: &str, more: &str) -> Reply {
        let client = "grant_type=authorization_code&client_id=TPP_test";
        let form = format!("{client}&code={code}&redirect_uri={redirect_uri}{more}");
        self.abn_token(&form).await.expect("answers")
    }

    /// A GET at ABN AMRO's API with the right API key.
    async fn abn_api(&self, path: &str, token: &str) -> Reply {
        let request = Request::get("/")
            .header("api-key", &self.endpoints.abn_amro.api_key)
            .header("authorization", format!("Bearer {token}"));
        let url = format!("{}{path}", self.endpoints.abn_amro.api);
        self.send(None, &url, request, "").await.expect("answers")
    }

    async fn nogi_token(&self, form: &str) -> Result<Reply, NoReply> {
        let url = &self.endpoints.norsk_gjeld.token_endpoint;
        let basic = form_post().header("authorization", self.basic());
        self.send(None, url, basic, form.to_owned()).await
    }

    fn basic(&self) -> String {
        use base64::Engine as _;
        let bank = &self.endpoints.norsk_gjeld;
        let pair = format!("{}:{}", bank.client_id, bank.client_secret);
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    }

    async fn nogi_api(&self, method: &str, path: &str, token: &str, body: &Value) -> Reply {
        let request = Request::builder()
            .method(method)
            .header("authorization", format!("Bearer {token}"))
            .header("x-trace-id", "trace-1")
            .header("content-type", "application/json");
        let url = format!("{}{path}", self.endpoints.norsk_gjeld.api);
        self.send(None, &url, request, body.to_string()).await.expect("answers")
    }

    async fn control(&self, method: &str, path: &str, body: Value) -> Reply {
        let url = format!("{}{path}", self.endpoints.control);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder().method(method);
        self.send(None, &url, request, body).await.expect("answers")
    }

    /// A granted consent: its id, access token and refresh token.
    async fn consent(&self) -> (String, String, String) {
        let granted = self.control("POST", "/abn-amro/consents", Value::Null).await.json();
        let text = |name: &str| granted[name].as_str().expect(name).to_owned();
        (text("bank_consent_id"), text("access_token"), text("refresh_token"))
    }

    async fn fault(&self, rule: Value) {
        let reply = self.control("POST", "/faults", rule).await;
        assert_eq!(reply.status, StatusCode::NO_CONTENT, "{}", reply.text());
    }

    async fn reuse_events(&self) -> u64 {
        let counters = self.control("GET", "/counters", Value::Null).await.json();
        counters["abn"]["reuse_events"].as_u64().expect("a number")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.shutdown.force();
    }
}

impl Reply {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// The refresh token and access token of a granted answer.
    fn tokens(&self) -> (String, String) {
        let json = self.json();
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        (text("refresh_token"), text("access_token"))
    }

    /// The code of ABN AMRO's error envelope.
    fn abn_error(&self) -> (u16, String) {
        let code = self.json()["errors"][0]["code"].as_str().expect("a code").to_owned();
        (self.status.as_u16(), code)
    }
}

fn form_post() -> http::request::Builder {
    Request::post("/").header("content-type", "application/x-www-form-urlencoded")
}

async fn within<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(SOON, work).await.expect("in time")
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Reply, NoReply>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|_| NoReply)?;
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(|_| NoReply)?;
    let (head, mut body) = response.into_parts();
    let (mut read, mut whole) = (Vec::new(), true);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            whole = false;
            break;
        };
        read.extend_from_slice(frame.data_ref().expect("no trailers"));
    }
    Ok(Reply { status: head.status, headers: head.headers, body: Bytes::from(read), whole })
}

#[tokio::test]
async fn it_starts_quickly_and_writes_what_a_newcomer_needs() {
    let begun = tokio::time::Instant::now();
    let sandbox = Sandbox::start(SandboxSettings::default()).await.expect("starts");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let folder = tempfile::tempdir().expect("a folder");
    for _ in 0..2 {
        sandbox.write_files(folder.path()).expect("writes, over older files, too");
    }
    let read = |name| std::fs::read_to_string(folder.path().join(name)).expect(name);
    assert!(read("ca.pem").contains("BEGIN CERTIFICATE"));
    let pair = PemPair { certificate: read("tpp.crt"), key: read("tpp.key") };
    pair.identity().expect("they match");
    let endpoints: Value = serde_json::from_str(&read("endpoints.json")).expect("JSON");
    let control = sandbox.addresses().control;
    assert_eq!(endpoints["control"], json!(format!("http://{control}")));
    let pages = format!("https://{}/as/authorization.oauth2", sandbox.addresses().pages);
    assert_eq!(endpoints["abn_amro"]["authorization_endpoint"], json!(pages));
    let access = format!("https://{}/oauth2/auth", sandbox.addresses().nogi_access);
    assert_eq!(endpoints["norsk_gjeld"]["authorization_endpoint"], json!(access));
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let mut settings = SandboxSettings::default();
    settings.ports.control = taken.local_addr().expect("bound").port();
    let refused = Sandbox::start(settings).await.expect_err("refused").to_string();
    assert!(refused.contains(&taken.local_addr().expect("bound").to_string()), "{refused}");
}
