//! A customer's browser: it keeps cookies, trusts the test's authority, and follows what it is told.

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use consentry::net::tls::{Roots, client_config};

use crate::support::client::{Answer, request};

pub(crate) struct Browser {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    cookies: Vec<(String, String)>,
    server: String,
}

impl Browser {
    /// A browser of a customer of this server.
    pub(crate) fn new(server: &str, authority: &str) -> Self {
        let tls = client_config(&Roots::Pem(authority.as_bytes().to_vec()), None, &[]).unwrap();
        let https = HttpsConnectorBuilder::new().with_tls_config((*tls).clone()).https_or_http().enable_http1().build();
        Self {
            client: Client::builder(TokioExecutor::new()).build(https),
            cookies: Vec::new(),
            server: server.to_owned(),
        }
    }

    pub(crate) async fn get(&mut self, url: &str) -> Answer {
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
        let response = self.client.request(request(method, url, &headers, form.to_owned().into())).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        for line in head.headers.get_all("set-cookie") {
            let (name, value) = line.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.retain(|(known, _)| known != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        Answer { status: head.status, headers: head.headers, body }
    }

    /// From the start address through the server's pages, agreeing to everything: where the server sends the browser back to.
    pub(crate) async fn agree(&mut self, started: &Value) -> String {
        let mut at = self.depart(started).await;
        for form in ["prompt=login&login=customer&password=any", "prompt=consent"] {
            let page = match self.follow(&at).await {
                Visit::Page(page) => page,
                Visit::Away(back) => return back,
            };
            let html = String::from_utf8(page.body.to_vec()).unwrap();
            let action = html.split("<form autocomplete=\"off\" action=\"").nth(1);
            let action = action.unwrap_or_else(|| panic!("no form: {html}")).split('"').next().unwrap();
            let sent = self.send(Method::POST, action, form).await;
            at = self.location(&sent);
        }
        match self.follow(&at).await {
            Visit::Away(back) => back,
            Visit::Page(page) => panic!("the server asks for more: {page:?}"),
        }
    }

    /// The same, but turning back at the first page.
    pub(crate) async fn turn_back(&mut self, started: &Value) -> String {
        let at = self.depart(started).await;
        let first = self.get(&at).await;
        let page = self.location(&first);
        match self.follow(&format!("{page}/abort")).await {
            Visit::Away(back) => back,
            Visit::Page(page) => panic!("the server goes on: {page:?}"),
        }
    }

    /// Where consentry sends the browser.
    pub(crate) async fn depart(&mut self, started: &Value) -> String {
        let sent = self.get(started["start_url"].as_str().unwrap()).await;
        assert_eq!(sent.status, StatusCode::SEE_OTHER, "{sent:?}");
        self.location(&sent)
    }

    /// Follows redirects as long as they stay at the server.
    pub(crate) async fn follow(&mut self, url: &str) -> Visit {
        let mut at = url.to_owned();
        for _ in 0..10 {
            if !at.starts_with(&self.server) {
                return Visit::Away(at);
            }
            let answer = self.get(&at).await;
            if !answer.status.is_redirection() {
                return Visit::Page(answer);
            }
            at = self.location(&answer);
        }
        panic!("redirects without an end: {at}");
    }

    /// Where a redirect leads.
    pub(crate) fn location(&self, answer: &Answer) -> String {
        let location = answer.headers.get("location").unwrap_or_else(|| panic!("no redirect: {answer:?}"));
        let location = location.to_str().unwrap();
        if location.starts_with('/') { format!("{}{location}", self.server) } else { location.to_owned() }
    }
}

/// Where following redirects ends.
pub(crate) enum Visit {
    /// A page of the server.
    Page(Answer),
    /// An address of somebody else.
    Away(String),
}
