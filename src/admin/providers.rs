//! What the admin listener does with providers.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer;
use super::body::{self, BodyLimits};
use super::consents::only_json;
use super::problem::{AdminProblem, Refusal};
use crate::consent::{ProviderView, Suspects, provider, providers};
use crate::oauth::TokenEndpoint;
use crate::store::{Store, StoreError};
use crate::token::{StandingError, Tokens};
use crate::words::clock::Clock;
use crate::words::ids::ProviderId;
use crate::words::problem::ProblemType;

/// `GET /v1/providers`
pub(super) async fn show_providers<S: Store, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    clock: &C,
    suspects: Suspects,
) -> Result<Response<Full<Bytes>>, Refusal> {
    #[derive(Serialize)]
    struct All {
        providers: Vec<ProviderView>,
    }
    let providers = providers(tokens, clock, suspects).await.map_err(|error| refused(&error))?;
    answer::json(StatusCode::OK, &All { providers })
}

/// `GET /v1/providers/{name}`
pub(super) async fn show_provider<S: Store, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    clock: &C,
    id: &ProviderId,
    suspects: Suspects,
) -> Result<Response<Full<Bytes>>, Refusal> {
    answer::json(StatusCode::OK, &provider(tokens, clock, id, suspects).await.map_err(|error| refused(&error))?)
}

/// What a freeze or a thaw is asked with.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Order {
    /// Why, for whoever looks at it next.
    why: Option<String>,
}

/// What is done about a freeze.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Freeze,
    Thaw,
}

/// `POST /v1/providers/{name}/freeze` and `…/thaw`
pub(super) async fn change_provider<S, E, C, B>(
    tokens: &Tokens<S, E, C>,
    clock: &C,
    (id, change): (&ProviderId, Change),
    request: Request<B>,
    limits: BodyLimits,
) -> Result<Response<Full<Bytes>>, Refusal>
where
    S: Store,
    E: TokenEndpoint,
    C: Clock,
    B: Body<Data = Bytes> + Unpin,
{
    only_json(request.headers())?;
    let json = body::read(request.into_body(), limits).await?;
    let Order { why } = if json.is_empty() {
        Order::default()
    } else {
        // An array would pass for the members in their order.
        let object = serde_json::from_slice(&json).map(Value::Object).and_then(serde_json::from_value);
        object.map_err(|_| Refusal::new(ProblemType::BadRequest, "the body has to be {} or {\"why\": \"…\"}"))?
    };
    if why.as_ref().is_some_and(|why| why.len() > LONGEST_WHY || why.chars().any(char::is_control)) {
        let detail = format!("why has to be one line of at most {LONGEST_WHY} bytes");
        return Err(Refusal::new(ProblemType::BadRequest, detail));
    }
    let changed = match (change, why) {
        (Change::Freeze, why) => tokens.freeze(id, why.filter(|why| !why.is_empty())).await,
        (Change::Thaw, None) => tokens.thaw(id).await,
        (Change::Thaw, Some(_)) => {
            return Err(Refusal::new(ProblemType::BadRequest, "a thaw takes no reason"));
        }
    };
    let standing = changed.map_err(|error| refused(&error))?;
    answer::json(StatusCode::OK, &ProviderView::new(id, standing, clock, Suspects::Named))
}

fn refused(error: &StandingError) -> Refusal {
    let detail = error.to_string();
    match error {
        StandingError::Unknown => Refusal::new(AdminProblem::NoSuchResource, detail),
        StandingError::Store(StoreError::Unreadable(_)) => Refusal::new(AdminProblem::ProviderUnreadable, detail),
        StandingError::Store(StoreError::Unavailable(_) | StoreError::Refused(_) | StoreError::Reuniting) => {
            Refusal::new(ProblemType::StoreUnavailable, detail).retry_after(A_MOMENT)
        }
    }
}

/// Bytes.
const LONGEST_WHY: usize = 500;
const A_MOMENT: Duration = Duration::from_secs(1);
