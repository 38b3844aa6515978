//! The life of a consent, apart from the tokens' own renewal.
//!
//! [`import()`] takes in a token set that was granted elsewhere, as the first of a new grant; what it is given is an
//! [`ImportRequest`], checked as a whole before anything happens. [`show()`] tells what is stored of a consent, without
//! its tokens, as a [`ConsentView`]. Neither ever talks to a bank: a refresh token is spent by `token` alone.

mod import;
mod members;
mod request;
mod show;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use import::{ImportError, Imported, Made, import};
pub use members::Fault;
pub use request::{ImportRequest, Received, RequestError};
pub use show::{ConsentView, ShowError, show};
