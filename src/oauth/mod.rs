//! The bank's authorization server, seen from a client: what is asked of its token endpoint, and what its answers mean.
//!
//! [`TokenEndpoint`] is the seam. Its two steps are apart on purpose: connecting sends nothing, so that the intent can
//! be written between the two, and sending happens once. Every way an answer can turn out is a [`TokenOutcome`]; whether
//! the refresh token was spent is the question each variant settles. What a person may want to ask the bank about goes
//! beside it, in a [`Reply`]. [`assertion`] is how a client proves itself by
//! signing. [`authorize`] builds the address that a customer is sent to, or what is [pushed](Push) to the bank in its place; what
//! comes back from there is a code, which is spent like a refresh token that has no second use.

pub mod assertion;
pub mod authorize;
mod endpoint;
mod pushed;
mod request;
mod response;
pub mod settings;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use zeroize::Zeroizing;

pub use endpoint::{Connection, HttpTokenEndpoint, UNACKNOWLEDGED};
pub use pushed::Push;
pub use response::said;

use crate::words::bank::BankBehaviour;
use crate::words::clock::{BootInstant, WallTime};
use crate::words::failure::FailureClass;
use crate::words::said::Said;
use crate::words::secrets::{AccessToken, AuthorizationCode, CodeVerifier, RefreshToken};
use crate::words::token_set::{Scope, TokenSet};

/// One provider's token endpoint. One of the program's three seams.
pub trait TokenEndpoint: Send + Sync + 'static {
    /// A connection on which nothing was sent.
    type Connection: Send;

    /// Opens a connection of its own for one request, TLS handshake included.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, NotSent>> + Send;

    /// Sends the request, once, and reads the whole answer. Takes as long as the bank takes: the caller bounds it.
    fn send(&self, connection: Self::Connection, request: &TokenRequest<'_>) -> impl Future<Output = Reply> + Send;

    /// Whether the authorization server revokes tokens (RFC 7009).
    fn revokes(&self) -> bool {
        false
    }

    /// Revokes a token. Unlike a refresh it may be repeated.
    fn revoke(&self, _request: &RevocationRequest<'_>) -> impl Future<Output = Revocation> + Send {
        async { Revocation::Unsupported }
    }

    /// Whether authorization requests are pushed to it, so that browsers carry no more than a name for one (RFC 9126).
    fn takes_pushed(&self) -> bool {
        false
    }

    /// Pushes an authorization request: the form of [`settings::Authorization::form`]. Only where
    /// [`TokenEndpoint::takes_pushed`]. It may be repeated.
    fn push(&self, _form: &str) -> impl Future<Output = Push> + Send {
        async { Push::Refused { why: FailureClass::RequestImpossible, said: Said::default() } }
    }

    /// The thumbprint of the client certificate that is presented, if one is (RFC 8705 §3.1).
    fn certificate(&self) -> Option<String>;
}

/// Which token is to be revoked (RFC 7009 §2.1).
#[derive(Clone, Copy, Debug)]
pub enum RevocationRequest<'a> {
    /// With it the grant goes.
    Refresh(&'a RefreshToken),
    /// It alone, or the grant with it, as the bank likes.
    Access(&'a AccessToken),
}

/// What became of a revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// The token is of no more use, whether it was before or not (RFC 7009 §2.2).
    Revoked,
    /// The authorization server does not revoke such tokens.
    Unsupported,
    /// It was not reached, or said no. The token lives.
    Refused {
        /// The class.
        why: FailureClass,
        /// What a person could ask the bank about.
        said: Said,
    },
    /// Nobody knows whether it was revoked.
    Unknown {
        /// The class.
        why: FailureClass,
        /// What a person could ask the bank about.
        said: Said,
    },
}

/// What is asked of a token endpoint.
#[derive(Debug)]
pub enum TokenRequest<'a> {
    /// RFC 6749 §6.
    Refresh {
        /// What is spent.
        refresh: &'a RefreshToken,
        /// The scope to repeat, for banks that want it.
        scope: Option<&'a Scope>,
    },
    /// RFC 6749 §4.1.3. What is said of a refresh token in [`TokenOutcome`] holds for the code, but that none comes instead.
    AuthorizationCode {
        /// What is spent. A bank takes it once, and may end what it gave for it if it sees it again (RFC 6749 §4.1.2).
        code: &'a AuthorizationCode,
        /// The very one of the authorization request.
        redirect_uri: &'a str,
        /// What the code challenge was made from; `None` where none was sent.
        verifier: Option<&'a CodeVerifier>,
    },
    /// RFC 6749 §4.4.
    ClientCredentials {
        /// Which API the token is for, for authorization servers that have several.
        audience: Option<&'a str>,
        /// What it is for.
        scope: Option<&'a Scope>,
    },
}

/// What became of a request that was to be sent: what it means, and what is known of it besides.
#[derive(Debug)]
pub struct Reply {
    /// What it means for the refresh token.
    pub outcome: TokenOutcome,
    /// What a person could ask the bank about. Whether it left too late is for the holder of the lease to say.
    pub said: Said,
    /// When its first byte had left, at the latest; `None` where none has, or where nobody looked.
    pub left_at: Option<BootInstant>,
}

impl From<TokenOutcome> for Reply {
    fn from(outcome: TokenOutcome) -> Self {
        Self { outcome, said: Said::default(), left_at: None }
    }
}

/// How a token request turned out.
#[derive(Debug)]
pub enum TokenOutcome {
    /// A token set. If a refresh token was sent and a new one came, the old one is dead.
    Granted(TokenSet),
    /// Nothing reached the bank's application. Not spent.
    NotSent(NotSent),
    /// The bank said that it did not process the request. Not spent.
    NotProcessed {
        /// The class, a word.
        why: &'static str,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// `invalid_grant`: the bank does not accept this refresh token (RFC 6749 §5.2). Not spent by this request.
    InvalidGrant,
    /// Our registration, certificate or request is at fault, the consent is not. Not spent.
    Misconfigured {
        /// The class, a word: the error code, or what TLS said.
        why: &'static str,
    },
    /// Nobody knows whether it was processed. Perhaps spent.
    Unknown {
        /// The class, a word.
        why: &'static str,
    },
    /// The bank said yes in a way that cannot be read. Spent; the bytes are all there is of the new token set.
    Unreadable {
        /// What is wrong with them.
        why: &'static str,
        /// The body as it came.
        body: Zeroizing<Vec<u8>>,
    },
}

/// What an answer means to a bank of which nothing special is known; the whole body is given.
pub fn read_answer(status: StatusCode, headers: &HeaderMap, body: &[u8], now: WallTime) -> TokenOutcome {
    let body = response::Body { bytes: Zeroizing::new(body.to_vec()), cut: None };
    let BankBehaviour { default_expires_in, trust_5xx, .. } = BankBehaviour::default();
    response::classify(status, headers, body, response::Reading { default_expires_in, trust_5xx, now })
}

/// Why nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// Name resolution, TCP, or time ran out before a connection stood.
    #[error("no connection to the token endpoint: {0}")]
    Unreachable(String),
    /// The TLS handshake failed: a certificate, ours or theirs, is not accepted.
    #[error("the TLS handshake with the token endpoint failed: {0}")]
    Tls(String),
    /// Our own side could not make the request.
    #[error("the token request could not be made: {0}")]
    Request(String),
}
