//! What was asked of the token endpoints: totals, and the latest requests one by one. No token is in it.

use std::collections::VecDeque;

use serde::Serialize;

/// Token requests kept at most.
const KEPT: usize = 20_000;

/// One token request and what became of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct TokenRequest {
    /// When, in milliseconds since the Unix epoch.
    pub(super) time_ms: u64,
    /// When its body had arrived, in milliseconds of the clock that counts from the machine's start.
    pub(super) arrived_ms: u64,
    pub(super) bank: Bank,
    pub(super) grant_type: String,
    /// The consent that the presented token or code belongs to, where it can be told.
    pub(super) consent: Option<String>,
    /// Which refresh token of its consent was presented, from 1.
    pub(super) sequence: Option<u64>,
    pub(super) outcome: Outcome,
    /// The status code that processing led to; 0 if the request was not processed.
    pub(super) status: u16,
    /// Whether a fault was at work.
    pub(super) fault: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Bank {
    AbnAmro,
    NorskGjeld,
}

/// How a token request ended at the bank, whatever the client saw of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    /// Tokens were issued.
    Granted,
    /// Tokens were issued for a spent refresh token within its grace.
    GrantedInGrace,
    /// A spent refresh token was presented: the event that must never happen.
    Reuse,
    /// A code was presented that had been presented before.
    CodeReuse,
    /// Refused for another reason.
    Refused,
    /// A fault kept the request from being processed.
    NotProcessed,
}

/// The latest token requests, oldest first.
#[derive(Debug, Default)]
pub(super) struct Journal(VecDeque<TokenRequest>);

impl Journal {
    pub(super) fn write(&mut self, request: TokenRequest) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(request);
    }

    pub(super) fn latest(&self) -> Vec<TokenRequest> {
        self.0.iter().cloned().collect()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Totals since the start or the last reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct AbnAmroCounters {
    pub(super) token_requests: u64,
    /// Token requests that are being answered.
    pub(super) in_flight: u64,
    /// The most that were being answered at once.
    pub(super) most_in_flight: u64,
    pub(super) refreshes: u64,
    pub(super) grace_uses: u64,
    pub(super) reuse_events: u64,
    /// Requests of the authorize page.
    pub(super) authorize_requests: u64,
    /// Codes given for what a customer has agreed to.
    pub(super) codes_issued: u64,
    /// Codes that have become tokens.
    pub(super) code_exchanges: u64,
    /// Codes that were presented once more.
    pub(super) code_reuses: u64,
    pub(super) client_credentials: u64,
    pub(super) api_calls: u64,
    /// Tokens that were to be revoked, known or not.
    pub(super) revocations: u64,
    /// Consents that a reuse event has killed or somebody has revoked.
    pub(super) consents_dead: u64,
}

impl AbnAmroCounters {
    /// Forgets the past. What is being answered still is.
    pub(super) fn reset(&mut self) {
        *self = Self { in_flight: self.in_flight, most_in_flight: self.in_flight, ..Self::default() };
    }
}

/// Totals since the start or the last reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct NorskGjeldCounters {
    pub(super) token_requests: u64,
    /// Requests of the authorize page.
    pub(super) authorize_requests: u64,
    /// Codes given for what a person has agreed to.
    pub(super) codes_issued: u64,
    /// Codes that have become tokens.
    pub(super) code_exchanges: u64,
    /// Codes that were presented once more.
    pub(super) code_reuses: u64,
    pub(super) client_credentials: u64,
    pub(super) api_calls: u64,
    pub(super) lookups: u64,
    pub(super) consents_created: u64,
    pub(super) consents_revoked: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_keeps_the_latest_and_no_more() {
        let mut journal = Journal::default();
        for time_ms in 0..KEPT as u64 + 5 {
            journal.write(TokenRequest {
                time_ms,
                arrived_ms: time_ms,
                bank: Bank::AbnAmro,
                grant_type: "refresh_token".to_owned(),
                consent: None,
                sequence: None,
                outcome: Outcome::Granted,
                status: 200,
                fault: false,
            });
        }
        let kept = journal.latest();
        assert_eq!((kept.len(), kept[0].time_ms), (KEPT, 5));
    }
}
