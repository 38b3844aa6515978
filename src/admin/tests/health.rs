//! The health listener.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::Server;
use crate::admin::Readiness;

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
    for probe in ["/readyz", "/startupz", "/livez", "/readyz?verbose=1", "/readyz?a&verbose"] {
        assert_eq!(server.ask("GET", probe, &[], "").await.status, 200, "{probe}");
    }
    let verbose = server.ask("GET", "/readyz?verbose", &[], "").await.body;
    for line in [
        "ready",
        "waiting for: nothing",
        "store link: up",
        "tokens under way: 2",
        "spills waiting: 3",
        "frozen: bank (operator)",
        "draining: no",
    ] {
        assert!(verbose.lines().any(|told| told == line), "{line}: {verbose}");
    }
    let head = server.ask("HEAD", "/readyz", &[], "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn a_process_that_is_ending_is_not_ready_and_still_alive() {
    let draining = Arc::new(AtomicBool::new(true));
    let server = Server::health(Readiness::new([]).0, draining).await;
    let answer = server.ask("GET", "/readyz", &[], "").await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "not ready, ending\n"));
    let verbose = server.ask("GET", "/readyz?verbose", &[], "").await;
    assert!(verbose.status == 503 && verbose.body.contains("draining: yes"), "{verbose:?}");
    for probe in ["/livez", "/startupz"] {
        assert_eq!(server.ask("GET", probe, &[], "").await.status, 200, "{probe}");
    }
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
