//! `GET /oauth2/auth`: the person logs in, then approves or denies. A regular consent (the other kind is registered by
//! its client) begins here.
//!
//! An unknown client or redirect URI ends in a page; anything else goes back to the client. The service's own errors
//! are `consent_denied`, `login_cancelled`, `invalid_scopes` (not RFC 6749's `invalid_scope`) and `server_error`; the
//! others are ORY Hydra's, whose server this is.

use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::super::answers::{Answer, Broken, Form, Wire, empty, on_the_wire, only, read_body};
use super::super::codes::Challenge;
use super::super::faults::{Fault, Occasion, Target};
use super::super::pages::{Language, cookie, lost, refused, send_back, set_cookie};
use super::super::visits::Lost;
use super::super::world::{World, lock};
use super::data::WITH_DEBT;
use super::exchange::Approved;
use super::register::{NotRegistered, Now};
use super::screens::{self, BANK};
use super::{DEBT_SCOPES, is_nin};
use crate::words::clock::Clock;

const PATH: &str = "/oauth2/auth";
const VISIT: &str = "/oauth2/visit/";
/// Hydra's cookie.
const COOKIE: &str = "oauth2_authentication_csrf";
/// Fewer characters are too few for Hydra to call a state unguessable.
const SHORTEST_STATE: usize = 8;

/// A person on the way from one page to the next.
pub(in crate::sandbox) struct Visit {
    pub(super) request: Wanted,
    pub(super) language: Language,
    /// Who has logged in.
    pub(super) nin: Option<String>,
}

/// An authorization request that is in order.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) client_id: String,
    /// The one debt scope, without a suffix.
    pub(super) scope: &'static str,
    /// As the suffix says, no more than the scope allows; absent for one lookup within ten minutes.
    pub(super) days: Option<u64>,
    /// Whether `openid` was asked for, too.
    openid: bool,
    redirect_uri: String,
    state: String,
    challenge: Option<Challenge>,
}

/// Whether a path is one of a browser's.
pub(in crate::sandbox) fn owns(path: &str) -> bool {
    path == PATH || path.starts_with(VISIT)
}

/// Answers one request of a browser.
pub(in crate::sandbox) async fn serve<C: Clock>(
    world: &World<C>,
    request: Request<Incoming>,
) -> Result<Response<Wire>, Broken> {
    let (head, body) = request.into_parts();
    if let Some(name) = head.uri.path().strip_prefix(VISIT) {
        if head.method != Method::POST {
            return Ok(on_the_wire(only("POST")));
        }
        return Ok(on_the_wire(match read_body(body).await {
            Ok(body) => step(world, &head, name, &Form::of_body(&head.headers, &body)),
            Err(unread) => unread.answer(),
        }));
    }
    if head.uri.path() != PATH {
        return Ok(on_the_wire(empty(StatusCode::NOT_FOUND)));
    }
    if head.method != Method::GET {
        return Ok(on_the_wire(only("GET")));
    }
    lock(&world.norsk_gjeld).counters.authorize_requests += 1;
    let Some(fault) = world.strike(&Occasion::at(Target::NogiAuthorize)) else {
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
    let knobs = lock(&world.norsk_gjeld_knobs).clone();
    let twice = form.repeated(&["client_id", "redirect_uri"]).is_some();
    if twice || form.get("client_id") != Some(world.settings.norsk_gjeld_client_id.as_str()) {
        const WHY: &str = "The requested OAuth 2.0 Client does not exist.";
        return refused(&BANK, &head.headers, &["invalid_client", WHY]);
    }
    let registered = |uri: &&str| knobs.redirect_uris.iter().any(|own| own == uri);
    let Some(redirect_uri) = form.get("redirect_uri").filter(registered) else {
        const WHY: &str = "The 'redirect_uri' parameter does not match any of the OAuth 2.0 Client's registered ones.";
        return refused(&BANK, &head.headers, &["invalid_request", WHY]);
    };
    let state = form.get("state").unwrap_or_default();
    if let Some(error) = &fault.authorize_error {
        return back_with_error(redirect_uri, state, error, "");
    }
    let request = match wanted(&form, redirect_uri, state) {
        Ok(request) => request,
        Err((error, description)) => return back_with_error(redirect_uri, state, error, description),
    };
    if knobs.auto_approve {
        return approve(world, &request, WITH_DEBT[0]);
    }
    let sent = cookie(&head.headers, COOKIE);
    let visit = Visit { request, language: Language::of_browser(&head.headers, BANK.languages), nin: None };
    let mut register = lock(&world.norsk_gjeld);
    let begun = register.visits.begin(world.clock.boot(), sent, visit);
    let mut page = match register.visits.find(world.clock.boot(), &begun.name, Some(&begun.cookie)) {
        Ok(visit) => screens::log_in(&begun.name, visit, None),
        Err(Lost) => lost(&BANK, &head.headers),
    };
    set_cookie(&mut page, COOKIE, &begun.cookie, !world.settings.plain_pages);
    page
}

/// The request, or the error and its description.
fn wanted(form: &Form, redirect_uri: &str, state: &str) -> Result<Wanted, (&'static str, &'static str)> {
    const REQUEST: &str = "invalid_request";
    let once = ["response_type", "scope", "state", "code_challenge", "code_challenge_method"];
    if form.repeated(&once).is_some() {
        return Err((REQUEST, "The request includes a parameter more than once."));
    }
    if state.len() < SHORTEST_STATE {
        return Err((
            "invalid_state",
            "The state is missing or does not have enough characters and is therefore considered too weak.",
        ));
    }
    if form.get("response_type") != Some("code") {
        return Err((
            "unsupported_response_type",
            "The authorization server does not support obtaining a token using this method.",
        ));
    }
    let (scope, days, openid) = form.get("scope").and_then(read_scope).ok_or(("invalid_scopes", ""))?;
    let challenge = Challenge::of(form).map_err(|_| (REQUEST, "The code challenge is invalid."))?;
    if challenge.as_ref().is_some_and(Challenge::is_plain) {
        return Err((REQUEST, "Clients must use code_challenge_method=S256, plain is not allowed."));
    }
    Ok(Wanted {
        client_id: form.get("client_id").unwrap_or_default().to_owned(),
        scope,
        days,
        openid,
        redirect_uri: redirect_uri.to_owned(),
        state: state.to_owned(),
        challenge,
    })
}

/// Exactly one debt scope, with a number of days behind it or not, and after it nothing or `openid`.
fn read_scope(text: &str) -> Option<(&'static str, Option<u64>, bool)> {
    let mut words = text.split(' ');
    let first = words.next()?;
    let openid = match (words.next(), words.next()) {
        (None, _) => false,
        (Some("openid"), None) => true,
        (Some(_), _) => return None,
    };
    let (scope, most) = DEBT_SCOPES.into_iter().find(|(scope, _)| first.starts_with(scope))?;
    let suffix = first.strip_prefix(scope)?;
    if suffix.is_empty() {
        return Some((scope, None, openid));
    }
    let digits = suffix.strip_prefix('.').filter(|digits| !digits.is_empty())?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // More than the scope allows is cut without a word, however much more it is.
    let days = digits.parse().unwrap_or(u64::MAX).min(most);
    (days > 0).then_some((scope, Some(days), openid))
}

/// Takes what the person filled in and shows what comes next.
fn step<C: Clock>(world: &World<C>, head: &Parts, name: &str, form: &Form) -> Answer {
    let mut register = lock(&world.norsk_gjeld);
    let found = register.visits.find(world.clock.boot(), name, cookie(&head.headers, COOKIE));
    let Ok(visit) = found else { return lost(&BANK, &head.headers) };
    let (step, answer) = (form.get("step").unwrap_or_default(), form.get("answer").unwrap_or_default());
    if let Some(language) = form.get("language") {
        visit.language = Language::of_button(language, BANK.languages);
        return screens::at(step, name, visit);
    }
    let request = visit.request.clone();
    let error = match (step, answer, &visit.nin) {
        ("login", "cancel", _) => "login_cancelled",
        ("login", _, _) => {
            visit.nin = form.get("nin").filter(|nin| is_nin(nin)).map(str::to_owned);
            return match &visit.nin {
                Some(_) => screens::at("consent", name, visit),
                None => screens::log_in(name, visit, form.get("nin").or(Some(""))),
            };
        }
        ("consent", "deny", _) => "consent_denied",
        ("consent", "approve", Some(nin)) => {
            let nin = nin.clone();
            register.visits.end(name);
            drop(register);
            return approve(world, &request, &nin);
        }
        (_, _, Some(_) | None) => return screens::at("consent", name, visit),
    };
    register.visits.end(name);
    back_with_error(&request.redirect_uri, &request.state, error, "")
}

/// Creates the consent and gives a code for it.
fn approve<C: Clock>(world: &World<C>, request: &Wanted, nin: &str) -> Answer {
    let now = Now { boot: world.clock.boot(), wall: world.clock.wall() };
    let code_life_s = lock(&world.norsk_gjeld_knobs).code_life_s;
    let scope = format!("{}{}", request.scope, if request.openid { " openid" } else { "" });
    let approved = Approved {
        nin,
        consent_scope: request.scope,
        days: request.days,
        token_scope: scope.clone(),
        redirect_uri: request.redirect_uri.clone(),
        challenge: request.challenge.clone(),
    };
    let limit = world.settings.max_consents;
    match lock(&world.norsk_gjeld).approve(now, limit, code_life_s, approved) {
        Ok(code) => {
            let parameters = [("code", code.as_str()), ("scope", &scope), ("state", &request.state)];
            send_back(StatusCode::SEE_OTHER, &request.redirect_uri, &parameters, "")
        }
        Err(NotRegistered::Full | NotRegistered::Conflict) => {
            back_with_error(&request.redirect_uri, &request.state, "server_error", "")
        }
    }
}

/// The service's order of members; its description is there even where it is empty.
fn back_with_error(redirect_uri: &str, state: &str, error: &str, description: &str) -> Answer {
    let mut parameters = vec![("error", error), ("error_description", description)];
    if !state.is_empty() {
        parameters.push(("state", state));
    }
    send_back(StatusCode::SEE_OTHER, redirect_uri, &parameters, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_one_of_debt_with_days_or_without_and_openid_comes_last() {
        const SHOW: &str = "debt.unsecured.presentation";
        const CREDIT: &str = "debt.unsecured.processing";
        assert_eq!(read_scope(SHOW), Some((SHOW, None, false)));
        assert_eq!(read_scope("debt.unsecured.presentation.100"), Some((SHOW, Some(100), false)));
        assert_eq!(read_scope("debt.unsecured.presentation.366 openid"), Some((SHOW, Some(365), true)));
        assert_eq!(read_scope("debt.unsecured.processing.99999999999999999999999"), Some((CREDIT, Some(28), false)));
        for bad in [
            "",
            "openid",
            "openid debt.unsecured.presentation",
            "debt.unsecured.presentation debt.unsecured.processing",
            "debt.unsecured.presentation openid openid",
            "debt.unsecured.presentation.",
            "debt.unsecured.presentation.0",
            "debt.unsecured.presentation.-1",
            "debt.unsecured.presentation.1.2",
            "debt.unsecured.presentation100",
            "debt.unsecured",
        ] {
            assert_eq!(read_scope(bad), None, "{bad}");
        }
    }
}
