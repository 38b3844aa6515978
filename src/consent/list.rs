//! Which consents there are, a page at a time.
//!
//! A page is gathered in short steps of the store's walk over all records, and ends with the step that fills it. So it may
//! hold more than it was to, and where few consents are wanted of many, it may hold fewer or none: only a page without a
//! `next_cursor` is the last. No page holds a consent twice; two pages may, and a consent that is stored while a list is
//! read is on one of them at least.

use std::collections::HashSet;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, timeout};

use super::request::rfc_3339;
use super::show::{ConsentView, PATIENCE, json};
use crate::http::form::{decode, pairs};
use crate::oauth::TokenEndpoint;
use crate::store::{ListOutcome, Listed, Listing, Place, RecordState, StoreError};
use crate::token::Tokens;
use crate::words::clock::{Clock, WallTime};
use crate::words::ids::{ConsentId, ProviderId};

/// Which consents are wanted. Every condition that is given has to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRequest {
    /// In any of these states, in the words of [`RecordState::consent_state`], or [`ListRequest::UNREADABLE`].
    pub states: Vec<&'static str>,
    /// Granted at this provider.
    pub provider: Option<ProviderId>,
    /// Whose consent ends before. One of which nobody knows when it ends does not.
    pub expires_before: Option<WallTime>,
    /// How many a page is to hold.
    pub limit: usize,
    /// Where to go on.
    pub cursor: Option<Place>,
}

/// What is wrong with a request for a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListFault {
    /// It cannot be taken apart.
    #[error("the query cannot be read")]
    Malformed,
    /// There is no such parameter.
    #[error("the parameters are state, provider, expires_before, limit and cursor, each once but state")]
    Parameter,
    /// No consent can be in such a state.
    #[error(
        "state has to be pending, active, uncertain, reauthorization_required, denied, revoked, expired or unreadable, \
         or several of them with commas between"
    )]
    State,
    /// No provider can be called so.
    #[error("provider has to be the name of one in the configuration")]
    Provider,
    /// It is no time.
    #[error("expires_before has to be a date and time of RFC 3339, such as 2026-01-31T12:00:00Z")]
    Time,
    /// It is no number, or out of bounds.
    #[error("limit has to be a number from 1 to 1000")]
    Limit,
    /// The store never gave it out.
    #[error("cursor is none that this store gave out")]
    Cursor,
}

/// Why there is no list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// The request is wrong.
    #[error(transparent)]
    Fault(#[from] ListFault),
    /// The store did not answer or said no.
    #[error("{0}")]
    StoreUnavailable(String),
}

/// A page.
#[derive(Clone, Debug, Serialize)]
pub struct ListView {
    /// In no order.
    pub consents: Vec<ListedView>,
    /// Where the next page begins; null on the last one.
    #[serde(serialize_with = "json::optional_text")]
    pub next_cursor: Option<Place>,
}

/// One consent of a page.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum ListedView {
    /// What is shown of any.
    Shown(Box<ConsentView>),
    /// Its record cannot be understood.
    Unreadable {
        /// Which.
        #[serde(serialize_with = "json::consent_id")]
        consent_id: ConsentId,
        /// [`ListRequest::UNREADABLE`].
        state: &'static str,
        /// What about it.
        why: String,
    },
}

impl ListRequest {
    /// How many a page is to hold unless the caller says.
    pub const LIMIT: usize = 100;
    /// The most.
    pub const MOST: usize = 1_000;
    /// What a list says in place of the state of a record that cannot be understood.
    pub const UNREADABLE: &str = "unreadable";

    /// All consents, from the first page on.
    pub const fn all() -> Self {
        Self { states: Vec::new(), provider: None, expires_before: None, limit: Self::LIMIT, cursor: None }
    }

    /// Reads a query: `state` (several with commas, or several times), `provider`, `expires_before`, `limit`, `cursor`.
    pub fn parse(query: &str) -> Result<Self, ListFault> {
        let mut request = Self::all();
        let mut seen = HashSet::new();
        for (name, value) in pairs(query) {
            let value = decode(value).ok_or(ListFault::Malformed)?;
            if name != "state" && !seen.insert(name) {
                return Err(ListFault::Parameter);
            }
            match name {
                "state" => {
                    for word in value.split(',') {
                        request.states.push(state(word).ok_or(ListFault::State)?);
                    }
                }
                "provider" => request.provider = Some(ProviderId::parse(&value).ok_or(ListFault::Provider)?),
                "expires_before" => request.expires_before = Some(rfc_3339(&value).map_err(|_| ListFault::Time)?),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=Self::MOST).contains(limit));
                    request.limit = limit.ok_or(ListFault::Limit)?;
                }
                "cursor" => request.cursor = Some(Place::parse(&value).ok_or(ListFault::Cursor)?),
                _ => return Err(ListFault::Parameter),
            }
        }
        Ok(request)
    }

    fn wants(&self, listed: &Listed) -> bool {
        let (state, provider, until) = match &listed.record {
            Ok(record) => (record.state.consent_state(), Some(&record.provider), record.consent_expires_at),
            Err(_) => (Self::UNREADABLE, None, None),
        };
        let provider_fits = self.provider.as_ref().is_none_or(|wanted| provider == Some(wanted));
        let time_fits = self.expires_before.is_none_or(|before| until.is_some_and(|until| until < before));
        (self.states.is_empty() || self.states.contains(&state)) && provider_fits && time_fits
    }
}

/// A word for a state as it is kept here.
fn state(word: &str) -> Option<&'static str> {
    let known = RecordState::parse(word).map(RecordState::consent_state).filter(|known| *known == word);
    known.or_else(|| (word == ListRequest::UNREADABLE).then_some(ListRequest::UNREADABLE))
}

/// Reads a page. Takes some seconds at most.
pub async fn list<S: Listing, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    clock: &C,
    request: &ListRequest,
) -> Result<ListView, ListError> {
    let until = Instant::now() + READING;
    let (mut consents, mut seen) = (Vec::new(), HashSet::new());
    let mut place = request.cursor.clone();
    let mut count = FEWEST.max(request.limit);
    for _ in 0..MOST_STEPS {
        let step =
            timeout(PATIENCE, tokens.store().list(place.as_ref(), u32::try_from(count).unwrap_or(u32::MAX))).await;
        let page = match step {
            Ok(Ok(ListOutcome::Page(page))) => page,
            Ok(Ok(ListOutcome::NoSuchPlace)) => return Err(ListFault::Cursor.into()),
            Ok(Err(
                error @ (StoreError::Unavailable(_)
                | StoreError::Refused(_)
                | StoreError::Reuniting
                | StoreError::Unreadable(_)),
            )) => return Err(ListError::StoreUnavailable(error.to_string())),
            Err(_) => return Err(ListError::StoreUnavailable("the token store did not answer in time".to_owned())),
        };
        place = page.next;
        let before = consents.len();
        for listed in page.consents {
            if request.wants(&listed) && seen.insert(listed.consent.clone()) {
                consents.push(ListedView::new(listed, clock));
            }
        }
        if place.is_none() || consents.len() >= request.limit || Instant::now() >= until {
            break;
        }
        // Where little is found, more is looked at together.
        let missing = request.limit - consents.len();
        count = if consents.len() == before { (count * 2).min(ListRequest::MOST) } else { FEWEST.max(missing) };
    }
    Ok(ListView { consents, next_cursor: place })
}

impl ListedView {
    fn new(listed: Listed, clock: &impl Clock) -> Self {
        let Listed { consent, record } = listed;
        match record {
            Ok(record) => Self::Shown(Box::new(ConsentView::of_record(&consent, &record, clock))),
            Err(why) => Self::Unreadable { consent_id: consent, state: ListRequest::UNREADABLE, why },
        }
    }
}

/// How many records one step looks at, at least.
const FEWEST: usize = 100;
/// How many steps one page takes, at most.
const MOST_STEPS: usize = 50;
/// How long, after which the page ends with the step under way.
const READING: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::import;
    use crate::consent::testing::{Bench, Fault};

    fn id(text: &str) -> ConsentId {
        ConsentId::parse(text).unwrap()
    }

    #[test]
    fn a_query_is_read_and_every_fault_has_its_name() {
        let request = ListRequest::parse(
            "state=active,denied&state=unreadable&provider=bank&expires_before=2026-01-31T12%3A00%3A00%2B01:00&limit=7",
        );
        let request = request.unwrap();
        assert_eq!(request.states, ["active", "denied", "unreadable"]);
        assert_eq!((request.provider.unwrap().as_str(), request.limit), ("bank", 7));
        assert_eq!(request.expires_before.unwrap().to_string(), "2026-01-31T11:00:00Z");
        assert_eq!(ListRequest::parse(""), Ok(ListRequest::all()));
        for (query, fault) in [
            ("state=%", ListFault::Malformed),
            ("states=active", ListFault::Parameter),
            ("limit=1&limit=2", ListFault::Parameter),
            ("state=leased", ListFault::State),
            ("state=", ListFault::State),
            ("provider=A", ListFault::Provider),
            ("expires_before=2026-01-31", ListFault::Time),
            ("limit=0", ListFault::Limit),
            ("limit=1001", ListFault::Limit),
            ("limit=x", ListFault::Limit),
            ("cursor=.", ListFault::Cursor),
        ] {
            assert_eq!(ListRequest::parse(query), Err(fault), "{query}");
        }
    }

    #[tokio::test]
    async fn pages_follow_each_other_until_all_is_told() {
        let bench = Bench::new();
        let mut wanted: Vec<_> = (0..250).map(|number| format!("c-{number:03}")).collect();
        for name in &wanted {
            let request = bench.request(&format!("a-{name}"), &format!("r-{name}"));
            import(&bench.tokens, &bench.clock, &id(name), request, None).await.unwrap();
        }
        let mut request = ListRequest { limit: 40, ..ListRequest::all() };
        let mut told = Vec::new();
        loop {
            let page = list(&bench.tokens, &bench.clock, &request).await.unwrap();
            let text = serde_json::to_string(&page).unwrap();
            assert!(!text.contains("a-c-") && !text.contains("r-c-"), "{text}");
            told.extend(page.consents.iter().map(|listed| match listed {
                ListedView::Shown(view) => view.consent_id.as_str().to_owned(),
                ListedView::Unreadable { .. } => panic!("{listed:?}"),
            }));
            let Some(cursor) = page.next_cursor else { break };
            request.cursor = Some(cursor);
        }
        told.sort();
        wanted.sort();
        assert_eq!(told, wanted);
        let one = ListRequest { states: vec!["denied"], ..ListRequest::all() };
        assert!(list(&bench.tokens, &bench.clock, &one).await.unwrap().consents.is_empty());
    }

    #[tokio::test]
    async fn a_store_that_does_not_answer_and_a_foreign_cursor_are_told() {
        let bench = Bench::new();
        bench.faults.next([Fault::Refused]);
        let refused = list(&bench.tokens, &bench.clock, &ListRequest::all()).await;
        assert!(matches!(refused, Err(ListError::StoreUnavailable(_))), "{refused:?}");
        let cursor = Place::parse("ci4wLi4w");
        let foreign = list(&bench.tokens, &bench.clock, &ListRequest { cursor, ..ListRequest::all() }).await;
        assert!(matches!(foreign, Err(ListError::Fault(ListFault::Cursor))), "{foreign:?}");
    }
}
