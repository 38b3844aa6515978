//! The request path over real sockets: a raw app on one side, a raw bank on the other.
//!
//! [`app`] speaks for the app and shows answers as they came, [`bank`] answers by script and remembers what it saw,
//! [`house`] is the proxy between them, over a store that is a table in memory ([`shelf`]). The tests themselves, by subject:
//! [`credentials`] (whose token goes out, and what becomes of it when it is rejected), [`refusals`] (every problem that
//! can occur here), [`heads`] (what passes, what ends here, what is added), [`bodies`] (streaming, limits, endings),
//! [`faults`] (banks that cannot be reached or misbehave), `secure` (TLS to the bank, and HTTP/2),
//! [`logs`] (what is logged of a call), [`quota`] (which calls count).

mod app;
mod bank;
mod bodies;
mod credentials;
mod faults;
mod heads;
mod house;
mod logs;
mod quota;
mod refusals;
#[cfg(feature = "sandbox")]
mod secure;
mod shelf;

use std::future::Future;
use std::time::Duration;

/// Every wait in these tests ends by then, as a failure.
async fn within<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(10), work).await.expect("in time")
}
