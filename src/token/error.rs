//! Why there is no token, in the words of the problem types.

use std::time::Duration;

use crate::words::problem::ProblemType;

/// Why there is no token. Each variant is one problem type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nothing is stored under this id for this provider.
    #[error("no such consent is stored for this API")]
    Unknown,
    /// The customer has not come back from the bank.
    #[error("the customer has not finished consenting")]
    Pending,
    /// The customer said no.
    #[error("the customer refused the consent")]
    Denied,
    /// Revoked, here or at the bank.
    #[error("the consent was revoked")]
    Revoked,
    /// The consent's own time is over.
    #[error("the consent's time is over")]
    Expired,
    /// The bank does not accept the refresh token, or there is none.
    #[error("the bank no longer renews this consent; the customer has to consent again")]
    ReauthorizationRequired,
    /// The answer to a token request was lost, and the old access token has expired.
    #[error("the bank's answer to a refresh was lost; it is asked once more after a quarantine")]
    Uncertain {
        /// Until then nothing will change.
        retry_after: Duration,
    },
    /// The token endpoint cannot be reached or asks for patience.
    #[error("the bank's token endpoint is not available ({why})")]
    EndpointUnavailable {
        /// The class, a word.
        why: String,
        /// When it will be asked again.
        retry_after: Duration,
    },
    /// The bank refuses our registration or certificate, we refuse its certificate, or its address is not right.
    #[error("{} ({why})", settings_at_fault(why))]
    Misconfigured {
        /// The class, a word.
        why: String,
    },
    /// Somebody, or this program itself, ordered that nothing is refreshed at the provider.
    #[error("refreshing at this provider is frozen ({why})")]
    Frozen {
        /// The reason, a word.
        why: String,
    },
    /// The store is away and no valid token is in memory.
    #[error("the token store cannot be reached and no valid token is in memory")]
    StoreUnavailable,
    /// The record is there and cannot be opened.
    #[error("the stored record cannot be opened: {why}")]
    Unreadable {
        /// What is wrong with it, without its contents.
        why: String,
    },
    /// A refresh is running and the caller's time is up.
    #[error("a refresh is running and took longer than this request could wait")]
    WaitTimeout,
    /// More tokens are being fetched than this process takes on.
    #[error("too many tokens are being fetched at once")]
    Overloaded,
}

/// What an operator has to look at.
fn settings_at_fault(why: &str) -> &'static str {
    match why {
        "tls_refused" => {
            "the TLS handshake with the bank's token endpoint fails: its certificate or ours is not accepted"
        }
        "certificate_refused" => "the bank's token endpoint refuses our client certificate",
        "redirect" => {
            "the bank's token endpoint answers with a redirect, which is never followed; its address is wrong"
        }
        "refused_once" | "all_refused" => {
            "the bank refuses the refresh tokens of several consents at once, so none of them is suspended"
        }
        "request_impossible" => "the settings for the bank's token endpoint make no request",
        _ => "the bank refuses our client registration",
    }
}

impl TokenError {
    /// The problem type an app is told.
    pub fn problem(&self) -> ProblemType {
        match self {
            Self::Unknown => ProblemType::ConsentUnknown,
            Self::Pending => ProblemType::ConsentPending,
            Self::Denied => ProblemType::ConsentDenied,
            Self::Revoked => ProblemType::ConsentRevoked,
            Self::Expired => ProblemType::ConsentExpired,
            Self::ReauthorizationRequired => ProblemType::ConsentReauthorizationRequired,
            Self::Uncertain { .. } => ProblemType::TokenRefreshUncertain,
            Self::EndpointUnavailable { .. } => ProblemType::TokenEndpointUnavailable,
            Self::Misconfigured { .. } => ProblemType::ProviderMisconfigured,
            Self::Frozen { .. } => ProblemType::ProviderFrozen,
            Self::StoreUnavailable => ProblemType::StoreUnavailable,
            Self::Unreadable { .. } => ProblemType::ConsentUnreadable,
            Self::WaitTimeout => ProblemType::TokenWaitTimeout,
            Self::Overloaded => ProblemType::Overloaded,
        }
    }

    /// Whether it says nothing about the token itself, so that one at hand may be used on.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Uncertain { .. }
            | Self::EndpointUnavailable { .. }
            | Self::Misconfigured { .. }
            | Self::Frozen { .. }
            | Self::StoreUnavailable
            | Self::WaitTimeout
            | Self::Overloaded => true,
            Self::Unknown
            | Self::Pending
            | Self::Denied
            | Self::Revoked
            | Self::Expired
            | Self::ReauthorizationRequired
            | Self::Unreadable { .. } => false,
        }
    }

    /// How long an app should wait before it tries again; `None` where waiting does not help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Uncertain { retry_after } | Self::EndpointUnavailable { retry_after, .. } => Some(*retry_after),
            // A thaw takes a person.
            Self::Frozen { .. } => Some(Duration::from_secs(30)),
            Self::StoreUnavailable | Self::WaitTimeout | Self::Overloaded => Some(Duration::from_secs(1)),
            Self::Unknown
            | Self::Pending
            | Self::Denied
            | Self::Revoked
            | Self::Expired
            | Self::ReauthorizationRequired
            | Self::Misconfigured { .. }
            | Self::Unreadable { .. } => None,
        }
    }
}
