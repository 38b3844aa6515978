//! Why the program cannot start: where in the configuration, and whose turn it is.

use crate::http::host::NotAHostName;
use crate::net::dial::DialerError;
use crate::net::serve::BindError;
use crate::proxy::ProxyError;
use crate::store::embedded::EmbeddedError;
use crate::store::redis::TlsSettingsError;
use crate::store::spill::SpillError;
use crate::words::ids::ProviderId;

/// Why the program cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address is not to be had.
    #[error("{listener}.listen: {cause}")]
    Listen {
        /// Which listener, as in the configuration.
        listener: &'static str,
        /// What is wrong.
        cause: BindError,
    },
    /// A provider's token endpoint cannot be used as configured.
    #[error("providers.{provider}: {cause}")]
    Endpoint {
        /// Which.
        provider: ProviderId,
        /// What is wrong.
        cause: DialerError,
    },
    /// The API at which a provider tells of consents cannot be called as configured.
    #[error("apis: the API of {provider} for consents: {cause}")]
    Desk {
        /// Whose.
        provider: ProviderId,
        /// What is wrong.
        cause: DialerError,
    },
    /// A name of the admin listener is no host name.
    #[error("admin.hosts: {0}")]
    AdminHosts(NotAHostName),
    /// A name of the callback listener is no host name.
    #[error("callback.hosts: {0}")]
    CallbackHosts(NotAHostName),
    /// An API cannot be served as configured.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The Redis settings cannot work.
    #[error("store.redis: {0}")]
    Redis(#[from] TlsSettingsError),
    /// The file of the embedded store cannot be used.
    #[error("store.embedded: {0}")]
    Embedded(#[from] EmbeddedError),
    /// The spill directory cannot be used.
    #[error("store.spill: {0}")]
    Spill(#[from] SpillError),
    /// The protocol's constants contradict each other.
    #[error("the refresh protocol's constants are unsafe: {0}")]
    Timing(&'static str),
}

impl StartError {
    /// Whether something else on this machine has to give way, as opposed to the configuration being wrong.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Listen { .. } | Self::Embedded(_) | Self::Spill(_) => true,
            Self::Endpoint { .. }
            | Self::Desk { .. }
            | Self::AdminHosts(_)
            | Self::CallbackHosts(_)
            | Self::Proxy(_)
            | Self::Redis(_)
            | Self::Timing(_) => false,
        }
    }
}
