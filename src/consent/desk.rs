//! The bank's API as far as it is about consents themselves: where a consent is ended, where the bank tells of one, and where it
//! tells what has happened to all of them.
//!
//! What a bank offers there is data of its profile: a method, a path, and whose token goes with it. A call of ours is made
//! like an app's, with the headers that the operator sets for that API, and what its answers mean is told by the same
//! matchers. A token that the bank rejects is replaced once. Nothing is kept open between calls: they are rare.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request};
use http_body_util::Full;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::feed::FeedCall;
use super::info::{InfoCall, Lately};
use crate::http::request_id::RequestId;
use crate::http::upstream_uri::UpstreamBase;
use crate::net::courier::{Answer, Courier, Undelivered};
use crate::net::dial::DialerError;
use crate::net::names::Reachable;
use crate::net::tls::{Identity, Roots};
use crate::oauth::{TokenEndpoint, said};
use crate::store::Store;
use crate::token::{Ask, ClientGrant, TokenError, Tokens};
use crate::words::bank::Matcher;
use crate::words::clock::Clock;
use crate::words::ids::{ClientKey, ConsentId, ProviderId, TokenKey, random_name};
use crate::words::said::Said;
use crate::words::token_set::Scope;

/// What a desk has to be told.
#[derive(Debug)]
pub struct DeskSettings {
    /// Where the API is; of its path nothing counts, since the bank documents its calls from the root on.
    pub base: UpstreamBase,
    /// Whom its certificate must descend from.
    pub roots: Roots,
    /// Which of the addresses that its name leads to may be called.
    pub reachable: Reachable,
    /// The client certificate shown to it.
    pub identity: Option<Arc<Identity>>,
    /// Headers of every call, such as `API-Key`; their values are marked sensitive.
    pub set_headers: Vec<(HeaderName, HeaderValue)>,
    /// The header that names a call.
    pub request_id: Option<HeaderName>,
    /// Answers that mean "this access token is not accepted".
    pub token_rejected: Vec<Matcher>,
    /// Answers that mean "this consent has ended".
    pub consent_dead: Vec<Matcher>,
    /// How a consent is ended.
    pub revoke: Option<BankCall>,
    /// Where the bank tells of a consent.
    pub info: Option<InfoCall>,
    /// Where the bank tells what has happened to consents.
    pub feed: Option<FeedCall>,
}

/// A call that a bank offers about a consent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BankCall {
    /// How.
    pub method: Method,
    /// Where, from the root of the host on.
    pub path: CallPath,
    /// Whose token goes with it.
    pub token: CallToken,
}

/// Whose token goes with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallToken {
    /// The consent's.
    Consent,
    /// Our own, asked for with this.
    Client(Arc<ClientGrant>),
}

/// A path in which `{bank_consent_id}` stands for what the bank calls the consent.
#[derive(Clone, PartialEq, Eq)]
pub struct CallPath {
    before: Box<str>,
    after: Option<Box<str>>,
}

const PLACE: &str = "{bank_consent_id}";

/// A text is not the path of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has to be a path such as /v1/consents/{{bank_consent_id}}, of plain segments, with that name once at most")]
pub struct NotACallPath;

impl CallPath {
    /// Reads it as configured.
    pub fn parse(text: &str) -> Result<Self, NotACallPath> {
        let plain = |segment: &str| {
            segment == PLACE
                || !matches!(segment, "" | "." | "..")
                    && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:@!$&'()+,=".contains(&b))
        };
        let segments = text.strip_prefix('/').ok_or(NotACallPath)?;
        if !segments.split('/').all(plain) || text.matches(PLACE).count() > 1 {
            return Err(NotACallPath);
        }
        Ok(match text.split_once(PLACE) {
            Some((before, after)) => Self { before: before.into(), after: Some(after.into()) },
            None => Self { before: text.into(), after: None },
        })
    }

    /// Whether it names the consent.
    pub const fn names_consent(&self) -> bool {
        self.after.is_some()
    }

    /// The path for a consent that the bank calls `id`.
    pub(super) fn of(&self, id: &str) -> String {
        let mut path = String::from(&*self.before);
        if let Some(after) = &self.after {
            for byte in id.bytes() {
                if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                    path.push(char::from(byte));
                } else {
                    let _ = write!(path, "%{byte:02X}");
                }
            }
            path.push_str(after);
        }
        path
    }
}

impl fmt::Debug for CallPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.before)?;
        self.after.as_ref().map_or(Ok(()), |after| write!(f, "{PLACE}{after}"))
    }
}

/// Which consent a call is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    pub(super) consent: &'a ConsentId,
    pub(super) provider: &'a ProviderId,
    /// What the bank calls it.
    pub(super) bank_id: &'a str,
}

/// What came back from the bank.
#[derive(Debug)]
pub(super) enum Heard {
    /// An answer that is neither of the others.
    Answer(Answer, Said),
    /// The bank says that the consent has ended, or that it knows none of this name.
    ConsentDead(Said),
    /// It accepts no token of ours.
    TokenRejected(Said),
}

/// Why nothing came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unheard {
    /// There is no token to ask with. The bank saw nothing.
    NoToken(TokenError),
    /// The bank was not reached, or gave no answer.
    Undelivered(Undelivered),
}

/// A desk, ready to be asked.
#[derive(Debug)]
pub struct Desk {
    courier: Courier,
    set_headers: HeaderMap,
    request_id: Option<HeaderName>,
    token_rejected: Vec<Matcher>,
    consent_dead: Vec<Matcher>,
    revoke: Option<BankCall>,
    info: Option<InfoCall>,
    feed: Option<FeedCall>,
    lately: Lately,
    /// Who asks for what is told of consents: few at a time.
    turns: Semaphore,
}

/// Those of all providers that have one.
pub type Desks = BTreeMap<ProviderId, Arc<Desk>>;

/// How many ask at once what a bank tells of consents.
const ASKING: usize = 4;
/// How long a token is waited for.
const TOKEN_WAIT: Duration = Duration::from_secs(4);
/// How long the bank may take to answer.
const PATIENCE: Duration = Duration::from_secs(8);

impl Desk {
    /// Prepares it; nothing is opened before it is needed.
    pub fn new(settings: DeskSettings) -> Result<Self, DialerError> {
        let url = settings.base.absolute(PathAndQuery::from_static("/"));
        let courier = Courier::new(&url, &settings.roots, settings.identity.as_deref(), settings.reachable)?;
        Ok(Self {
            courier,
            set_headers: settings.set_headers.into_iter().collect(),
            request_id: settings.request_id,
            token_rejected: settings.token_rejected,
            consent_dead: settings.consent_dead,
            revoke: settings.revoke,
            info: settings.info,
            feed: settings.feed,
            lately: Lately::new(),
            turns: Semaphore::new(ASKING),
        })
    }

    /// Whether ending a consent here takes a token of the consent, which may have to be refreshed for it.
    pub fn revokes_with_the_consents_token(&self) -> bool {
        self.revoke.as_ref().is_some_and(|call| call.token == CallToken::Consent)
    }

    /// Where the bank tells of a consent.
    pub(super) const fn info(&self) -> Option<&InfoCall> {
        self.info.as_ref()
    }

    /// Where the bank tells what has happened to consents.
    pub const fn feed(&self) -> Option<&FeedCall> {
        self.feed.as_ref()
    }

    /// What it told lately.
    pub(super) const fn lately(&self) -> &Lately {
        &self.lately
    }

    /// A turn to ask what the bank tells.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.turns.acquire().await.ok()
    }

    /// How a consent is ended here.
    pub(super) const fn revoke(&self) -> Option<&BankCall> {
        self.revoke.as_ref()
    }

    /// Makes a call, with another token once if the bank rejects the first.
    pub(super) async fn call<S: Store, E: TokenEndpoint, C: Clock>(
        &self,
        tokens: &Tokens<S, E, C>,
        call: &BankCall,
        about: About<'_>,
    ) -> Result<Heard, Unheard> {
        let (key, client) = match &call.token {
            CallToken::Consent => (TokenKey::Consent(about.consent.clone()), None),
            CallToken::Client(grant) => (client_key(about.provider, grant), Some(grant)),
        };
        let ask = Ask { key: &key, provider: about.provider, client, wait: TOKEN_WAIT };
        self.ask(tokens, &ask, &call.method, &call.path.of(about.bank_id)).await
    }

    /// Asks for a page of the feed, with our client's token.
    pub(super) async fn page<S: Store, E: TokenEndpoint, C: Clock>(
        &self,
        tokens: &Tokens<S, E, C>,
        provider: &ProviderId,
        feed: &FeedCall,
        from: u64,
    ) -> Result<Heard, Unheard> {
        let key = client_key(provider, &feed.token);
        let ask = Ask { key: &key, provider, client: Some(&feed.token), wait: TOKEN_WAIT };
        self.ask(tokens, &ask, &Method::GET, &feed.target(from)).await
    }

    /// Asks for this target, with another token once if the bank rejects the first.
    async fn ask<S: Store, E: TokenEndpoint, C: Clock>(
        &self,
        tokens: &Tokens<S, E, C>,
        ask: &Ask<'_>,
        method: &Method,
        target: &str,
    ) -> Result<Heard, Unheard> {
        let mut replaced = false;
        loop {
            let held = tokens.token(ask).await.map_err(Unheard::NoToken)?;
            let request = self.request(method, target, held.bearer.clone());
            let answer = self.courier.ask(request, PATIENCE).await.map_err(Unheard::Undelivered)?;
            let said = said(answer.status, &answer.headers);
            if is_any(&self.consent_dead, &answer) {
                return Ok(Heard::ConsentDead(said));
            }
            if !is_any(&self.token_rejected, &answer) {
                return Ok(Heard::Answer(answer, said));
            }
            if replaced {
                return Ok(Heard::TokenRejected(said));
            }
            tokens.reject(ask.key, held.version);
            replaced = true;
        }
    }

    fn request(&self, method: &Method, target: &str, bearer: HeaderValue) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::default());
        *request.method_mut() = method.clone();
        // Checked segments and names, and an id in characters that need no escape.
        *request.uri_mut() = target.parse().unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(name) = &self.request_id {
            headers.insert(name.clone(), RequestId::from_random(random_name()).to_header_value());
        }
        for (name, value) in &self.set_headers {
            headers.insert(name.clone(), value.clone());
        }
        headers.insert(AUTHORIZATION, bearer);
        request
    }
}

fn client_key(provider: &ProviderId, grant: &ClientGrant) -> TokenKey {
    let scope = grant.scope.as_ref().map(Scope::as_str);
    TokenKey::Client(ClientKey::new(provider.clone(), grant.audience.as_deref(), scope))
}

fn is_any(matchers: &[Matcher], answer: &Answer) -> bool {
    let holds = |it: &Matcher| it.head_matches(answer.status, &answer.headers) && it.body_matches(&answer.body);
    matchers.iter().any(holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_takes_the_banks_name_for_a_consent_as_one_segment_whatever_is_in_it() {
        let path = CallPath::parse("/v1/debt/{bank_consent_id}/status").expect("a path");
        assert!(path.names_consent());
        assert_eq!(path.of("0dcec3d5-6844"), "/v1/debt/0dcec3d5-6844/status");
        assert_eq!(path.of("urn:bank:../a b?x#é"), "/v1/debt/urn%3Abank%3A..%2Fa%20b%3Fx%23%C3%A9/status");
        let fixed = CallPath::parse("/v1/consentinfo").expect("a path");
        assert!(!fixed.names_consent());
        assert_eq!(fixed.of("x"), "/v1/consentinfo");
    }

    #[test]
    fn what_is_no_path_of_a_call_is_refused() {
        for bad in ["", "v1", "/", "/v1//x", "/v1/..", "/v1/x?y", "/v1/x%20", "/v1/{id}", "/a{bank_consent_id}"] {
            assert_eq!(CallPath::parse(bad), Err(NotACallPath), "{bad}");
        }
        assert_eq!(CallPath::parse("/{bank_consent_id}/{bank_consent_id}"), Err(NotACallPath));
    }
}
