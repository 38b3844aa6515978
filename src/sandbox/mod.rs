//! Two imitated banks, for developing without bank access, for `demo`, and for the tests.
//!
//! They are peers, not mocks: they listen on real sockets with real TLS, keep to the documents of ABN AMRO and Norsk
//! Gjeldsinformasjon as far as those are known, and are strict where the real bank may be. A refresh token can be spent
//! once; presenting it again is a **reuse event**, which is counted and by default ends the consent. Everything lives in
//! memory and is gone when the process ends; certificates are made anew at every start.
//!
//! # In five minutes
//!
//! `consentry sandbox` prints six addresses and writes into a folder of your choice: `ca.pem` (trust it), `tpp.crt` and
//! `tpp.key` (the client certificate of `TPP_test`; `tpp-renewed.crt` and `tpp-renewed.key` are its next), and
//! `endpoints.json` (every URL and credential). Then, with the control API's address in `$CONTROL`:
//!
//! ```text
//! curl -X POST $CONTROL/abn-amro/consents                      # grants a consent: ids and tokens
//! curl $CONTROL/abn-amro/consents/{id}                         # what became of it
//! curl --cacert ca.pem --cert tpp.crt --key tpp.key $TOKEN_ENDPOINT \
//!      -d grant_type=refresh_token -d client_id=TPP_test -d refresh_token=…
//! curl --cacert ca.pem $API/v1/accounts/NL12ABNA9999876523/balances \
//!      -H "Authorization: Bearer …" -H "API-Key: X1QTWZre0fnW72l263yrhAWB2FDwx3tg"
//! curl $CONTROL/counters                                       # reuse_events must stay 0
//! ```
//!
//! # How a client ends a consent, and how it proves itself
//!
//! Beside ABN AMRO's token endpoint, `/as/revoke_token.oauth2` revokes tokens (RFC 7009; the real bank documents none): a live
//! one ends its consent, and a spent or unknown one is answered with 200 as well. Norsk Gjeldsinformasjon's `DELETE
//! /v1/debt/{id}` ends a consent. Where a bank's settings name `client_keys`, its endpoints ask for a signed assertion
//! (`private_key_jwt`), for `assertion_audience` or else for the token endpoint, and take each once.
//!
//! # A customer's consent
//!
//! A browser that opens ABN AMRO's `authorization_endpoint` with `response_type=code`, `client_id`, `scope`,
//! `redirect_uri`, `state` and, if you like, `flow`, `bank`, `code_challenge` and `code_challenge_method` goes through
//! three pages: log on as a test user, check the data and choose an account, authorize. It must keep the bank's cookie.
//! For a program the forms are `step=logon&user=doe` (or `petstore`, `customer`), `step=check&account=…` and
//! `step=authorize&answer=authorize`; `answer=cancel` ends any of them. Where no customer is at hand,
//! `{"auto_approve": true}` in the settings has the first request answered with a code. Redirect URIs must be
//! registered, in the settings; `http://localhost:8090/callback` and `https://localhost/auth` are. With `--plain-pages`
//! the pages come in plain HTTP, for a browser that does not trust `ca.pem`. Both banks' pages begin in the browser's
//! language where the bank has it, else in English, and a button changes it: `language=nl` or `en` here, `nb` or `en` at
//! Norsk Gjeldsinformasjon. They need no script and no mouse.
//!
//! A code is exchanged once, within 60 seconds, with the redirect URI and verifier that belong to it. One that comes
//! twice is counted in `code_reuses` and ends the consent.
//!
//! | what is wrong | what the customer sees |
//! | --- | --- |
//! | unknown `client_id`; a `redirect_uri` that is not registered, character by character | a page with 400, no redirect |
//! | no `response_type`, or another than `code` | back with `invalid_request`, `unsupported_response_type` |
//! | no scope, an unknown one, or scopes of accounts and of payments | back with `invalid_scope` |
//! | unknown `flow` or `bank`, a bad challenge, a payment without `transactionId`, a parameter twice | back with `invalid_request` |
//! | the customer cancels | back with `server_error`, as at the real bank |
//!
//! Norsk Gjeldsinformasjon's `authorization_endpoint` asks a person to log in (`step=login&nin=…`; `answer=cancel` goes
//! back as `login_cancelled`) and then to approve (`step=consent&answer=approve`; `answer=deny` goes back as
//! `consent_denied`). Its scope is one debt scope, with a number of days behind it or for one lookup, and after it
//! `openid` or nothing; anything else goes back as `invalid_scopes`, a `state` under eight characters as `invalid_state`.
//! The code gives a token for `GET /v1/debt` that carries the one consent, and no refresh token. It lives for ten
//! minutes; the second exchange ends the token.
//!
//! # The control API
//!
//! | request | what it does |
//! | --- | --- |
//! | `GET /endpoints` | every URL and credential, as in `endpoints.json` |
//! | `POST /abn-amro/consents` `{iban?, scope?}` | grants a consent as if the customer had just given it |
//! | `GET /abn-amro/consents/{id}` | its state, current refresh token, live access tokens, refreshes, reuse events |
//! | `POST /abn-amro/consents/{id}/expire-access-tokens`, `…/revoke` | kills its access tokens; ends it |
//! | `POST /abn-amro/expire-access-tokens` | kills all access tokens |
//! | `GET`, `PATCH /abn-amro/settings` | the knobs of [`settings::AbnAmroKnobs`], as a JSON merge patch |
//! | `POST /norsk-gjeld/consents` `{nin?, scope?, days?}` | creates a consent; without days, for one lookup within ten minutes |
//! | `POST /norsk-gjeld/consents/{id}/revoke`, `/norsk-gjeld/expire-access-tokens` | ends it; ends all client tokens |
//! | `POST /norsk-gjeld/feed/skip` `{numbers}` | leaves out so many sequence numbers before the next event of the feed |
//! | `GET`, `PATCH /norsk-gjeld/settings` | the knobs of [`settings::NorskGjeldKnobs`] |
//! | `GET /counters`, `POST /reset-counters` | totals per bank; resetting clears the log, too |
//! | `GET /log` | the latest 20,000 token requests |
//! | `GET`, `POST`, `DELETE /faults` | the fault rules in force; adds one; removes all |
//!
//! # Faults
//!
//! `POST /faults` takes `{"target": "abn-token", "consent": id?, "grant_type": name?, "times": n?, "fault": {…}}`; the
//! targets are `abn-authorize`, `abn-token`, `abn-revoke`, `abn-api`, `nogi-authorize`, `nogi-token` and `nogi-api`. A rule with
//! `"grant_type": "authorization_code"` strikes code exchanges and leaves refreshes alone. What can go wrong, alone or
//! together:
//!
//! | member of `fault` | what happens |
//! | --- | --- |
//! | `delay_before_ms` | waits, and processes only if the client is still there |
//! | `drop_before_processing` | closes the connection; nothing was processed |
//! | `delay_ms` | processes, then waits before answering |
//! | `drop_after_processing` | processes, then closes the connection without an answer |
//! | `status` `{code, retry_after?, body?, process?}` | answers this; processes only if `process` is true |
//! | `html_200` | processes, then answers 200 with an HTML page |
//! | `truncate_at` | sends so many bytes of a 200's body under its full `Content-Length`, then closes |
//! | `slow_body_ms_per_chunk` | sends the body in pieces of 64 bytes with this pause |
//! | `expires_in` | a number, a string, or `"missing"` |
//! | `omit_refresh_token`, `same_refresh_token` | does not rotate; leaves the token out, or repeats it |
//! | `authorize_error` | an authorize request of a known client is sent back with this `error` before a page is shown |
//!
//! # For tests of proxies
//!
//! ABN AMRO's API listener also serves, with token and API key: `/v1/echo` (any method but POST, or `?describe`: a
//! description of the request; POST: its body, streamed back), `/v1/bytes?n=` and `/v1/chunks?n=&size=&pause_ms=`. All
//! of them stream in flat memory.
//!
//! # The files
//!
//! [`settings`] and [`endpoints`] are the surface. `world` is the state that the listeners share; `abn_amro` and
//! `norsk_gjeld` are the banks, `pages`, `visits` and `codes` what both do for browsers; `control`, `faults` and
//! `journal` are what a real bank does not have; `assertions`, `certificates`, `answers` and `paced` are the tools.

mod abn_amro;
mod answers;
mod assertions;
pub mod certificates;
mod codes;
mod control;
pub mod endpoints;
mod faults;
mod journal;
mod norsk_gjeld;
mod paced;
mod pages;
pub mod settings;
mod visits;
mod world;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use rustls::ServerConfig;

use answers::{Broken, Wire};
use certificates::{Authority, CertificateError, PemPair};
use endpoints::{Addresses, Endpoints};
use settings::SandboxSettings;
use world::World;

use crate::net::serve::{Bind, BindError, Listener, ServeSettings, serve, unhurried};
use crate::net::shutdown::Shutdown;
use crate::net::tls::{ClientAuth, Roots, TlsError, server_config};
use crate::words::clock::{Clock, SystemClock};

/// Why the sandbox could not start or write its files.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Certificates could not be made.
    #[error("the sandbox's certificates could not be made")]
    Certificates(#[from] CertificateError),
    /// They could not be used.
    #[error("the sandbox's TLS could not be set up")]
    Tls(#[from] TlsError),
    /// A listener's port could not be had.
    #[error("the sandbox cannot listen on {listener}")]
    Listen {
        /// The address asked for.
        listener: SocketAddr,
        /// Why not.
        #[source]
        cause: BindError,
    },
    /// A file could not be written.
    #[error("{file} could not be written")]
    Write {
        /// Its name in the folder.
        file: &'static str,
        /// Why not.
        #[source]
        cause: io::Error,
    },
}

/// Both banks, bound to their ports. They answer while [`Sandbox::run`] runs.
#[derive(Debug)]
pub struct Sandbox<C = SystemClock> {
    world: Arc<World<C>>,
    authority: Authority,
    client: PemPair,
    renewed: PemPair,
    addresses: Addresses,
    abn_token: (Listener, Option<Arc<ServerConfig>>),
    abn_api: (Listener, Option<Arc<ServerConfig>>),
    nogi_access: (Listener, Option<Arc<ServerConfig>>),
    nogi_api: (Listener, Option<Arc<ServerConfig>>),
    control: Listener,
    pages: (Listener, Option<Arc<ServerConfig>>),
}

impl Sandbox {
    /// Makes certificates and binds all ports, on the machine's clock.
    pub async fn start(settings: SandboxSettings) -> Result<Self, SandboxError> {
        Self::start_at(settings, SystemClock).await
    }
}

impl<C: Clock> Sandbox<C> {
    /// The same on another clock; tokens expire by it.
    pub async fn start_at(settings: SandboxSettings, clock: C) -> Result<Self, SandboxError> {
        let authority = Authority::new()?;
        let client = authority.client(&settings.abn_amro_client_id)?;
        let renewed = authority.client(&settings.abn_amro_client_id)?;
        let thumbprints = [client.identity()?.thumbprint(), renewed.identity()?.thumbprint()];
        let server = authority.server()?.identity()?;
        let tpps = ClientAuth::Required(Roots::Pem(authority.pem().into_bytes()));
        let http1: &[&[u8]] = &[b"http/1.1"];
        let both: &[&[u8]] = &[b"h2", b"http/1.1"];
        let api_tls = (!settings.plain_apis).then(|| server_config(&server, &ClientAuth::Off, both)).transpose()?;
        let ports = settings.ports;
        let (abn_token, abn_token_at) = bind(ports.abn_token).await?;
        let (abn_api, abn_api_at) = bind(ports.abn_api).await?;
        let (nogi_access, nogi_access_at) = bind(ports.nogi_access).await?;
        let (nogi_api, nogi_api_at) = bind(ports.nogi_api).await?;
        let (control, control_at) = bind(ports.control).await?;
        let (pages, pages_at) = bind(ports.pages).await?;
        let pages_tls = (!settings.plain_pages).then(|| server_config(&server, &ClientAuth::Off, http1)).transpose()?;
        let addresses = Addresses {
            abn_token: abn_token_at,
            abn_api: abn_api_at,
            nogi_access: nogi_access_at,
            nogi_api: nogi_api_at,
            control: control_at,
            pages: pages_at,
        };
        let endpoints = Endpoints::new(&addresses, &settings);
        Ok(Self {
            abn_token: (abn_token, Some(server_config(&server, &tpps, http1)?)),
            abn_api: (abn_api, api_tls.clone()),
            nogi_access: (nogi_access, Some(server_config(&server, &ClientAuth::Off, http1)?)),
            nogi_api: (nogi_api, api_tls),
            control,
            pages: (pages, pages_tls),
            world: Arc::new(World::new(clock, settings, endpoints, thumbprints)),
            authority,
            client,
            renewed,
            addresses,
        })
    }

    /// Where the listeners are.
    pub const fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Every URL and credential.
    pub fn endpoints(&self) -> &Endpoints {
        &self.world.endpoints
    }

    /// The certificate that all TLS listeners descend from, as PEM.
    pub fn ca_pem(&self) -> String {
        self.authority.pem()
    }

    /// The certificate and key of ABN AMRO's client.
    pub const fn client_pem(&self) -> &PemPair {
        &self.client
    }

    /// Another certificate of the same authority, which belongs to no client.
    pub fn stranger_pem(&self) -> Result<PemPair, CertificateError> {
        self.authority.client("a stranger")
    }

    /// Writes `ca.pem`, `tpp.crt`, `tpp.key` (mode 0600), the same client's next pair `tpp-renewed.crt` and `tpp-renewed.key`,
    /// and `endpoints.json` into an existing folder.
    pub fn write_files(&self, folder: &Path) -> Result<(), SandboxError> {
        let endpoints = serde_json::to_string_pretty(self.endpoints()).unwrap_or_default();
        let files = [
            ("ca.pem", self.ca_pem(), 0o644),
            ("tpp.crt", self.client.certificate.clone(), 0o644),
            ("tpp.key", self.client.key.clone(), 0o600),
            ("tpp-renewed.crt", self.renewed.certificate.clone(), 0o644),
            ("tpp-renewed.key", self.renewed.key.clone(), 0o600),
            ("endpoints.json", endpoints, 0o644),
        ];
        for (file, text, mode) in files {
            write(&folder.join(file), &text, mode).map_err(|cause| SandboxError::Write { file, cause })?;
        }
        Ok(())
    }

    /// Serves until the shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        let tokens = ServeSettings { max_connections: 10_000, ..ServeSettings::default() };
        let apis = ServeSettings { http2: true, max_streams: 256, ..tokens.clone() };
        // One service per listener: requests in, the bank's function, answers out.
        macro_rules! bank {
            ($listener:expr, $settings:expr, $serve:path) => {{
                let (listener, tls) = $listener;
                let world = Arc::clone(&self.world);
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let world = Arc::clone(&world);
                    async move {
                        let answer: Result<Response<Wire>, Broken> = $serve(&world, request).await;
                        answer
                    }
                });
                serve(Arc::new(listener), tls, $settings, unhurried(service), shutdown.clone())
            }};
        }
        tokio::join!(
            bank!(self.abn_token, &tokens, abn_amro::token::serve),
            bank!(self.abn_api, &apis, abn_amro::api::serve),
            bank!(self.nogi_access, &tokens, norsk_gjeld::token::serve),
            bank!(self.nogi_api, &apis, norsk_gjeld::api::serve),
            bank!((self.control, None), &tokens, control::serve),
            bank!(self.pages, &tokens, browsers),
        );
    }
}

/// ABN AMRO's pages. Where they come without TLS, Norsk Gjeldsinformasjon's come from here too: at home they share a
/// listener with its token endpoint, which keeps its TLS.
async fn browsers<C: Clock>(world: &World<C>, request: Request<Incoming>) -> Result<Response<Wire>, Broken> {
    if world.settings.plain_pages && norsk_gjeld::authorize::owns(request.uri().path()) {
        norsk_gjeld::authorize::serve(world, request).await
    } else {
        abn_amro::authorize::serve(world, request).await
    }
}

async fn bind(port: u16) -> Result<(Listener, SocketAddr), SandboxError> {
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let failed = |cause| SandboxError::Listen { listener: wanted, cause };
    let listener = Listener::bind(&Bind::Tcp(wanted)).await.map_err(failed)?;
    let real = match listener.local() {
        Bind::Tcp(address) => *address,
        Bind::Unix(_) => wanted,
    };
    Ok((listener, real))
}

/// Writes a file that is never readable by more people than its mode says.
fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())
}
