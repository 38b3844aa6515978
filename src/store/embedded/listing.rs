//! A walk over the file's consents, in the order of their names. A place is the name of the last one.

use std::sync::Arc;

use super::file::Named;
use super::{EmbeddedStore, blocking};
use crate::store::contract::{ListOutcome, ListPage, Listed, Listing, Place, StoreError};
use crate::store::keys;
use crate::words::clock::Clock;
use crate::words::ids::TokenKey;

/// What a place of this store begins with.
const MARK: &str = "e.";

impl<C: Clock> Listing for EmbeddedStore<C> {
    async fn list(&self, from: Option<&Place>, count: u32) -> Result<ListOutcome, StoreError> {
        let after = match from.map(|place| place.text().strip_prefix(MARK)) {
            None => "c:".to_owned(),
            // Nothing below `c:` would be a consent's.
            Some(Some(name)) if name.starts_with("c:") => name.to_owned(),
            Some(_) => return Ok(ListOutcome::NoSuchPlace),
        };
        let count = usize::try_from(count.max(1)).unwrap_or(usize::MAX - 1);
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let now = inner.time.now();
            let (named, is_more) = inner.file.consents_after(&after, count, now)?;
            let last = named.last().map(|named| Place::new(format!("{MARK}{}", named.name)));
            let consents = named.into_iter().filter_map(|Named { name, record }| {
                let TokenKey::Consent(consent) = keys::parse_short_name(&name)? else { return None };
                let record = match record {
                    Ok(record) => Ok(record?.snapshot(now)),
                    Err(error) => Err(error.to_string()),
                };
                Some(Listed { consent, record })
            });
            Ok(ListOutcome::Page(ListPage { consents: consents.collect(), next: last.filter(|_| is_more) }))
        })
        .await
    }
}
