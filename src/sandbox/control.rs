//! The control API: grants consents as if a customer had just given them, breaks things, and tells what happened.
//!
//! Plain JSON over plain HTTP, for tests and for a developer's `curl`. The routes are in [`process`].

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::abn_amro::{ACCOUNT_SCOPES, DEFAULT_IBAN, PAYMENT_SCOPES};
use super::answers::{Answer, Broken, Wire, covers, empty, json, on_the_wire, read_body};
use super::faults::Rule;
use super::norsk_gjeld::DEBT_SCOPES;
use super::norsk_gjeld::register::Now;
use super::settings::patched;
use super::world::{World, lock};
use crate::words::clock::Clock;

/// Answers one request of the control listener.
pub(super) async fn serve<C: Clock>(world: &World<C>, request: Request<Incoming>) -> Result<Response<Wire>, Broken> {
    let (head, body) = request.into_parts();
    let answer = match read_body(body).await {
        Ok(body) => process(world, &head.method, head.uri.path(), &body),
        Err(unread) => unread.answer(),
    };
    Ok(on_the_wire(answer))
}

fn process<C: Clock>(world: &World<C>, method: &Method, path: &str, body: &[u8]) -> Answer {
    let now = Now { boot: world.clock.boot(), wall: world.clock.wall() };
    let steps: Vec<&str> = path.trim_matches('/').split('/').collect();
    let found = |exists: bool| if exists { done() } else { unknown() };
    match (method.as_str(), steps.as_slice()) {
        ("GET", ["endpoints"]) => json(StatusCode::OK, &world.endpoints),
        ("POST", ["abn-amro", "consents"]) => with(body, |wanted| grant(world, now, wanted)),
        ("GET", ["abn-amro", "consents", id]) => {
            let view = lock(&world.abn_amro).view(now.boot, id);
            view.map_or_else(unknown, |view| json(StatusCode::OK, &view))
        }
        ("POST", ["abn-amro", "consents", id, "expire-access-tokens"]) => {
            found(lock(&world.abn_amro).expire_access(id))
        }
        ("POST", ["abn-amro", "consents", id, "revoke"]) => found(lock(&world.abn_amro).revoke(id)),
        ("POST", ["abn-amro", "expire-access-tokens"]) => {
            lock(&world.abn_amro).expire_all_access();
            done()
        }
        ("GET", ["abn-amro", "settings"]) => json(StatusCode::OK, &*lock(&world.abn_amro_knobs)),
        ("PATCH", ["abn-amro", "settings"]) => with(body, |patch: Map<String, Value>| {
            let mut knobs = lock(&world.abn_amro_knobs);
            change(&mut *knobs, patch)
        }),
        ("POST", ["norsk-gjeld", "consents"]) => with(body, |wanted| create(world, now, wanted)),
        ("POST", ["norsk-gjeld", "consents", id, "revoke"]) => found(lock(&world.norsk_gjeld).revoke(now, id)),
        ("POST", ["norsk-gjeld", "expire-access-tokens"]) => {
            lock(&world.norsk_gjeld).expire_tokens(now.boot);
            done()
        }
        ("POST", ["norsk-gjeld", "feed", "skip"]) => with(body, |SkipRequest { numbers }| {
            lock(&world.norsk_gjeld).feed.skip(numbers);
            done()
        }),
        ("GET", ["norsk-gjeld", "settings"]) => json(StatusCode::OK, &*lock(&world.norsk_gjeld_knobs)),
        ("PATCH", ["norsk-gjeld", "settings"]) => with(body, |patch: Map<String, Value>| {
            let mut knobs = lock(&world.norsk_gjeld_knobs);
            change(&mut *knobs, patch)
        }),
        ("GET", ["counters"]) => counters(world),
        ("POST", ["reset-counters"]) => {
            lock(&world.abn_amro).counters.reset();
            lock(&world.norsk_gjeld).counters = super::journal::NorskGjeldCounters::default();
            lock(&world.journal).clear();
            done()
        }
        ("GET", ["log"]) => {
            let latest = lock(&world.journal).latest();
            json(StatusCode::OK, &latest)
        }
        ("GET", ["faults"]) => json(StatusCode::OK, &lock(&world.faults).rules()),
        ("POST", ["faults"]) => with(body, |rule: Rule| if lock(&world.faults).add(rule) { done() } else { full() }),
        ("DELETE", ["faults"]) => {
            lock(&world.faults).clear();
            done()
        }
        _ => unknown(),
    }
}

/// A consent at ABN AMRO.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct GrantRequest {
    iban: Option<String>,
    scope: Option<String>,
}

fn grant<C: Clock>(world: &World<C>, now: Now, wanted: GrantRequest) -> Answer {
    let iban = wanted.iban.unwrap_or_else(|| DEFAULT_IBAN.to_owned());
    let scope = wanted.scope.unwrap_or_else(|| ACCOUNT_SCOPES.join(" "));
    let of_one_kind = covers(&ACCOUNT_SCOPES.join(" "), &scope) || covers(&PAYMENT_SCOPES.join(" "), &scope);
    if !of_one_kind {
        return bad("scope holds an unknown scope, or scopes of accounts and of payments");
    }
    if iban.is_empty() || iban.len() > 34 || !iban.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()) {
        return bad("iban is not an IBAN");
    }
    let knobs = lock(&world.abn_amro_knobs).clone();
    let limit = world.settings.max_consents;
    let granted = lock(&world.abn_amro).grant(now.boot, &knobs, limit, &iban, &scope);
    let Ok((id, tokens)) = granted else { return full() };
    let body = json!({
        "bank_consent_id": id,
        "access_token": tokens.access,
        "refresh_token": tokens.refresh,
        "expires_in": knobs.access_token_life_s,
        "scope": tokens.scope,
    });
    json(StatusCode::CREATED, &body)
}

/// A gap in the feed of consent events.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SkipRequest {
    numbers: u64,
}

/// A consent at Norsk Gjeldsinformasjon; without days it is for one lookup.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CreateRequest {
    nin: Option<String>,
    scope: Option<String>,
    days: Option<u64>,
}

fn create<C: Clock>(world: &World<C>, now: Now, wanted: CreateRequest) -> Answer {
    let nin = wanted.nin.unwrap_or_else(|| "14842249091".to_owned());
    let scope = wanted.scope.unwrap_or_else(|| DEBT_SCOPES[0].0.to_owned());
    if !DEBT_SCOPES.iter().any(|(known, _)| *known == scope) {
        return bad("scope is not one of a debt lookup");
    }
    let limit = world.settings.max_consents;
    match lock(&world.norsk_gjeld).create(now, limit, &nin, &scope, wanted.days) {
        Ok(consent) => json(
            StatusCode::CREATED,
            &json!({
                "id": consent.id,
                "expires_at": consent.expires_at.to_string(),
                "scope": consent.scope,
            }),
        ),
        Err(_) => full(),
    }
}

fn counters<C: Clock>(world: &World<C>) -> Answer {
    let abn_amro = lock(&world.abn_amro).counters.clone();
    let norsk_gjeld = lock(&world.norsk_gjeld).counters.clone();
    json(StatusCode::OK, &json!({ "abn": abn_amro, "norsk_gjeld": norsk_gjeld }))
}

fn change<K: serde::Serialize + DeserializeOwned>(knobs: &mut K, patch: Map<String, Value>) -> Answer {
    match patched(knobs, patch) {
        Ok(changed) => {
            *knobs = changed;
            json(StatusCode::OK, knobs)
        }
        Err(error) => bad(&error.to_string()),
    }
}

/// Reads a JSON object; an empty body stands for `{}`. Lists are refused: a struct could be read from one unnoticed.
fn with<T: DeserializeOwned>(body: &[u8], work: impl FnOnce(T) -> Answer) -> Answer {
    let body = if body.is_empty() { b"{}" } else { body };
    let object = serde_json::from_slice::<Map<String, Value>>(body);
    match object.and_then(|object| serde_json::from_value(Value::Object(object))) {
        Ok(parsed) => work(parsed),
        Err(error) => bad(&error.to_string()),
    }
}

fn done() -> Answer {
    empty(StatusCode::NO_CONTENT)
}

fn unknown() -> Answer {
    json(StatusCode::NOT_FOUND, &json!({ "error": "there is no such thing here" }))
}

fn full() -> Answer {
    json(StatusCode::INSUFFICIENT_STORAGE, &json!({ "error": "the sandbox holds no more" }))
}

fn bad(message: &str) -> Answer {
    json(StatusCode::BAD_REQUEST, &json!({ "error": message }))
}
