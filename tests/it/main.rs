//! Everything that is tested from outside the library, in one binary.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

// What the tests stand on: servers, certificates, faults.
mod support;

// The steps of the refresh protocol, the same against every store.
mod store_contract;

// What only the Redis store does: outages, lost replies, replicas, TLS and access control.
mod store_redis;

// Random walks through the steps, on which every store must agree.
mod store_agreement;
