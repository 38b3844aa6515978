//! `/v1/consent/agreement`, `/v1/debt` and `/v1/debt/{id}`. The debt API knows no 401: a bad token and a bad consent are both 403.

use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::answers::{Answer, Broken, Wire, bearer, covers, empty, json, on_the_wire, read_body, uuid};
use super::super::faults::{Occasion, Target};
use super::super::world::{World, lock};
use super::data::debt;
use super::register::{Agreement, Found, NotRegistered, Now, Register, Token};
use super::{AGREEMENT, DEBT, DEBT_SCOPES, feed, is_nin};
use crate::words::clock::{Clock, WallTime};

/// Answers one request of the API listener.
pub(in crate::sandbox) async fn serve<C: Clock>(
    world: &World<C>,
    request: Request<Incoming>,
) -> Result<Response<Wire>, Broken> {
    let (head, body) = request.into_parts();
    lock(&world.norsk_gjeld).counters.api_calls += 1;
    let body = match read_body(body).await {
        Ok(body) => body,
        Err(unread) => return Ok(on_the_wire(unread.answer())),
    };
    let consent = match consent_in(head.uri.path()) {
        Some((id, _)) => Some(id.to_owned()),
        None => bearer(&head.headers).ok().flatten().and_then(|token| consent_of(world, token)),
    };
    let consent = consent.as_deref();
    let Some(fault) = world.strike(&Occasion { consent, ..Occasion::at(Target::NogiApi) }) else {
        return Ok(on_the_wire(process(world, &head, &body)));
    };
    if let Some(instead) = fault.before().await? {
        return Ok(on_the_wire(instead));
    }
    fault.after(process(world, &head, &body)).await
}

/// The consent that a token carries.
fn consent_of<C: Clock>(world: &World<C>, token: &str) -> Option<String> {
    lock(&world.norsk_gjeld).token(token)?.consent.clone()
}

/// The consent id in a debt path, and whether its status is asked for.
fn consent_in(path: &str) -> Option<(&str, bool)> {
    let rest = path.strip_prefix("/v1/debt/")?;
    let (id, status) = match rest.strip_suffix("/status") {
        Some(id) => (id, true),
        None => (rest, false),
    };
    (!id.is_empty() && !id.contains('/')).then_some((id, status))
}

fn process<C: Clock>(world: &World<C>, head: &Parts, body: &[u8]) -> Answer {
    let now = Now { boot: world.clock.boot(), wall: world.clock.wall() };
    let path = head.uri.path();
    if path == AGREEMENT && head.method == Method::PUT {
        return agreement(world, now, head, body);
    }
    if head.method == Method::GET
        && let Some(answer) = feed::answer(world, now, head)
    {
        return answer;
    }
    let answered = match (consent_in(path), head.method.as_str()) {
        (Some((id, true)), "GET") => status(world, now, head, id),
        (Some((id, false)), "GET") => lookup(world, now, head, id),
        (Some((id, false)), "DELETE") => revoke(world, now, head, id),
        (None, "GET") if path == DEBT => carried(world, now, head),
        _ => return spring(now, head, StatusCode::NOT_FOUND, "no such resource"),
    };
    answered.unwrap_or_else(|error| error.answer(now, &head.headers))
}

/// Why a debt request is refused, in the service's words.
enum DebtError {
    TokenUnknown,
    /// Another audience, or too little scope.
    TokenNotForThis,
    TokenExpired,
    NoConsent,
    ConsentOver(WallTime),
}

impl DebtError {
    fn answer(&self, now: Now, headers: &HeaderMap) -> Answer {
        let (error, description) = match self {
            Self::TokenUnknown | Self::TokenNotForThis => ("Invalid access token", None),
            Self::TokenExpired => ("invalid access token", Some("Access token is expired".to_owned())),
            Self::NoConsent => ("no valid consent", None),
            Self::ConsentOver(at) => ("invalid consent", Some(format!("Consent expired at {at}"))),
        };
        let mut body = json!({
            "error": error,
            "trace_id": trace_id(headers),
            "timestamp": now.wall.to_string(),
        });
        if let (Some(members), Some(description)) = (body.as_object_mut(), description) {
            members.insert("error_description".to_owned(), Value::String(description));
        }
        json(StatusCode::FORBIDDEN, &body)
    }
}

/// The caller's `X-Trace-ID`, or one made up.
fn trace_id(headers: &HeaderMap) -> String {
    const LONGEST: usize = 128;
    let sent = headers.get("x-trace-id").and_then(|value| value.to_str().ok());
    sent.filter(|text| text.len() <= LONGEST).map_or_else(uuid, str::to_owned)
}

/// Checks that the token is the client's own, alive, made for this service, and has these scopes.
fn check_token(
    register: &Register,
    now: Now,
    headers: &HeaderMap,
    service: &str,
    scope: &str,
) -> Result<(), DebtError> {
    let token = presented(register, now, headers)?;
    let fits = token.consent.is_none() && token.services.contains(&service) && covers(&token.scope, scope);
    if fits { Ok(()) } else { Err(DebtError::TokenNotForThis) }
}

/// The token of a request, if it is alive.
fn presented<'r>(register: &'r Register, now: Now, headers: &HeaderMap) -> Result<&'r Token, DebtError> {
    let text = bearer(headers).ok().flatten().ok_or(DebtError::TokenUnknown)?;
    let token = register.token(text).ok_or(DebtError::TokenUnknown)?;
    if now.boot >= token.expires { Err(DebtError::TokenExpired) } else { Ok(token) }
}

/// A lookup with the consent that the token carries. A client's own token carries none.
fn carried<C: Clock>(world: &World<C>, now: Now, head: &Parts) -> Result<Answer, DebtError> {
    let creditors_missing = lock(&world.norsk_gjeld_knobs).creditors_missing;
    let mut register = lock(&world.norsk_gjeld);
    let token = presented(&register, now, &head.headers)?;
    if !token.services.contains(&DEBT) {
        return Err(DebtError::TokenNotForThis);
    }
    let id = token.consent.clone().ok_or(DebtError::NoConsent)?;
    match register.find(now.boot, &id) {
        Found::Consent(consent) => {
            register.used(now, &id);
            Ok(json(StatusCode::OK, &debt(&consent, creditors_missing)))
        }
        Found::Unknown => Err(DebtError::NoConsent),
        Found::Over(at) => Err(DebtError::ConsentOver(at)),
    }
}

/// One step under one lock: of two lookups of a single-use consent at once, one succeeds.
fn lookup<C: Clock>(world: &World<C>, now: Now, head: &Parts, id: &str) -> Result<Answer, DebtError> {
    let creditors_missing = lock(&world.norsk_gjeld_knobs).creditors_missing;
    let mut register = lock(&world.norsk_gjeld);
    check_token(&register, now, &head.headers, DEBT, "")?;
    match register.find(now.boot, id) {
        Found::Consent(consent) => {
            check_token(&register, now, &head.headers, DEBT, &consent.scope)?;
            register.used(now, id);
            Ok(json(StatusCode::OK, &debt(&consent, creditors_missing)))
        }
        Found::Unknown => Err(DebtError::NoConsent),
        Found::Over(at) => Err(DebtError::ConsentOver(at)),
    }
}

fn status<C: Clock>(world: &World<C>, now: Now, head: &Parts, id: &str) -> Result<Answer, DebtError> {
    let register = lock(&world.norsk_gjeld);
    check_token(&register, now, &head.headers, DEBT, "")?;
    let seconds = |at: WallTime| at.as_millis() / 1_000;
    let body = match register.find(now.boot, id) {
        Found::Consent(consent) => {
            json!({ "active": true, "expires_at": seconds(consent.expires_at) })
        }
        Found::Over(at) => json!({ "active": false, "expires_at": seconds(at) }),
        Found::Unknown => json!({ "active": false }),
    };
    Ok(json(StatusCode::OK, &body))
}

fn revoke<C: Clock>(world: &World<C>, now: Now, head: &Parts, id: &str) -> Result<Answer, DebtError> {
    let mut register = lock(&world.norsk_gjeld);
    check_token(&register, now, &head.headers, DEBT, "")?;
    match register.find(now.boot, id) {
        Found::Consent(consent) => {
            check_token(&register, now, &head.headers, DEBT, &consent.scope)?;
            register.revoke(now, id);
            Ok(empty(StatusCode::NO_CONTENT))
        }
        Found::Unknown => Err(DebtError::NoConsent),
        Found::Over(at) => Err(DebtError::ConsentOver(at)),
    }
}

/// The answer to a request of a service that knows a 401, unless its token is good for it.
pub(super) fn unless_allowed(
    register: &Register,
    now: Now,
    head: &Parts,
    service: &str,
    scope: &str,
) -> Option<Answer> {
    match check_token(register, now, &head.headers, service, scope) {
        Ok(()) => None,
        Err(refused @ DebtError::TokenNotForThis) => Some(refused.answer(now, &head.headers)),
        Err(_) => Some(empty(StatusCode::UNAUTHORIZED)),
    }
}

/// What a consent is registered with.
#[derive(Deserialize)]
struct AgreementRequest {
    nin: String,
    scope_of_consent: String,
    consent_duration_days: Value,
    client_consent_id: String,
}

fn agreement<C: Clock>(world: &World<C>, now: Now, head: &Parts, body: &[u8]) -> Answer {
    let refused = unless_allowed(&lock(&world.norsk_gjeld), now, head, AGREEMENT, "consent.create");
    if let Some(refused) = refused {
        return refused;
    }
    let bad = |message| spring(now, head, StatusCode::BAD_REQUEST, message);
    let Ok(asked) = serde_json::from_slice::<AgreementRequest>(body) else {
        return bad("the body is not an agreement");
    };
    // The service's own sample sends the days as a string.
    let days = match &asked.consent_duration_days {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    };
    let Some(days) = days.filter(|days| *days > 0) else {
        return bad("consent_duration_days is not a positive number");
    };
    if !is_nin(&asked.nin) {
        return bad("nin is not a national identity number");
    }
    if !DEBT_SCOPES.iter().any(|(scope, _)| *scope == asked.scope_of_consent) {
        return bad("scope_of_consent is unknown");
    }
    if asked.client_consent_id.is_empty() || asked.client_consent_id.len() > 255 {
        return bad("client_consent_id is missing or too long");
    }
    let agreement = Agreement { nin: asked.nin, scope: asked.scope_of_consent, days };
    let limit = world.settings.max_consents;
    let client_id = &asked.client_consent_id;
    let agreed = lock(&world.norsk_gjeld).agree(now, limit, client_id, agreement);
    match agreed {
        Ok(consent) => json(
            StatusCode::OK,
            &json!({
                "client_consent_id": client_id,
                "consent": {
                    "id": consent.id,
                    "expires_at": consent.expires_at.to_string(),
                    "scope_of_consent": consent.scope,
                },
            }),
        ),
        Err(NotRegistered::Conflict) => {
            spring(now, head, StatusCode::CONFLICT, "client_consent_id is in use with other data")
        }
        Err(NotRegistered::Full) => spring(now, head, StatusCode::INTERNAL_SERVER_ERROR, "the sandbox holds no more"),
    }
}

/// Spring's error body.
pub(super) fn spring(now: Now, head: &Parts, status: StatusCode, message: &str) -> Answer {
    let body = json!({
        "timestamp": now.wall.to_string(),
        "path": head.uri.path(),
        "status": status.as_u16(),
        "error": status.canonical_reason().unwrap_or_default(),
        "message": message,
        "requestId": uuid(),
    });
    json(status, &body)
}
