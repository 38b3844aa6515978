//! The imitated ABN AMRO: one access and one refresh token per consent, mutual TLS at the token endpoint, an `API-Key`
//! at the APIs.
//!
//! [`authorize`] is what a customer sees, on [`screens`]. [`ledger`] is the bank's database: consents and tokens;
//! [`exchange`] is how a code becomes one, [`refresh`] how a refresh token becomes the next. [`token`] is the token endpoint, [`api`] the consent info and account APIs over
//! [`data`], [`errors`] their error envelope, [`echo`] what tests of proxies need, [`seal`] how refresh tokens are made.

pub(super) mod api;
pub(super) mod authorize;
mod data;
mod echo;
mod errors;
mod exchange;
pub(super) mod ledger;
mod refresh;
mod screens;
mod seal;
pub(super) mod token;

#[cfg(test)]
mod ledger_tests;

/// The account of which the bank's documents tell, and the one of a consent that names none.
pub(super) const DEFAULT_IBAN: &str = "NL12ABNA9999876523";

/// The scopes of account information. They and payment scopes are never in one consent.
pub(super) const ACCOUNT_SCOPES: [&str; 4] = [
    "psd2:account:details:read",
    "psd2:account:balance:read",
    "psd2:account:transaction:read",
    "psd2:account:funds:read",
];

/// The scopes of payments; those a client may ask for on its own account.
pub(super) const PAYMENT_SCOPES: [&str; 5] = [
    "psd2:payment:sepa:write",
    "psd2:payment:sepa:read",
    "psd2:payment:xborder:write",
    "psd2:payment:recurrent:sepa:write",
    "psd2:payment:recurrent:sepa:delete",
];
