//! The imitated banks as a process of their own, driven through their control API.

use std::path::Path;

use http::Method;
use serde_json::{Value, json};

use super::client::App;
use super::program::{Program, consentry};

pub(crate) struct Bank {
    #[expect(dead_code, reason = "it runs as long as this lives")]
    program: Program,
    files: tempfile::TempDir,
    pub(crate) endpoints: Value,
    app: App,
}

/// A consent as the bank has just granted it.
pub(crate) struct Granted {
    pub(crate) bank_id: String,
    pub(crate) access: String,
    pub(crate) refresh: String,
    pub(crate) import: Value,
}

pub(crate) const IBAN: &str = "NL12ABNA9999876523";

impl Bank {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub(crate) async fn start_with(arguments: &[&str]) -> Self {
        let files = tempfile::tempdir().unwrap();
        let mut command = consentry();
        command.args(["sandbox", "--json", "--files"]).arg(files.path()).args(arguments);
        let mut program = Program::start(command);
        let endpoints = program.said("its endpoints", |output| serde_json::from_str(output).ok()).await;
        Self { program, files, endpoints, app: App::new() }
    }

    pub(crate) fn files(&self) -> &Path {
        self.files.path()
    }

    pub(crate) async fn control(&self, method: Method, path: &str, body: &Value) -> Value {
        let url = format!("{}{path}", self.endpoints["control"].as_str().unwrap());
        let answer = if *body == Value::Null {
            self.app.send(super::client::request(method, &url, &[], bytes::Bytes::new())).await
        } else {
            self.app.json(method, &url, &[], body).await
        };
        assert!(answer.status.is_success(), "{path}: {answer:?}");
        serde_json::from_slice(&answer.body).unwrap_or(Value::Null)
    }

    /// A consent at ABN AMRO, and what to import so that the proxy has it with `expires_in` seconds to live.
    pub(crate) async fn grant(&self, expires_in: u64) -> Granted {
        let granted = self.control(Method::POST, "/abn-amro/consents", &json!({ "iban": IBAN })).await;
        let text = |name: &str| granted[name].as_str().unwrap().to_owned();
        let import = json!({
            "provider": "abn-amro",
            "access_token": granted["access_token"],
            "refresh_token": granted["refresh_token"],
            "expires_in": expires_in,
            "scope": granted["scope"],
            "bank_consent_id": granted["bank_consent_id"],
        });
        Granted {
            bank_id: text("bank_consent_id"),
            access: text("access_token"),
            refresh: text("refresh_token"),
            import,
        }
    }

    /// What the bank knows of a consent.
    pub(crate) async fn consent(&self, bank_id: &str) -> Value {
        self.control(Method::GET, &format!("/abn-amro/consents/{bank_id}"), &Value::Null).await
    }

    /// A number from the bank's counters.
    pub(crate) async fn count(&self, bank: &str, name: &str) -> u64 {
        self.control(Method::GET, "/counters", &Value::Null).await[bank][name].as_u64().unwrap()
    }

    pub(crate) async fn refreshes(&self) -> u64 {
        self.count("abn", "refreshes").await
    }

    pub(crate) async fn reuse_events(&self) -> u64 {
        self.count("abn", "reuse_events").await
    }

    pub(crate) async fn fault(&self, target: &str, times: u64, fault: Value) {
        let rule = json!({ "target": target, "times": times, "fault": fault });
        self.control(Method::POST, "/faults", &rule).await;
    }
}
