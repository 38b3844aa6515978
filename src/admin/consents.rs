//! What the admin listener does with consents.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer;
use super::body::{self, BodyLimits};
use super::precondition;
use super::problem::{AdminProblem, Refusal, set_etag};
use crate::consent::{
    ImportError, ImportRequest, Made, Received, RequestError, ReviveError, ShowError, Which, history, import, revive,
    show,
};
use crate::http::media_type::is_json;
use crate::oauth::TokenEndpoint;
use crate::store::{Feeds, Store};
use crate::token::{Tokens, VaultError};
use crate::words::clock::Clock;
use crate::words::ids::{ConsentId, Version};
use crate::words::problem::ProblemType;

/// `GET /v1/consents/{id}`
pub(super) async fn show_consent<S: Store, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    clock: &C,
    consent: &ConsentId,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let view = show(tokens, clock, consent).await.map_err(|error| not_shown(&error))?;
    answer(StatusCode::OK, &view, view.version())
}

/// `GET /v1/consents/{id}/history`
pub(super) async fn show_history<S: Store, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    clock: &C,
    consent: &ConsentId,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let view = history(tokens, clock, consent).await.map_err(|error| not_shown(&error))?;
    answer(StatusCode::OK, &view, view.consent.version())
}

fn not_shown(error: &ShowError) -> Refusal {
    let detail = error.to_string();
    match error {
        ShowError::Unknown => Refusal::new(ProblemType::ConsentUnknown, detail),
        ShowError::StoreUnavailable(_) => Refusal::new(ProblemType::StoreUnavailable, detail).retry_after(A_MOMENT),
        ShowError::Unreadable(_) => Refusal::new(ProblemType::ConsentUnreadable, detail),
    }
}

/// What a revival is asked with.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ReviveRequest {
    /// The refresh token of the grant that was replaced last, instead of the one that was refused.
    replaced: bool,
}

/// `POST /v1/consents/{id}/revive`
pub(super) async fn revive_consent<S, E, C, B>(
    tokens: &Tokens<S, E, C>,
    clock: &C,
    consent: &ConsentId,
    request: Request<B>,
    limits: BodyLimits,
) -> Result<Response<Full<Bytes>>, Refusal>
where
    S: Store,
    E: TokenEndpoint,
    C: Clock,
    B: Body<Data = Bytes> + Unpin,
{
    let expected = only_json(request.headers())?;
    let json = body::read(request.into_body(), limits).await?;
    let wanted = "the body has to be {} or {\"replaced\": true}";
    let request = if json.is_empty() {
        ReviveRequest::default()
    } else {
        // An array would pass for the members in their order.
        let object = serde_json::from_slice(&json).map(Value::Object).and_then(serde_json::from_value);
        object.map_err(|_| Refusal::new(ProblemType::BadRequest, wanted))?
    };
    let which = match (request.replaced, expected) {
        (false, expected) => Which::Refused { expected },
        (true, Some(expected)) => Which::Replaced { expected },
        (true, None) => {
            let current = show(tokens, clock, consent).await.map_err(|error| not_shown(&error))?.version();
            let how = format!("what a replaced grant takes the place of has to be named: If-Match: \"{current}\"");
            return Err(Refusal::new(AdminProblem::PreconditionRequired, how).current(current));
        }
    };
    let version = revive(tokens, consent, which).await.map_err(|error| not_revived(&error))?;
    let view = json!({
        "consent_id": consent.as_str(),
        "state": "active",
        "grant": version.grant.to_string(),
        "generation": version.generation,
        "do": "The next call tries the refresh token; look at the history after it.",
    });
    answer(StatusCode::OK, &view, version)
}

fn not_revived(error: &ReviveError) -> Refusal {
    let detail = error.to_string();
    match error {
        ReviveError::Unknown => Refusal::new(ProblemType::ConsentUnknown, detail),
        ReviveError::Mismatch { current } => Refusal::new(AdminProblem::PreconditionFailed, detail).current(*current),
        ReviveError::NotSuspended { current, .. } => Refusal::new(AdminProblem::NotSuspended, detail).current(*current),
        ReviveError::Nothing { current } => Refusal::new(AdminProblem::NothingToRevive, detail).current(*current),
        ReviveError::Spent { current } => Refusal::new(AdminProblem::RefreshTokenSpent, detail).current(*current),
        ReviveError::Unsealable(_) => Refusal::new(AdminProblem::SealFailed, detail),
        ReviveError::StoreUnavailable(_) => {
            let unknown = format!("{detail}; whether the consent was revived is not known, asking again is safe");
            Refusal::new(ProblemType::StoreUnavailable, unknown).retry_after(A_MOMENT)
        }
        ReviveError::StoreRefused(_) => Refusal::new(ProblemType::StoreUnavailable, detail).retry_after(A_MOMENT),
        ReviveError::Unreadable(_) => Refusal::new(ProblemType::ConsentUnreadable, detail),
    }
}

/// A write has to be declared as JSON, which no web page can do unasked. Gives the version it names.
pub(super) fn only_json(headers: &HeaderMap) -> Result<Option<Version>, Refusal> {
    if !is_json(headers) {
        return Err(Refusal::new(
            AdminProblem::MediaTypeUnsupported,
            "the Content-Type is absent, there twice, or not application/json",
        ));
    }
    precondition::expected(headers).map_err(|error| Refusal::new(ProblemType::BadRequest, error.to_string()))
}

/// `PUT /v1/consents/{id}/tokens`
pub(super) async fn import_tokens<S, E, C, B>(
    tokens: &Tokens<S, E, C>,
    clock: &C,
    consent: &ConsentId,
    request: Request<B>,
    limits: BodyLimits,
) -> Result<Response<Full<Bytes>>, Refusal>
where
    S: Feeds,
    E: TokenEndpoint,
    C: Clock,
    B: Body<Data = Bytes> + Unpin,
{
    let received = Received::now(clock);
    let expected = only_json(request.headers())?;
    let json = body::read(request.into_body(), limits).await?;
    let request = ImportRequest::parse(&json, received).map_err(not_an_import)?;
    drop(json);
    match import(tokens, clock, consent, request, expected).await {
        Ok(imported) => answer(
            match imported.made {
                Made::Created => StatusCode::CREATED,
                Made::Replaced => StatusCode::OK,
            },
            &imported.view,
            imported.view.version(),
        ),
        Err(error) => Err(not_imported(&error)),
    }
}

fn not_an_import(error: RequestError) -> Refusal {
    faults(AdminProblem::ImportInvalid, error)
}

/// What is wrong with a body, member by member.
pub(super) fn faults(kind: AdminProblem, error: RequestError) -> Refusal {
    let detail = error.to_string();
    match error {
        RequestError::NotJson { .. } | RequestError::NotAnObject => Refusal::new(ProblemType::BadRequest, detail),
        RequestError::Faults(faults) => {
            let faults = faults.into_iter().map(|fault| json!({"member": fault.member, "fault": fault.what}));
            Refusal::new(kind, detail).with("faults", faults.collect::<Vec<Value>>())
        }
    }
}

fn not_imported(error: &ImportError) -> Refusal {
    let detail = error.to_string();
    match error {
        ImportError::UnknownProvider | ImportError::Unsealable(VaultError::UnknownProvider) => {
            Refusal::new(AdminProblem::ProviderUnknown, detail)
        }
        ImportError::AlreadyExists { current } => {
            let how = format!("{detail}; to replace exactly that, send If-Match: \"{current}\"");
            Refusal::new(AdminProblem::PreconditionRequired, how).current(*current)
        }
        ImportError::Mismatch { current } => Refusal::new(AdminProblem::PreconditionFailed, detail).current(*current),
        ImportError::Missing => Refusal::new(AdminProblem::PreconditionFailed, detail),
        ImportError::Spent { current } => Refusal::new(AdminProblem::RefreshTokenSpent, detail).current(*current),
        ImportError::Unsealable(VaultError::Empty | VaultError::Seal(_) | VaultError::NotAHeaderValue) => {
            Refusal::new(AdminProblem::SealFailed, detail)
        }
        ImportError::StoreUnavailable(_) => {
            let unknown = format!("{detail}; whether the import happened is not known, sending it again is safe");
            Refusal::new(ProblemType::StoreUnavailable, unknown).retry_after(A_MOMENT)
        }
        ImportError::StoreRefused(_) => Refusal::new(ProblemType::StoreUnavailable, detail).retry_after(A_MOMENT),
        ImportError::Unreadable(_) => Refusal::new(ProblemType::ConsentUnreadable, detail),
    }
}

/// The same with the version that the answer is about.
pub(super) fn answer(
    status: StatusCode,
    view: &impl Serialize,
    version: Version,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let mut response = answer::json(status, view)?;
    set_etag(response.headers_mut(), version);
    Ok(response)
}

const A_MOMENT: Duration = Duration::from_secs(1);
