//! What starting a consent has to be told.

use std::collections::BTreeMap;
use std::time::Duration;

use super::scopes::ScopeRules;
use crate::oauth::settings::Authorization;
use crate::words::ids::ProviderId;
use crate::words::token_set::Scope;

/// How customers are asked, and where they may go afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskSettings {
    /// The address under which customers' browsers reach the callback listener, without a path or a slash at its end.
    pub public_url: String,
    /// The path that banks send browsers back to; with `public_url` before it, the redirect URI.
    pub path: String,
    /// Where a browser may be sent in the end: these addresses, to the letter, and no other.
    pub return_urls: Vec<String>,
    /// The providers at which a consent can be started.
    pub providers: BTreeMap<ProviderId, Asking>,
}

/// How customers of one bank are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asking {
    /// Where they are sent.
    pub authorization: Authorization,
    /// What is asked for where the app names nothing.
    pub default_scope: Option<Scope>,
    /// What may be asked for together.
    pub rules: ScopeRules,
    /// How long a consent lasts from its grant on, where the bank does not say and the scope does not either.
    pub consent_life: Option<Duration>,
    /// The redirect URI that the bank insists on though it leads to nobody; a person carries its address over by hand.
    pub pasted_redirect_uri: Option<String>,
    /// The errors by which this bank says that the customer refused; any other is a failure.
    pub denied_by: Vec<String>,
}

impl Asking {
    /// What means a refusal unless the operator or a profile says otherwise.
    pub const DENIED_BY: [&str; 3] = ["access_denied", "consent_denied", "login_cancelled"];
}

impl AskSettings {
    /// The path unless the operator says otherwise.
    pub const PATH: &str = "/callback";

    /// Where banks send browsers back to.
    pub fn redirect_uri(&self) -> String {
        format!("{}{}", self.public_url, self.path)
    }

    /// Whether browsers reach the listener through TLS.
    pub fn is_secure(&self) -> bool {
        self.public_url.starts_with("https://")
    }
}
