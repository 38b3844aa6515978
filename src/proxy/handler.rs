//! One call, from its head to the head of its answer.

use std::sync::Arc;

use http::Response;
use http::request::Parts;
use hyper::body::{Body as _, Incoming};

use super::Inner;
use super::access_log::Call;
use super::body::{Patience, RequestBody, ResponseBody};
use super::forward::{Credential, Outgoing, STALE, check_length, exchange, request_id, take_body};
use super::identify::{Unidentified, identify};
use super::plan::{ServedApi, ServedRoute, Source};
use super::respond::{Example, Refusal, pass_on, refuse};
use super::upstream::UpstreamFault;
use super::verdict::Answer;
use crate::http::route::Choice;
use crate::http::target::CheckedPath;
use crate::oauth::TokenEndpoint;
use crate::store::Quotas;
use crate::token::{Ask, Held};
use crate::words::clock::Clock;
use crate::words::ids::{CallId, TokenKey, random_name};
use crate::words::token_set::{Needs, Scope};

impl<S: Quotas, E: TokenEndpoint, C: Clock> Inner<S, E, C> {
    /// Answers a call. Never fails: whatever goes wrong is a response, too.
    pub(super) async fn handle(&self, app: &Parts, body: Incoming) -> Response<ResponseBody> {
        let version = app.version;
        let mut call = Call::begin(&self.metrics, app.method.clone());
        let Some(_place) = self.places.take() else { return refuse(call, Refusal::Overloaded, version) };
        match self.answer(app, body, &mut call).await {
            Ok(Answered { answer, api, route, remaining }) => {
                let patience = self.patience(&call);
                pass_on(&mut call, answer, (api, route), remaining, patience)
            }
            Err(refusal) => refuse(call, refusal, version),
        }
    }

    /// The story: guard, target, route, identify, token, count, forward.
    async fn answer<'p>(&'p self, app: &Parts, body: Incoming, call: &mut Call<'p>) -> Result<Answered<'p>, Refusal> {
        self.guard.check_parts(app)?;
        self.via.refuse_loop(&app.headers)?;
        let path = CheckedPath::check(&app.uri, self.limits.max_target_bytes)?;

        let (api, rest) = self.apis.find(&path).ok_or(Refusal::NoSuchApi)?;
        call.api = Some(api);
        let _place = api.places.take().ok_or_else(|| Refusal::ApiOverloaded(api.name.clone()))?;
        let draw = random_name();
        call.request_id = request_id(&api.request_id_headers, &app.headers, draw);
        let (at, found) = match api.choose(&app.method, rest) {
            Choice::Route(at, found) => (at, found),
            Choice::MethodNotAllowed(methods) => return Err(Refusal::MethodNotAllowed(api.name.clone(), methods)),
            Choice::PathNotAllowed => return Err(Refusal::PathNotAllowed(api.name.clone())),
        };
        call.route = Some(at);
        let route = api.route(at).ok_or_else(|| Refusal::PathNotAllowed(api.name.clone()))?;

        let unidentified = |reason| Refusal::Unidentified(reason, self.example(api));
        let consent = match &route.source {
            Source::Consent | Source::Client(..) => {
                let segment = found.consent_segment.as_deref();
                identify(&self.consent_header, &app.headers, segment, route.consent.as_ref()).map_err(unidentified)?
            }
            Source::None => None,
        };
        call.consent.clone_from(&consent);

        let call = &*call;
        check_length(&body, &self.limits)?;
        let outgoing = Outgoing::prepare(app, (api, route), rest, &self.via, call.request_id.as_ref(), draw)?;

        let (provider, wait) = (&api.provider, self.token_wait);
        let own_key;
        let ask = match &route.source {
            Source::Consent => {
                let consent = consent.clone().ok_or_else(|| unidentified(Unidentified::Missing))?;
                own_key = TokenKey::Consent(consent);
                Some(Ask { key: &own_key, provider, client: None, wait })
            }
            Source::Client(key, grant) => {
                if let Some(consent) = &consent {
                    Box::pin(self.tokens.standing(consent, provider)).await?;
                }
                Some(Ask { key, provider, client: Some(grant), wait })
            }
            Source::None => None,
        };
        let mut credential = None;
        if let Some(ask) = ask {
            let needs = api.needs(route, &app.method, rest);
            let held = match self.tokens.at_hand(&ask) {
                Some(held) => held,
                None => Box::pin(self.obtain(&ask, needs)).await?,
            };
            check_scope(needs, held.scope.as_ref())?;
            credential = Some(Credential { ask, held, consent: consent.as_ref() });
        }

        let body = if body.is_end_stream() {
            RequestBody::Empty
        } else {
            let waited_from = self.clock.boot();
            let body = take_body(body, route, &self.limits, self.patience(call)).await?;
            if let Some(credential) = &mut credential
                && self.clock.boot().since(waited_from) >= STALE
            {
                credential.held = self.tokens.token(&credential.ask).await?;
            }
            body
        };
        // In a box, here and below: few calls are counted, and every call would carry the room for it.
        let counted = match (api.quota(route, &app.method, rest), &consent) {
            (Some(quota), Some(consent)) => {
                let call = CallId::from_random(draw);
                Box::pin(self.count((api, quota), (app, &outgoing), consent, call)).await?
            }
            (Some(_) | None, _) => None,
        };
        let outcome = exchange(&self.tokens, &outgoing, body, credential.as_ref()).await;
        if let (Err(Refusal::Upstream(UpstreamFault::Unreachable(_))), Some(counted)) = (&outcome, &counted) {
            Box::pin(self.uncount(api, counted)).await;
        }
        Ok(Answered { answer: outcome?, api, route, remaining: counted.map(|counted| counted.remaining) })
    }

    /// A token that is not at hand. Nothing is spent for a call that its consent does not cover.
    async fn obtain(&self, ask: &Ask<'_>, needs: Option<&Needs>) -> Result<Arc<Held>, Refusal> {
        if needs.is_some() {
            check_scope(needs, self.tokens.scope(ask).await.as_ref())?;
        }
        Ok(self.tokens.token(ask).await?)
    }

    /// How long the bodies of a call may take.
    fn patience(&self, call: &Call<'_>) -> Patience {
        Patience { idle: self.limits.body_idle_timeout, until: call.started + self.limits.request_timeout }
    }

    fn example(&self, api: &ServedApi) -> Example {
        Example { header: self.consent_header.clone(), prefix: api.prefix.as_str().to_owned() }
    }
}

/// A scope that nobody told is not held against a consent: the bank has the last word.
fn check_scope(needs: Option<&Needs>, scope: Option<&Scope>) -> Result<(), Refusal> {
    match (needs, scope) {
        (Some(needs), Some(scope)) if !needs.are_met_by(scope) => Err(Refusal::ScopeInsufficient(needs.clone())),
        (Some(_) | None, _) => Ok(()),
    }
}

/// The bank's answer, and by which way it came.
struct Answered<'p> {
    answer: Answer,
    api: &'p ServedApi,
    route: &'p ServedRoute,
    /// How many more calls of its kind the quota has room for, where it was counted.
    remaining: Option<u32>,
}
