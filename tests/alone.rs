//! What can be set up once in a process is tried in processes of its own.
//!
//! This test has no harness: it runs its checks one after the other, and each runs this same program again with the name
//! of a child, which is all that then happens in it.

use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use consentry::net::serve::{Bind, Listener, ServeSettings, serve};
use consentry::net::shutdown::Shutdown;
use consentry::telemetry::logs::{LineFormat, init};
use consentry::telemetry::{hardening, panic};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The checks, each a sentence.
const CHECKS: [(&str, fn()); 4] = [
    ("at_trace_level_real_traffic_shows_no_header", at_trace_level_real_traffic_shows_no_header),
    ("without_the_cap_the_same_traffic_would_be_written_out", without_the_cap_the_same_traffic_would_be_written_out),
    ("a_panic_tells_its_place_and_thread_and_not_its_payload", a_panic_tells_its_place_and_thread_and_not_its_payload),
    ("a_hardened_process_leaves_no_core", a_hardened_process_leaves_no_core),
];

/// What a process of its own may be asked to do.
const CHILDREN: [(&str, fn()); 5] = [
    ("logs_traffic", logs_traffic),
    ("logs_traffic_uncapped", logs_traffic_uncapped),
    ("panics", panics),
    ("panics_with_a_log", panics_with_a_log),
    ("is_hardened", is_hardened),
];

/// Set in such a process: which child it is.
const CHILD: &str = "CONSENTRY_TEST_CHILD";

fn main() {
    if let Ok(name) = std::env::var(CHILD) {
        let (_, child) = CHILDREN.iter().find(|(child, _)| *child == name).expect("a child of this name");
        return child();
    }
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let chosen: Vec<_> = CHECKS.iter().filter(|(name, _)| name.contains(&wanted)).collect();
    print(&format!("\nrunning {} tests", chosen.len()));
    for (name, check) in &chosen {
        // A check that fails panics, and ends the program with it.
        check();
        print(&format!("test {name} ... ok"));
    }
    let left_out = CHECKS.len() - chosen.len();
    let passed = chosen.len();
    print(&format!("\ntest result: ok. {passed} passed; 0 failed; 0 ignored; 0 measured; {left_out} filtered out\n"));
}

fn at_trace_level_real_traffic_shows_no_header() {
    let told = told_by("logs_traffic", &[("CONSENTRY_LOG", "trace")]);
    assert!(told.contains("own trace") && told.contains("TRACE"), "the filter works: {told}");
    assert!(told.contains("200 OK"), "the traffic happened: {told}");
    assert!(!told.contains("CANARY"), "{told}");
    for target in ["h2", "hyper", "rustls"] {
        assert!(!told.contains(&format!("\"target\":\"{target}")), "{told}");
        assert!(!told.contains(&format!("\"log.target\":\"{target}")), "{told}");
    }
}

fn without_the_cap_the_same_traffic_would_be_written_out() {
    let told = told_by("logs_traffic_uncapped", &[]);
    assert!(told.contains("h2::") && told.contains("rustls::") && told.contains("200 OK"), "{told}");
}

fn a_panic_tells_its_place_and_thread_and_not_its_payload() {
    for (child, logged) in [("panics", false), ("panics_with_a_log", true)] {
        let told = told_by(child, &[]);
        assert!(told.contains("tests/alone.rs:") && told.contains("panicking"), "{told}");
        assert!(!told.contains("CANARY"), "{told}");
        assert_eq!(told.contains("\"level\":\"ERROR\""), logged, "{told}");
    }
}

fn a_hardened_process_leaves_no_core() {
    let told = told_by("is_hardened", &[]);
    assert!(told.contains("cores: Rlimit { current: Some(0), maximum: Some(0) }"), "{told}");
    #[cfg(target_os = "linux")]
    assert!(told.contains("dumpable: Ok(NotDumpable)"), "{told}");
}

/// Runs a child in a process of its own, and gives what it wrote to standard error.
fn told_by(child: &str, env: &[(&str, &str)]) -> String {
    let output = Command::new(std::env::current_exe().expect("a program"))
        .env_remove("RUST_LOG")
        .env_remove("CONSENTRY_LOG")
        .env(CHILD, child)
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let told = String::from_utf8(output.stderr).expect("text");
    assert!(output.status.success(), "{told}");
    told
}

fn print(line: &str) {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{line}").expect("written");
}

fn report(line: &str) {
    use std::io::Write as _;
    writeln!(std::io::stderr(), "{line}").expect("it works");
}

fn block_on(work: impl Future<Output = ()>) {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(work);
}

/// One exchange over HTTP/2 and one over HTTP/1, with a canary in header and body, and a TLS handshake that fails.
async fn exchange_canaries() {
    let listener = Listener::bind(&"127.0.0.1:0".parse::<Bind>().expect("it works")).await.expect("it works");
    let address = listener.local().to_string();
    let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async move {
        let body = request.into_body().collect().await.expect("it works").to_bytes();
        let mut response = Response::new(Full::new(body));
        response.headers_mut().insert("x-secret", http::HeaderValue::from_static("CANARY-answer"));
        Ok::<_, std::convert::Infallible>(response)
    });
    let settings = ServeSettings { http2: true, ..ServeSettings::default() };
    let shutdown = Shutdown::new();
    let server = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { serve(Arc::new(listener), None, &settings, service, shutdown).await }
    });
    for http2 in [true, false] {
        let client = Client::builder(TokioExecutor::new()).http2_only(http2).build_http::<Full<Bytes>>();
        let request = Request::post(format!("http://{address}/CANARY-path"))
            .header("authorization", "Bearer CANARY-token")
            .body(Full::new(Bytes::from_static(b"CANARY-body")))
            .expect("it works");
        let response = client.request(request).await.expect("it works");
        report(&response.status().to_string());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("it works");
    let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(&address).await.expect("it works");
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    assert!(connector.connect("bank.example".try_into().expect("it works"), stream).await.is_err());
    shutdown.force();
    server.await.expect("it works");
}

fn logs_traffic() {
    init(LineFormat::Auto, "error", |name| std::env::var(name).ok()).expect("it works");
    tracing::trace!(target: "consentry::alone", "own trace");
    block_on(exchange_canaries());
}

fn logs_traffic_uncapped() {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(std::io::stderr)
        .finish()
        .try_init()
        .expect("it works");
    block_on(exchange_canaries());
}

fn panics() {
    panic::install_hook();
    let thread = std::thread::Builder::new().name("panicking".to_owned());
    let ended = thread.spawn(|| panic!("CANARY {}", 1)).expect("it works").join();
    assert!(ended.is_err());
}

fn panics_with_a_log() {
    init(LineFormat::Json, "info", |_| None).expect("it works");
    assert!(init(LineFormat::Json, "info", |_| None).is_err(), "a second log is refused");
    panics();
}

fn is_hardened() {
    assert_eq!(hardening::apply(), []);
    report(&format!("cores: {:?}", rustix::process::getrlimit(rustix::process::Resource::Core)));
    #[cfg(target_os = "linux")]
    report(&format!("dumpable: {:?}", rustix::process::dumpable_behavior()));
}
