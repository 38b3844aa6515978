//! What the admin listener does with consents.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::Full;
use serde_json::{Value, json};

use super::body::{self, BodyLimits};
use super::precondition;
use super::problem::{AdminProblem, Refusal, set_etag};
use crate::consent::{ConsentView, ImportError, ImportRequest, Made, Received, RequestError, ShowError, import, show};
use crate::http::media_type::is_json;
use crate::oauth::TokenEndpoint;
use crate::store::Store;
use crate::token::{Tokens, VaultError};
use crate::words::clock::Clock;
use crate::words::ids::ConsentId;
use crate::words::problem::ProblemType;

/// `GET /v1/consents/{id}`
pub(super) async fn show_consent<S: Store, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    clock: &C,
    consent: &ConsentId,
) -> Result<Response<Full<Bytes>>, Refusal> {
    match show(tokens, clock, consent).await {
        Ok(view) => answer(StatusCode::OK, &view),
        Err(error) => {
            let detail = error.to_string();
            Err(match error {
                ShowError::Unknown => Refusal::new(ProblemType::ConsentUnknown, detail),
                ShowError::StoreUnavailable(_) => {
                    Refusal::new(ProblemType::StoreUnavailable, detail).retry_after(A_MOMENT)
                }
                ShowError::Unreadable(_) => Refusal::new(ProblemType::ConsentUnreadable, detail),
            })
        }
    }
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
    S: Store,
    E: TokenEndpoint,
    C: Clock,
    B: Body<Data = Bytes> + Unpin,
{
    let received = Received::now(clock);
    if !is_json(request.headers()) {
        return Err(Refusal::new(
            AdminProblem::MediaTypeUnsupported,
            "the Content-Type is absent, there twice, or not application/json",
        ));
    }
    let expected = precondition::expected(request.headers())
        .map_err(|error| Refusal::new(ProblemType::BadRequest, error.to_string()))?;
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
        ),
        Err(error) => Err(not_imported(&error)),
    }
}

fn not_an_import(error: RequestError) -> Refusal {
    let detail = error.to_string();
    match error {
        RequestError::NotJson { .. } | RequestError::NotAnObject => Refusal::new(ProblemType::BadRequest, detail),
        RequestError::Faults(faults) => {
            let faults = faults.into_iter().map(|fault| json!({"member": fault.member, "fault": fault.what}));
            Refusal::new(AdminProblem::ImportInvalid, detail).with("faults", faults.collect::<Vec<Value>>())
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

fn answer(status: StatusCode, view: &ConsentView) -> Result<Response<Full<Bytes>>, Refusal> {
    let json = serde_json::to_vec(view).map_err(|_| {
        // Strings and numbers always have a JSON form.
        Refusal::new(ProblemType::ConsentUnreadable, "the record has no JSON form")
    })?;
    let mut response = Response::new(Full::from(json));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    set_etag(headers, view.version());
    Ok(response)
}

const A_MOMENT: Duration = Duration::from_secs(1);
