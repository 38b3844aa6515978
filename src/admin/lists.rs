//! Which consents there are.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;

use super::answer;
use super::problem::Refusal;
use crate::consent::{ListError, ListRequest, list};
use crate::oauth::TokenEndpoint;
use crate::store::Listing;
use crate::token::Tokens;
use crate::words::clock::Clock;
use crate::words::problem::ProblemType;

/// `GET /v1/consents`
pub(super) async fn list_consents<S: Listing, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    clock: &C,
    query: Option<&str>,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let request = ListRequest::parse(query.unwrap_or_default()).map_err(|fault| not_listed(&fault.into()))?;
    let page = list(tokens, clock, &request).await.map_err(|error| not_listed(&error))?;
    answer::json(StatusCode::OK, &page)
}

fn not_listed(error: &ListError) -> Refusal {
    let detail = error.to_string();
    match error {
        ListError::Fault(_) => Refusal::new(ProblemType::BadRequest, detail),
        ListError::StoreUnavailable(_) => {
            Refusal::new(ProblemType::StoreUnavailable, detail).retry_after(Duration::from_secs(1))
        }
    }
}
