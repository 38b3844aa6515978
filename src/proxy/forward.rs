//! The app's request becomes ours, and ours becomes an answer.
//!
//! [`Outgoing`] makes the head that goes to the bank: what passes of the app's, then our own headers, the credential
//! last. [`exchange`] sends it, and decides whether it is sent again: once after a lost reply where that can do no harm,
//! once with a newer token where the bank rejected the one that was sent. The head is made anew for that; a body is kept
//! only where one of the two may come to be.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Version};
use hyper::body::{Body as _, Incoming};

use super::body::{Patience, RequestBody};
use super::plan::{ServedApi, ServedRoute};
use super::respond::Refusal;
use super::settings::Limits;
use super::upstream::UpstreamFault;
use super::verdict::{Answer, Verdict, judge};
use crate::http::hop_by_hop;
use crate::http::prefix::Rest;
use crate::http::request_id::RequestId;
use crate::http::trace_context;
use crate::http::via::Via;
use crate::oauth::TokenEndpoint;
use crate::store::Store;
use crate::token::{Ask, Held, Tokens};
use crate::words::clock::Clock;
use crate::words::ids::ConsentId;

/// What the head of a request to the bank is made of. Not to be shown: the app's own head may hold credentials.
pub(super) struct Outgoing<'c> {
    app: &'c Parts,
    target: PathAndQuery,
    nominated: Vec<HeaderName>,
    api: &'c ServedApi,
    route: &'c ServedRoute,
    via: &'c Via,
    request_id: Option<&'c (HeaderName, HeaderValue)>,
    draw: [u8; 16],
}

/// Headers that a request gets on its way: the call's name, `Via`, the trace, the credential, the framing and the host.
const ADDED: usize = 6;

impl<'c> Outgoing<'c> {
    /// Sees whether the app's head can become ours. `draw` is this call's sixteen random bytes.
    pub(super) fn prepare(
        app: &'c Parts,
        (api, route): (&'c ServedApi, &'c ServedRoute),
        rest: Rest<'_>,
        via: &'c Via,
        request_id: Option<&'c (HeaderName, HeaderValue)>,
        draw: [u8; 16],
    ) -> Result<Self, Refusal> {
        let target = api.base.join(rest).map_err(|_| Refusal::TargetTooLong)?;
        let nominated = hop_by_hop::nominated(&app.headers)?;
        Ok(Self { app, target, nominated, api, route, via, request_id, draw })
    }

    /// The path at the bank's host.
    pub(super) fn path(&self) -> &str {
        self.target.path()
    }

    /// Whether the bank is told something by the app under this name.
    pub(super) fn passes_on(&self, name: &HeaderName) -> bool {
        let told = self.app.headers.get_all(name).iter().any(|value| !value.is_empty());
        told && !self.nominated.contains(name) && self.route.rules.passes(name)
    }

    /// The headers but for the credential.
    fn headers(&self) -> HeaderMap {
        let Self { app, api, route, .. } = self;
        let mut headers = route.rules.forwarded(&app.headers, &self.nominated, api.set_headers.len() + ADDED);
        for (name, value) in &api.set_headers {
            headers.insert(name, value.clone());
        }
        if let Some((name, value)) = self.request_id.filter(|(name, _)| !headers.contains_key(name)) {
            headers.insert(name, value.clone());
        }
        self.via.append(&mut headers, app.version);
        trace_context::propagate(&mut headers, &trace_bytes(self.draw));
        headers
    }

    /// The request. Its authority is the connection's to name.
    fn request(&self, bearer: Option<HeaderValue>, body: RequestBody) -> Request<RequestBody> {
        let (method, mut headers) = (self.app.method.clone(), self.headers());
        if let Some(bearer) = bearer {
            headers.insert(header::AUTHORIZATION, bearer);
        }
        // hyper sends no body with these methods unless it is told to.
        if matches!(method, Method::GET | Method::HEAD) && body.size_hint().exact().is_none() {
            headers.insert(header::TRANSFER_ENCODING, CHUNKED);
        }
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = self.target.clone().into();
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = headers;
        request
    }
}

/// The header that names a call, and the name: the app's own where it sent one, else made of `draw`. `None` where the
/// provider has no such header.
pub(super) fn request_id(
    names: &[HeaderName],
    headers: &HeaderMap,
    draw: [u8; 16],
) -> Option<(HeaderName, HeaderValue)> {
    let sent = names.iter().find_map(|name| headers.get(name).map(|value| (name.clone(), value.clone())));
    sent.or_else(|| names.first().map(|name| (name.clone(), RequestId::from_random(draw).to_header_value())))
}

/// One draw of random bytes names a call everywhere: as request id, as trace and as span.
fn trace_bytes(draw: [u8; 16]) -> [u8; 24] {
    let mut bytes = [0; 24];
    for (to, from) in bytes.iter_mut().zip(draw.iter().chain(draw.iter().rev())) {
        *to = *from;
    }
    bytes
}

/// Refuses a body that is known to be too large. Nothing of it is read.
pub(super) fn check_length(body: &Incoming, limits: &Limits) -> Result<(), Refusal> {
    match (body.size_hint().exact(), limits.max_body_bytes) {
        (Some(length), Some(limit)) if length > limit => Err(Refusal::BodyTooLarge(limit)),
        (Some(_) | None, Some(_) | None) => Ok(()),
    }
}

/// Takes the app's body over: into memory where it is short and may have to be sent twice, else as it comes. Nothing of
/// it is read before, and so the app's `Expect: 100-continue` is not answered before.
pub(super) async fn take_body(
    body: Incoming,
    route: &ServedRoute,
    limits: &Limits,
    patience: Patience,
) -> Result<RequestBody, Refusal> {
    let short = body.size_hint().exact().is_some_and(|length| length <= limits.replay_buffer_bytes as u64);
    if short && route.replays {
        return Ok(Box::pin(RequestBody::keep(body, limits.body_idle_timeout)).await?);
    }
    Ok(RequestBody::stream(body, limits.max_body_bytes, patience))
}

/// The token of a call, how it was asked for, and for which consent.
#[derive(Debug)]
pub(super) struct Credential<'a> {
    pub(super) ask: Ask<'a>,
    pub(super) held: Arc<Held>,
    pub(super) consent: Option<&'a ConsentId>,
}

/// Sends the request and gets the bank's answer, the one to be handed back.
pub(super) async fn exchange<S: Store, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    outgoing: &Outgoing<'_>,
    body: RequestBody,
    credential: Option<&Credential<'_>>,
) -> Result<Answer, Refusal> {
    let Outgoing { api, route, .. } = *outgoing;
    let resends = body.is_none() && route.resends(&outgoing.app.method);
    let spare = if route.replays { body.again() } else { None };
    let held = credential.map(|credential| &*credential.held);
    let first = match send(outgoing, body, held).await {
        // In a box, here and below: what one call in a thousand needs would make every call's future larger.
        // The bank may have processed the first, whatever becomes of the second.
        Err(UpstreamFault::Lost) if resends => match Box::pin(send(outgoing, RequestBody::Empty, held)).await {
            Err(UpstreamFault::Unreachable(_)) => Err(UpstreamFault::Lost),
            again => again,
        },
        outcome => outcome,
    };
    let answer = first?;
    match credential {
        Some(credential) if api.signs.concern(answer.response.status()) => {
            Box::pin(heed(tokens, answer, outgoing, spare, credential)).await
        }
        Some(_) | None => Ok(answer),
    }
}

/// Sends the request once, with this token.
async fn send(outgoing: &Outgoing<'_>, body: RequestBody, held: Option<&Held>) -> Result<Answer, UpstreamFault> {
    let bearer = held.map(|held| held.bearer.clone());
    let response = outgoing.api.upstream.send(&|body| outgoing.request(bearer.clone(), body), body).await?;
    Ok(Answer { response, front: None, bearer })
}

/// Acts on what an answer says about token and consent. `again` is the body, where the request may be sent once more.
async fn heed<S: Store, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    mut answer: Answer,
    outgoing: &Outgoing<'_>,
    again: Option<RequestBody>,
    credential: &Credential<'_>,
) -> Result<Answer, Refusal> {
    let signs = &outgoing.api.signs;
    match judge(signs, &mut answer).await {
        Verdict::Passes => return Ok(answer),
        Verdict::ConsentDead => {
            note_end(tokens, credential);
            return Ok(answer);
        }
        Verdict::TokenRejected => tokens.reject(credential.ask.key, credential.held.version),
    }
    let Some(body) = again else { return Ok(answer) };
    // Without a newer token the bank's own answer says more than any of ours.
    let newer = match tokens.token(&credential.ask).await {
        Ok(newer) if newer.version != credential.held.version => newer,
        Ok(_) | Err(_) => return Ok(answer),
    };
    drop(answer);
    let mut answer = send(outgoing, body, Some(&newer)).await?;
    match judge(signs, &mut answer).await {
        Verdict::ConsentDead => note_end(tokens, credential),
        Verdict::Passes | Verdict::TokenRejected => {}
    }
    Ok(answer)
}

fn note_end<S: Store, E: TokenEndpoint, C: Clock>(tokens: &Tokens<S, E, C>, credential: &Credential<'_>) {
    if let Some(consent) = credential.consent {
        tracing::info!(?consent, "The bank's API says that a consent has ended.");
        tokens.bank_says_ended(consent, credential.ask.provider);
    }
}

const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");

/// After this much waiting for an app's body, a token is asked for again: the one at hand may have expired.
pub(super) const STALE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_app_s_own_request_id_is_kept_under_any_of_the_names() {
        let names = ["x-request-id", "x-trace-id"].map(HeaderName::from_static);
        let mut headers = HeaderMap::new();
        let (name, made) = request_id(&names, &headers, [7; 16]).expect("made");
        assert_eq!((name.as_str(), made.len()), ("x-request-id", 36));
        headers.insert("x-trace-id", HeaderValue::from_static("mine"));
        let (name, sent) = request_id(&names, &headers, [7; 16]).expect("sent");
        assert_eq!((name.as_str(), sent), ("x-trace-id", HeaderValue::from_static("mine")));
        assert_eq!(request_id(&[], &headers, [7; 16]), None);
    }

    #[test]
    fn trace_and_span_come_from_the_one_draw() {
        let draw = std::array::from_fn(|at| u8::try_from(at).expect("small"));
        let bytes = trace_bytes(draw);
        assert_eq!(bytes[..16], draw);
        assert_eq!(bytes[16..], [15, 14, 13, 12, 11, 10, 9, 8]);
    }
}
