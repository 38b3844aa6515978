//! Pure rules over headers, targets and media types. No I/O, nothing async, and no panic whatever comes in.
//!
//! hyper reads HTTP; these rules are what a proxy that holds other people's tokens has to add. In the order in which a
//! request meets them:
//!
//! 1. [`request_guard`] refuses heads that are ambiguous, too large, or sent by a web page; [`host`] knows the names a
//!    listener answers to.
//! 2. [`target`] refuses paths that two servers could read differently; [`segment`] is one piece of such a path, and
//!    [`form`] reads what stands in a query of our own.
//! 3. [`prefix`] finds the API and [`route`] the route, by a [`pattern`].
//! 4. [`via`] detects loops, [`forwarding`] takes off what must not pass in either direction, among it what
//!    [`hop_by_hop`] names, and [`request_id`] and [`trace_context`] say which request this is.
//! 5. [`upstream_uri`] says where the request goes, from the configuration alone.
//! 6. [`location`] turns a redirect of the bank back to this proxy; [`retry_after`] and [`media_type`] read its answers.
//! 7. [`problem`] writes our own answers; [`accept_language`] says in which language a browser would rather read a page.
//!
//! Every refusal is an enum whose variants are the reasons; `problem()` on it gives the problem type an app is told, and
//! its text repeats nothing of the request.

pub mod accept_language;
pub mod form;
pub mod forwarding;
pub mod hop_by_hop;
pub mod host;
pub mod location;
pub mod media_type;
pub mod pattern;
pub mod prefix;
pub mod problem;
pub mod request_guard;
pub mod request_id;
pub mod retry_after;
pub mod route;
pub mod segment;
pub mod target;
pub mod trace_context;
pub mod upstream_uri;
pub mod via;
