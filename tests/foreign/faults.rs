//! The faults of the suite: their names, and what each is.

/// A fault that is brought about from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    HerdOne,
    HerdMany,
    SlowBank,
    CallerLeaves,
    KilledUnread,
    KilledAnswered,
    Stopped,
    Terminated,
    StoreGone,
    StoreSilent,
    StoreRestarted,
    StoreAway,
    Bank500,
    Bank502,
    Garbage,
    Truncated,
    Reset,
    BankDown,
    RefusedOnce,
    RefusedAll,
    NoNewToken,
    LostAnswer,
    LostInGrace,
    KilledInGrace,
    ManyConsents,
}

impl Fault {
    pub(crate) const ALL: [Self; 25] = [
        Self::HerdOne,
        Self::HerdMany,
        Self::SlowBank,
        Self::CallerLeaves,
        Self::KilledUnread,
        Self::KilledAnswered,
        Self::Stopped,
        Self::Terminated,
        Self::StoreGone,
        Self::StoreSilent,
        Self::StoreRestarted,
        Self::StoreAway,
        Self::Bank500,
        Self::Bank502,
        Self::Garbage,
        Self::Truncated,
        Self::Reset,
        Self::BankDown,
        Self::RefusedOnce,
        Self::RefusedAll,
        Self::NoNewToken,
        Self::LostAnswer,
        Self::LostInGrace,
        Self::KilledInGrace,
        Self::ManyConsents,
    ];

    /// By what it is chosen and told of.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::HerdOne => "herd-one",
            Self::HerdMany => "herd-many",
            Self::SlowBank => "slow-bank",
            Self::CallerLeaves => "caller-leaves",
            Self::KilledUnread => "killed-unread",
            Self::KilledAnswered => "killed-answered",
            Self::Stopped => "stopped",
            Self::Terminated => "terminated",
            Self::StoreGone => "store-gone",
            Self::StoreSilent => "store-silent",
            Self::StoreRestarted => "store-restarted",
            Self::StoreAway => "store-away",
            Self::Bank500 => "bank-500",
            Self::Bank502 => "bank-502",
            Self::Garbage => "garbage",
            Self::Truncated => "truncated",
            Self::Reset => "reset",
            Self::BankDown => "bank-down",
            Self::RefusedOnce => "refused-once",
            Self::RefusedAll => "refused-all",
            Self::NoNewToken => "no-new-token",
            Self::LostAnswer => "lost-answer",
            Self::LostInGrace => "lost-in-grace",
            Self::KilledInGrace => "killed-in-grace",
            Self::ManyConsents => "many-consents",
        }
    }

    /// What happens, in a sentence.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::HerdOne => "a hundred calls at once with an expired token, to one instance",
            Self::HerdMany => "a hundred calls at once with an expired token, to three instances",
            Self::SlowBank => {
                "the bank answers after longer than a lock usually lasts, and others want the token meanwhile"
            }
            Self::CallerLeaves => "the call that started a refresh goes away in the middle of it",
            Self::KilledUnread => "SIGKILL after the request was sent, before the bank read it",
            Self::KilledAnswered => "SIGKILL as soon as the first call was served with the new token",
            Self::Stopped => {
                "SIGSTOP while the bank thinks, for longer than a lease, and others want the token meanwhile"
            }
            Self::Terminated => "SIGTERM while the bank thinks, then a new start",
            Self::StoreGone => "the store is gone when the bank answers, and comes back with what it had",
            Self::StoreSilent => "the store takes commands and answers none while the bank answers",
            Self::StoreRestarted => "the store is killed and started again between two refreshes",
            Self::StoreAway => "the store is gone when an expired token is wanted",
            Self::Bank500 => "a 500, once, and nothing was processed",
            Self::Bank502 => "a page with a 502, once, and nothing was processed",
            Self::Garbage => "a page with a 200, once, and nothing was processed",
            Self::Truncated => "a 200 that breaks off, once, and nothing was processed",
            Self::Reset => "the connection is reset, once, and nothing was processed",
            Self::BankDown => "503 for five seconds, the token expired",
            Self::RefusedOnce => "invalid_grant by mistake, once; the token is good",
            Self::RefusedAll => "invalid_grant for four consents by mistake, once each; the tokens are good",
            Self::NoNewToken => "an answer without a new refresh token: the old one stays good",
            Self::LostAnswer => {
                "the answer is lost after the bank has processed the request; no client can keep this consent"
            }
            Self::LostInGrace => "the same at a bank that takes a spent token for a minute",
            Self::KilledInGrace => {
                "SIGKILL before the answer, then a new start, at a bank that takes a spent token for a minute"
            }
            Self::ManyConsents => "many consents with short tokens at once: whose token goes where",
        }
    }

    /// How many instances it wants at most.
    pub(crate) const fn instances(self) -> usize {
        match self {
            Self::HerdMany => 3,
            Self::SlowBank | Self::Stopped | Self::KilledUnread | Self::ManyConsents => 2,
            _ => 1,
        }
    }

    /// Whether there is nothing to it without a store that can be killed.
    pub(crate) const fn needs_redis(self) -> bool {
        matches!(self, Self::StoreGone | Self::StoreSilent | Self::StoreRestarted | Self::StoreAway)
    }

    /// Whether the bank takes a spent refresh token for a minute.
    pub(crate) const fn needs_grace(self) -> bool {
        matches!(self, Self::LostInGrace | Self::KilledInGrace)
    }
}
