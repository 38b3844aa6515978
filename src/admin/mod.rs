//! The listeners for operators: health and administration.
//!
//! Two services, for [`net::serve`](crate::net::serve). [`Health`] answers probes and hands out metrics; it changes
//! nothing and asks nobody who they are, so it may listen anywhere. [`Admin`] shows and imports consents, listens on this
//! machine only, and lets write whom `access` lets.
//!
//! A request to the admin listener goes through `service`: guard, path, method, access, and then the handler in
//! `consents`, `starts`, `endings`, `infos`, `lists`, `logins` or
//! `providers`, which reads `body` and `precondition` and calls the use case. What goes wrong anywhere is a
//! `problem`. `readiness` is how the rest of the program says that it has started.

mod access;
mod answer;
mod body;
mod consents;
mod endings;
mod events;
mod health;
mod infos;
mod lists;
mod logins;
mod precondition;
mod problem;
mod providers;
mod readiness;
mod service;
pub mod settings;
mod starts;
mod stream;
#[cfg(test)]
mod tests;

pub use access::Writes;
pub use health::{Health, Vitals};
pub use problem::AdminProblem;
pub use readiness::{Latch, Readiness};
pub use service::Admin;
pub use stream::AdminBody;
