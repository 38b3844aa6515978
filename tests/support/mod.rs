//! What the tests stand on.

// The imitated banks, as a process.
pub(crate) mod bank;
// A store with a way to let its clock move on.
pub(crate) mod bench;
// An app's calls.
pub(crate) mod client;
// A link to a server that can be cut at the worst moment.
pub(crate) mod fault_link;
// The real binary, as a process.
pub(crate) mod program;
// A real `redis-server` process of a test's own.
pub(crate) mod redis;
// A bank that answers with whatever bytes it is told to.
pub(crate) mod rogue;
// A replica of the proxy with a configuration of its own.
pub(crate) mod sidecar;
