//! The imitated Norsk Gjeldsinformasjon: client-wide tokens by audience, no refresh tokens, the consent in the path.
//!
//! [`authorize`] is what a person sees, on [`screens`]. [`register`] is the database: tokens and consents; [`exchange`] is
//! how a code becomes a token. [`token`] is the authorization server with ORY Hydra's answers, which
//! [`discovery`] describes, [`api`] the agreement and debt APIs over [`data`], [`feed`] the feed of consent events.

pub(super) mod api;
pub(super) mod authorize;
mod data;
mod discovery;
mod exchange;
mod feed;
pub(super) mod register;
mod screens;
pub(super) mod token;

/// The scopes of a debt lookup, with the days that a consent to each lasts at most.
pub(super) const DEBT_SCOPES: [(&str, u64); 2] =
    [("debt.unsecured.presentation", 365), ("debt.unsecured.processing", 28)];

/// The paths that name the services in an audience.
pub(super) const AGREEMENT: &str = "/v1/consent/agreement";
pub(super) const DEBT: &str = "/v1/debt";
pub(super) const FEED: &str = "/feed/v1/consent";

/// The scope of the feed.
const FEED_SCOPE: &str = "client.access.consent.events";

/// The bases that an audience may have besides the sandbox's own, so that a profile of the real service fits.
pub(super) const REAL_BASES: [&str; 2] = ["https://api-preprod.norskgjeld.no", "https://api.norskgjeld.no"];

/// Whether a text has the form of a national identity number.
fn is_nin(text: &str) -> bool {
    text.len() == 11 && text.bytes().all(|b| b.is_ascii_digit())
}

/// The service that an audience names.
pub(super) fn service(audience: &str, own_base: &str) -> Option<&'static str> {
    let path = REAL_BASES.into_iter().chain([own_base]).find_map(|base| audience.strip_prefix(base))?;
    [AGREEMENT, DEBT, FEED].into_iter().find(|service| path == *service)
}
