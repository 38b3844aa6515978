//! A browser without a window: it keeps one bank's cookie, and finds its way by what the page says.

use http::Request;

use super::{Bench, Reply, form_post};
use crate::sandbox::answers::Form;

/// One customer's browser.
pub(super) struct Browser<'b> {
    pub(super) bench: &'b Bench,
    /// `name=value`, as it goes back.
    pub(super) cookie: Option<String>,
}

impl<'b> Browser<'b> {
    pub(super) const fn new(bench: &'b Bench) -> Self {
        Self { bench, cookie: None }
    }

    pub(super) async fn get(&mut self, url: &str) -> Reply {
        let request = Request::get("/");
        self.send(url, request, String::new()).await
    }

    /// Fills in the form that answers, as it is on the page of `url`, and posts it.
    pub(super) async fn fill_in(&mut self, url: &str, page: &Reply, fields: &str) -> Reply {
        let origin = url.split("/as/").next().and_then(|base| base.split("/oauth2/").next()).expect("an origin");
        let target = format!("{origin}{}", action(page));
        self.send(&target, form_post(), fields.to_owned()).await
    }

    async fn send(&mut self, url: &str, mut request: http::request::Builder, body: String) -> Reply {
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", format!("other=1; {cookie}"));
        }
        let reply = self.bench.send(None, url, request, body).await.expect("answers");
        if !reply.header("set-cookie").is_empty() {
            self.cookie = reply.header("set-cookie").split(';').next().map(str::to_owned);
        }
        reply
    }
}

/// Where the page's form goes.
pub(super) fn action(page: &Reply) -> String {
    let text = page.text();
    let after = text.split("action=\"").nth(1).unwrap_or_else(|| panic!("no form: {text}"));
    after.split('"').next().expect("a quote").to_owned()
}

/// The redirect URI that a browser is sent to, and a parameter of it.
pub(super) struct SentTo(String);

impl SentTo {
    pub(super) fn of(reply: &Reply) -> Self {
        let location = reply.header("location");
        assert!(!location.is_empty(), "not a redirect: {} {}", reply.status, reply.text());
        Self(location.to_owned())
    }

    pub(super) fn uri(&self) -> &str {
        self.0.split('?').next().unwrap_or_default()
    }

    pub(super) fn query(&self) -> &str {
        self.0.split_once('?').map_or("", |(_, query)| query)
    }

    pub(super) fn get(&self, name: &str) -> Option<String> {
        let query = self.query().split('#').next().unwrap_or_default();
        Form::parse(query.as_bytes()).get(name).map(str::to_owned)
    }

    pub(super) fn code(&self) -> String {
        self.get("code").unwrap_or_else(|| panic!("no code: {}", self.0))
    }
}
