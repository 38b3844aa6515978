//! What replicas tell each other of consents besides that a record was replaced: events, with how the consent stands.
//!
//! They go through the channel of changes, published in the same atomic step as the change itself, and may be lost with a
//! connection. The lines of the histories are what lasts: whoever missed something finds it there.

use super::event::{Event, EventKind};
use super::record::RecordState;
use crate::words::ids::{ConsentId, ProviderId, short_digest};

/// An event, and the consent it happened to as it was then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Which consent.
    pub consent: ConsentId,
    /// Where it was granted.
    pub provider: ProviderId,
    /// How it stood after the event.
    pub state: RecordState,
    /// What happened.
    pub event: Event,
}

/// What a message of this kind begins with. No record's name does, so that an earlier release passes it over.
const MARK: &str = "!";

impl EventKind {
    /// Whether others are told.
    pub const fn is_news(self) -> bool {
        match self {
            Self::Seeded
            | Self::Replaced
            | Self::Revived
            | Self::Committed
            | Self::Uncertain
            | Self::HolderLost
            | Self::Suspended
            | Self::Ended => true,
            Self::Asked
            | Self::NotGranted
            | Self::Armed
            | Self::ProbeGranted
            | Self::Resumed
            | Self::Superseded
            | Self::Failed
            | Self::Overtaken
            | Self::Restored
            | Self::Reasserted
            | Self::NotRevoked => false,
        }
    }
}

impl News {
    /// The message: `! {consent} {provider} {state} {the history's line}`.
    pub fn to_message(&self) -> String {
        let Self { consent, provider, state, event } = self;
        format!("{MARK} {} {provider} {} {}", consent.as_str(), state.as_str(), event.to_line())
    }

    /// What the event is known by, the same on every replica: `{ms of the store's clock}-{digest}`.
    pub fn id(&self) -> String {
        let line = self.event.to_line();
        format!("{}-{}", self.event.at.as_millis(), short_digest(&format!("{} {line}", self.consent.as_str())))
    }

    /// Reads a message; `None` for anything else.
    pub fn parse(message: &str) -> Option<Self> {
        let mut words = message.strip_prefix(MARK)?.strip_prefix(' ')?.splitn(4, ' ');
        Some(Self {
            consent: ConsentId::parse(words.next()?).ok()?,
            provider: ProviderId::parse(words.next()?)?,
            state: RecordState::parse(words.next()?)?,
            event: Event::parse(words.next()?)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::clock::WallTime;
    use crate::words::ids::{GrantId, Version};
    use crate::words::said::Said;

    #[test]
    fn a_message_reads_back_what_it_says_and_is_no_change() {
        let event = Event {
            at: WallTime::from_millis(1_760_000_000_123),
            kind: EventKind::Ended,
            fence: 3,
            version: Version::first(GrantId::random()),
            why: Some("bank_says_ended".to_owned()),
            said: Said::default(),
            until: None,
            attempt: None,
        };
        let news = News {
            consent: ConsentId::parse("a:b-1").expect("valid"),
            provider: ProviderId::parse("bank").expect("valid"),
            state: RecordState::Revoked,
            event,
        };
        let message = news.to_message();
        assert_eq!(News::parse(&message), Some(news));
        assert_eq!(crate::store::keys::parse_change(&message), None);
        for bad in ["", "!", "! a bank active", "! a bank asleep 1 ended", "c:a 00.1"] {
            assert_eq!(News::parse(bad), None, "{bad:?}");
        }
    }
}
