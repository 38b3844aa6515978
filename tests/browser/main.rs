//! The customer's way to the bank and back, in a real browser: Chromium, driven with the keyboard, before the real binary and
//! the imitated banks' pages.
//!
//! The banks' pages are at `127.0.0.1` and our own at `localhost`. For a browser those are two sites, so a cookie that is
//! `SameSite` is put to the test. Every page is looked at in light and in dark: language, heading, width, contrast, names,
//! focus, and whether its policy had to refuse anything. With `CONSENTRY_SCREENSHOTS=folder` pictures of all of them are kept.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

// What the tests stand on: servers, certificates, faults.
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the other test binary uses the rest")]
mod support;

// Chromium, and how it is told what to do.
mod driver;

// A customer with a keyboard, and what is looked at on every page.
mod customer;

// What is done at each bank.
mod banks;

// To the bank and back, to a yes, a no or an error.
mod journeys;

// Browsers that come again, come late, or are somebody else's.
mod strangers;

// Consents that the customer had already, and where the browser goes in the end.
mod again;

// Customers who have to wait, and pages that the banks show when something is wrong.
mod stumbling;

// What a newcomer sees.
mod newcomer;
