//! What all replicas share about one provider: permits to ask it something, its breaker, its freeze, its suspects.
//!
//! The steps here are atomic on the provider's own record and never touch a consent's. They keep replicas polite; what
//! keeps refresh tokens safe is the consent's record alone. A store that has forgotten a provider's record therefore
//! costs politeness and a freeze, never a consent.

use std::ops::Range;
use std::time::Duration;

use crate::words::ids::{AttemptId, Fence, TokenKey, Version};

/// What a provider is asked for at most, by all replicas together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Token requests at once.
    pub in_flight: u32,
    /// Token requests within any second.
    pub per_second: u32,
}

/// Asks for leave to send token requests.
#[derive(Clone, Debug)]
pub struct PermitAsk {
    /// Who wants one, the first in the first place.
    pub wanted: Vec<Wanted>,
    /// Whether somebody waits for these tokens. Those that still have one to use stand back while others wait.
    pub waiting: bool,
    /// The limits to keep.
    pub limits: Limits,
    /// How long a permit lasts unless it is renewed or given back.
    pub life: Duration,
}

/// One permit that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub permit: AttemptId,
    /// For which token.
    pub key: TokenKey,
}

/// What is answered to those who want permits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PermitAnswer {
    /// These of the wanted ones are granted.
    Granted(Range<usize>),
    /// There is no room, or others come first. Asking again makes sense after so long.
    Full(Duration),
    /// The breaker is open.
    Open(Opened),
    /// Somebody froze the provider.
    Frozen(Freeze),
}

/// Why, and for how long, nobody sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Until one request may try; a little while where one is trying.
    pub wait: Duration,
    /// Whose fault it is taken to be.
    pub class: BreakerClass,
    /// The class of the failure that opened it, a word.
    pub why: String,
}

/// Whose fault an open breaker is taken to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerClass {
    /// The bank's token endpoint, or the way there.
    Unavailable,
    /// Our registration, certificates or settings.
    Misconfigured,
}

impl BreakerClass {
    /// The word stored in a record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Misconfigured => "misconfigured",
        }
    }

    /// Reads a stored word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Unavailable, Self::Misconfigured].into_iter().find(|class| class.as_str() == word)
    }
}

/// That nothing is refreshed at a provider until somebody thaws it. One for each reason may stand: a new one takes the place
/// of that with its reason, and none of another's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// Why, for programs.
    pub reason: FreezeReason,
    /// Who ordered it: a replica's name, and of a person what was given.
    pub by: String,
    /// Why, for people.
    pub why: Option<String>,
    /// For how long it has stood; zero in an order.
    pub age: Duration,
    /// In an order: what it is over, if that is to freeze a provider only once. Letters, digits, hyphens and slashes. A
    /// second order over the last such thing changes nothing, whoever thawed the provider meanwhile. Never answered.
    pub over: Option<String>,
}

/// Why a provider is frozen, for programs. A later one is graver: where several stand, it is the one that is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FreezeReason {
    /// A person said so.
    Operator,
    /// The store came back from an old backup, so its refresh tokens may be spent.
    OldBackup,
}

impl FreezeReason {
    /// The word stored in a record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::OldBackup => "old_backup",
        }
    }

    /// Reads a stored word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Operator, Self::OldBackup].into_iter().find(|reason| reason.as_str() == word)
    }
}

/// What became of a permit. Gives it back.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which permit.
    pub permit: AttemptId,
    /// What it was used for.
    pub key: TokenKey,
    /// What the bank's answer says of the bank.
    pub lesson: Lesson,
    /// 0 to 999, at random: shifts how long a breaker stays open.
    pub spread: u16,
}

/// What a token request teaches about its provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// Nothing was sent, for reasons of our own.
    Unused,
    /// The bank had something to say about this one request.
    Neutral,
    /// It gave tokens.
    Succeeded,
    /// It could not be asked or did not answer as it should.
    Failed(BreakerClass, &'static str),
    /// It wants to be left alone for so long.
    Held(Duration),
    /// It refused this consent's refresh token.
    Refused(Refusal),
}

/// One refusal of a consent's refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whose refresh token was refused.
    pub version: Version,
    /// Under which lease, so that exactly this suspension can be taken back. Its holder is the permit's.
    pub fence: Fence,
    /// Whether it was a probe after an unknown outcome.
    pub probe: bool,
}

/// What a report is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// What follows for the consent that was reported.
    pub verdict: Verdict,
    /// Consents whose suspension is to be taken back, where it stands.
    pub pardoned: Vec<Suspect>,
}

/// What follows from a report for its consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Noted,
    /// It was refused alone, or again after others were accepted: it is suspended.
    Suspend,
    /// Others are refused as well, so it is not suspended yet.
    Spare,
}

/// A consent whose refresh token was refused lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// Which.
    pub key: TokenKey,
    /// The holder of the lease under which it was refused.
    pub attempt: AttemptId,
    /// The rest of the refusal.
    pub refusal: Refusal,
    /// How it is seen.
    pub stage: Stage,
}

/// How a suspect is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Refused alone and suspended; others may yet join it.
    Listed,
    /// Refused among others: not suspended.
    Spared,
    /// Others were accepted since: it is tried once more, and suspended if it is refused again.
    Retry,
}

impl Stage {
    /// The word stored in a record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Listed => "listed",
            Self::Spared => "spared",
            Self::Retry => "retry",
        }
    }

    /// Reads a stored word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Listed, Self::Spared, Self::Retry].into_iter().find(|stage| stage.as_str() == word)
    }
}

/// How a provider stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderStanding {
    /// The gravest freeze that stands.
    pub freeze: Option<Freeze>,
    /// Lesser ones that stand beside it.
    pub frozen_besides: Vec<Freeze>,
    /// Its breaker.
    pub breaker: Breaker,
    /// Permits that are out.
    pub in_flight: usize,
    /// Consents that were refused lately.
    pub suspects: Vec<Suspect>,
}

/// The state of a breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Breaker {
    /// Requests pass.
    Closed,
    /// Nobody sends.
    Open(Opened),
    /// One request may try, or is trying.
    HalfOpen(Opened),
}

/// Takes back a suspension, if the consent is suspended by exactly that refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reprieve {
    /// The version that was refused.
    pub version: Version,
    /// The holder of the lease under which it was refused.
    pub attempt: AttemptId,
    /// The fence that the lease had at least.
    pub fence: Fence,
    /// Whether an earlier send is still unexplained, so that the consent is uncertain again and not active.
    pub uncertain: bool,
}

/// What a REPRIEVE answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReprieveOutcome {
    /// The consent may be refreshed again.
    Reprieved,
    /// It is not suspended, or by something else. Nothing changed.
    NotNeeded,
}
