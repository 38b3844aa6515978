//! What the tests stand on.

// Certificates of a test's own.
pub(crate) mod authority;
// The imitated banks, as a process.
pub(crate) mod bank;
// A store with a way to let its clock move on.
pub(crate) mod bench;
// An app's calls.
pub(crate) mod client;
// A link to a server that can break in every way a network does.
pub(crate) mod link;
// The real binary, as a process.
pub(crate) mod program;
// A real `redis-server` process of a test's own.
pub(crate) mod redis;
// Several such processes as one cluster.
pub(crate) mod redis_cluster;
// Sentinels over a primary and its replicas.
pub(crate) mod redis_sentinel;
// A bank that answers with whatever bytes it is told to.
pub(crate) mod rogue;
// A server of another version, as far as a test needs one.
pub(crate) mod scripted_redis;
// A replica of the proxy with a configuration of its own.
pub(crate) mod sidecar;
// The customer's way: banks with pages, and replicas that send browsers there.
pub(crate) mod street;
