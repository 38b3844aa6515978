//! Sockets: everything that owns one.
//!
//! [`tls`] turns PEM files into TLS configurations, always with the same cryptography and never through a process-wide
//! default. [`serve`] accepts connections, speaks HTTP on them within limits, and tells the service who is at the other
//! end ([`serve::Peer`]). [`shutdown`] is how a process ends: softly first, then hard.

pub mod serve;
pub mod shutdown;
pub mod tls;

mod bind;
mod preface;
#[cfg(all(test, feature = "sandbox"))]
mod tests;
