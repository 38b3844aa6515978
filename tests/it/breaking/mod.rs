//! A broken bank, a hostile app, a careless operator: what each gets to see, and that no consent is harmed.

// What apps send.
mod app;
// What banks answer.
mod bank;
// What operators and machines do.
mod operator;
// Every problem of the table.
mod problems;

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::client::Answer;
use crate::support::sidecar::Sidecar;

/// A token set to import, of a bank that nobody checks it with.
pub(super) fn token_set(consent: &str, expires_in: u64) -> Value {
    json!({
        "provider": "abn-amro", "access_token": format!("access-of-{consent}"),
        "refresh_token": format!("refresh-of-{consent}"), "expires_in": expires_in, "scope": "a b",
    })
}

pub(super) async fn import(sidecar: &Sidecar, consent: &str, expires_in: u64) {
    let answer = sidecar.put_tokens(consent, None, &token_set(consent, expires_in)).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
}

pub(super) fn told(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.problem())
}

pub(super) fn no_panic(sidecar: &Sidecar) {
    let log = sidecar.program.output();
    assert!(!log.contains("panic"), "{log}");
}

/// A connection to a listener, for bytes that no client would send.
pub(super) async fn say(sidecar: &Sidecar, bytes: &[u8]) -> String {
    let address = sidecar.url("").trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A listener that has heard enough may hang up before everything is sent.
    let _ = stream.write_all(bytes).await;
    let mut heard = Vec::new();
    let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut heard)).await.expect("an end within 20 seconds");
    String::from_utf8_lossy(&heard).into_owned()
}

pub(super) const TOKENS: &str = r#"{"access_token":"new-access","refresh_token":"new-refresh","expires_in":3600}"#;

/// An answer whose body is the token set, framed as it pleases.
pub(super) fn framed(head: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}").into_bytes()
}
