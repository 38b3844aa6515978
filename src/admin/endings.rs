//! Revoking a consent.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;

use super::consents::answer;
use super::precondition;
use super::problem::{AdminProblem, Refusal};
use crate::consent::{Desks, RevokeError, RevokeRequest, revoke};
use crate::oauth::TokenEndpoint;
use crate::store::Attempts;
use crate::token::Tokens;
use crate::words::clock::Clock;
use crate::words::ids::ConsentId;
use crate::words::problem::ProblemType;

/// `DELETE /v1/consents/{id}`; `?only_here=true` leaves the bank out of it.
pub(super) async fn revoke_consent<S: Attempts, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    desks: &Desks,
    consent: &ConsentId,
    (headers, query): (&HeaderMap, Option<&str>),
) -> Result<Response<Full<Bytes>>, Refusal> {
    let bad = |detail: String| Refusal::new(ProblemType::BadRequest, detail);
    let expected = precondition::expected(headers).map_err(|error| bad(error.to_string()))?;
    let only_here = match query {
        None | Some("" | "only_here=false") => false,
        Some("only_here=true") => true,
        Some(_) => return Err(bad("the only parameter is only_here, true or false".to_owned())),
    };
    let revoked = revoke(tokens, desks, consent, RevokeRequest { expected, only_here }).await;
    let revoked = revoked.map_err(|error| not_revoked(&error))?;
    let view = json!({
        "consent_id": consent.as_str(),
        "state": revoked.state,
        "at_bank": revoked.at_bank,
        "here": "revoked",
        "do": revoked.at_bank.advice(),
    });
    answer(StatusCode::OK, &view, revoked.version)
}

/// Every refusal says what is revoked where: `at_bank` and `here`.
fn not_revoked(error: &RevokeError) -> Refusal {
    let detail = error.to_string();
    let nothing = |refusal: Refusal| refusal.with("at_bank", "not_revoked").with("here", "not_revoked");
    match error {
        RevokeError::Unknown => Refusal::new(ProblemType::ConsentUnknown, detail),
        RevokeError::Mismatch { current } => {
            nothing(Refusal::new(AdminProblem::PreconditionFailed, detail).current(*current))
        }
        RevokeError::Busy { current } => {
            let busy = Refusal::new(ProblemType::TokenWaitTimeout, detail).retry_after(A_MOMENT);
            nothing(busy.current(*current))
        }
        RevokeError::Impossible { current, .. } => {
            nothing(Refusal::new(AdminProblem::RevocationImpossible, detail).current(*current))
        }
        RevokeError::Refused { current, .. } => {
            nothing(Refusal::new(AdminProblem::RevocationFailed, detail).current(*current))
        }
        RevokeError::Silent { current, .. } => {
            let silent = Refusal::new(AdminProblem::RevocationFailed, detail).current(*current);
            silent.with("at_bank", "unknown").with("here", "not_revoked")
        }
        RevokeError::GrantedAnew { at_bank, current } => {
            let anew = Refusal::new(AdminProblem::PreconditionFailed, detail).current(*current);
            anew.with("at_bank", json!(at_bank)).with("here", "not_revoked")
        }
        RevokeError::NotStored { at_bank, .. } => {
            let unstored = Refusal::new(ProblemType::StoreUnavailable, detail).retry_after(A_MOMENT);
            unstored.with("at_bank", json!(at_bank)).with("here", "unknown")
        }
        RevokeError::StoreUnavailable(_) => {
            nothing(Refusal::new(ProblemType::StoreUnavailable, detail).retry_after(A_MOMENT))
        }
        RevokeError::Unreadable(_) => nothing(Refusal::new(ProblemType::ConsentUnreadable, detail)),
        RevokeError::UnderWay => {
            let under_way = Refusal::new(ProblemType::TokenWaitTimeout, detail).retry_after(A_MOMENT);
            under_way.with("at_bank", "unknown").with("here", "unknown")
        }
    }
}

const A_MOMENT: Duration = Duration::from_secs(1);
