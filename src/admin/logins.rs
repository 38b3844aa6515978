//! Logins of a person at a terminal, who carries the bank's address over by hand.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use serde_json::json;

use super::answer;
use super::body::{self, BodyLimits};
use super::consents::{faults, only_json};
use super::problem::{AdminProblem, Refusal};
use super::starts::not_started;
use crate::consent::settings::AskSettings;
use crate::consent::{Arrival, LoginReturn, StartRequest, begin_login, finish_login};
use crate::oauth::TokenEndpoint;
use crate::store::Attempts;
use crate::token::Tokens;
use crate::words::clock::Clock;
use crate::words::problem::ProblemType;

/// `POST /v1/logins`
pub(super) async fn start_login<S, E, C, B>(
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
    only_json(request.headers())?;
    let json = body::read(request.into_body(), limits).await?;
    let request = StartRequest::parse_login(&json).map_err(|error| faults(AdminProblem::StartInvalid, error))?;
    let started = begin_login(tokens, asking.ok_or_else(not_offered)?, clock, request).await;
    answer::json(StatusCode::CREATED, &started.map_err(|error| not_started(&error))?)
}

/// `POST /v1/logins/return`
pub(super) async fn return_login<S, E, C, B>(
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
    only_json(request.headers())?;
    let json = body::read(request.into_body(), limits).await?;
    let returned = LoginReturn::parse(&json).map_err(|error| faults(AdminProblem::LoginInvalid, error))?;
    let arrival = finish_login(tokens, asking.ok_or_else(not_offered)?, clock, returned).await;
    let arrival = arrival.map_err(|error| Refusal::new(AdminProblem::LoginInvalid, error.to_string()))?;
    let waits = |kind, why: &str| {
        let detail = format!("{why}; nothing was sent, and the same may be tried again");
        Err(Refusal::new(kind, detail).retry_after(A_MOMENT))
    };
    match arrival {
        Arrival::Over { consent, return_url: _, ending } => {
            answer::json(StatusCode::OK, &json!({ "consent_id": consent.as_str(), "status": ending.as_str() }))
        }
        Arrival::Busy => answer::json(StatusCode::ACCEPTED, &json!({ "status": "working" })),
        Arrival::Foreign => {
            Err(Refusal::new(AdminProblem::LoginUnknown, "the address belongs to another attempt than the key does"))
        }
        Arrival::Unknown => {
            Err(Refusal::new(AdminProblem::LoginUnknown, "there is no such attempt, or its ten minutes are over"))
        }
        Arrival::WrongIssuer => {
            Err(Refusal::new(AdminProblem::LoginInvalid, "the address comes from another authorization server"))
        }
        Arrival::BankUnavailable => {
            waits(ProblemType::TokenEndpointUnavailable, "the bank's token endpoint cannot be reached")
        }
        Arrival::StoreUnavailable => waits(ProblemType::StoreUnavailable, "the token store does not answer"),
    }
}

fn not_offered() -> Refusal {
    let detail = "the configuration has no callback section, so no consent is started here";
    Refusal::new(AdminProblem::StartNotOffered, detail)
}

const A_MOMENT: Duration = Duration::from_secs(1);
