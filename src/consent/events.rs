//! What apps and operators are told of a consent as it happens: a few kinds of events, with nothing in them that is secret.

use serde::Serialize;

use crate::store::{EventKind, News, RecordState};

/// An event as it is told, in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConsentEvent {
    /// Names it; one that is told twice keeps its name.
    pub id: String,
    /// What happened: `consent.activated` and the like.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Which consent.
    pub consent_id: String,
    /// Where it was granted.
    pub provider: String,
    /// What it is now, as `GET /v1/consents/{id}` says it.
    pub state: &'static str,
    /// Which grant.
    pub grant: String,
    /// Which generation of the grant's token set.
    pub generation: u64,
    /// When, RFC 3339, on the store's clock.
    pub at: String,
    /// More about it, a word.
    pub why: Option<String>,
}

impl ConsentEvent {
    /// `None` for what is told to nobody.
    pub fn of(news: &News) -> Option<Self> {
        Some(Self {
            id: news.id(),
            kind: kind_of(news.event.kind, news.state)?,
            consent_id: news.consent.as_str().to_owned(),
            provider: news.provider.as_str().to_owned(),
            state: news.state.consent_state(),
            grant: news.event.version.grant.to_string(),
            generation: news.event.version.generation,
            at: news.event.at.to_string(),
            why: news.event.why.clone(),
        })
    }
}

fn kind_of(event: EventKind, state: RecordState) -> Option<&'static str> {
    match event {
        EventKind::Seeded | EventKind::Replaced | EventKind::Revived => Some("consent.activated"),
        EventKind::Committed => Some("consent.refreshed"),
        EventKind::Uncertain | EventKind::HolderLost => Some("consent.uncertain"),
        EventKind::Suspended => Some("consent.reauthorization_required"),
        EventKind::Ended => Some(match state {
            RecordState::Denied => "consent.denied",
            RecordState::Expired => "consent.expired",
            RecordState::Revoked
            | RecordState::Pending
            | RecordState::Active
            | RecordState::Leased
            | RecordState::Armed
            | RecordState::Uncertain
            | RecordState::ReauthorizationRequired => "consent.revoked",
        }),
        EventKind::Asked
        | EventKind::NotGranted
        | EventKind::Armed
        | EventKind::ProbeGranted
        | EventKind::Resumed
        | EventKind::Superseded
        | EventKind::Failed
        | EventKind::Overtaken
        | EventKind::Restored
        | EventKind::Reasserted
        | EventKind::NotRevoked => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_news_is_told_and_nothing_else() {
        for kind in EventKind::ALL {
            assert_eq!(kind_of(kind, RecordState::Revoked).is_some(), kind.is_news(), "{kind:?}");
        }
        assert_eq!(kind_of(EventKind::Ended, RecordState::Denied), Some("consent.denied"));
        assert_eq!(kind_of(EventKind::Ended, RecordState::Revoked), Some("consent.revoked"));
    }
}
