//! One replica: the real binary with a configuration of its own, before the imitated banks.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::bank::{Bank, Granted, IBAN};
use super::client::{Answer, App};
use super::program::{Program, consentry};
use super::redis::RedisServer;
use super::rogue::Rogue;

pub(crate) const ADMIN_KEY: &str = "CANARY-admin-key-0123456789";

pub(crate) struct Sidecar {
    pub(crate) program: Program,
    pub(crate) app: App,
    home: PathBuf,
    proxy: String,
    admin: String,
    health: String,
}

/// A replica that is not started yet: its directory, kept by the test, and what is special about it.
pub(crate) struct Replica {
    home: tempfile::TempDir,
    yaml: String,
    environment: Vec<(String, String)>,
    /// What the shell that it is started by does first.
    limits: Option<String>,
}

impl Replica {
    /// In front of a Redis that other replicas may share.
    pub(crate) fn with_redis(bank: &Bank, redis: &RedisServer) -> Self {
        let url = format!("redis://127.0.0.1:{}/0", redis.port());
        Self::new(bank, &format!("  redis: {{url: \"{url}\"}}\n"))
    }

    /// With a store in a file of its own.
    pub(crate) fn embedded(bank: &Bank) -> Self {
        Self::new(bank, "  embedded: {path: tokens.redb}\n")
    }

    pub(crate) fn new(bank: &Bank, store: &str) -> Self {
        let (abn, nogi) = (&bank.endpoints["abn_amro"], &bank.endpoints["norsk_gjeld"]);
        let replica = Self::of(configuration(store, abn, nogi));
        for file in ["ca.pem", "tpp.crt", "tpp.key"] {
            fs::copy(bank.files().join(file), replica.home().join(file)).unwrap();
        }
        replica.secret("api.key", abn["api_key"].as_str().unwrap());
        replica.secret("nogi.secret", nogi["client_secret"].as_str().unwrap());
        replica
    }

    /// With a configuration of the test's own, and beside it the files `admin.key` and `seal.key`.
    pub(crate) fn of(yaml: String) -> Self {
        let replica = Self { home: tempfile::tempdir().unwrap(), yaml, environment: Vec::new(), limits: None };
        replica.secret("admin.key", ADMIN_KEY);
        replica.secret("seal.key", "Q0FOQVJZLXNlYWwta2V5LTAxMjM0NTY3ODlhYmNkZWY=");
        replica
    }

    /// Writes a file that only its owner may read.
    pub(crate) fn secret(&self, name: &str, text: &str) {
        let path = self.home.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }

    /// In front of a bank that says whatever it is told to, at `/token` and under `/api`.
    pub(crate) fn before_rogue(self, bank: &Bank, rogue: &Rogue) -> Self {
        self.before(bank, &rogue.url(""))
    }

    /// In front of a bank at this address that asks for no certificate, at `/token` and under `/api`.
    pub(crate) fn before(self, bank: &Bank, url: &str) -> Self {
        let abn = &bank.endpoints["abn_amro"];
        let client_auth = "client_auth: {method: tls_client_auth, certificate: {file: tpp.crt}, key: {file: tpp.key}}";
        self.change(abn["token_endpoint"].as_str().unwrap(), &format!("{url}/token"))
            .change(abn["api"].as_str().unwrap(), &format!("{url}/api"))
            .change(client_auth, "client_auth: {method: none}")
    }

    /// Changes the configuration's text.
    pub(crate) fn change(mut self, from: &str, to: &str) -> Self {
        assert!(self.yaml.contains(from), "{from} is not in the configuration");
        self.yaml = self.yaml.replace(from, to);
        self
    }

    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same, for a replica that is started again and again.
    pub(crate) fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Lets the process have so many files and connections open.
    pub(crate) fn open_files(mut self, most: u32) -> Self {
        self.limits = Some(format!("ulimit -n {most}"));
        self
    }

    /// Lets the process write a file's first block and no more, as a disk does that is full: a file can be made, and
    /// what is written is cut off with an error. What goes into a pipe is not meant.
    pub(crate) fn no_room_for_files(mut self) -> Self {
        // Who goes beyond is sent a signal, too, which a full disk does not send.
        self.limits = Some("trap '' XFSZ; ulimit -f 1".to_owned());
        self
    }

    pub(crate) fn room_for_files(mut self) -> Self {
        self.limits = None;
        self
    }

    pub(crate) fn forget_environment(&mut self) {
        self.environment.clear();
    }

    /// Starts the next process without this variable.
    pub(crate) fn forget(&mut self, name: &str) {
        self.environment.retain(|(known, _)| known != name);
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Writes the configuration, and gives its path.
    pub(crate) fn write(&self) -> PathBuf {
        let path = self.home.path().join("consentry.yaml");
        fs::write(&path, &self.yaml).unwrap();
        path
    }

    /// Starts it, and waits until changes arrive from the store.
    pub(crate) async fn start(&self) -> Sidecar {
        let sidecar = self.start_unlinked().await;
        sidecar.until_linked().await;
        sidecar
    }

    /// Starts it, and waits until it listens.
    pub(crate) async fn start_unlinked(&self) -> Sidecar {
        let mut command = consentry();
        if let Some(limits) = &self.limits {
            let program = command.get_program().to_owned();
            command = std::process::Command::new("sh");
            command.arg("-c").arg(format!("{limits}; exec \"$0\" \"$@\"")).arg(program);
        }
        command.args(["run", "--config"]).arg(self.write());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut program = Program::start(command);
        let at = program.logged("Listening.").await;
        let url = |name: &str| format!("http://{}", at[name].as_str().unwrap());
        let (proxy, admin, health) = (url("proxy"), url("admin"), url("health"));
        Sidecar { program, app: App::new(), home: self.home.path().to_owned(), proxy, admin, health }
    }
}

impl Sidecar {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.proxy)
    }

    pub(crate) fn admin_url(&self, path: &str) -> String {
        format!("{}{path}", self.admin)
    }

    pub(crate) fn health_url(&self, path: &str) -> String {
        format!("{}{path}", self.health)
    }

    /// A call to ABN AMRO's account API with a consent's token.
    pub(crate) async fn balances(&self, consent: &str) -> Answer {
        self.app.get(&self.balances_url(), &[("consent-id", consent)]).await
    }

    pub(crate) fn balances_url(&self) -> String {
        self.url(&format!("/accounts/v1/accounts/{IBAN}/balances"))
    }

    pub(crate) async fn put_tokens(&self, consent: &str, version: Option<&str>, body: &Value) -> Answer {
        let key = format!("Bearer {ADMIN_KEY}");
        let tag = version.map(|version| format!("\"{version}\""));
        let mut headers = vec![("authorization", key.as_str())];
        headers.extend(tag.as_deref().map(|tag| ("if-match", tag)));
        self.app.json(Method::PUT, &self.admin_url(&format!("/v1/consents/{consent}/tokens")), &headers, body).await
    }

    /// Has a refresh token that was refused, or replaced, tried again.
    pub(crate) async fn revive(&self, consent: &str, version: Option<&str>, body: &Value) -> Answer {
        let key = format!("Bearer {ADMIN_KEY}");
        let tag = version.map(|version| format!("\"{version}\""));
        let mut headers = vec![("authorization", key.as_str())];
        headers.extend(tag.as_deref().map(|tag| ("if-match", tag)));
        self.app.json(Method::POST, &self.admin_url(&format!("/v1/consents/{consent}/revive")), &headers, body).await
    }

    /// What has happened to a consent.
    pub(crate) async fn history(&self, consent: &str) -> Value {
        let answer = self.app.get(&self.admin_url(&format!("/v1/consents/{consent}/history")), &[]).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.json()
    }

    pub(crate) async fn import(&self, consent: &str, granted: &Granted) {
        let answer = self.put_tokens(consent, None, &granted.import).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    }

    /// What is stored of a consent.
    pub(crate) async fn consent(&self, consent: &str) -> Value {
        let answer = self.app.get(&self.admin_url(&format!("/v1/consents/{consent}")), &[]).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.json()
    }

    /// `{grant}.{generation}` of what is stored.
    pub(crate) async fn version(&self, consent: &str) -> String {
        let view = self.consent(consent).await;
        format!("{}.{}", view["grant"].as_str().unwrap(), view["generation"])
    }

    /// Makes the stored access token expire: the bank's current refresh token is imported anew, with no life left.
    pub(crate) async fn expire(&self, bank: &Bank, consent: &str, granted: &Granted) {
        let mut import = granted.import.clone();
        import["refresh_token"] = bank.consent(&granted.bank_id).await["refresh_token"].clone();
        import["expires_in"] = json!(0);
        // A commit may still be under way: callers are served as soon as its tokens are on disk.
        self.until("the version that is stored is replaced", async || {
            let answer = self.put_tokens(consent, Some(&self.version(consent).await), &import).await;
            assert!(matches!(answer.status, StatusCode::OK | StatusCode::PRECONDITION_FAILED), "{answer:?}");
            answer.status == StatusCode::OK
        })
        .await;
    }

    pub(crate) async fn metrics(&self) -> String {
        let answer = self.app.get(&self.health_url("/metrics"), &[]).await;
        String::from_utf8(answer.body.to_vec()).unwrap()
    }

    /// Waits until changes arrive from the store.
    pub(crate) async fn until_linked(&self) {
        // The line itself, and not the one that describes it.
        let line = "\nconsentry_store_connected 1\n";
        self.until("it is linked to the store", async || self.metrics().await.contains(line)).await;
    }

    /// Waits until a condition holds, ten seconds at most.
    pub(crate) async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        self.until_within(10, what, condition).await;
    }

    /// Waits until a condition holds, so many seconds at most.
    pub(crate) async fn until_within(&self, seconds: u64, what: &str, condition: impl AsyncFn() -> bool) {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(seconds);
        while !condition().await {
            assert!(
                tokio::time::Instant::now() < deadline,
                "not within {seconds} seconds: {what}\n{}",
                self.program.output()
            );
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// The finished spills in its directory.
    pub(crate) fn spills(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.home.join("spill")) else { return Vec::new() };
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "spill")).collect()
    }
}

fn configuration(store: &str, abn: &Value, nogi: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut yaml = String::new();
    let _ = write!(
        yaml,
        r#"proxy: {{listen: "127.0.0.1:0"}}
admin: {{listen: "127.0.0.1:0", key: {{file: admin.key}}}}
health: {{listen: "127.0.0.1:0"}}
store:
{store}  spill: {{directory: spill}}
  seal: {{keys: [{{id: test, key: {{file: seal.key}}}}]}}
providers:
  abn-amro:
    profile: abn-amro-sandbox
    token_endpoint: {abn_token}
    client_id: {abn_client}
    client_auth: {{method: tls_client_auth, certificate: {{file: tpp.crt}}, key: {{file: tpp.key}}}}
    ca_file: ca.pem
  norsk-gjeld:
    profile: norsk-gjeld-preprod
    token_endpoint: {nogi_token}
    client_id: {nogi_client}
    client_auth: {{method: client_secret_basic, secret: {{file: nogi.secret}}}}
    ca_file: ca.pem
apis:
  accounts:
    path: /accounts
    upstream: {abn_api}
    provider: abn-amro
    ca_file: ca.pem
    set_headers: {{API-Key: {{file: api.key}}}}
    routes: [{{match: "/v1/**", token: consent}}]
  debt:
    path: /debt
    upstream: {nogi_api}
    provider: norsk-gjeld
    ca_file: ca.pem
    routes:
      - match: PUT /v1/consent/agreement
        token: client
        audience: https://api-preprod.norskgjeld.no/v1/consent/agreement
        scope: consent.create
      - match: GET,DELETE /v1/debt/{{consent_id}}/**
        token: client
        audience: https://api-preprod.norskgjeld.no/v1/debt
        scope: [debt.unsecured.presentation, debt.unsecured.processing]
        single_use: true
log: {{format: json, level: info}}
"#,
        abn_token = text(&abn["token_endpoint"]),
        abn_client = text(&abn["client_id"]),
        abn_api = text(&abn["api"]),
        nogi_token = text(&nogi["token_endpoint"]),
        nogi_client = text(&nogi["client_id"]),
        nogi_api = text(&nogi["api"]),
    );
    yaml
}
