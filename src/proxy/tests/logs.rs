//! What is logged of a call, and what never is.

use std::io::Write;
use std::sync::{Arc, Mutex};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

use super::bank::{Bank, OK, Say};
use super::house::Plan;
use crate::store::RecordState;
use crate::words::ids::ConsentId;

#[tokio::test]
async fn a_call_leaves_one_line_without_secrets_ids_or_paths() {
    let log = Log::default();
    // The tests' runtime has one thread, so this hears the proxy's tasks as well.
    let filter = "consentry=trace,hyper=off".parse::<Targets>().expect("a filter");
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .finish()
        .with(filter);
    let hearing = tracing::subscriber::set_default(subscriber);
    let bank = Bank::saying(&[
        OK,
        Say::Bytes("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"),
        Say::Bytes("HTTP/1.1 200 OK\r\nX-Echo: CANARY-canary-consent-2\r\nContent-Length: 0\r\n\r\n"),
    ])
    .await;
    let house = Plan::of(&bank).open().await;
    house.shelf.put("canary-consent", RecordState::Active, super::shelf::Mood::Renews);
    let headers = "Consent-ID: canary-consent\r\nX-Canary: canary-header\r\nX-Request-ID: id-1\r\n";
    house.ask("GET /api/v1/canary-path?canary-query", headers, "").await;
    house.ask("POST /api/v1/canary-path", headers, "canary-body").await;
    house.ask("GET /api/nowhere/canary-path", headers, "").await;
    drop(hearing);

    let text = log.text();
    assert!(!text.to_ascii_lowercase().contains("canary"), "{text}");
    assert!(!text.contains("KEY-12345678"), "{text}");
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let calls: Vec<_> = lines.iter().filter(|line| line["target"] == "consentry::access").collect();
    assert_eq!(calls.len(), 3, "{text}");
    let fingerprint = ConsentId::parse("canary-consent").expect("valid").fingerprint();
    let first = &calls[0]["fields"];
    for (field, wanted) in [
        ("method", "GET"),
        ("api", "accounts"),
        ("answered_by", "bank"),
        ("outcome", "2xx"),
        ("consent", &fingerprint),
        ("request_id", "id-1"),
    ] {
        assert_eq!(first[field], wanted, "{field}");
    }
    assert_eq!((&first["status"], &first["route"]), (&200.into(), &0.into()));
    assert_eq!(calls[2]["fields"]["outcome"], "route-not-allowed");
    let alarms: Vec<_> = lines.iter().filter(|line| line["level"] == "ERROR").collect();
    assert_eq!(alarms.len(), 1, "{text}");
    assert_eq!(alarms[0]["fields"]["header"], "x-echo");
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic").clone()).expect("text")
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
