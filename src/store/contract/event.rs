//! What happened to a consent, one line an event.
//!
//! A store keeps the last [`MOST_EVENTS`] beside the record, written in the same atomic step as the change they tell of.
//! They are for people: no step reads them, and a store that cannot write one takes the step all the same. Tokens and
//! their fingerprints are not in them. Times are dates of the store's clock, because they are shown and never counted
//! with.

use crate::words::clock::WallTime;
use crate::words::ids::{AttemptId, Fence, Version};
use crate::words::said::{BankRequestId, Said};

/// How many events of a consent are kept.
pub const MOST_EVENTS: usize = 64;

/// Something that happened to a consent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, on the store's clock.
    pub at: WallTime,
    /// What.
    pub kind: EventKind,
    /// How many leases had been granted.
    pub fence: Fence,
    /// What the record held after it.
    pub version: Version,
    /// More about it, a word: the class of a failure, or one of [`EventKind`]'s own.
    pub why: Option<String>,
    /// What the bank said.
    pub said: Said,
    /// Until when nobody tries again because of it.
    pub until: Option<WallTime>,
    /// By whom.
    pub attempt: Option<AttemptId>,
}

/// What can happen to a consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A customer was sent to the bank; the grant to come stands where others name an attempt.
    Asked,
    /// And came back without one, or with a code that the bank did not exchange.
    NotGranted,
    /// A first token set was stored.
    Seeded,
    /// The token set of a new grant took the place of another's.
    Replaced,
    /// It was written down that the refresh token is being spent; `probe`: once more, after an unknown outcome.
    Armed,
    /// Somebody may spend the refresh token once more, after an unknown outcome.
    ProbeGranted,
    /// Somebody noticed that the holder of an armed lease is gone; its quarantine runs until the date beside it.
    HolderLost,
    /// That holder came back.
    Resumed,
    /// A new token set was stored; `late`: its lease had run out; `rolled_back`: the store had forgotten generations.
    Committed,
    /// A token set came too late: `kept_as_alt`, `older`, `other_grant` or `ended`.
    Superseded,
    /// A refresh got nothing, and the refresh token was not spent.
    Failed,
    /// A refresh got nothing, and nobody knows whether the refresh token was spent.
    Uncertain,
    /// The refresh token is of no more use to the bank.
    Suspended,
    /// A refresh reported an end that might have spent the refresh token, and its lease had been passed on.
    Overtaken,
    /// A replica remembered more than the store: `forgotten`, or `behind`.
    Restored,
    /// A replica told the store of a refresh token being spent, which it had forgotten: `held`, its lease is back, or
    /// `noted`.
    Reasserted,
    /// The kept refresh token is tried again: a person said so; `replaced`: the one of the grant that was replaced last;
    /// `pardoned`: the bank refused so many consents at once that the fault is not this one's.
    Revived,
    /// The consent was to be revoked, and the bank did not do it.
    NotRevoked,
    /// The consent ended.
    Ended,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 19] = [
        Self::Asked,
        Self::NotGranted,
        Self::Seeded,
        Self::Replaced,
        Self::Armed,
        Self::ProbeGranted,
        Self::HolderLost,
        Self::Resumed,
        Self::Committed,
        Self::Superseded,
        Self::Failed,
        Self::Uncertain,
        Self::Suspended,
        Self::Overtaken,
        Self::Restored,
        Self::Reasserted,
        Self::Revived,
        Self::NotRevoked,
        Self::Ended,
    ];

    /// The word stored for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::NotGranted => "not_granted",
            Self::Seeded => "seeded",
            Self::Replaced => "replaced",
            Self::Armed => "armed",
            Self::ProbeGranted => "probe_granted",
            Self::HolderLost => "holder_lost",
            Self::Resumed => "resumed",
            Self::Committed => "committed",
            Self::Superseded => "superseded",
            Self::Failed => "failed",
            Self::Uncertain => "uncertain",
            Self::Suspended => "suspended",
            Self::Overtaken => "overtaken",
            Self::Restored => "restored",
            Self::Reasserted => "reasserted",
            Self::Revived => "revived",
            Self::NotRevoked => "not_revoked",
            Self::Ended => "ended",
        }
    }
}

impl Event {
    /// The line that is stored:
    /// `{ms} {kind} {fence} {version} {why|-} {late 0|1} {status|0} {request id|-} {until ms|0} {attempt|-}`.
    pub fn to_line(&self) -> String {
        format!("{} {}", self.at.as_millis(), self.without_time())
    }

    /// The line without its time, by which a repeated event is known.
    pub fn without_time(&self) -> String {
        format!(
            "{} {} {} {} {} {} {}",
            self.kind.as_str(),
            self.fence,
            self.version,
            self.why.as_deref().unwrap_or("-"),
            said_words(&self.said),
            self.until.map_or(0, WallTime::as_millis),
            self.attempt.as_ref().map_or("-", AttemptId::as_str),
        )
    }

    /// Reads a stored line; `None` for one that a later release wrote or that is garbage.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(10, ' ');
        let mut word = || words.next();
        let at = WallTime::from_millis(word()?.parse().ok()?);
        let kind = word()?;
        Some(Self {
            at,
            kind: EventKind::ALL.into_iter().find(|known| known.as_str() == kind)?,
            fence: word()?.parse().ok()?,
            version: Version::parse(word()?)?,
            why: present(word()?).map(str::to_owned),
            said: Said {
                late: word()? == "1",
                status: word()?.parse().ok().filter(|status| *status > 0),
                request_id: present(word()?).and_then(|id| BankRequestId::parse(id.as_bytes())),
            },
            until: word()?.parse().ok().filter(|until| *until > 0).map(WallTime::from_millis),
            attempt: present(word()?).map(AttemptId::from_stored),
        })
    }
}

/// What a bank said as a line has it: `{late 0|1} {status|0} {request id|-}`.
pub fn said_words(said: &Said) -> String {
    let (late, status) = (u8::from(said.late), said.status.unwrap_or_default());
    format!("{late} {status} {}", said.request_id.as_ref().map_or("-", BankRequestId::as_str))
}

fn present(word: &str) -> Option<&str> {
    (word != "-").then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::ids::GrantId;

    #[test]
    fn an_event_reads_back_what_it_wrote() {
        let bare = Event {
            at: WallTime::from_millis(1_760_000_000_123),
            kind: EventKind::Seeded,
            fence: 0,
            version: Version::first(GrantId::random()),
            why: None,
            said: Said::default(),
            until: None,
            attempt: None,
        };
        assert_eq!(Event::parse(&bare.to_line()), Some(bare.clone()));
        for kind in EventKind::ALL {
            let full = Event {
                kind,
                fence: 7,
                why: Some("server_error".to_owned()),
                said: Said { status: Some(503), request_id: BankRequestId::parse(b"abc-1"), late: true },
                until: Some(WallTime::from_millis(1_760_000_040_000)),
                attempt: Some(AttemptId::new("a replica with spaces/boot", 3)),
                ..bare.clone()
            };
            assert_eq!(Event::parse(&full.to_line()), Some(full));
        }
    }

    #[test]
    fn a_line_of_a_later_release_or_garbage_is_no_event() {
        let version = Version::first(GrantId::random());
        for line in ["", "1", "x seeded", &format!("1 later 0 {version} - 0 0 - 0 -"), "1 seeded 0 x - 0 0 - 0 -"] {
            assert_eq!(Event::parse(line), None, "{line:?}");
        }
    }
}
