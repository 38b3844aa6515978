//! What the tests stand on.

// A store with a way to let its clock move on.
pub(crate) mod bench;
// A link to a server that can be cut at the worst moment.
pub(crate) mod fault_link;
// A real `redis-server` process of a test's own.
pub(crate) mod redis;
