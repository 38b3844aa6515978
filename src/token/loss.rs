//! Why a consent was lost that neither the bank nor the customer had ended.
//!
//! A bank says `invalid_grant` and no more. Which of the windows that no client can close it was, if any, is told from
//! what is known on our side: in this order, because a later sign may follow from an earlier one.
//!
//! One loss cannot be told. Where the store forgot an intent, and whoever wrote it is dead, and no other process saw it,
//! then all that is left of it is what a consent leaves that nobody was refreshing when the bank or the customer ended it.

use super::ask::Errand;
use crate::words::ids::{AttemptId, ProviderId, Version};
use crate::words::metrics::{KindLabels, LossLabels, Metrics, ProviderLabels};

/// A cause of a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// Two requests with the same refresh token were under way without either being a recorded probe: an intent got lost
    /// (W7).
    DoubleSend,
    /// This process holds an access token of a later generation than the store: the store took back an acknowledged
    /// write (W7).
    StoreForgot,
    /// A probe was refused: the answer to the request before it was lost (W1, W2).
    LostReply,
    /// The request left after the right to send it was over, because this process stood still (W5).
    LateSend,
}

/// What is known when a bank refuses a refresh token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evidence {
    /// The version whose refresh token was sent.
    pub(super) base: Version,
    /// Whether that was a recorded probe.
    pub(super) probe: bool,
    /// How many requests with it are unexplained, this one included.
    pub(super) sends: u32,
    /// Whether this one left too late.
    pub(super) late: bool,
    /// What this process remembers of the record.
    pub(super) remembered: Option<Version>,
    /// Whether the store no longer knows of an intent for this version that this process saw there.
    pub(super) forgotten_intent: bool,
}

/// The cause of the loss; `None` where the bank or the customer ended the consent, as far as can be known.
pub(super) fn cause(evidence: Evidence) -> Option<Loss> {
    if evidence.remembered.is_some_and(|remembered| remembered.is_newer_than(evidence.base)) {
        Some(Loss::StoreForgot)
    } else if evidence.forgotten_intent || evidence.sends > 1 && !evidence.probe {
        Some(Loss::DoubleSend)
    } else if evidence.late {
        Some(Loss::LateSend)
    } else if evidence.probe {
        Some(Loss::LostReply)
    } else {
        None
    }
}

impl Loss {
    const ALL: [Self; 4] = [Self::DoubleSend, Self::StoreForgot, Self::LostReply, Self::LateSend];

    /// The word in metrics, records and histories.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::DoubleSend => "double_send",
            Self::StoreForgot => "store_forgot",
            Self::LostReply => "lost_reply",
            Self::LateSend => "late_send",
        }
    }

    pub(super) fn count(self, metrics: &Metrics, provider: &ProviderId) {
        metrics.consents_lost.get_or_create(&self.labels(provider)).inc();
    }

    fn labels(self, provider: &ProviderId) -> LossLabels {
        LossLabels { provider: provider.as_str().to_owned(), cause: self.as_str() }
    }
}

/// Counts and tells that a request left, or was answered, after the right to send it had gone to somebody else.
pub(super) fn sent_late(metrics: &Metrics, errand: &Errand, attempt: &AttemptId) {
    let provider = errand.provider.as_str().to_owned();
    tracing::error!(
        key = ?errand.key,
        provider,
        attempt = attempt.as_str(),
        "A refresh was under way while the right to it went to somebody else. The bank may have seen its token twice."
    );
    metrics.late_sends.get_or_create(&ProviderLabels { provider }).inc();
}

/// Makes every series that must stay at zero, so that its first step can be watched for.
pub(super) fn begin_counting<'a>(metrics: &Metrics, providers: impl Iterator<Item = &'a ProviderId>) {
    for provider in providers {
        for loss in Loss::ALL {
            drop(metrics.consents_lost.get_or_create(&loss.labels(provider)));
        }
        drop(metrics.late_sends.get_or_create(&ProviderLabels { provider: provider.as_str().to_owned() }));
    }
    for kind in [COMMIT, RESTORE] {
        drop(metrics.store_rollbacks.get_or_create(&KindLabels { kind }));
    }
}

/// What brings back what a store forgot: a commit on a newer version,
pub(super) const COMMIT: &str = "commit";
/// or a RESTORE.
pub(super) const RESTORE: &str = "restore";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::ids::GrantId;

    #[test]
    fn every_sign_has_its_cause_and_no_sign_has_none() {
        let base = Version::first(GrantId::random());
        let none =
            Evidence { base, probe: false, sends: 1, late: false, remembered: Some(base), forgotten_intent: false };
        let rows = [
            (none, None),
            (Evidence { remembered: None, ..none }, None),
            (Evidence { remembered: Some(Version::first(GrantId::random()).next()), ..none }, None),
            (Evidence { probe: true, sends: 2, ..none }, Some(Loss::LostReply)),
            (Evidence { late: true, ..none }, Some(Loss::LateSend)),
            (Evidence { late: true, probe: true, sends: 2, ..none }, Some(Loss::LateSend)),
            (Evidence { sends: 2, ..none }, Some(Loss::DoubleSend)),
            (Evidence { forgotten_intent: true, ..none }, Some(Loss::DoubleSend)),
            (Evidence { forgotten_intent: true, probe: true, ..none }, Some(Loss::DoubleSend)),
            (Evidence { remembered: Some(base.next()), ..none }, Some(Loss::StoreForgot)),
            (Evidence { remembered: Some(base.next()), sends: 2, late: true, ..none }, Some(Loss::StoreForgot)),
        ];
        for (evidence, expected) in rows {
            assert_eq!(cause(evidence), expected, "{evidence:?}");
        }
    }
}
