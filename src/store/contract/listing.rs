//! A walk over all consents, in steps so short that nobody else notices them.
//!
//! One step looks at a part of the store and says where to go on. What a walk promises is what Redis promises of SCAN: a
//! consent that is stored from its first step to its last is told of at least once, perhaps twice; one that comes or goes
//! meanwhile may be told of or not. No store is asked for all of its consents at once.

use std::fmt;
use std::future::Future;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::record::Snapshot;
use super::{Store, StoreError};
use crate::words::ids::ConsentId;

/// The part of the store's seam that only those need who look at all consents.
pub trait Listing: Store {
    /// The next step of a walk, or the first: looks at about `count` records, and tells of the consents among them.
    fn list(&self, from: Option<&Place>, count: u32) -> impl Future<Output = Result<ListOutcome, StoreError>> + Send;
}

/// Where a walk goes on. What it holds is the store's own affair.
#[derive(Clone, PartialEq, Eq)]
pub struct Place(String);

impl Place {
    /// What the store writes into one.
    pub(in crate::store) fn new(text: String) -> Self {
        Self(text)
    }

    /// What the store wrote.
    pub(in crate::store) fn text(&self) -> &str {
        &self.0
    }

    /// Reads what [`fmt::Display`] wrote; whether the store knows the place shows when it is asked.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = (text.len() <= LONGEST).then(|| URL_SAFE_NO_PAD.decode(text).ok()).flatten()?;
        String::from_utf8(bytes).ok().map(Self)
    }
}

impl fmt::Display for Place {
    /// Letters, digits, `-` and `_`, so that it needs no escape in a URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(&self.0))
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({self})")
    }
}

/// More characters than any place has.
const LONGEST: usize = 512;

/// What a step of a walk answers.
#[derive(Clone, Debug)]
pub enum ListOutcome {
    /// These consents, and where to go on.
    Page(ListPage),
    /// This store never gave out such a place.
    NoSuchPlace,
}

/// What a step came by.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// Often fewer than were asked for, or none; now and then more, and one of them twice.
    pub consents: Vec<Listed>,
    /// `None`: that was all.
    pub next: Option<Place>,
}

/// One consent that a walk came by.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Which.
    pub consent: ConsentId,
    /// Its record, or what about it cannot be understood.
    pub record: Result<Snapshot, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_and_nothing_else_is_one() {
        let place = Place::new("e.a:b~1".to_owned());
        assert_eq!(Place::parse(&place.to_string()), Some(place.clone()));
        assert!(place.to_string().bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')));
        for bad in ["a", "!!!!", "a b", "_w", &"A".repeat(LONGEST + 4)] {
            assert_eq!(Place::parse(bad), None, "{bad}");
        }
    }
}
