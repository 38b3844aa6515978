//! Attempts: what is known of a customer who is on the way to the bank and back.
//!
//! An attempt is a record of its own, under a digest of the `state` that goes through the bank, so that the consent's record
//! stays as it is until there is something to store in it. It lives for minutes from its last step. The steps are those of
//! the customer: OPEN when the app asks, BIND when the browser comes, CLAIM when it comes back, exactly once, and SETTLE
//! when the bank has given tokens or has not. Two steps on the consent's own record go with them: AWAIT, by which a new
//! consent is seen to be `pending`, and TELL, by which its history learns that nothing was granted.
//!
//! They are apart from [`Store`] because a refresh has no use for them.

use std::future::Future;
use std::time::Duration;

use super::event::EventKind;
use super::record::{RecordState, Sealed};
use super::{Store, StoreError};
use crate::words::clock::WallTime;
use crate::words::ids::{AttemptId, BrowserDigest, ConsentId, GrantId, ProviderId, StateDigest, TokenKey, Version};
use crate::words::said::Said;
use crate::words::token_set::Scope;

/// The part of the store's seam that starting a consent needs. What [`Store`] promises of its steps holds here.
pub trait Attempts: Store {
    /// Notes that a customer is asked for a grant. A consent of which nothing usable is stored is `pending` from here on, for
    /// so long; any other stays as it is.
    fn await_grant(
        &self,
        key: &TokenKey,
        wait: &Await,
    ) -> impl Future<Output = Result<AwaitOutcome, StoreError>> + Send;

    /// Writes into the history of a consent that an attempt ended without a grant. Where there is no record, nowhere.
    fn tell(&self, key: &TokenKey, tell: &Tell) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Writes into a consent's record when the consent itself ends, as its bank says. `false`: there is no such grant, or it
    /// has ended.
    fn term(&self, key: &TokenKey, term: &Term) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Writes an attempt down. Where replicas are required it counts only once enough of them have it.
    fn open(&self, state: &StateDigest, open: &Open) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Ties an attempt to the first browser that comes with its ticket.
    fn bind(&self, state: &StateDigest, bind: &Bind) -> impl Future<Output = Result<BindOutcome, StoreError>> + Send;

    /// Takes an attempt over, once: to exchange a code, or to end it. This is the durable intent: a code is sent only when
    /// the answer is [`ClaimOutcome::Claimed`].
    fn claim(
        &self,
        state: &StateDigest,
        claim: &Claim,
    ) -> impl Future<Output = Result<ClaimOutcome, StoreError>> + Send;

    /// Writes down how an exchange ended.
    fn settle(
        &self,
        state: &StateDigest,
        settle: &Settle,
    ) -> impl Future<Output = Result<SettleOutcome, StoreError>> + Send;

    /// Reads an attempt. `None`: there is none, or its time is over.
    fn attempt(&self, state: &StateDigest) -> impl Future<Output = Result<Option<Attempt>, StoreError>> + Send;
}

/// What an AWAIT asks for.
#[derive(Clone, Debug)]
pub struct Await {
    /// Where the customer is sent.
    pub provider: ProviderId,
    /// What the grant will be called.
    pub grant: GrantId,
    /// For how long a new consent is pending.
    pub life: Duration,
}

/// What an AWAIT answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AwaitOutcome {
    /// There was nothing, or something that was waiting or denied: the consent is pending.
    Pending(Version),
    /// The consent stays as it is until there is a grant.
    Stands {
        /// What it is.
        state: RecordState,
        /// What it holds.
        version: Version,
    },
    /// The consent was granted at another provider, and is in use. Nothing was noted.
    Elsewhere(Version),
}

/// What a TERM writes down.
#[derive(Clone, Copy, Debug)]
pub struct Term {
    /// Only if the record holds this grant.
    pub grant: GrantId,
    /// When the consent ends.
    pub until: WallTime,
}

/// What a TELL writes down.
#[derive(Clone, Debug)]
pub struct Tell {
    /// What happened: `NotGranted` or `NotRevoked`.
    pub kind: EventKind,
    /// The class of what went wrong, a word.
    pub why: String,
    /// What the bank said, where it was asked.
    pub said: Said,
    /// Who tried, where somebody did.
    pub attempt: Option<AttemptId>,
}

/// What an OPEN writes down.
#[derive(Clone, Debug)]
pub struct Open {
    /// Which consent is to be granted.
    pub consent: ConsentId,
    /// Where.
    pub provider: ProviderId,
    /// What the grant will be called.
    pub grant: GrantId,
    /// What is asked for.
    pub scope: Option<Scope>,
    /// Where the browser goes in the end.
    pub return_url: Option<String>,
    /// The PKCE verifier, sealed for generation 0 of the grant.
    pub verifier: Sealed,
    /// How long it waits for the browser.
    pub life: Duration,
}

/// What a BIND asks for.
#[derive(Clone, Debug)]
pub struct Bind {
    /// What the browser presents, or was just given.
    pub browser: BrowserDigest,
    /// How long the attempt waits for it to come back.
    pub life: Duration,
}

/// What a BIND answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindOutcome {
    /// The attempt is this browser's.
    Bound(Attempt),
    /// It is another's.
    Foreign,
    /// The browser has been at the bank and back.
    Used(Attempt),
    /// There is no such attempt, or its time is over.
    Unknown,
}

/// What a CLAIM asks for.
#[derive(Clone, Debug)]
pub struct Claim {
    /// What the browser presents.
    pub browser: BrowserDigest,
    /// Who asks. A claim that is repeated after a lost reply has the same name.
    pub by: AttemptId,
    /// What for.
    pub to: ClaimTo,
    /// How long the attempt is kept from here.
    pub life: Duration,
}

/// What an attempt is claimed for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimTo {
    /// To send its code.
    Exchange,
    /// To end it with this outcome, a word, because the bank sent no code.
    End(String),
}

/// What a CLAIM answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// It is the caller's, and as many replicas as required have it.
    Claimed(Attempt),
    /// Too few replicas acknowledged it in time. Nothing may be sent; the same claim may be repeated.
    NotDurable {
        /// How many did.
        acknowledged: u32,
        /// How many have to.
        required: u32,
    },
    /// Somebody else has it, since so long.
    Busy(Attempt),
    /// It has ended, as the attempt says.
    Over(Attempt),
    /// No browser, or another, began it.
    Foreign,
    /// There is no such attempt, or its time is over.
    Unknown,
}

/// What a SETTLE writes down.
#[derive(Clone, Debug)]
pub struct Settle {
    /// Who claimed it.
    pub by: AttemptId,
    /// How it ended, a word.
    pub outcome: String,
    /// How long that is kept.
    pub life: Duration,
}

/// What a SETTLE answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettleOutcome {
    /// It is written down.
    Settled,
    /// The attempt is gone, or somebody else's.
    Lost,
}

/// An attempt as it was when a step ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Which consent is to be granted.
    pub consent: ConsentId,
    /// Where.
    pub provider: ProviderId,
    /// What the grant will be called.
    pub grant: GrantId,
    /// What is asked for.
    pub scope: Option<Scope>,
    /// Where the browser goes in the end.
    pub return_url: Option<String>,
    /// The PKCE verifier, sealed for generation 0 of the grant.
    pub verifier: Sealed,
    /// Whose browser it is.
    pub browser: Option<BrowserDigest>,
    /// How far it is.
    pub stage: AttemptStage,
    /// How long it has been there.
    pub since: Duration,
}

/// How far an attempt is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptStage {
    /// Nobody has come with its ticket.
    Open,
    /// A browser has, and was sent to the bank.
    Bound,
    /// It came back, and its code is being exchanged.
    Exchanging,
    /// It has ended, with this word.
    Over(String),
}

impl AttemptStage {
    /// The word that is stored.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Bound => "bound",
            Self::Exchanging => "exchanging",
            Self::Over(_) => "over",
        }
    }
}
