//! consentry: a token-injecting reverse proxy for open banking that never loses a consent.
//!
//! An app sends a request with a consent id and no token. consentry finds the consent's access token, refreshes it
//! atomically when it has expired, adds it, and forwards the request to the bank's API. The app never sees a token.
//!
//! # The map of the house
//!
//! Rooms stand on floors, and a room imports only from floors below its own (`tests/layering.rs` checks it). The front
//! page of each is its `mod.rs`.
//!
//! | floor | room | what it is |
//! | --- | --- | --- |
//! | ground | [`words`] | ids, secrets, clocks, token sets, problem types, bank behaviour, metric handles |
//! | | [`simulation`] | where a simulation may take the machine's place, in builds with debug assertions |
//! | first | [`http`] | pure rules over targets, headers and routes |
//! | | [`net`] | sockets: TLS, servers, shutdown |
//! | second | [`oauth`] | the bank's token endpoint: what is asked, and what its answers mean |
//! | | [`store`] | where token sets live: the steps of the protocol, seals, spills, Redis, the embedded file |
//! | third | [`token`] | a valid access token for a consent or a client: decide, fly, refresh, keep, recover |
//! | | [`consent`] | the life of a consent: start, exchange, import, show, revive |
//! | fourth | [`proxy`] | the request path: identify, route, token, forward, respond |
//! | | [`callback`] | customers' browsers, out to the bank and back |
//! | | [`admin`] | health, metrics, the consents API |
//! | fifth | [`config`] | the operator's file, every fault with its place |
//! | | [`profiles`] | what is known of each bank, as data |
//! | | [`telemetry`] | the log, the metrics' registry, what keeps secrets out of crashes |
//! | roof | [`app`] | the composition root |
//! | | [`cli`] | one file per command |
//!
//! `sandbox`, behind a feature of that name, is a peer: two imitated banks to develop and test against.
//!
//! Two walks show most of it. A request goes `net` → [`proxy`] → [`token`] and back. A refresh goes
//! [`token`] → `ask` → `refresh` → `keep`, through [`store`] and [`oauth`]. `docs/architecture.md` tells both at length,
//! `docs/refresh.md` the protocol.

pub mod admin;
pub mod app;
pub mod callback;
pub mod cli;
pub mod config;
pub mod consent;
pub mod http;
pub mod net;
pub mod oauth;
pub mod profiles;
pub mod proxy;
#[cfg(feature = "sandbox")]
pub mod sandbox;
pub mod simulation;
pub mod store;
pub mod telemetry;
pub mod token;
pub mod words;
