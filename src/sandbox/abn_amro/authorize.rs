//! `GET /as/authorization.oauth2` and the three steps of the consent application behind it: log on, check the data,
//! authorize.
//!
//! A request that cannot be trusted to come from the client, because client or redirect URI are unknown, ends in a page.
//! Any other fault goes back to the client with its `state`, and so does a customer's no: as `server_error`, which is
//! how this bank says it.

use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::super::answers::{Answer, Broken, Form, Wire, covers, empty, on_the_wire, only, read_body};
use super::super::codes::Challenge;
use super::super::faults::{Fault, Occasion, Target};
use super::super::pages::{Language, cookie, lost, refused, send_back, set_cookie};
use super::super::visits::Lost;
use super::super::world::{World, lock};
use super::data::{USERS, User};
use super::exchange::Approved;
use super::screens::{self, BANK};
use super::{ACCOUNT_SCOPES, DEFAULT_IBAN, PAYMENT_SCOPES};
use crate::words::clock::Clock;

const PATH: &str = "/as/authorization.oauth2";
/// PingFederate's cookie.
const COOKIE: &str = "PF";
const DAY_S: u64 = 24 * 60 * 60;
const BANKS: [&str; 3] = ["NLAA01", "BEPB01", "BEPB02"];
/// What the bank says when its consent application gives up or the customer cancels.
const FAILED: (&str, &str) = ("server_error", "Unexpected Runtime Authn Adapter Integration Problem.");

/// A customer on the way from one page to the next.
pub(in crate::sandbox) struct Visit {
    pub(super) request: Wanted,
    pub(super) language: Language,
    pub(super) user: Option<&'static User>,
    pub(super) iban: Option<&'static str>,
}

/// An authorization request that is in order.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) client_id: String,
    /// In the order in which they were asked for.
    pub(super) scope: String,
    redirect_uri: String,
    state: Option<String>,
    /// The registered payment that this is about.
    pub(super) transaction_id: Option<String>,
    challenge: Option<Challenge>,
    /// How long the consent is to last.
    pub(super) days: u64,
}

/// Answers one request of the browser's listener.
pub(in crate::sandbox) async fn serve<C: Clock>(
    world: &World<C>,
    request: Request<Incoming>,
) -> Result<Response<Wire>, Broken> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let visit = path.strip_prefix("/as/").and_then(|rest| rest.strip_suffix("/resume/as/authorization.ping"));
    if let Some(name) = visit {
        if head.method != Method::POST {
            return Ok(on_the_wire(only("POST")));
        }
        return Ok(on_the_wire(match read_body(body).await {
            Ok(body) => step(world, &head, name, &Form::of_body(&head.headers, &body)),
            Err(unread) => unread.answer(),
        }));
    }
    if path != PATH {
        return Ok(on_the_wire(empty(StatusCode::NOT_FOUND)));
    }
    if head.method != Method::GET {
        return Ok(on_the_wire(only("GET")));
    }
    lock(&world.abn_amro).counters.authorize_requests += 1;
    let Some(fault) = world.strike(&Occasion::at(Target::AbnAuthorize)) else {
        return Ok(on_the_wire(begin(world, &head, &Fault::default())));
    };
    if let Some(instead) = fault.before().await? {
        return Ok(on_the_wire(instead));
    }
    fault.after(begin(world, &head, &fault)).await
}

/// Looks at the request and shows the first page.
fn begin<C: Clock>(world: &World<C>, head: &Parts, fault: &Fault) -> Answer {
    let form = Form::parse(head.uri.query().unwrap_or_default().as_bytes());
    let knobs = lock(&world.abn_amro_knobs).clone();
    let twice = form.repeated(&["client_id", "redirect_uri"]).is_some();
    if twice || form.get("client_id") != Some(world.settings.abn_amro_client_id.as_str()) {
        return refused(&BANK, &head.headers, &["Unknown or invalid client_id"]);
    }
    let registered = |uri: &&str| knobs.redirect_uris.iter().any(|own| own == uri);
    let Some(redirect_uri) = form.get("redirect_uri").filter(registered) else {
        return refused(&BANK, &head.headers, &["Invalid redirect_uri"]);
    };
    let state = form.get("state");
    if let Some(error) = &fault.authorize_error {
        let description = if error == FAILED.0 { FAILED.1 } else { "" };
        return back_with_error(redirect_uri, state, error, description);
    }
    let request = match wanted(&form, redirect_uri, knobs.consent_life_s / DAY_S) {
        Ok(request) => request,
        Err((error, description)) => return back_with_error(redirect_uri, state, error, description),
    };
    if knobs.auto_approve {
        return approve(world, &request, DEFAULT_IBAN);
    }
    let language = Language::of_browser(&head.headers, BANK.languages);
    let visit = Visit { request, language, user: None, iban: None };
    let sent = cookie(&head.headers, COOKIE);
    let mut ledger = lock(&world.abn_amro);
    let begun = ledger.visits.begin(world.clock.boot(), sent, visit);
    let mut page = match ledger.visits.find(world.clock.boot(), &begun.name, Some(&begun.cookie)) {
        Ok(visit) => screens::log_on(&begun.name, visit),
        Err(Lost) => lost(&BANK, &head.headers),
    };
    set_cookie(&mut page, COOKIE, &begun.cookie, !world.settings.plain_pages);
    page
}

/// The request, or the error and its description.
fn wanted(form: &Form, redirect_uri: &str, days: u64) -> Result<Wanted, (&'static str, &'static str)> {
    const REQUEST: &str = "invalid_request";
    const SCOPE: (&str, &str) = ("invalid_scope", "The requested scope is invalid, unknown, or malformed.");
    let once =
        ["response_type", "scope", "state", "flow", "bank", "transactionId", "code_challenge", "code_challenge_method"];
    if form.repeated(&once).is_some() {
        return Err((REQUEST, "a parameter is included more than once"));
    }
    match form.get("response_type") {
        Some("code") => {}
        Some(_) => return Err(("unsupported_response_type", "")),
        None => return Err((REQUEST, "response_type is required")),
    }
    if form.get("flow").is_some_and(|flow| flow != "code") {
        return Err((REQUEST, "flow is unknown"));
    }
    if form.get("bank").is_some_and(|bank| !BANKS.contains(&bank)) {
        return Err((REQUEST, "bank is unknown"));
    }
    let scope = form.get("scope").ok_or(SCOPE)?;
    let of_accounts = covers(&ACCOUNT_SCOPES.join(" "), scope);
    let of_payments = covers(&PAYMENT_SCOPES.join(" "), scope);
    if scope.trim().is_empty() || !(of_accounts || of_payments) {
        return Err(SCOPE);
    }
    let transaction_id = form.get("transactionId").map(str::to_owned);
    if of_payments && transaction_id.is_none() {
        return Err((REQUEST, "transactionId is required"));
    }
    let challenge = Challenge::of(form).map_err(|_| (REQUEST, "code_challenge or code_challenge_method is invalid"))?;
    Ok(Wanted {
        client_id: form.get("client_id").unwrap_or_default().to_owned(),
        scope: scope.split_ascii_whitespace().collect::<Vec<_>>().join(" "),
        redirect_uri: redirect_uri.to_owned(),
        state: form.get("state").map(str::to_owned),
        transaction_id: transaction_id.filter(|_| of_payments),
        challenge,
        days,
    })
}

/// Takes what the customer filled in on one page and shows the next. Whoever goes back in the browser goes on from
/// there.
fn step<C: Clock>(world: &World<C>, head: &Parts, name: &str, form: &Form) -> Answer {
    let now = world.clock.boot();
    let sent = cookie(&head.headers, COOKIE);
    let mut ledger = lock(&world.abn_amro);
    let Ok(visit) = ledger.visits.find(now, name, sent) else { return lost(&BANK, &head.headers) };
    if let Some(language) = form.get("language") {
        visit.language = Language::of_button(language, BANK.languages);
        return screens::at(form.get("step"), name, visit);
    }
    if form.get("answer") == Some("cancel") {
        let request = visit.request.clone();
        ledger.visits.end(name);
        return back_with_error(&request.redirect_uri, request.state.as_deref(), FAILED.0, FAILED.1);
    }
    match form.get("step") {
        Some("logon") => {
            let wanted = form.get("user");
            visit.user = USERS.iter().find(|user| wanted == Some(user.name));
            visit.iban = None;
            screens::at(Some("check"), name, visit)
        }
        Some("check") => {
            let wanted = form.get("account");
            let accounts = visit.user.map_or(&[][..], |user| user.accounts);
            visit.iban = accounts.iter().copied().find(|iban| wanted == Some(*iban));
            screens::at(Some("authorize"), name, visit)
        }
        Some("authorize") if form.get("answer") == Some("authorize") => {
            let Some(iban) = visit.iban else { return screens::at(Some("check"), name, visit) };
            let request = visit.request.clone();
            ledger.visits.end(name);
            drop(ledger);
            approve(world, &request, iban)
        }
        other => screens::at(other, name, visit),
    }
}

/// Gives a code for the consent (RFC 6749 §4.1.2).
fn approve<C: Clock>(world: &World<C>, request: &Wanted, iban: &str) -> Answer {
    let knobs = lock(&world.abn_amro_knobs).clone();
    let approved = Approved {
        iban: iban.to_owned(),
        scope: request.scope.clone(),
        transaction_id: request.transaction_id.clone(),
        redirect_uri: request.redirect_uri.clone(),
        challenge: request.challenge.clone(),
    };
    let code = lock(&world.abn_amro).approve(world.clock.boot(), &knobs, approved);
    let mut parameters = vec![("code", code.as_str())];
    parameters.extend(request.state.as_deref().map(|state| ("state", state)));
    send_back(StatusCode::FOUND, &request.redirect_uri, &parameters, "")
}

/// The bank's order of members, and the empty fragment that it puts behind an error.
fn back_with_error(redirect_uri: &str, state: Option<&str>, error: &str, description: &str) -> Answer {
    let mut parameters = Vec::new();
    if !description.is_empty() {
        parameters.push(("error_description", description));
    }
    parameters.push(("error", error));
    parameters.extend(state.map(|state| ("state", state)));
    send_back(StatusCode::FOUND, redirect_uri, &parameters, "#")
}
