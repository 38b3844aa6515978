//! consentry against an authorization server that was not written here: oidc-provider, which the OpenID Foundation has
//! certified, at the version and with the digests that `package-lock.json` names.
//!
//! Our imitated banks understand the standards as consentry does, since the same people wrote both. This one has its own
//! understanding of them, so what is tried here is the wire: authorization code with PKCE, refresh with rotation, every client
//! authentication, certificate-bound tokens, revocation. What the server makes of it is read in its own log.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

// What the tests stand on: servers, certificates, faults.
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the other test binaries use the rest")]
mod support;

// The server: its packages, its process, its log.
mod server;

// The server, its clients' keys, a Redis and replicas that are registered in every way.
mod house;

// A customer's browser.
mod browser;

// Consents that are granted, renewed and revoked.
mod living;

// Requests that are pushed to the server before a browser is sent there.
mod pushing;

// What the server refuses, and what comes of it.
mod refusing;
