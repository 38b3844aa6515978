//! What the listeners for operators have to be told.

use crate::net::serve::Bind;
use crate::words::secrets::AdminKey;

/// The listener that changes things.
#[derive(Debug)]
pub struct AdminSettings {
    /// Where it listens: this machine or a unix socket.
    pub bind: Bind,
    /// Names that a request's `Host` may carry besides those of this machine.
    pub hosts: Vec<String>,
    /// What a caller that writes has to present. `None`: only a caller on the unix socket may write.
    pub key: Option<AdminKey>,
}

/// The listener for probes and metrics. It needs no credentials and changes nothing, so it may listen anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthSettings {
    /// Where it listens.
    pub bind: Bind,
}
