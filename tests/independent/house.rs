//! The server, the keys of its clients, a Redis, and replicas that are registered in every way there is.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::server::Server;
use crate::support::authority::Authority;
use crate::support::client::{Answer, request};
use crate::support::redis::RedisServer;
use crate::support::sidecar::{ADMIN_KEY, Replica, Sidecar};

const DONE: &str = "https://app.example/done";
/// How long access tokens live, in seconds. The server rounds down to whole seconds when they end, so it may be one less.
pub(crate) const LIFE: u32 = 6;

/// One of our registrations at the server, which is a provider and an api of the same name here.
pub(crate) struct Client {
    pub(crate) name: &'static str,
    /// What the server calls it.
    pub(crate) id: &'static str,
    /// How it proves itself, as the server sees it.
    pub(crate) proof: &'static str,
    auth: &'static str,
    certificate: Option<&'static str>,
}

pub(crate) const ES256: Client = Client {
    name: "es256",
    id: "es256",
    proof: "private_key_jwt",
    auth: "method: private_key_jwt, signing_key: {file: es256.key}, signing_key_id: es256.key",
    certificate: None,
};
pub(crate) const PS256: Client = Client {
    name: "ps256",
    id: "ps256",
    proof: "private_key_jwt",
    auth: "method: private_key_jwt, signing_key: {file: ps256.key}, assertion_audience: issuer",
    certificate: None,
};
pub(crate) const MTLS: Client = Client {
    name: "mtls",
    id: "mtls",
    proof: "certificate",
    auth: "method: tls_client_auth, certificate: {file: tpp.crt}, key: {file: tpp.key}",
    certificate: Some("tpp"),
};
pub(crate) const ALONE: Client = Client {
    name: "alone",
    id: "alone",
    proof: "certificate",
    auth: "method: tls_client_auth, certificate: {file: alone.crt}, key: {file: alone.key}",
    certificate: Some("alone"),
};
pub(crate) const BASIC: Client = Client {
    name: "basic",
    id: "tpp: 7%2B+&=/?#~\"\\",
    proof: "client_secret_basic",
    auth: "method: client_secret_basic, secret: {file: basic.secret}",
    certificate: None,
};
pub(crate) const POST: Client = Client {
    name: "post",
    id: "post",
    proof: "client_secret_post",
    auth: "method: client_secret_post, secret: {file: post.secret}",
    certificate: None,
};
pub(crate) const PUBLIC: Client =
    Client { name: "public", id: "public", proof: "none", auth: "method: none", certificate: None };

/// The server takes its requests pushed, and no others.
pub(crate) const PUSHED: Client = Client {
    name: "pushed",
    id: "pushed",
    proof: "private_key_jwt",
    auth: "method: private_key_jwt, signing_key: {file: es256.key}",
    certificate: None,
};

pub(crate) const CLIENTS: [Client; 7] = [ES256, PS256, MTLS, ALONE, BASIC, POST, PUBLIC];

pub(crate) struct House {
    pub(crate) server: Server,
    pub(crate) redis: RedisServer,
    authority: Authority,
    files: tempfile::TempDir,
    port: u16,
}

impl House {
    pub(crate) async fn new() -> Self {
        let (authority, port) = (Authority::new(), callback_port());
        let files = authority.server_files("localhost");
        let (certificate, key) = authority.issue("tpp.example");
        let alone = rcgen::generate_simple_self_signed(vec!["tpp.example".to_owned()]).unwrap();
        for (name, text) in [
            ("es256.key", p256()),
            ("ps256.key", rsa_2048()),
            ("tpp.crt", certificate),
            ("tpp.key", key),
            ("alone.crt", alone.cert.pem()),
            ("alone.key", alone.signing_key.serialize_pem()),
            ("basic.secret", "s:e c%r+e&t=/?#~\"\\%41".to_owned()),
            ("post.secret", "p:o s%t+&=/?#~\"\\%41".to_owned()),
        ] {
            fs::write(files.path().join(name), text).unwrap();
        }
        let redirect_uri = format!("http://localhost:{port}/callback");
        let (server, redis) = tokio::join!(Server::start(files.path(), &redirect_uri, LIFE), RedisServer::start());
        Self { server, redis, authority, files, port }
    }

    /// A replica that pushes its requests at this provider.
    pub(crate) fn pushing(&self, replica: Replica, client: &Client) -> Replica {
        let (line, issuer) = (format!("pkce: required # {}", client.name), &self.server.issuer);
        replica.change(&line, &format!("{line}\n    pushed_authorization_request_endpoint: {issuer}/request"))
    }

    /// A replica that customers come to.
    pub(crate) fn replica(&self) -> Replica {
        self.replica_at(self.port)
    }

    /// A replica whose callback listener is at another port than customers come to.
    pub(crate) fn replica_at(&self, port: u16) -> Replica {
        let replica = Replica::of(self.configuration(port));
        for entry in fs::read_dir(self.files.path()).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name();
            replica.secret(name.to_str().unwrap(), &fs::read_to_string(entry.path()).unwrap());
        }
        replica
    }

    fn configuration(&self, callback: u16) -> String {
        let Self { server: Server { issuer, .. }, redis, port, .. } = self;
        let mut yaml = format!(
            r#"proxy: {{listen: "127.0.0.1:0"}}
admin: {{listen: "127.0.0.1:0", key: {{file: admin.key}}}}
health: {{listen: "127.0.0.1:0"}}
callback: {{listen: "127.0.0.1:{callback}", public_url: "http://localhost:{port}", return_urls: ["{DONE}"]}}
store:
  redis: {{url: "redis://127.0.0.1:{}/0"}}
  spill: {{directory: spill}}
  seal: {{keys: [{{id: test, key: {{file: seal.key}}}}]}}
log: {{format: json, level: info}}
providers:
"#,
            redis.port(),
        );
        for Client { name, id, auth, .. } in CLIENTS.iter().chain([&PUSHED]) {
            let id = json!(id);
            let _ = write!(
                yaml,
                "  {name}:
    token_endpoint: {issuer}/token
    revocation_endpoint: {issuer}/token/revocation
    authorization_endpoint: {issuer}/auth
    authorize_parameters: {{prompt: consent}}
    default_scope: openid offline_access
    pkce: required # {name}
    issuer: {issuer}
    client_id: {id}
    client_auth: {{{auth}}}
    ca_file: ca.pem
",
            );
        }
        yaml.push_str("apis:\n");
        for Client { name, certificate, .. } in CLIENTS.iter().chain([&PUSHED]) {
            let shown = certificate.map(|file| {
                format!(", client_certificate: {{certificate: {{file: {file}.crt}}, key: {{file: {file}.key}}}}")
            });
            let shown = shown.unwrap_or_default();
            let _ = writeln!(
                yaml,
                "  {name}: {{path: /{name}, upstream: {issuer}, provider: {name}, ca_file: ca.pem{shown}}}"
            );
        }
        yaml
    }

    pub(crate) fn browser(&self) -> Browser {
        Browser::new(&self.server.issuer, &self.authority.pem)
    }

    /// A customer consents, of the beginning to the end.
    pub(crate) async fn grant(&self, sidecar: &Sidecar, client: &Client, consent: &str) {
        let started = start(sidecar, client, consent).await;
        let mut browser = self.browser();
        let back = browser.agree(&started).await;
        let arrived = browser.get(&back).await;
        let output = sidecar.program.output();
        assert_eq!(browser.location(&arrived), ended(consent, "granted"), "{}: {output}", client.name);
    }
}

/// Asks for a consent as an app does.
pub(crate) async fn start(sidecar: &Sidecar, client: &Client, consent: &str) -> Value {
    let key = format!("Bearer {ADMIN_KEY}");
    let body = json!({ "provider": client.name, "consent_id": consent, "return_url": DONE });
    let url = sidecar.admin_url("/v1/consents");
    let answer = sidecar.app.json(Method::POST, &url, &[("authorization", &key)], &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    answer.json()
}

/// The app's address that a browser ends at.
pub(crate) fn ended(consent: &str, status: &str) -> String {
    format!("{DONE}?consent_id={consent}&status={status}")
}

/// A call to the server's own resource, the userinfo endpoint, which looks at the token and at what it is bound to.
pub(crate) async fn call(sidecar: &Sidecar, client: &Client, consent: &str) -> Answer {
    sidecar.app.get(&sidecar.url(&format!("/{}/me", client.name)), &[("consent-id", consent)]).await
}

/// Revokes a consent.
pub(crate) async fn revoke(sidecar: &Sidecar, consent: &str) -> Answer {
    let key = format!("Bearer {ADMIN_KEY}");
    let url = sidecar.admin_url(&format!("/v1/consents/{consent}"));
    sidecar.app.send(request(Method::DELETE, &url, &[("authorization", &key)], Bytes::new())).await
}

/// A port for customers, of those that the system gives to nobody who does not name one: it is told to the server long before
/// a replica listens there.
pub(crate) fn callback_port() -> u16 {
    static LAST: AtomicU16 = AtomicU16::new(0);
    let offset = u16::try_from(std::process::id() % 10_000).unwrap();
    let next = || 20_000 + (offset + LAST.fetch_add(1, Ordering::Relaxed)) % 10_000;
    let ports = std::iter::repeat_with(next).take(10_000);
    ports.into_iter().find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

pub(crate) fn p256() -> String {
    let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    pem(der.as_ref())
}

fn rsa_2048() -> String {
    let pair = rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    pem(der.as_ref())
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der))
}
