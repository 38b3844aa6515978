//! Whoever looks after the process from outside: what waits for it, asks whether it is ready, or is told so.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::{Arc, Mutex};

use http::StatusCode;
use serde_json::json;

use crate::support::bank::Bank;
use crate::support::program::{Program, consentry};
use crate::support::redis::free_port;
use crate::support::sidecar::Replica;

/// What a service manager was told, datagram by datagram.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn at(path: &std::path::Path) -> Self {
        let (socket, told) = (UnixDatagram::bind(path).unwrap(), Self::default());
        let keep = told.clone();
        std::thread::spawn(move || {
            let mut datagram = [0; 1024];
            while let Ok(length) = socket.recv(&mut datagram) {
                keep.0.lock().unwrap().push(String::from_utf8_lossy(&datagram[..length]).into_owned());
            }
        });
        told
    }

    fn has(&self, line: &str) -> bool {
        self.0.lock().unwrap().iter().any(|datagram| datagram.lines().any(|told| told == line))
    }
}

fn command(name: &str, config: &std::path::Path, more: &[&str]) -> Command {
    let mut command = consentry();
    command.arg(name).arg("--config").arg(config).args(more);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_it_is_told_when_it_is_ready_and_when_it_ends() {
    let bank = Bank::start().await;
    let health = format!("127.0.0.1:{}", free_port());
    let replica =
        Replica::embedded(&bank).change("health: {listen: \"127.0.0.1:0\"}", &format!("health: {{listen: {health}}}"));
    let config = replica.write();
    let manager = replica.home().join("manager");
    let told = Told::at(&manager);
    let replica = replica.environment("NOTIFY_SOCKET", manager.to_str().unwrap());

    let in_vain = command("wait", &config, &["--timeout", "0"]).output().unwrap();
    assert_eq!(in_vain.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&in_vain.stderr).contains("nothing listens"), "{in_vain:?}");
    assert_eq!(command("health", &config, &[]).output().unwrap().status.code(), Some(69));

    let mut waiting = Program::start(command("wait", &config, &["--timeout", "30"]));
    assert!(!waiting.has_ended());
    let mut sidecar = replica.start().await;
    assert!(waiting.ended().await.success(), "{}", waiting.output());
    let health = command("health", &config, &[]).output().unwrap();
    assert_eq!((health.status.code(), health.stdout.starts_with(b"ready\n")), (Some(0), true), "{health:?}");
    sidecar.until("the manager is told that it is ready", async || told.has("READY=1")).await;
    assert!(!told.has("STOPPING=1"));

    // A call under way keeps it from ending, and whoever asks meanwhile is told that it is.
    let granted = bank.grant(3_600).await;
    sidecar.import("customer", &granted).await;
    bank.fault("abn-token", 1, json!({ "delay_ms": 1_500 })).await;
    sidecar.expire(&bank, "customer", &granted).await;
    let (app, url) = (sidecar.app.clone(), sidecar.balances_url());
    let call = tokio::spawn(async move { app.get(&url, &[("consent-id", "customer")]).await });
    sidecar
        .until("the token is being fetched", async || sidecar.metrics().await.contains("consentry_calls_in_flight 1"))
        .await;
    sidecar.program.signal("TERM");
    sidecar
        .until("it says that it is ending", async || {
            let ready = sidecar.app.get(&sidecar.health_url("/readyz"), &[]).await;
            ready.status == StatusCode::SERVICE_UNAVAILABLE && ready.body.starts_with(b"not ready, ending")
        })
        .await;
    assert_eq!(sidecar.app.get(&sidecar.health_url("/livez"), &[]).await.status, StatusCode::OK);
    assert_eq!(call.await.unwrap().status, StatusCode::OK);
    assert!(sidecar.program.ended().await.success());
    assert!(told.has("STOPPING=1"));
}

#[test]
fn a_shell_and_a_manual_know_the_commands() {
    let completions = consentry().args(["completions", "bash"]).output().unwrap();
    assert!(completions.status.success() && String::from_utf8_lossy(&completions.stdout).contains("revoke"));
    let page = consentry().arg("man").output().unwrap();
    assert!(page.status.success() && page.stdout.starts_with(b".ie"), "{page:?}");
}
