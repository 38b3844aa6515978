//! Both listeners over real sockets. Whatever is answered or logged in any of these tests is searched for canaries.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::service::serve_settings;
use super::settings::AdminSettings;
use super::{Admin, Health, Readiness, Vitals, Writes};
use crate::consent::settings::AskSettings;
use crate::consent::testing::{Bench, FaultyStore, SilentBank, provider_id};
use crate::net::serve::{Application, Bind, Listener, serve};
use crate::net::shutdown::Shutdown;
use crate::words::clock::ManualClock;
use crate::words::metrics::Metrics;
use crate::words::secrets::AdminKey;

/// Every wait in these tests ends by then, as a failure.
const SOON: Duration = Duration::from_secs(10);
const KEY: &str = "CANARY-admin-key";
const TOKENS: &str = "/v1/consents/customer-4711/tokens";
const CONSENT: &str = "/v1/consents/customer-4711";
const HISTORY: &str = "/v1/consents/customer-4711/history";
const REVIVE: &str = "/v1/consents/customer-4711/revive";

mod consents;
mod health;
mod providers;
mod starts;

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

fn admin(bench: &Bench, key: Option<&str>, writes: Writes, asking: Option<AskSettings>) -> TestAdmin {
    let bind = "127.0.0.1:0".parse().unwrap();
    let settings = AdminSettings { bind, hosts: vec!["consentry.internal".to_owned()], key: key.map(AdminKey::new) };
    let mut admin = Admin::new(bench.tokens.clone(), bench.clock.clone(), settings, writes).unwrap();
    admin.limits.body.idle = Duration::from_millis(300);
    admin.limits.body.whole = Duration::from_millis(600);
    admin.limits.whole = Duration::from_secs(3);
    admin.starting(asking.map(Arc::new))
}

impl Server {
    async fn admin(bench: Bench) -> Self {
        Self::admin_with(bench, Some(KEY), Writes::Guarded).await
    }

    async fn admin_with(bench: Bench, key: Option<&str>, writes: Writes) -> Self {
        let service = admin(&bench, key, writes, None).into_service();
        Self::start(bench, &"127.0.0.1:0".parse().unwrap(), service).await
    }

    async fn health(readiness: Readiness, draining: Arc<AtomicBool>) -> Self {
        let mut registry = prometheus_client::registry::Registry::default();
        Metrics::new(&mut registry);
        let vitals = move || Vitals {
            store_linked: true,
            tokens_under_way: 2,
            spills_waiting: Some(3),
            frozen: vec![(provider_id(), "operator")],
            draining: draining.load(Ordering::Relaxed),
        };
        let health = Health::new(readiness, Arc::new(registry), vitals);
        Self::start(Bench::new(), &"127.0.0.1:0".parse().unwrap(), health.into_service()).await
    }

    async fn start(bench: Bench, bind: &Bind, service: impl Application) -> Self {
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
        let filter = Targets::new().with_target("consentry", tracing::Level::TRACE);
        let logging = subscriber.finish().with(filter).set_default();
        let listener = Listener::bind(bind).await.unwrap();
        let (address, shutdown) = (listener.local().to_string(), Shutdown::new());
        let ending = shutdown.clone();
        tokio::spawn(async move { serve(Arc::new(listener), None, &serve_settings(), service, ending).await });
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

    async fn revive(&self, headers: &[(&str, &str)], body: &str) -> Answer {
        self.post(REVIVE, headers, body).await
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let authorization = format!("Bearer {KEY}");
        let own = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        self.ask("POST", path, &[&own, headers].concat(), body).await
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
