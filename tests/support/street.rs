//! Where customers go: the imitated banks with pages that a browser can see, and replicas that send it there and take it back.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::bank::Bank;
use super::redis::{RedisServer, free_port};
use super::sidecar::{ADMIN_KEY, Replica, Sidecar};

/// Where an app may have its customers sent in the end.
pub(crate) const DONE: &str = "https://app.example/done";

/// A bank whose pages a browser can see, and where its customers are sent back to.
pub(crate) struct Street {
    pub(crate) bank: Bank,
    pub(crate) redis: RedisServer,
    pub(crate) public_url: String,
    port: u16,
}

impl Street {
    pub(crate) async fn new() -> Self {
        Self::at(free_port()).await
    }

    /// Customers come to this port, whoever listens there.
    pub(crate) async fn at(port: u16) -> Self {
        let (bank, redis) = (Bank::start_with(&["--plain-pages"]).await, RedisServer::start().await);
        let public_url = format!("http://localhost:{port}");
        let uris = json!({ "redirect_uris": [format!("{public_url}/callback")] });
        for path in ["/abn-amro/settings", "/norsk-gjeld/settings"] {
            bank.control(Method::PATCH, path, &uris).await;
        }
        Self { bank, redis, public_url, port }
    }

    /// A replica that customers come to.
    pub(crate) fn replica(&self) -> Replica {
        self.replica_at(self.port)
    }

    pub(crate) fn replica_at(&self, port: u16) -> Replica {
        let endpoint = |bank: &str| self.bank.endpoints[bank]["authorization_endpoint"].as_str().unwrap().to_owned();
        let callback = format!(
            "callback: {{listen: \"127.0.0.1:{port}\", public_url: \"{}\", return_urls: [\"{DONE}\"]}}\nproviders:",
            self.public_url
        );
        let mut replica = Replica::with_redis(&self.bank, &self.redis).change("providers:", &callback);
        for (bank, profile) in [("abn_amro", "abn-amro-sandbox"), ("norsk_gjeld", "norsk-gjeld-preprod")] {
            let line = format!("    profile: {profile}\n");
            replica = replica.change(&line, &format!("{line}    authorization_endpoint: {}\n", endpoint(bank)));
        }
        replica.change(
            "      - match: PUT /v1/consent/agreement\n",
            "      - {match: GET /v1/debt, token: consent}\n      - match: PUT /v1/consent/agreement\n",
        )
    }

    /// How many codes the bank exchanged, and how many came twice.
    pub(crate) async fn exchanges(&self) -> (u64, u64) {
        (self.bank.count("abn", "code_exchanges").await, self.bank.count("abn", "code_reuses").await)
    }
}

/// Asks for a consent at ABN AMRO as an app does.
pub(crate) async fn start(sidecar: &Sidecar, consent: &str) -> Value {
    start_with(sidecar, &json!({ "provider": "abn-amro", "consent_id": consent, "return_url": DONE })).await
}

pub(crate) async fn start_with(sidecar: &Sidecar, body: &Value) -> Value {
    let key = format!("Bearer {ADMIN_KEY}");
    let url = sidecar.admin_url("/v1/consents");
    let answer = sidecar.app.json(Method::POST, &url, &[("authorization", &key)], body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    answer.json()
}
