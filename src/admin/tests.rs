//! Both listeners over real sockets. Whatever is answered or logged in any of these tests is searched for canaries.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::settings::AdminSettings;
use super::{Admin, Health, Readiness, Vitals, Writes};
use crate::consent::testing::{Bench, Fault, FaultyStore, SilentBank, consent_id};
use crate::net::serve::{Application, Bind, Listener, ServeSettings, serve};
use crate::net::shutdown::Shutdown;
use crate::words::clock::ManualClock;
use crate::words::ids::{GrantId, Version};
use crate::words::metrics::Metrics;
use crate::words::secrets::AdminKey;

/// Every wait in these tests ends by then, as a failure.
const SOON: Duration = Duration::from_secs(10);
const KEY: &str = "CANARY-admin-key";
const TOKENS: &str = "/v1/consents/customer-4711/tokens";
const CONSENT: &str = "/v1/consents/customer-4711";

#[tokio::test]
async fn an_import_creates_a_consent_that_can_then_be_looked_at() {
    let server = Server::admin(Bench::new()).await;
    let created = server.put(&[], &tokens("r1")).await;
    assert_eq!(created.status, 201, "{created:?}");
    let view = created.json();
    let tag = format!("\"{}.1\"", view["grant"].as_str().unwrap());
    assert_eq!(created.header("etag"), Some(tag.as_str()));
    assert_eq!(created.header("content-type"), Some("application/json"));
    assert_eq!(created.header("cache-control"), Some("no-store"));
    assert_eq!((&view["state"], &view["access_token_expires_in"]), (&json!("active"), &json!(3600)));

    let shown = server.ask("GET", CONSENT, &[], "").await;
    assert_eq!((shown.status, shown.header("etag")), (200, Some(tag.as_str())));
    assert_eq!(shown.json(), view);
    let head = server.ask("HEAD", CONSENT, &[], "").await;
    assert_eq!((head.status, head.header("etag"), head.body.as_str()), (200, Some(tag.as_str()), ""));
}

#[tokio::test]
async fn an_existing_consent_is_replaced_by_naming_its_version_and_in_no_other_way() {
    let server = Server::admin(Bench::new()).await;
    let created = server.put(&[], &tokens("r1")).await;
    let tag = created.header("etag").unwrap().to_owned();
    let current = tag.trim_matches('"');
    let stale = format!("\"{}\"", Version::first(GrantId::random()));

    for (headers, status, kind) in [
        (vec![], 428, "precondition-required"),
        (vec![("If-None-Match", "*")], 428, "precondition-required"),
        (vec![("If-Match", stale.as_str())], 412, "precondition-failed"),
    ] {
        let refused = server.put(&headers, &tokens("r2")).await;
        let problem = refused.problem(kind);
        assert_eq!((refused.status, refused.header("etag")), (status, Some(tag.as_str())));
        assert_eq!((&problem["current"], &problem["generation"]), (&json!(current), &json!(1)));
        assert!(status != 428 || problem["detail"].as_str().unwrap().contains(&format!("If-Match: {tag}")));
    }
    for unreadable in ["*", current, &format!("W/{tag}"), &format!("{tag}, {tag}")] {
        let refused = server.put(&[("If-Match", unreadable)], &tokens("r2")).await;
        let problem = refused.problem("bad-request");
        assert_eq!((refused.status, &problem["who_acts"]), (400, &json!("caller")), "{unreadable}");
    }
    assert_eq!(server.ask("GET", CONSENT, &[], "").await.header("etag"), Some(tag.as_str()), "nothing has changed");

    let replaced = server.put(&[("If-Match", &tag)], &tokens("r2")).await;
    assert_eq!(replaced.status, 200, "{replaced:?}");
    assert_ne!(replaced.header("etag"), Some(tag.as_str()));
    assert_eq!(server.ask("GET", CONSENT, &[], "").await.header("etag"), replaced.header("etag"));
}

#[tokio::test]
async fn replacing_what_is_not_there_fails_its_precondition() {
    let server = Server::admin(Bench::new()).await;
    let some = format!("\"{}\"", Version::first(GrantId::random()));
    let refused = server.put(&[("If-Match", &some)], &tokens("r")).await;
    assert!(refused.problem("precondition-failed").get("current").is_none());
    assert_eq!((refused.status, refused.header("etag")), (412, None));
    let unknown = server.ask("GET", CONSENT, &[], "").await;
    unknown.problem("consent-unknown");
    assert_eq!(unknown.status, 404);
}

#[tokio::test]
async fn a_refresh_token_that_is_being_spent_is_a_conflict() {
    let server = Server::admin(Bench::new()).await;
    let tag = server.put(&[], &tokens("r1")).await.header("etag").unwrap().to_owned();
    server.bench.spend(&consent_id()).await;
    let refused = server.put(&[("If-Match", &tag)], &tokens("r1")).await;
    refused.problem("refresh-token-spent");
    assert_eq!((refused.status, refused.header("etag")), (409, Some(tag.as_str())));
    assert_eq!(server.bench.bank.calls(), 0);
}

#[tokio::test]
async fn a_body_is_refused_with_every_fault_and_none_of_its_values() {
    let server = Server::admin(Bench::new()).await;
    let bad =
        r#"{"provider": "CANARY Bank", "access_token": "CANARY\n", "expires_in": "CANARY", "CANARY-1": "CANARY"}"#;
    let refused = server.put(&[], bad).await;
    let members: Vec<_> = refused.problem("import-invalid")["faults"].as_array().unwrap().clone();
    assert_eq!((refused.status, members.len()), (422, 4), "{refused:?}");
    assert!(members.iter().any(|fault| fault["member"] == "access_token"));

    let elsewhere = tokens("r").replace("\"bank\"", "\"elsewhere\"");
    let refused = server.put(&[], &elsewhere).await;
    refused.problem("provider-unknown");
    assert_eq!(refused.status, 422);

    for broken in ["", "{\"access_token\": \"CANARY", "[\"CANARY\"]"] {
        let refused = server.put(&[], broken).await;
        refused.problem("bad-request");
        assert_eq!(refused.status, 400, "{broken}");
    }
}

#[tokio::test]
async fn only_json_of_bounded_size_that_arrives_is_read() {
    let server = Server::admin(Bench::new()).await;
    let auth = format!("Authorization: Bearer {KEY}\r\n");
    for kind in ["", "Content-Type: text/plain\r\n", "Content-Type: application/x-www-form-urlencoded\r\n"] {
        let refused =
            server.raw(&format!("PUT {TOKENS} HTTP/1.1\r\n{HOST}{auth}{kind}Content-Length: 2\r\n\r\n{{}}")).await;
        refused.problem("media-type-unsupported");
        assert_eq!(refused.status, 415, "{kind}");
    }
    let head = format!("PUT {TOKENS} HTTP/1.1\r\n{HOST}{auth}Content-Type: application/json\r\n");
    let announced = server.raw(&format!("{head}Content-Length: 65537\r\n\r\n")).await;
    announced.problem("request-too-large");
    let chunk = "x".repeat(33 * 1024);
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n8400\r\n{chunk}\r\n8400\r\n{chunk}\r\n");
    let chunked = server.raw(&chunked).await;
    chunked.problem("request-too-large");
    assert_eq!((announced.status, chunked.status), (413, 413));
    let never_sent = server.raw(&format!("{head}Content-Length: 10\r\n\r\n{{")).await;
    never_sent.problem("request-timeout");
    assert_eq!(never_sent.status, 408);
}

#[tokio::test]
async fn a_body_that_trickles_in_is_given_up_as_a_whole() {
    let server = Server::admin(Bench::new()).await;
    let mut stream = server.connect().await;
    let head =
        format!("PUT {TOKENS} HTTP/1.1\r\n{HOST}Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\n");
    stream.write_all(format!("{head}Content-Length: 60000\r\n\r\n").as_bytes()).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let trickle = async {
        while to.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut byte = [0; 12];
    tokio::select! {
        () = trickle => {}
        read = tokio::time::timeout(SOON, from.read_exact(&mut byte)) => { read.unwrap().unwrap(); }
    }
    assert_eq!(&byte, b"HTTP/1.1 408");
}

#[tokio::test]
async fn writing_takes_the_key_and_reading_does_not() {
    let server = Server::admin(Bench::new()).await;
    for authorization in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic Q0FOQVJZ\r\n"] {
        let body = tokens("r");
        let head = format!("PUT {TOKENS} HTTP/1.1\r\n{HOST}{authorization}Content-Type: application/json\r\n");
        let refused = server.raw(&format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await;
        refused.problem("admin-key-needed");
        assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")), "{authorization}");
    }
    assert_eq!(server.ask("GET", CONSENT, &[], "").await.status, 404, "nothing was written");

    let keyless = Server::admin_with(Bench::new(), None, Writes::Guarded).await;
    let refused = keyless.put(&[], &tokens("r")).await;
    refused.problem("write-forbidden");
    assert_eq!(refused.status, 403);
    let open = Server::admin_with(Bench::new(), None, Writes::Open).await;
    assert_eq!(open.put(&[], &tokens("r")).await.status, 201);
}

#[tokio::test]
async fn on_a_unix_socket_this_user_needs_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let bind = Bind::Unix(folder.path().join("admin.sock"));
    let bench = Bench::new();
    let admin = admin(&bench, None, Writes::Guarded);
    let server = Server::start(bench, &bind, admin.into_service(), TestAdmin::serve_settings()).await;
    let mut stream = UnixStream::connect(folder.path().join("admin.sock")).await.unwrap();
    let body = tokens("r");
    let head = format!("PUT {TOKENS} HTTP/1.1\r\n{HOST}Content-Type: application/json\r\nConnection: close\r\n");
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    let created = server.exchange(&mut stream, &request).await;
    assert_eq!(created.status, 201, "{created:?}");
}

#[tokio::test]
async fn a_web_page_and_a_rebound_name_are_refused() {
    let server = Server::admin(Bench::new()).await;
    for (headers, status) in [
        ("Host: evil.example\r\n", 400),
        ("", 400),
        ("Host: localhost\r\nOrigin: https://evil.example\r\n", 400),
        ("Host: localhost\r\nSec-Fetch-Site: cross-site\r\n", 400),
        ("Host: localhost\r\n", 404),
        ("Host: [::1]:9090\r\n", 404),
        ("Host: consentry.internal:9090\r\n", 404),
    ] {
        let answer = server.raw(&format!("GET {CONSENT} HTTP/1.1\r\n{headers}\r\n")).await;
        assert_eq!(answer.status, status, "{headers}");
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_apart() {
    let server = Server::admin(Bench::new()).await;
    for path in
        ["/", "/v1", "/v1/consents", "/v1/consents/", "/v2/consents/a", "/v1/consents/a/b", "/v1/consents/a/tokens/"]
    {
        let answer = server.ask("GET", path, &[], "").await;
        answer.problem("no-such-resource");
        assert_eq!(answer.status, 404, "{path}");
    }
    for (path, kind) in [
        ("/v1/consents/a%20b", "consent-id-invalid"),
        (&format!("/v1/consents/{}", "x".repeat(129)), "consent-id-invalid"),
        ("/v1/consents/a/../b", "bad-request"),
        ("/v1//consents/a", "bad-request"),
    ] {
        let answer = server.ask("GET", path, &[], "").await;
        answer.problem(kind);
        assert_eq!(answer.status, 400, "{path}");
    }
    for (method, path, allow) in [
        ("DELETE", CONSENT, "GET, HEAD"),
        ("POST", CONSENT, "GET, HEAD"),
        ("GET", TOKENS, "PUT"),
        ("POST", TOKENS, "PUT"),
        ("TRACE", CONSENT, "GET, HEAD, PUT"),
    ] {
        let answer = server.ask(method, path, &[], "").await;
        answer.problem("method-not-allowed");
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{method} {path}");
    }
    let escaped = server.ask("GET", "/v1/consents/customer%2D4711", &[], "").await;
    escaped.problem("consent-unknown");
}

#[tokio::test]
async fn a_store_that_fails_is_told_by_name() {
    let server = Server::admin(Bench::new()).await;
    let away = Fault::Unavailable(Duration::ZERO);
    let rows: [(&[Fault], &str); 3] = [
        (&[away, away, away], "store-unavailable"),
        (&[Fault::Refused], "store-unavailable"),
        (&[Fault::Unreadable], "consent-unreadable"),
    ];
    for (faults, kind) in rows {
        server.bench.faults.next(faults.iter().copied());
        let refused = server.put(&[], &tokens("r")).await;
        refused.problem(kind);
        assert_eq!(refused.status, 503);
        assert_eq!(refused.header("retry-after").is_some(), kind == "store-unavailable");
    }
    for (fault, kind) in [(away, "store-unavailable"), (Fault::Unreadable, "consent-unreadable")] {
        server.bench.faults.next([fault]);
        let refused = server.ask("GET", CONSENT, &[], "").await;
        refused.problem(kind);
        assert_eq!(refused.status, 503);
    }
    server.bench.faults.next([Fault::Silence]);
    let refused = server.put(&[], &tokens("r")).await;
    refused.problem("store-unavailable");
    assert_eq!(refused.status, 503, "the whole request is bounded");
}

#[tokio::test]
async fn probes_follow_the_latches_and_say_more_when_asked() {
    let (readiness, [bound, store]) = Readiness::new(["bound", "store reached"]);
    let draining = Arc::new(AtomicBool::new(false));
    let server = Server::health(readiness, Arc::clone(&draining)).await;
    bound.release();
    assert_eq!(server.ask("GET", "/livez", &[], "").await.status, 200);
    for probe in ["/readyz", "/startupz", "/readyz?verbose"] {
        let answer = server.ask("GET", probe, &[], "").await;
        assert_eq!(answer.status, 503, "{probe}");
        assert!(answer.body.contains("store reached") && !answer.body.contains("bound"), "{answer:?}");
    }
    store.release();
    draining.store(true, Ordering::Relaxed);
    for probe in ["/readyz", "/startupz", "/livez", "/readyz?verbose=1", "/readyz?a&verbose"] {
        assert_eq!(server.ask("GET", probe, &[], "").await.status, 200, "{probe}");
    }
    let verbose = server.ask("GET", "/readyz?verbose", &[], "").await.body;
    for line in
        ["ready", "waiting for: nothing", "store link: up", "tokens under way: 2", "spills waiting: 3", "draining: yes"]
    {
        assert!(verbose.lines().any(|told| told == line), "{line}: {verbose}");
    }
    let head = server.ask("HEAD", "/readyz", &[], "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn metrics_are_open_metrics_and_anybody_may_read_them() {
    let server = Server::health(Readiness::new([]).0, Arc::default()).await;
    let answer = server.raw("GET /metrics HTTP/1.1\r\nHost: 10.0.0.7:9091\r\n\r\n").await;
    assert_eq!(answer.status, 200);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(answer.header("content-type"), Some(kind));
    assert!(answer.body.contains("# TYPE tokens_cached gauge\n") && answer.body.ends_with("# EOF\n"), "{answer:?}");
}

#[tokio::test]
async fn the_health_listener_reads_and_nothing_else() {
    let server = Server::health(Readiness::new([]).0, Arc::default()).await;
    for path in ["/livez", "/readyz", "/startupz", "/metrics"] {
        let answer = server.ask("POST", path, &[], "").await;
        answer.problem("method-not-allowed");
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{path}");
    }
    for path in ["/", "/healthz", "/livez/", "/v1/consents/a"] {
        let answer = server.ask("GET", path, &[], "").await;
        answer.problem("no-such-resource");
        assert_eq!(answer.status, 404, "{path}");
    }
}

const HOST: &str = "Host: localhost\r\n";

fn tokens(refresh: &str) -> String {
    let refresh = format!("CANARY-{refresh}");
    json!({"provider": "bank", "access_token": "CANARY-a", "refresh_token": refresh, "expires_in": 3600}).to_string()
}

/// A service on a socket, and everything that is logged meanwhile.
struct Server {
    bench: Bench,
    address: String,
    shutdown: Shutdown,
    log: Log,
    _logging: tracing::subscriber::DefaultGuard,
}

type TestAdmin = Admin<FaultyStore, SilentBank, ManualClock>;

fn admin(bench: &Bench, key: Option<&str>, writes: Writes) -> TestAdmin {
    let bind = "127.0.0.1:0".parse().unwrap();
    let settings = AdminSettings { bind, hosts: vec!["consentry.internal".to_owned()], key: key.map(AdminKey::new) };
    let mut admin = Admin::new(bench.tokens.clone(), bench.clock.clone(), settings, writes).unwrap();
    admin.limits.body.idle = Duration::from_millis(300);
    admin.limits.body.whole = Duration::from_millis(600);
    admin.limits.whole = Duration::from_secs(3);
    admin
}

impl Server {
    async fn admin(bench: Bench) -> Self {
        Self::admin_with(bench, Some(KEY), Writes::Guarded).await
    }

    async fn admin_with(bench: Bench, key: Option<&str>, writes: Writes) -> Self {
        let service = admin(&bench, key, writes).into_service();
        Self::start(bench, &"127.0.0.1:0".parse().unwrap(), service, TestAdmin::serve_settings()).await
    }

    async fn health(readiness: Readiness, draining: Arc<AtomicBool>) -> Self {
        let mut registry = prometheus_client::registry::Registry::default();
        Metrics::new(&mut registry);
        let vitals = move || Vitals {
            store_linked: true,
            tokens_under_way: 2,
            spills_waiting: Some(3),
            draining: draining.load(Ordering::Relaxed),
        };
        let health = Health::new(readiness, Arc::new(registry), vitals);
        Self::start(Bench::new(), &"127.0.0.1:0".parse().unwrap(), health.into_service(), ServeSettings::default())
            .await
    }

    async fn start(bench: Bench, bind: &Bind, service: impl Application, settings: ServeSettings) -> Self {
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_env_filter("consentry=trace").with_writer(move || writer.clone());
        let logging = subscriber.finish().set_default();
        let listener = Listener::bind(bind).await.unwrap();
        let (address, shutdown) = (listener.local().to_string(), Shutdown::new());
        let ending = shutdown.clone();
        tokio::spawn(async move { serve(listener, None, &settings, service, ending).await });
        Self { bench, address, shutdown, log, _logging: logging }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.unwrap()
    }

    async fn put(&self, headers: &[(&str, &str)], body: &str) -> Answer {
        let authorization = format!("Bearer {KEY}");
        let own = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        self.ask("PUT", TOKENS, &[&own, headers].concat(), body).await
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let headers = headers.iter().fold(String::new(), |all, (name, value)| all + name + ": " + value + "\r\n");
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\n{HOST}{headers}Connection: close\r\nContent-Length: {length}\r\n");
        self.raw(&format!("{head}\r\n{body}")).await
    }

    async fn raw(&self, request: &str) -> Answer {
        self.exchange(&mut self.connect().await, request).await
    }

    /// Sends bytes, reads one answer, and searches it and the log for canaries.
    async fn exchange(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> Answer {
        // It may have been answered, and the connection closed, before all of it was sent.
        let _ = stream.write_all(request.as_bytes()).await;
        let is_head = request.starts_with("HEAD ");
        let answer = tokio::time::timeout(SOON, Answer::read(stream, is_head)).await.expect("an answer in time");
        let told = format!("{answer:?}{}", self.log.text());
        assert!(!told.contains("CANARY"), "{told}");
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.force();
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    async fn read(stream: &mut (impl AsyncRead + Unpin), is_head: bool) -> Self {
        let mut bytes = Vec::new();
        let head = loop {
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "the connection broke");
        };
        let body = bytes.split_off(head);
        let head = String::from_utf8(bytes).unwrap();
        let mut answer = Self { status: head[9..12].parse().unwrap(), head, body: String::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse::<usize>().unwrap());
        let mut body = body;
        while body.len() < length && !is_head {
            assert_ne!(stream.read_buf(&mut body).await.unwrap(), 0, "the connection broke");
        }
        answer.body = String::from_utf8(body).unwrap();
        answer
    }

    fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &&str| line.split_once(':').is_some_and(|(found, _)| found.eq_ignore_ascii_case(name));
        self.head.lines().find(named).and_then(|line| line.split_once(": ")).map(|(_, value)| value)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect(&self.body)
    }

    /// The body of a problem, which must be of this kind and whole.
    fn problem(&self, slug: &str) -> Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        assert_eq!(self.header("proxy-status"), None, "nothing is proxied here");
        let problem = self.json();
        assert_eq!(problem["type"], format!("https://consentry.example/problems/{slug}"), "{self:?}");
        assert_eq!(problem["status"], self.status);
        for member in ["title", "detail", "retry", "who_acts"] {
            assert!(problem[member].is_string(), "{member}: {problem}");
        }
        problem
    }
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
