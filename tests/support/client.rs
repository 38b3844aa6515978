//! An app: plain HTTP calls to the proxy, the admin listener, or the sandbox's control.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::time::timeout;

/// Calls over kept connections, as many as are needed.
#[derive(Clone)]
pub(crate) struct App(Client<HttpConnector, Full<Bytes>>);

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// The last segment of a problem's type; empty for an answer that is no problem of ours.
    pub(crate) fn problem(&self) -> String {
        let is_problem = self.headers.get("content-type").is_some_and(|kind| kind == "application/problem+json");
        if !is_problem {
            return String::new();
        }
        self.json()["type"].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default().to_owned()
    }
}

impl App {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self(Client::builder(TokioExecutor::new()).build(connector))
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let what = format!("{} {}", request.method(), request.uri());
        let exchange = async {
            let response = self.0.request(request).await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
            let (head, body) = response.into_parts();
            let body = body.collect().await.unwrap_or_else(|error| panic!("{what}: {error:?}")).to_bytes();
            Answer { status: head.status, headers: head.headers, body }
        };
        timeout(Duration::from_secs(60), exchange).await.unwrap_or_else(|_| panic!("{what}: no answer within a minute"))
    }

    pub(crate) async fn get(&self, url: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(request(Method::GET, url, headers, Bytes::new())).await
    }

    /// Sends JSON.
    pub(crate) async fn json(&self, method: Method, url: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        self.send(request(method, url, &all, Bytes::from(body.to_string()))).await
    }
}

pub(crate) fn request(method: Method, url: &str, headers: &[(&str, &str)], body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body)).unwrap()
}
