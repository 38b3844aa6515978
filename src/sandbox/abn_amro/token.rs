//! `POST /as/token.oauth2`: code exchange, refresh and client credentials, with PingFederate's answers to the letter.

use http::header::CACHE_CONTROL;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;
use serde_json::Value;

use super::super::answers::{Answer, Broken, Form, Wire, answer, covers, empty, on_the_wire, only, read_body};
use super::super::assertions::Wanted;
use super::super::codes::BadCode;
use super::super::faults::{Fault, Occasion, Target};
use super::super::journal::{Bank, Outcome, TokenRequest};
use super::super::settings::{AbnAmroKnobs, ToldLife};
use super::super::world::{World, lock};
use super::PAYMENT_SCOPES;
use super::exchange::{CODE_LENGTH, Exchange, NotExchanged};
use super::refresh::Refreshed;
use crate::net::serve::Peer;
use crate::words::clock::Clock;

const MEDIA_TYPE: &str = "application/json;charset=utf-8";

/// Answers one request of the mutual-TLS listener.
pub(in crate::sandbox) async fn serve<C: Clock>(
    world: &World<C>,
    request: Request<Incoming>,
) -> Result<Response<Wire>, Broken> {
    let (head, body) = request.into_parts();
    let revokes = head.uri.path() == "/as/revoke_token.oauth2";
    if head.uri.path() != "/as/token.oauth2" && !revokes {
        return Ok(on_the_wire(empty(StatusCode::NOT_FOUND)));
    }
    if head.method != Method::POST {
        return Ok(on_the_wire(only("POST")));
    }
    let form = match read_body(body).await {
        Ok(body) => Form::of_body(&head.headers, &body),
        Err(unread) => return Ok(on_the_wire(unread.answer())),
    };
    if revokes {
        return revoke(world, &head, &form).await;
    }
    let arrived = world.clock.boot();
    let _answering = Answering::begin(world);
    let (consent, sequence) = {
        let mut ledger = lock(&world.abn_amro);
        ledger.counters.token_requests += 1;
        let token = form.get("refresh_token").unwrap_or_default();
        let (of_refresh, sequence) =
            ledger.consent_of_refresh(token).map(|(id, number)| (id.to_owned(), number)).unzip();
        let of_code = form.get("code").and_then(|code| ledger.consent_of_code(code)).map(str::to_owned);
        (of_refresh.or(of_code), sequence)
    };
    let record = |outcome, status: u16, fault| {
        world.write(TokenRequest {
            time_ms: world.clock.wall().as_millis(),
            arrived_ms: arrived.as_millis(),
            bank: Bank::AbnAmro,
            grant_type: form.get("grant_type").unwrap_or_default().chars().take(64).collect(),
            consent: consent.clone(),
            sequence,
            outcome,
            status,
            fault,
        });
    };
    let occasion =
        Occasion { consent: consent.as_deref(), grant_type: form.get("grant_type"), ..Occasion::at(Target::AbnToken) };
    let Some(fault) = world.strike(&occasion) else {
        let (outcome, answer) = process(world, &head, &form, &Fault::default());
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
    let (outcome, answer) = process(world, &head, &form, &fault);
    record(outcome, answer.status().as_u16(), true);
    fault.after(answer).await
}

/// RFC 7009. A token that is not known, or is spent, is of no use any more, which is all that is asked for.
async fn revoke<C: Clock>(world: &World<C>, head: &Parts, form: &Form) -> Result<Response<Wire>, Broken> {
    let token = form.get("token").unwrap_or_default();
    let process = || {
        if !is_client(world, head, form) {
            return Refusal::Client.answer();
        }
        lock(&world.abn_amro).revoke_token(token);
        empty(StatusCode::OK)
    };
    let consent = {
        let ledger = lock(&world.abn_amro);
        let of_refresh = ledger.consent_of_refresh(token).map(|(id, _)| id.to_owned());
        of_refresh.or_else(|| ledger.consent_of_access(token).map(str::to_owned))
    };
    let occasion = Occasion { consent: consent.as_deref(), ..Occasion::at(Target::AbnRevoke) };
    let Some(fault) = world.strike(&occasion) else { return Ok(on_the_wire(process())) };
    if let Some(instead) = fault.before().await? {
        return Ok(on_the_wire(instead));
    }
    fault.after(process()).await
}

/// A token request that is being answered. It is until this is dropped, also where its client hangs up.
struct Answering<'a, C>(&'a World<C>);

impl<'a, C> Answering<'a, C> {
    fn begin(world: &'a World<C>) -> Self {
        let counters = &mut lock(&world.abn_amro).counters;
        counters.in_flight += 1;
        counters.most_in_flight = counters.most_in_flight.max(counters.in_flight);
        Self(world)
    }
}

impl<C> Drop for Answering<'_, C> {
    fn drop(&mut self) {
        lock(&self.0.abn_amro).counters.in_flight -= 1;
    }
}

/// What the bank does with a request, in one step.
fn process<C: Clock>(world: &World<C>, head: &Parts, form: &Form, fault: &Fault) -> (Outcome, Answer) {
    let (outcome, body) = match granted(world, head, form, fault) {
        Ok((outcome, body)) => (outcome, Ok(body)),
        Err(Refusal::Reuse) => (Outcome::Reuse, Err(Refusal::Reuse)),
        Err(Refusal::CodeReuse) => (Outcome::CodeReuse, Err(Refusal::CodeReuse)),
        Err(refusal) => (Outcome::Refused, Err(refusal)),
    };
    let mut answer = match body {
        Ok(body) => {
            let body = serde_json::to_vec(&body).unwrap_or_default();
            answer(StatusCode::OK, MEDIA_TYPE, body)
        }
        Err(refusal) => refusal.answer(),
    };
    let never_kept = HeaderValue::from_static("no-cache, no-store");
    answer.headers_mut().insert(CACHE_CONTROL, never_kept);
    (outcome, answer)
}

/// Whether the certificate is the one of the `client_id` in the form, or an assertion proves the client.
fn is_client<C: Clock>(world: &World<C>, head: &Parts, form: &Form) -> bool {
    let (keys, audience) = {
        let knobs = lock(&world.abn_amro_knobs);
        (knobs.client_keys.clone(), knobs.assertion_audience.clone())
    };
    if !keys.is_empty() {
        let audience = audience.unwrap_or_else(|| world.endpoints.abn_amro.token_endpoint.clone());
        let wanted = Wanted { keys: &keys, client_id: &world.settings.abn_amro_client_id, audience: &audience };
        return lock(&world.assertions).check(form, wanted, world.clock.wall()).is_ok();
    }
    let certificate = head.extensions.get::<Peer>().and_then(|peer| peer.certificate.as_deref());
    let is_its = certificate.is_some_and(|shown| world.client_thumbprints.iter().any(|its| its == shown));
    is_its && form.get("client_id") == Some(world.settings.abn_amro_client_id.as_str())
}

fn granted<C: Clock>(world: &World<C>, head: &Parts, form: &Form, fault: &Fault) -> Result<(Outcome, Tokens), Refusal> {
    let known = ["grant_type", "client_id", "refresh_token", "scope", "code", "redirect_uri", "code_verifier"];
    if form.repeated(&known).is_some() {
        return Err(Refusal::RepeatedParameter);
    }
    if !is_client(world, head, form) {
        return Err(Refusal::Client);
    }
    let knobs = lock(&world.abn_amro_knobs).clone();
    let now = world.clock.boot();
    match form.get("grant_type").ok_or(Refusal::GrantTypeMissing)? {
        "refresh_token" => {
            let token = form.get("refresh_token").ok_or(Refusal::RefreshTokenMissing)?;
            let stays = fault.omit_refresh_token || fault.same_refresh_token;
            let rotate = knobs.rotation && !stays;
            let refreshed = lock(&world.abn_amro).refresh(now, &knobs, token, form.get("scope"), rotate);
            match refreshed {
                Refreshed::Granted { tokens, in_grace } => {
                    let outcome = if in_grace { Outcome::GrantedInGrace } else { Outcome::Granted };
                    let refresh = (!fault.omit_refresh_token).then_some(tokens.refresh);
                    Ok((outcome, Tokens::new(tokens.access, refresh, &knobs, fault)))
                }
                Refreshed::Unknown => Err(Refusal::RefreshToken),
                Refreshed::Reuse => Err(Refusal::Reuse),
                Refreshed::ScopeTooWide => Err(Refusal::Scope),
            }
        }
        "client_credentials" => {
            let scope = form.get("scope").ok_or(Refusal::Scope)?;
            if !covers(&PAYMENT_SCOPES.join(" "), scope) {
                return Err(Refusal::Scope);
            }
            let access = lock(&world.abn_amro).client_token(now, &knobs, scope);
            Ok((Outcome::Granted, Tokens::new(access, None, &knobs, fault)))
        }
        "authorization_code" => {
            let code = form.get("code").filter(|code| code.len() == CODE_LENGTH).ok_or(Refusal::CodeMalformed)?;
            let (redirect_uri, verifier) = (form.get("redirect_uri"), form.get("code_verifier"));
            let asked = Exchange { code, redirect_uri, verifier };
            let limit = world.settings.max_consents;
            let exchanged = lock(&world.abn_amro).exchange(now, &knobs, limit, &asked);
            let tokens = exchanged.map_err(Refusal::of)?;
            let refresh = (!fault.omit_refresh_token).then_some(tokens.refresh);
            Ok((Outcome::Granted, Tokens::new(tokens.access, refresh, &knobs, fault)))
        }
        _ => Err(Refusal::GrantTypeUnknown),
    }
}

/// A successful answer, its members in the bank's order.
#[derive(Serialize)]
struct Tokens {
    access_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    token_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<Value>,
}

impl Tokens {
    fn new(access: String, refresh: Option<String>, knobs: &AbnAmroKnobs, fault: &Fault) -> Self {
        let told = fault.expires_in.as_ref().or(knobs.expires_in.as_ref());
        let truth = Some(Value::from(knobs.access_token_life_s));
        Self {
            access_token: access,
            refresh_token: refresh,
            token_type: "Bearer",
            expires_in: told.map_or(truth, ToldLife::value),
        }
    }
}

/// Why a token request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// The certificate does not belong to this `client_id`, or there is none.
    Client,
    GrantTypeMissing,
    GrantTypeUnknown,
    RepeatedParameter,
    RefreshTokenMissing,
    /// Unknown, or the consent is over.
    RefreshToken,
    /// Spent. The client sees the same as with [`Refusal::RefreshToken`].
    Reuse,
    Scope,
    /// None, or one that this bank never gives.
    CodeMalformed,
    /// Unknown or expired.
    Code,
    /// Spent. The client sees the same as with [`Refusal::Code`].
    CodeReuse,
    RedirectUriMissing,
    RedirectUri,
    Verifier,
    /// The sandbox holds no more consents.
    Full,
}

impl Refusal {
    fn of(not: NotExchanged) -> Self {
        match not {
            NotExchanged::Code(BadCode::Unknown | BadCode::Expired) => Self::Code,
            NotExchanged::Code(BadCode::Spent) => Self::CodeReuse,
            NotExchanged::Code(BadCode::RedirectUriMissing) => Self::RedirectUriMissing,
            NotExchanged::Code(BadCode::RedirectUri) => Self::RedirectUri,
            NotExchanged::Code(BadCode::Verifier) => Self::Verifier,
            NotExchanged::Full => Self::Full,
        }
    }

    fn answer(self) -> Answer {
        let (status, error, description) = match self {
            Self::Client => (401, "invalid_client", Some("Invalid client or client credentials")),
            Self::GrantTypeMissing => (400, "invalid_request", Some("grant_type is required")),
            Self::GrantTypeUnknown => (400, "unsupported_grant_type", None),
            Self::RepeatedParameter => (400, "invalid_request", Some("a parameter is included more than once")),
            Self::RefreshTokenMissing => (400, "invalid_request", Some("refresh_token parameter is required")),
            Self::RefreshToken | Self::Reuse => {
                (400, "invalid_grant", Some("unknown, invalid, or expired refresh token"))
            }
            Self::Scope => {
                (400, "invalid_scope", Some("The requested scope(s) must be blank or a subset of the provided scopes."))
            }
            Self::CodeMalformed => (400, "invalid_grant", Some("Authorization code is malformed.")),
            Self::Code | Self::CodeReuse => (400, "invalid_grant", Some("Authorization code is invalid or expired.")),
            Self::RedirectUriMissing => (
                400,
                "invalid_grant",
                Some("redirect_uri is required if it was included in the authorization request."),
            ),
            Self::RedirectUri => (
                400,
                "invalid_grant",
                Some("redirect_uri does not match the one included in the authorization request."),
            ),
            Self::Verifier => (
                400,
                "invalid_grant",
                Some(
                    "The code_verifier sent does not match code_challenge included in the authorization request using the S256 code_challenge_method.",
                ),
            ),
            Self::Full => (500, "server_error", Some("the sandbox holds no more")),
        };
        let body = ErrorBody { error_description: description, error };
        let mut body = serde_json::to_vec(&body).unwrap_or_default();
        body.extend_from_slice(b"\r\n");
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        answer(status, MEDIA_TYPE, body)
    }
}

/// An error, its members in PingFederate's order.
#[derive(Serialize)]
struct ErrorBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    error_description: Option<&'static str>,
    error: &'static str,
}
