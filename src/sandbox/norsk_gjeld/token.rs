//! The authorization server: token endpoint, revocation and discovery, with ORY Hydra's answers to the letter.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CACHE_CONTROL, PRAGMA};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;
use serde_json::{Value, json};

use super::super::answers::{Answer, Broken, Form, Wire, answer, empty, form_decode, on_the_wire, only, read_body};
use super::super::assertions::Wanted;
use super::super::codes::BadCode;
use super::super::faults::{Fault, Occasion, Target};
use super::super::journal::{Bank, Outcome, TokenRequest};
use super::super::settings::ToldLife;
use super::super::world::{World, lock};
use super::register::{Now, Token};
use super::{DEBT_SCOPES, FEED_SCOPE, authorize, discovery, service};
use crate::words::clock::Clock;

/// Scopes besides those of a debt lookup.
const OTHER_SCOPES: [&str; 2] = ["consent.create", FEED_SCOPE];

/// Answers one request of the authorization server.
pub(in crate::sandbox) async fn serve<C: Clock>(
    world: &World<C>,
    request: Request<Incoming>,
) -> Result<Response<Wire>, Broken> {
    if authorize::owns(request.uri().path()) {
        return authorize::serve(world, request).await;
    }
    let (head, body) = request.into_parts();
    let allowed = match head.uri.path() {
        "/.well-known/openid-configuration" => "GET",
        "/oauth2/token" | "/oauth2/revoke" => "POST",
        _ => return Ok(on_the_wire(empty(StatusCode::NOT_FOUND))),
    };
    if head.method != allowed {
        return Ok(on_the_wire(only(allowed)));
    }
    if allowed == "GET" {
        return Ok(on_the_wire(discovery::document(&world.endpoints.norsk_gjeld)));
    }
    let form = match read_body(body).await {
        Ok(body) => Form::of_body(&head.headers, &body),
        Err(unread) => return Ok(on_the_wire(unread.answer())),
    };
    if head.uri.path() == "/oauth2/revoke" {
        return Ok(on_the_wire(revoke(world, &head, &form)));
    }
    token(world, &head, &form).await
}

async fn token<C: Clock>(world: &World<C>, head: &Parts, form: &Form) -> Result<Response<Wire>, Broken> {
    let consent = {
        let mut register = lock(&world.norsk_gjeld);
        register.counters.token_requests += 1;
        form.get("code").and_then(|code| register.consent_of_code(code)).map(str::to_owned)
    };
    let arrived = world.clock.boot();
    let record = |outcome, status: u16, fault| {
        world.write(TokenRequest {
            time_ms: world.clock.wall().as_millis(),
            arrived_ms: arrived.as_millis(),
            bank: Bank::NorskGjeld,
            grant_type: form.get("grant_type").unwrap_or_default().chars().take(64).collect(),
            consent: consent.clone(),
            sequence: None,
            outcome,
            status,
            fault,
        });
    };
    let occasion =
        Occasion { consent: consent.as_deref(), grant_type: form.get("grant_type"), target: Target::NogiToken };
    let Some(fault) = world.strike(&occasion) else {
        let (outcome, answer) = process(world, head, form, &Fault::default());
        record(outcome, answer.status().as_u16(), false);
        return Ok(on_the_wire(answer));
    };
    match fault.before().await {
        Ok(None) => {}
        Ok(Some(instead)) => {
            record(Outcome::NotProcessed, 0, true);
            return Ok(on_the_wire(instead));
        }
        Err(broken) => {
            record(Outcome::NotProcessed, 0, true);
            return Err(broken);
        }
    }
    let (outcome, answer) = process(world, head, form, &fault);
    record(outcome, answer.status().as_u16(), true);
    fault.after(answer).await
}

fn process<C: Clock>(world: &World<C>, head: &Parts, form: &Form, fault: &Fault) -> (Outcome, Answer) {
    match granted(world, head, form, fault) {
        Ok(body) => (Outcome::Granted, unkept(StatusCode::OK, &body)),
        Err(refusal @ Refusal::Code(BadCode::Spent)) => (Outcome::CodeReuse, refusal.answer()),
        Err(refusal) => (Outcome::Refused, refusal.answer()),
    }
}

/// A successful answer, its members in the bank's order.
#[derive(Serialize)]
struct Issued {
    access_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<Value>,
    scope: String,
    token_type: &'static str,
}

fn granted<C: Clock>(world: &World<C>, head: &Parts, form: &Form, fault: &Fault) -> Result<Issued, Refusal> {
    if form.repeated(&["grant_type", "scope", "audience", "code", "redirect_uri", "code_verifier"]).is_some() {
        return Err(Refusal::Repeated);
    }
    match form.get("grant_type").ok_or(Refusal::GrantTypeMissing)? {
        grant @ ("client_credentials" | "authorization_code" | "refresh_token") => {
            authenticate(world, &head.headers, form)?;
            match grant {
                "client_credentials" => {}
                "authorization_code" => return exchanged(world, form, fault),
                _ => return Err(Refusal::RefreshTokenGrant),
            }
        }
        _ => return Err(Refusal::GrantTypeUnknown),
    }
    let scope = form.get("scope").unwrap_or_default();
    let known = |word: &str| OTHER_SCOPES.contains(&word) || DEBT_SCOPES.iter().any(|(scope, _)| *scope == word);
    if let Some(unknown) = scope.split_ascii_whitespace().find(|word| !known(word)) {
        return Err(Refusal::Scope(unknown.to_owned()));
    }
    let own_base = &world.endpoints.norsk_gjeld.api;
    let services = form
        .get("audience")
        .unwrap_or_default()
        .split_ascii_whitespace()
        .map(|name| service(name, own_base).ok_or_else(|| Refusal::Audience(name.to_owned())))
        .collect::<Result<Vec<_>, _>>()?;
    let life = lock(&world.norsk_gjeld_knobs).access_token_life_s;
    let expires = world.clock.boot().plus(std::time::Duration::from_secs(life));
    let token = Token { services, scope: scope.to_owned(), consent: None, expires };
    let mut register = lock(&world.norsk_gjeld);
    register.counters.client_credentials += 1;
    Ok(Issued::new(register.issue(token), scope.to_owned(), life, fault))
}

/// A code for a token that carries one consent.
fn exchanged<C: Clock>(world: &World<C>, form: &Form, fault: &Fault) -> Result<Issued, Refusal> {
    let now = Now { boot: world.clock.boot(), wall: world.clock.wall() };
    let life_s = lock(&world.norsk_gjeld_knobs).access_token_life_s;
    let life = std::time::Duration::from_secs(life_s);
    let code = form.get("code").unwrap_or_default();
    let (redirect_uri, verifier) = (form.get("redirect_uri"), form.get("code_verifier"));
    let exchanged = lock(&world.norsk_gjeld).exchange(now, life, code, redirect_uri, verifier);
    let (token, scope) = exchanged.map_err(Refusal::Code)?;
    Ok(Issued::new(token, scope, life_s, fault))
}

impl Issued {
    /// Hydra names a second less than the token lives.
    fn new(access_token: String, scope: String, life_s: u64, fault: &Fault) -> Self {
        let truth = Some(Value::from(life_s.saturating_sub(1)));
        let expires_in = fault.expires_in.as_ref().map_or(truth, ToldLife::value);
        Self { access_token, expires_in, scope, token_type: "bearer" }
    }
}

/// HTTP Basic and nothing else; both halves are form-encoded (RFC 6749 §2.3.1). Where the client has keys, an assertion.
fn authenticate<C: Clock>(world: &World<C>, headers: &HeaderMap, form: &Form) -> Result<(), Refusal> {
    let wanted = &world.settings;
    let (keys, audience) = {
        let knobs = lock(&world.norsk_gjeld_knobs);
        (knobs.client_keys.clone(), knobs.assertion_audience.clone())
    };
    if !keys.is_empty() {
        let audience = audience.unwrap_or_else(|| world.endpoints.norsk_gjeld.token_endpoint.clone());
        let wanted = Wanted { keys: &keys, client_id: &wanted.norsk_gjeld_client_id, audience: &audience };
        let taken = lock(&world.assertions).check(form, wanted, world.clock.wall());
        return taken.map_err(|_| Refusal::Client);
    }
    let Some(value) = headers.get(AUTHORIZATION) else {
        let in_body = form.get("client_secret").is_some();
        return Err(if in_body { Refusal::SecretInBody } else { Refusal::Client });
    };
    let (scheme, encoded) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(Refusal::Client)?;
    let decoded = STANDARD.decode(encoded.trim()).map_err(|_| Refusal::Client)?;
    let colon = decoded.iter().position(|&b| b == b':').ok_or(Refusal::Client)?;
    let id = form_decode(&decoded[..colon]);
    let secret = form_decode(&decoded[colon + 1..]);
    let fits = scheme.eq_ignore_ascii_case("basic")
        && id == wanted.norsk_gjeld_client_id
        && secret == wanted.norsk_gjeld_client_secret;
    if fits { Ok(()) } else { Err(Refusal::Client) }
}

fn revoke<C: Clock>(world: &World<C>, head: &Parts, form: &Form) -> Answer {
    match authenticate(world, &head.headers, form) {
        Ok(()) => {
            lock(&world.norsk_gjeld).revoke_token(form.get("token").unwrap_or_default());
            empty(StatusCode::OK)
        }
        Err(refusal) => refusal.answer(),
    }
}

/// Why a token request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Refusal {
    Client,
    SecretInBody,
    Scope(String),
    Audience(String),
    GrantTypeMissing,
    GrantTypeUnknown,
    Repeated,
    RefreshTokenGrant,
    Code(BadCode),
}

impl Refusal {
    fn answer(&self) -> Answer {
        const CLIENT: &str = "Client authentication failed (e.g., unknown client, no client authentication included, or unsupported authentication method).";
        const GRANT: &str = "The provided authorization grant (e.g., authorization code, resource owner credentials) or refresh token is invalid, expired, revoked, does not match the redirection URI used in the authorization request, or was issued to another client.";
        const REQUEST: &str = "The request is missing a required parameter, includes an invalid parameter value, includes a parameter more than once, or is otherwise malformed.";
        let (status, error, description) = match self {
            Self::Client => (401, "invalid_client", CLIENT.to_owned()),
            Self::SecretInBody => (
                401,
                "invalid_client",
                format!(
                    "{CLIENT} The OAuth 2.0 Client supports client authentication method 'client_secret_basic', but method 'client_secret_post' was requested. You must configure the OAuth 2.0 client's 'token_endpoint_auth_method' value to accept 'client_secret_post'."
                ),
            ),
            Self::Scope(scope) => (
                400,
                "invalid_scope",
                format!(
                    "The requested scope is invalid, unknown, or malformed. The OAuth 2.0 Client is not allowed to request scope '{scope}'."
                ),
            ),
            Self::Audience(audience) => (
                400,
                "invalid_request",
                format!(
                    "{REQUEST} Requested audience '{audience}' has not been whitelisted by the OAuth 2.0 Client."
                ),
            ),
            Self::GrantTypeMissing => {
                (400, "invalid_request", format!("{REQUEST} Request parameter 'grant_type' is missing"))
            }
            Self::GrantTypeUnknown | Self::Repeated => (400, "invalid_request", REQUEST.to_owned()),
            Self::RefreshTokenGrant => (
                400,
                "unauthorized_client",
                "The client is not authorized to request a token using this method. The OAuth 2.0 Client is not allowed to use authorization grant 'refresh_token'.".to_owned(),
            ),
            Self::Code(bad) => {
                let hint = match bad {
                    BadCode::Unknown => "",
                    BadCode::Expired => " The authorization code has expired.",
                    BadCode::Spent => " The authorization code has already been used.",
                    BadCode::RedirectUriMissing | BadCode::RedirectUri => {
                        " The 'redirect_uri' from this request does not match the one from the authorize request."
                    }
                    BadCode::Verifier => " The PKCE code challenge did not match the code verifier.",
                };
                (400, "invalid_grant", format!("{GRANT}{hint}"))
            }
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        unkept(status, &json!({ "error": error, "error_description": description }))
    }
}

/// An answer that nobody may keep.
fn unkept(status: StatusCode, body: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut answer = answer(status, "application/json;charset=UTF-8", body);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer.headers_mut().insert(PRAGMA, HeaderValue::from_static("no-cache"));
    answer
}
