//! Consents that are started here: the app asks, a customer goes to the imitated bank and comes back, over real sockets.

// The customer says yes, no, or nothing that anybody can make sense of.
mod customer;

// A person at a terminal.
mod login;

// Processes that are killed on the way, and others that take over.
mod killed;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::bank::{Bank, IBAN};
use crate::support::client::{Answer, App, request};
use crate::support::redis::{RedisServer, free_port};
use crate::support::sidecar::{ADMIN_KEY, Replica, Sidecar};

const DONE: &str = "https://app.example/done";

/// A bank whose pages a browser can see, and where its customers are sent back to.
struct Street {
    bank: Bank,
    redis: RedisServer,
    public_url: String,
    port: u16,
}

impl Street {
    async fn new() -> Self {
        let (bank, redis) = (Bank::start_with(&["--plain-pages"]).await, RedisServer::start().await);
        let port = free_port();
        let public_url = format!("http://localhost:{port}");
        let uris = json!({ "redirect_uris": [format!("{public_url}/callback")] });
        for path in ["/abn-amro/settings", "/norsk-gjeld/settings"] {
            bank.control(Method::PATCH, path, &uris).await;
        }
        Self { bank, redis, public_url, port }
    }

    /// A replica that customers come to.
    fn replica(&self) -> Replica {
        self.replica_at(self.port)
    }

    fn replica_at(&self, port: u16) -> Replica {
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
    async fn exchanges(&self) -> (u64, u64) {
        (self.bank.count("abn", "code_exchanges").await, self.bank.count("abn", "code_reuses").await)
    }
}

/// Asks for a consent at ABN AMRO as an app does.
async fn start(sidecar: &Sidecar, consent: &str) -> Value {
    start_with(sidecar, &json!({ "provider": "abn-amro", "consent_id": consent, "return_url": DONE })).await
}

async fn start_with(sidecar: &Sidecar, body: &Value) -> Value {
    let key = format!("Bearer {ADMIN_KEY}");
    let url = sidecar.admin_url("/v1/consents");
    let answer = sidecar.app.json(Method::POST, &url, &[("authorization", &key)], body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    answer.json()
}

/// A customer's browser, which keeps cookies and follows nothing by itself.
struct Browser {
    app: App,
    cookies: Vec<(String, String)>,
}

impl Browser {
    fn new() -> Self {
        Self { app: App::new(), cookies: Vec::new() }
    }

    async fn get(&mut self, url: &str) -> Answer {
        self.send(Method::GET, url, "").await
    }

    async fn send(&mut self, method: Method, url: &str, form: &str) -> Answer {
        let jar: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let jar = jar.join("; ");
        let mut headers =
            vec![("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        if !jar.is_empty() {
            headers.push(("cookie", jar.as_str()));
        }
        if method == Method::POST {
            headers.push(("content-type", "application/x-www-form-urlencoded"));
        }
        let answer = self.app.send(request(method, url, &headers, form.to_owned().into())).await;
        for line in answer.headers.get_all("set-cookie") {
            let pair = line.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.retain(|(known, _)| known != name);
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
        answer
    }

    /// From the start address to the bank's first page: its address, and the page.
    async fn open_the_bank(&mut self, started: &Value) -> (String, Answer) {
        let sent = self.get(started["start_url"].as_str().unwrap()).await;
        assert_eq!(sent.status, StatusCode::SEE_OTHER, "{sent:?}");
        let bank = location(&sent);
        let page = self.get(&bank).await;
        (bank, page)
    }

    /// Fills in the form of a page.
    async fn fill_in(&mut self, at: &str, page: &Answer, form: &str) -> Answer {
        let html = text(page);
        let action = html.split("action=\"").nth(1).unwrap_or_else(|| panic!("no form: {html}"));
        let action = action.split('"').next().unwrap();
        let origin = at.split("/as/").next().unwrap().split("/oauth2/").next().unwrap();
        self.send(Method::POST, &format!("{origin}{action}"), form).await
    }

    /// Through the bank's three pages: the address that the bank sends the browser back to.
    async fn agree(&mut self, started: &Value) -> String {
        let (at, page) = self.open_the_bank(started).await;
        self.agree_at(&at, page).await
    }

    /// From the bank's first page on.
    async fn agree_at(&mut self, at: &str, page: Answer) -> String {
        let page = self.fill_in(at, &page, "step=logon&user=doe").await;
        let page = self.fill_in(at, &page, &format!("step=check&account={IBAN}")).await;
        let back = self.fill_in(at, &page, "step=authorize&answer=authorize").await;
        location(&back)
    }
}

fn location(answer: &Answer) -> String {
    let location = answer.headers.get("location").unwrap_or_else(|| panic!("no redirect: {answer:?}"));
    location.to_str().unwrap().to_owned()
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap()
}

/// The app's address that a browser ends at.
fn ended(consent: &str, status: &str) -> String {
    format!("{DONE}?consent_id={consent}&status={status}")
}

async fn kinds(sidecar: &Sidecar, consent: &str) -> Vec<String> {
    let history = sidecar.history(consent).await;
    history["events"].as_array().unwrap().iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect()
}
