//! What an authorization code becomes at the imitated ABN AMRO: a consent and its first tokens, once.
//!
//! A code is spent by the first request that presents it in time, also where redirect URI or verifier are wrong; the
//! documents leave that open. A second one is counted, and by default ends the consent that the first was given
//! (RFC 6749 §4.1.2).

use std::time::Duration;

use super::super::answers::{random_text, uuid};
use super::super::codes::{BadCode, Challenge, Code};
use super::super::settings::{AbnAmroKnobs, ReusePolicy};
use super::ledger::{Full, Ledger, State, Terms, Tokens};
use crate::words::clock::BootInstant;

/// Characters of a code.
pub(super) const CODE_LENGTH: usize = 40;

/// What a customer has agreed to, and how its client asked.
pub(super) struct Approved {
    pub(super) iban: String,
    pub(super) scope: String,
    pub(super) transaction_id: Option<String>,
    pub(super) redirect_uri: String,
    pub(super) challenge: Option<Challenge>,
}

/// What a client presents.
pub(super) struct Exchange<'f> {
    pub(super) code: &'f str,
    pub(super) redirect_uri: Option<&'f str>,
    pub(super) verifier: Option<&'f str>,
}

/// Why there are no tokens for a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotExchanged {
    Code(BadCode),
    /// There are as many consents as this sandbox holds.
    Full,
}

impl Ledger {
    /// Gives a code for what a customer has agreed to. The consent's life begins here.
    pub(super) fn approve(&mut self, now: BootInstant, knobs: &AbnAmroKnobs, approved: Approved) -> String {
        let text = random_text(CODE_LENGTH);
        let terms = Terms {
            id: uuid(),
            iban: approved.iban,
            scope: approved.scope,
            transaction_id: approved.transaction_id,
            ends: now.plus(Duration::from_secs(knobs.consent_life_s)),
        };
        let code = Code {
            grant: terms,
            redirect_uri: approved.redirect_uri,
            challenge: approved.challenge,
            ends: now.plus(Duration::from_secs(knobs.code_life_s)),
            spent: false,
        };
        self.counters.codes_issued += 1;
        self.codes.keep(text.clone(), code);
        text
    }

    /// The consent that a code stands for, exchanged or not.
    pub(super) fn consent_of_code(&mut self, code: &str) -> Option<&str> {
        self.codes.find(code).map(|code| code.grant.id.as_str())
    }

    /// Spends a code.
    pub(super) fn exchange(
        &mut self,
        now: BootInstant,
        knobs: &AbnAmroKnobs,
        limit: usize,
        asked: &Exchange<'_>,
    ) -> Result<Tokens, NotExchanged> {
        let code = self.codes.find(asked.code).ok_or(NotExchanged::Code(BadCode::Unknown))?;
        let checked = code.check(now, asked.redirect_uri, asked.verifier);
        code.spent |= checked != Err(BadCode::Expired);
        let terms = code.grant.clone();
        if checked == Err(BadCode::Spent) {
            self.counters.code_reuses += 1;
            match knobs.reuse_policy {
                ReusePolicy::Reject => {}
                ReusePolicy::RevokeFamily => self.end_of(&terms.id, State::DeadByCodeReuse),
            }
        }
        checked.map_err(NotExchanged::Code)?;
        let tokens = self.open(now, knobs, limit, terms).map_err(|Full| NotExchanged::Full)?;
        self.counters.code_exchanges += 1;
        Ok(tokens)
    }
}
