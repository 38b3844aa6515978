//! The life of a consent, apart from the tokens' own renewal.
//!
//! [`import()`] takes in a token set that was granted elsewhere, as the first of a new grant; what it is given is an
//! [`ImportRequest`], checked as a whole before anything happens. [`show()`] tells what is stored of a consent, without
//! its tokens, as a [`ConsentView`], and [`list()`] does so of all, a page at a time; [`history()`] what has happened to it, in the words of [`why`]; [`revive()`] puts a
//! refused refresh token back to be tried again; [`revoke()`] ends a consent at the bank and here. [`Desk`] is what banks offer about
//! consents themselves, [`info()`] what they tell there, and [`read_feed()`] what they tell of their own accord. [`provider()`] tells how a
//! provider stands. A [`Quota`] is how often a bank lets a consent be used without its customer, and a [`Counter`] counts it.
//!
//! [`start()`] opens an attempt and [`depart()`] sends the customer's browser to the bank; [`come_back()`] exchanges the code
//! that it brings. [`begin_login()`] and [`finish_login()`] do so for a person who carries the address over by hand. A refresh token is spent by `token` alone.

mod depart;
mod desk;
mod events;
mod exchange;
mod feed;
mod history;
mod import;
mod info;
mod list;
mod login;
mod members;
mod persist;
mod provider;
mod query;
mod quota;
mod request;
mod revive;
mod revoke;
pub mod scopes;
pub mod settings;
mod show;
mod start;
pub mod why;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use depart::{Departure, Held, Stay, attempt_of, depart};
pub use desk::{BankCall, CallPath, CallToken, Desk, DeskSettings, Desks, NotACallPath};
pub use events::ConsentEvent;
pub use exchange::{Answer, Arrival, Ending, Return, Way, come_back};
pub use feed::{FeedCall, LONGEST_PAGE, NotAFeed, read_feed};
pub use history::{EventView, HistoryView, history};
pub use import::{ImportError, Imported, Made, import};
pub use info::{InfoCall, InfoError, InfoView, info};
pub use list::{ListError, ListFault, ListRequest, ListView, ListedView, list};
pub use login::{LoginError, LoginReturn, LoginStarted, begin_login, finish_login};
pub use members::Fault;
pub use provider::{ProviderView, Suspects, provider, providers};
pub use query::Parameters;
pub use quota::{Counter, Per, Quota, Spent};
pub use request::{ImportRequest, Received, RequestError};
pub use revive::{ReviveError, Which, revive};
pub use revoke::{AtBank, RevokeError, RevokeRequest, Revoked, revoke};
pub use show::{ConsentView, ShowError, show};
pub use start::{ATTEMPT_LIFE, StartError, StartRequest, Started, start};
