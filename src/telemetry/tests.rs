//! What can be set up once in a process is tried in processes of its own: each test here runs this same binary again,
//! with one of the ignored tests at the end of this file alone in it.

use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::logs::{LineFormat, init};
use super::{hardening, panic};
use crate::net::serve::{Bind, Listener, ServeSettings, serve};
use crate::net::shutdown::Shutdown;

#[test]
fn at_trace_level_real_traffic_shows_no_header() {
    let told = told_by("child_logs_traffic", &[("CONSENTRY_LOG", "trace")]);
    assert!(told.contains("own trace") && told.contains("TRACE"), "the filter works: {told}");
    assert!(told.contains("200 OK"), "the traffic happened: {told}");
    assert!(!told.contains("CANARY"), "{told}");
    for target in ["h2", "hyper", "rustls"] {
        assert!(!told.contains(&format!("\"target\":\"{target}")), "{told}");
        assert!(!told.contains(&format!("\"log.target\":\"{target}")), "{told}");
    }
}

#[test]
fn without_the_cap_the_same_traffic_would_be_written_out() {
    let told = told_by("child_logs_traffic_uncapped", &[]);
    assert!(told.contains("h2::") && told.contains("rustls::") && told.contains("200 OK"), "{told}");
}

#[test]
fn a_panic_tells_its_place_and_thread_and_not_its_payload() {
    for (child, logged) in [("child_panics", false), ("child_panics_with_a_log", true)] {
        let told = told_by(child, &[]);
        assert!(told.contains("telemetry/tests.rs:") && told.contains("panicking"), "{told}");
        assert!(!told.contains("CANARY"), "{told}");
        assert_eq!(told.contains("\"level\":\"ERROR\""), logged, "{told}");
    }
}

#[test]
fn a_hardened_process_leaves_no_core() {
    let told = told_by("child_is_hardened", &[]);
    assert!(told.contains("cores: Rlimit { current: Some(0), maximum: Some(0) }"), "{told}");
    #[cfg(target_os = "linux")]
    assert!(told.contains("dumpable: Ok(NotDumpable)"), "{told}");
}

/// Runs one ignored test of this file in a process of its own, and gives what it wrote to standard error.
fn told_by(child: &str, env: &[(&str, &str)]) -> String {
    let test = format!("telemetry::tests::{child}");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &test, "--ignored", "--nocapture", "--test-threads=1"])
        .env_remove("RUST_LOG")
        .env_remove("CONSENTRY_LOG")
        .env(ALONE, "1")
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (out, told) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{told}");
    told
}

/// Set in such a process. Without it, as when somebody runs all ignored tests, they do nothing.
const ALONE: &str = "CONSENTRY_TEST_ALONE";

fn is_alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

fn report(line: &str) {
    use std::io::Write as _;
    writeln!(std::io::stderr(), "{line}").unwrap();
}

/// One exchange over HTTP/2 and one over HTTP/1, with a canary in header and body, and a TLS handshake that fails.
async fn exchange_canaries() {
    let listener = Listener::bind(&"127.0.0.1:0".parse::<Bind>().unwrap()).await.unwrap();
    let address = listener.local().to_string();
    let service = tower::service_fn(|request: Request<hyper::body::Incoming>| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mut response = Response::new(Full::new(body));
        response.headers_mut().insert("x-secret", http::HeaderValue::from_static("CANARY-answer"));
        Ok::<_, std::convert::Infallible>(response)
    });
    let settings = ServeSettings { http2: true, ..ServeSettings::default() };
    let shutdown = Shutdown::new();
    let server = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { serve(listener, None, &settings, service, shutdown).await }
    });
    for http2 in [true, false] {
        let client = Client::builder(TokioExecutor::new()).http2_only(http2).build_http::<Full<Bytes>>();
        let request = Request::post(format!("http://{address}/CANARY-path"))
            .header("authorization", "Bearer CANARY-token")
            .body(Full::new(Bytes::from_static(b"CANARY-body")))
            .unwrap();
        let response = client.request(request).await.unwrap();
        report(&response.status().to_string());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    assert!(connector.connect("bank.example".try_into().unwrap(), stream).await.is_err());
    shutdown.force();
    server.await.unwrap();
}

#[tokio::test]
#[ignore = "run in a process of its own"]
async fn child_logs_traffic() {
    if !is_alone() {
        return;
    }
    init(LineFormat::Auto, "error", |name| std::env::var(name).ok()).unwrap();
    tracing::trace!("own trace");
    exchange_canaries().await;
}

#[tokio::test]
#[ignore = "run in a process of its own"]
async fn child_logs_traffic_uncapped() {
    if !is_alone() {
        return;
    }
    let filter = tracing_subscriber::EnvFilter::new("trace");
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).finish().try_init().unwrap();
    exchange_canaries().await;
}

#[test]
#[ignore = "run in a process of its own"]
fn child_panics() {
    if !is_alone() {
        return;
    }
    panic::install_hook();
    let thread = std::thread::Builder::new().name("panicking".to_owned());
    let ended = thread.spawn(|| panic!("CANARY {}", 1)).unwrap().join();
    assert!(ended.is_err());
}

#[test]
#[ignore = "run in a process of its own"]
fn child_panics_with_a_log() {
    if !is_alone() {
        return;
    }
    init(LineFormat::Json, "info", |_| None).unwrap();
    assert!(init(LineFormat::Json, "info", |_| None).is_err(), "a second log is refused");
    child_panics();
}

#[test]
#[ignore = "run in a process of its own"]
fn child_is_hardened() {
    if !is_alone() {
        return;
    }
    assert_eq!(hardening::apply(), []);
    report(&format!("cores: {:?}", rustix::process::getrlimit(rustix::process::Resource::Core)));
    #[cfg(target_os = "linux")]
    report(&format!("dumpable: {:?}", rustix::process::dumpable_behavior()));
}
