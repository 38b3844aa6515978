//! What the callback listener has to be told.

use crate::net::serve::Bind;

/// The listener that customers' browsers come to, directly or through whatever terminates TLS before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackSettings {
    /// Where it listens.
    pub bind: Bind,
    /// Names that a request's `Host` may carry besides that of the public address.
    pub hosts: Vec<String>,
}
