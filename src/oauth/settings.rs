//! What the token endpoint's client has to be told.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;

use super::assertion::Asserting;
use crate::net::names::Reachable;
use crate::net::tls::{Identity, Roots};
use crate::words::ids::ProviderId;
use crate::words::secrets::{ClientSecret, Renewable};

/// Our client registration at one provider, and how its token endpoint is reached.
#[derive(Debug)]
pub struct Registration {
    /// The provider's name in the configuration.
    pub provider: ProviderId,
    /// Where token requests go: `https`, or `http` on this machine.
    pub token_endpoint: Uri,
    /// Where tokens are revoked (RFC 7009), where the bank offers that.
    pub revocation_endpoint: Option<Uri>,
    /// Where authorization requests are pushed (RFC 9126), where they are.
    pub pushed_authorization_request_endpoint: Option<Uri>,
    /// The name the bank knows us by.
    pub client_id: String,
    /// How we prove that we are that client.
    pub client_auth: ClientAuth,
    /// The client certificate. Always there with [`ClientAuth::TlsClientAuth`], and possible with the others.
    pub identity: Option<Arc<Identity>>,
    /// Whom the bank's certificate must descend from.
    pub roots: Roots,
    /// Which of the addresses that the endpoint's name leads to may be called.
    pub reachable: Reachable,
    /// How long name resolution, TCP and TLS may take together.
    pub connect_timeout: Duration,
}

impl Registration {
    /// How long a connection may take unless the operator says otherwise.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
}

/// How a client proves itself at the token endpoint.
#[derive(Debug)]
pub enum ClientAuth {
    /// By its certificate; `client_id` goes into the form (RFC 8705 §2.1).
    TlsClientAuth,
    /// By a secret in the `Authorization` header, both halves form-encoded (RFC 6749 §2.3.1).
    SecretBasic(Renewable<ClientSecret>),
    /// By a secret in the form (RFC 6749 §2.3.1).
    SecretPost(Renewable<ClientSecret>),
    /// By an assertion that it signs (RFC 7523 §2.2); `client_id` goes into the form beside it.
    PrivateKeyJwt(Asserting),
    /// Not at all: `client_id` goes into the form (RFC 6749 §3.2.1).
    None,
}

/// Where customers are sent to consent, and what the bank wants to be told there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// The authorization endpoint (RFC 6749 §3.1): `https`, or `http` on this machine.
    pub endpoint: Uri,
    /// The name the bank knows us by.
    pub client_id: String,
    /// Parameters of this bank alone, such as ABN AMRO's `flow`.
    pub parameters: Vec<(String, String)>,
    /// Whether the request carries a code challenge.
    pub pkce: Pkce,
    /// What the bank calls itself in `iss` (RFC 9207), where it is known.
    pub issuer: Option<String>,
}

/// Whether a bank takes PKCE (RFC 7636). Where it does, a code that was stolen on its way is worth nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pkce {
    /// It insists on it.
    Required,
    /// It takes it, or passes over what it does not know (RFC 6749 §3.1). Sent all the same.
    Allowed,
    /// It refuses requests that carry it.
    Never,
}
