//! Everything that is tested from outside the library, in one binary.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

// What the tests stand on: servers, certificates, faults.
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the other test binary uses the rest")]
mod support;

// Tests that run against every store.
#[macro_use]
mod suite;

// However many ask, one token request; and whose token reaches which bank.
mod refreshing;

// The store away, the app gone, the process killed.
mod outages;

// Bodies of a gibibyte, and what never passes.
mod streaming;

// Secrets, looked for everywhere.
mod leaking;

// Banks, apps, operators and machines that do what they should not.
mod breaking;

// Bytes on the wire: what is refused, what passes, and how slow a peer may be.
mod raw;

// What an operator is told of a consent, and can take back.
mod telling;

// Consents that are started here, and their customers.
mod starting;

// What a consent does not cover.
mod scopes;

// How often a consent is used without its customer.
mod counting;

// How a consent ends at the bank and here.
mod revoking;

// What the bank says of a consent.
mod informing;

// One call from the command line.
mod calling;

// Which consents there are.
mod listing;

// What a bank tells of its own accord.
mod feeding;

// What is told to whoever listens.
mod listening;

// How our client proves itself.
mod proving;

// The command line and the demo.
mod commanding;

// What waits for the process, watches it or is told by it.
mod attending;

// An end under load.
mod draining;

// Another configuration while it runs.
mod reloading;

// The steps of the refresh protocol, the same against every store.
mod store_contract;

// A walk over all consents, the same in every store.
mod store_listing;

// What every store keeps of a customer on the way to the bank and back.
mod store_attempts;

// What every store does with a consent whose customer is asked.
mod store_asking;

// How often a consent was used without its customer, in every store.
mod store_quotas;

// What replicas share about a provider, in every store.
mod store_providers;

// What replicas share about a provider's feed, in every store.
mod store_feeds;

// What only the Redis store does: outages, lost replies, replicas, TLS and access control.
mod store_redis;

// A primary that sentinels name: failovers in the middle of a refresh.
mod store_sentinel;

// A cluster: slots that move in the middle of a refresh.
mod store_cluster;

// The real binary before sentinels and before a cluster.
mod store_topologies;

// Random walks through the steps, on which every store must agree.
mod store_agreement;

// What a server that came back is told before it grants a lease.
mod store_reunion;

// How far a store has come, by which an old backup is told from a store that went on.
mod store_age;

// Whether a server is fit to keep consents.
mod store_doctor;
