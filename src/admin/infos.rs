//! What the bank says of a consent.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

use super::problem::{AdminProblem, Refusal};
use crate::consent::{Desks, InfoError, info};
use crate::oauth::TokenEndpoint;
use crate::store::Attempts;
use crate::token::Tokens;
use crate::words::clock::Clock;
use crate::words::ids::ConsentId;
use crate::words::problem::ProblemType;

/// `GET /v1/consents/{id}/info`
pub(super) async fn show_info<S: Attempts, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    desks: &Desks,
    clock: &C,
    consent: &ConsentId,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let view = info(tokens, desks, clock, consent).await.map_err(|error| not_told(&error))?;
    let json = serde_json::to_vec(&view)
        .map_err(|_| Refusal::new(AdminProblem::InfoFailed, "what the bank says has no JSON form"))?;
    let mut response = Response::new(Full::from(json));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn not_told(error: &InfoError) -> Refusal {
    let detail = error.to_string();
    match error {
        InfoError::Unknown => Refusal::new(ProblemType::ConsentUnknown, detail),
        InfoError::NotOffered => Refusal::new(AdminProblem::InfoNotOffered, detail),
        InfoError::NoToken(error) => {
            let refusal = Refusal::new(error.problem(), detail);
            match error.retry_after() {
                Some(after) => refusal.retry_after(after),
                None => refusal,
            }
        }
        InfoError::NoAnswer(_) => Refusal::new(AdminProblem::InfoFailed, detail),
        InfoError::Refused { status } => Refusal::new(AdminProblem::InfoFailed, detail).with("bank_status", *status),
        InfoError::StoreUnavailable(_) => {
            Refusal::new(ProblemType::StoreUnavailable, detail).retry_after(Duration::from_secs(1))
        }
        InfoError::Unreadable(_) => Refusal::new(ProblemType::ConsentUnreadable, detail),
    }
}
