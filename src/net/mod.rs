//! Sockets: everything that owns one.
//!
//! [`tls`] turns PEM files into TLS configurations, always with the same cryptography and never through a process-wide
//! default; `identity` is a certificate that may be replaced while it is shown; `pinned` lets a server show the very certificate that is trusted. [`serve`] accepts connections, speaks HTTP on them within limits, and tells the service who is at the other
//! end ([`serve::Peer`]). [`names`] resolves the names of banks, [`dial`] connects to one of their servers, and [`courier`] carries a
//! question there. [`shutdown`] is how a process ends: softly first, then
//! hard. `application` is what a listener serves. [`descriptors`] sees to it that apps cannot use up what the process may have open, and [`workers`] are the threads
//! that serve.

pub mod courier;
pub mod descriptors;
pub mod dial;
pub mod names;
pub mod serve;
pub mod shutdown;
pub mod tls;
pub mod workers;

mod application;
mod bind;
mod callers;
mod head_timer;
mod identity;
mod impatient;
mod pinned;
mod preface;
mod streams;
#[cfg(all(test, feature = "sandbox"))]
mod tests;
