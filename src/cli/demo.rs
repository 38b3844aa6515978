//! `consentry demo`: everything on this machine, with nothing installed and nothing configured.
//!
//! It writes a configuration like any other into a folder of its own, starts the imitated banks and the proxy with it,
//! grants a consent at each bank, imports what needs importing, and prints what to try. The folder goes when it ends.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::call::Call;
use super::exit::Failure;
use super::keygen::new_key;
use super::run::{failed as start_failed, load, prepare};
use super::sandbox::failed as sandbox_failed;
use super::{out, runtime, signals};
use crate::admin::Writes;
use crate::app::{Addresses, App};
use crate::net::serve::Bind;
use crate::net::shutdown::Shutdown;
use crate::sandbox::Sandbox;
use crate::sandbox::endpoints::Endpoints;
use crate::sandbox::settings::{Ports, SandboxSettings};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// How long an access token of the imitated ABN AMRO lives, in seconds.
    #[arg(long, default_value_t = 7_200, value_name = "SECONDS", env = "CONSENTRY_DEMO_TOKEN_LIFE")]
    token_life: u64,
}

/// The consent at the imitated ABN AMRO, as the proxy knows it.
const CONSENT: &str = "demo-abn-amro";
const IBAN: &str = "NL12ABNA9999876523";

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let folder = Folder::make()?;
    runtime()?.block_on(async {
        let mut settings = SandboxSettings {
            ports: Ports { control: free_port(9_099), ..Ports::default() },
            ..SandboxSettings::default()
        };
        settings.abn_amro.access_token_life_s = arguments.token_life;
        // A browser trusts no authority that is made up for a demonstration.
        settings.plain_pages = true;
        let callback = known_port(8_090)?;
        settings.abn_amro.redirect_uris = vec![format!("http://localhost:{callback}/callback")];
        settings.norsk_gjeld.redirect_uris.clone_from(&settings.abn_amro.redirect_uris);
        let sandbox = Sandbox::start(settings).await.map_err(|error| sandbox_failed(&error))?;
        sandbox.write_files(&folder.0).map_err(|error| sandbox_failed(&error))?;
        let endpoints = sandbox.endpoints().clone();
        let control = Bind::Tcp(sandbox.addresses().control);

        let (config, _) = load(&folder.write_configuration(&endpoints, callback)?)?;
        prepare(&config.log)?;
        let shutdown = Shutdown::new();
        let app = App::start(config, Writes::Open, shutdown.clone()).await.map_err(|error| start_failed(&error))?;
        let at = app.addresses();

        let banks = tokio::spawn(sandbox.run(shutdown.clone()));
        let program = tokio::spawn(app.run());
        tokio::spawn(signals::listen(shutdown.clone()));
        let granted = grant(&control, at.admin.as_ref()).await;
        if let Ok(debt_consent) = &granted {
            out::say(&what_to_try(&at, &endpoints, debt_consent));
        } else {
            shutdown.begin();
        }
        let _ = tokio::join!(banks, program);
        granted.map(|_| ())
    })
}

/// A consent at each bank. The one at ABN AMRO is imported under [`CONSENT`]; the other needs no record, because Norsk
/// Gjeldsinformasjon takes our client's token and the consent's id in the path. Answers with that id.
async fn grant(control: &Bind, admin: Option<&Bind>) -> Result<String, Failure> {
    let granted = call(control, Method::POST, "/abn-amro/consents", &json!({ "iban": IBAN })).await?;
    let import = json!({
        "provider": "abn-amro",
        "access_token": granted["access_token"],
        "refresh_token": granted["refresh_token"],
        "expires_in": granted["expires_in"],
        "scope": granted["scope"],
        "bank_consent_id": granted["bank_consent_id"],
    });
    let admin = admin.ok_or_else(|| Failure::Other("the demo has no admin listener".to_owned()))?;
    call(admin, Method::PUT, &format!("/v1/consents/{CONSENT}/tokens"), &import).await?;
    let person = json!({ "nin": "14842249091", "days": 30 });
    let debt = call(control, Method::POST, "/norsk-gjeld/consents", &person).await?;
    let id = debt["id"].as_str().map(str::to_owned);
    id.ok_or_else(|| Failure::Other("the imitated Norsk Gjeldsinformasjon named no consent".to_owned()))
}

async fn call(bind: &Bind, method: Method, path: &str, body: &Value) -> Result<Value, Failure> {
    let answer = Call::new(method, path).json(Bytes::from(body.to_string())).send(bind).await;
    let answer = answer.map_err(|error| Failure::Unavailable(error.to_string()))?;
    if !answer.status.is_success() {
        return Err(Failure::Other(format!("{bind}{path} answered {}: {}", answer.status, answer.json()["detail"])));
    }
    Ok(answer.json())
}

fn what_to_try(at: &Addresses, endpoints: &Endpoints, debt_consent: &str) -> String {
    let (proxy, control) = (&at.proxy, &endpoints.control);
    let balances = format!("http://{proxy}/accounts/v1/accounts/{IBAN}/balances");
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "consentry demo: two imitated banks, a store in a file, and the proxy. Nothing leaves this machine.\n\n  \
         proxy    http://{proxy}    apps call here, with a consent id and no token\n  \
         health   http://{}    /readyz, /metrics",
        at.health
    );
    if let Some(admin) = &at.admin {
        let _ = writeln!(text, "  admin    http://{admin}    /v1/consents/{CONSENT}");
    }
    let _ = writeln!(text, "  banks    {control}    the sandbox's control\n");
    let _ = writeln!(text, "1. Read a balance at ABN AMRO:\n");
    let _ = writeln!(text, "   curl -H 'Consent-ID: {CONSENT}' {balances}\n");
    let _ = writeln!(text, "2. Read a person's debt at Norsk Gjeldsinformasjon:\n");
    let _ = writeln!(text, "   curl http://{proxy}/debt/v1/debt/{debt_consent}\n");
    let _ = writeln!(
        text,
        "3. Let the bank expire the access token, call 200 times, 50 at once, and look at the bank's counters:\n\n   \
         curl -X POST {control}/abn-amro/expire-access-tokens\n   \
         seq 200 | xargs -P 50 -I@ curl -s -o /dev/null -w '%{{http_code}}\\n' -H 'Consent-ID: {CONSENT}' \\\n     \
         {balances} | sort | uniq -c\n   \
         curl {control}/counters\n\n   \
         Every call is answered 200, for one refresh and no reuse event.\n"
    );
    if let Some(admin) = &at.admin {
        let _ = writeln!(
            text,
            "4. Consent as a customer does, at \"abn-amro\" or at \"norsk-gjeld\". Open the start_url that this prints in a browser:\n\n   \
             curl -X POST -H 'Content-Type: application/json' -d '{{\"provider\": \"abn-amro\"}}' http://{admin}/v1/consents\n\n   \
             With the consent_id that it prints read what was granted, the account or the debt:\n\n   \
             curl -H 'Consent-ID: CONSENT_ID' {balances}\n   \
             curl -H 'Consent-ID: CONSENT_ID' http://{proxy}/debt/v1/debt\n"
        );
    }
    let _ = write!(text, "Ctrl-C ends it.");
    text
}

/// The demo's own folder, for this user alone; removed when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("consentry-demo-{}", std::process::id()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| Failure::Other(format!("{} cannot be made: {error}", path.display())))?;
        Ok(Self(path))
    }

    /// Writes secrets and configuration, and names the latter.
    fn write_configuration(&self, endpoints: &Endpoints, callback: u16) -> Result<PathBuf, Failure> {
        self.write("seal.key", &new_key())?;
        self.write("norsk-gjeld.secret", &endpoints.norsk_gjeld.client_secret)?;
        self.write("api.key", &endpoints.abn_amro.api_key)?;
        self.write("consentry.yaml", &configuration(endpoints, callback))
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = self.0.join(name);
        let written = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| Failure::Other(format!("{} cannot be written: {error}", path.display())))?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind is made up, sealed, and in a temporary folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn configuration(endpoints: &Endpoints, callback: u16) -> String {
    let (abn, nogi) = (&endpoints.abn_amro, &endpoints.norsk_gjeld);
    let [proxy, admin, health] = [8_080, 9_090, 9_091].map(free_port);
    format!(
        r#"
proxy: {{listen: "127.0.0.1:{proxy}"}}
admin: {{listen: "127.0.0.1:{admin}"}}
health: {{listen: "127.0.0.1:{health}"}}
callback: {{listen: "127.0.0.1:{callback}", public_url: "http://localhost:{callback}"}}
store:
  embedded: {{path: tokens.redb}}
  spill: {{directory: spill}}
  seal: {{keys: [{{id: demo, key: {{file: seal.key}}}}]}}
providers:
  abn-amro:
    profile: abn-amro-sandbox
    token_endpoint: {abn_token}
    authorization_endpoint: {abn_authorize}
    client_id: {abn_client}
    client_auth: {{method: tls_client_auth, certificate: {{file: tpp.crt}}, key: {{file: tpp.key}}}}
    ca_file: ca.pem
  norsk-gjeld:
    profile: norsk-gjeld-preprod
    token_endpoint: {nogi_token}
    authorization_endpoint: {nogi_authorize}
    client_id: {nogi_client}
    client_auth: {{method: client_secret_basic, secret: {{file: norsk-gjeld.secret}}}}
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
      - {{match: GET /v1/debt, token: consent}}
      - match: PUT /v1/consent/agreement
        token: client
        audience: https://api-preprod.norskgjeld.no/v1/consent/agreement
        scope: consent.create
      - match: GET,DELETE /v1/debt/{{consent_id}}/**
        token: client
        audience: https://api-preprod.norskgjeld.no/v1/debt
        scope: [debt.unsecured.presentation, debt.unsecured.processing]
        single_use: true
log: {{level: warn}}
"#,
        abn_token = abn.token_endpoint,
        abn_authorize = abn.authorization_endpoint,
        abn_client = abn.client_id,
        abn_api = abn.api,
        nogi_token = nogi.token_endpoint,
        nogi_authorize = nogi.authorization_endpoint,
        nogi_client = nogi.client_id,
        nogi_api = nogi.api,
    )
}

/// The port that is asked for, or 0 for any if it is taken.
fn free_port(wanted: u16) -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)).map_or(0, |_| wanted)
}

/// The port that is asked for, or a free one if it is taken: an address that has to be known before it is listened on.
fn known_port(wanted: u16) -> Result<u16, Failure> {
    let bound =
        TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)).or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let port = bound.and_then(|listener| listener.local_addr()).map(|address| address.port());
    port.map_err(|error| Failure::Unavailable(format!("no port is free: {error}")))
}
