//! The listener that customers' browsers come to: out to the bank, and back from it.
//!
//! `service` is a request's way: guard, path, and then one of two visits. `GET /start/{ticket}` gives the browser a cookie
//! and sends it to the bank; `GET /callback`, or whatever path the operator chose, takes what the bank sent back. What
//! either is to do is decided in [`consent`](crate::consent); here it becomes a redirect or a `page`, in a `language` that
//! the browser asks for. `cookie` and [`Parameters`] read what comes.
//!
//! Whoever comes here is a stranger. Nothing of a request is repeated in an answer, no answer is kept or passed on as a
//! referrer, and no page holds a script, a token or a way to be framed.

mod cookie;
mod language;
mod page;
mod service;
pub mod settings;
#[cfg(test)]
mod tests;

pub use service::Callback;

pub use crate::consent::Parameters;
