//! Starting a consent.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use serde_json::json;

use super::body::{self, BodyLimits};
use super::consents::{answer, faults, only_json};
use super::problem::{AdminProblem, Refusal};
use crate::consent::settings::AskSettings;
use crate::consent::{StartError, StartRequest, start};
use crate::oauth::TokenEndpoint;
use crate::store::Attempts;
use crate::token::Tokens;
use crate::words::clock::Clock;
use crate::words::problem::ProblemType;

/// `POST /v1/consents`
pub(super) async fn start_consent<S, E, C, B>(
    tokens: &Tokens<S, E, C>,
    asking: Option<&AskSettings>,
    clock: &C,
    request: Request<B>,
    limits: BodyLimits,
) -> Result<Response<Full<Bytes>>, Refusal>
where
    S: Attempts,
    E: TokenEndpoint,
    C: Clock,
    B: Body<Data = Bytes> + Unpin,
{
    // What stands is never replaced by a start, so there is nothing to match.
    only_json(request.headers())?;
    let json = body::read(request.into_body(), limits).await?;
    let request = StartRequest::parse(&json).map_err(|error| faults(AdminProblem::StartInvalid, error))?;
    let Some(asking) = asking else {
        let detail = "the configuration has no callback section, so no customer could come back";
        return Err(Refusal::new(AdminProblem::StartNotOffered, detail));
    };
    let started = start(tokens, asking, clock, request).await.map_err(|error| not_started(&error))?;
    answer(StatusCode::CREATED, &started, started.version)
}

pub(super) fn not_started(error: &StartError) -> Refusal {
    let detail = error.to_string();
    let at_fault = |member: &str| {
        let fault = json!({ "member": member, "fault": detail });
        Refusal::new(AdminProblem::StartInvalid, detail.clone()).with("faults", vec![fault])
    };
    match error {
        StartError::UnknownProvider => Refusal::new(AdminProblem::ProviderUnknown, detail),
        StartError::NotOffered | StartError::NotPasted => Refusal::new(AdminProblem::StartNotOffered, detail),
        StartError::Scope(_) => at_fault("scope"),
        StartError::ReturnUrl => at_fault("return_url"),
        StartError::Elsewhere { current } => Refusal::new(AdminProblem::ConsentElsewhere, detail).current(*current),
        StartError::BankUnavailable => Refusal::new(ProblemType::TokenEndpointUnavailable, detail),
        StartError::RequestRefused => Refusal::new(ProblemType::ProviderMisconfigured, detail),
        StartError::Unsealable(_) => Refusal::new(AdminProblem::SealFailed, detail),
        StartError::StoreUnavailable(_) => {
            Refusal::new(ProblemType::StoreUnavailable, detail).retry_after(Duration::from_secs(1))
        }
        StartError::Unreadable(_) => Refusal::new(ProblemType::ConsentUnreadable, detail),
    }
}
