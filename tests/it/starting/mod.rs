//! Consents that are started here: the app asks, a customer goes to the imitated bank and comes back, over real sockets.

// The customer says yes, no, or nothing that anybody can make sense of.
mod customer;

// A person at a terminal.
mod login;

// Processes that are killed on the way, and others that take over.
mod killed;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::bank::IBAN;
use crate::support::client::{Answer, App, request};
use crate::support::redis::free_port;
use crate::support::sidecar::{ADMIN_KEY, Replica, Sidecar};
use crate::support::street::{DONE, Street, start, start_with};

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
