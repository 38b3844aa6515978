//! What a refresh token becomes at the imitated ABN AMRO: a new pair, once.
//!
//! A token whose number has passed is spent, and presenting it again after its grace is a reuse event, however long ago
//! it was spent.

use std::time::Duration;

use super::super::answers::covers;
use super::super::settings::{AbnAmroKnobs, OldAccessToken, ReusePolicy};
use super::ledger::{Ledger, State, Tokens};
use crate::words::clock::BootInstant;

/// Superseded refresh tokens of which the time of use is remembered, per consent. Older ones are past any grace.
const MAX_SUPERSEDED: usize = 64;

/// What became of a refresh.
pub(in crate::sandbox) enum Refreshed {
    /// New tokens; `in_grace` if the token presented was already spent.
    Granted { tokens: Tokens, in_grace: bool },
    /// Unknown, or the consent is over.
    Unknown,
    /// Spent, and past its grace.
    Reuse,
    /// More scope than the consent has.
    ScopeTooWide,
}

impl Ledger {
    /// Spends a refresh token. With `rotate` false it stays good.
    pub(in crate::sandbox) fn refresh(
        &mut self,
        now: BootInstant,
        knobs: &AbnAmroKnobs,
        token: &str,
        scope: Option<&str>,
        rotate: bool,
    ) -> Refreshed {
        let Some((index, sequence)) = self.opened(token) else { return Refreshed::Unknown };
        let Some(consent) = self.consents.get_mut(index) else { return Refreshed::Unknown };
        let grace = Duration::from_secs(knobs.grace_s);
        let superseded = consent.superseded.iter().find(|(number, _)| *number == sequence);
        let in_grace = superseded.is_some_and(|(_, at)| !grace.is_zero() && now.since(*at) <= grace);
        if sequence < consent.sequence && !in_grace {
            self.reused(index, knobs.reuse_policy);
            return Refreshed::Reuse;
        }
        let idle = now.since(consent.refreshed).as_secs();
        let forgotten = knobs.consent_idle_s.is_some_and(|most| idle >= most);
        if consent.state != State::Active || now >= consent.terms.ends || forgotten {
            return Refreshed::Unknown;
        }
        if scope.is_some_and(|asked| !covers(&consent.terms.scope, asked)) {
            return Refreshed::ScopeTooWide;
        }
        consent.refreshes += 1;
        consent.grace_uses += u64::from(in_grace);
        consent.refreshed = now;
        if rotate && now.since(consent.rotated).as_secs() >= knobs.rotation_interval_s {
            consent.rotated = now;
            consent.superseded.push_back((consent.sequence, now));
            if consent.superseded.len() > MAX_SUPERSEDED {
                consent.superseded.pop_front();
            }
            consent.sequence += 1;
        }
        let sequence = consent.sequence;
        let scope = scope.unwrap_or(&consent.terms.scope).to_owned();
        match knobs.old_access_token {
            OldAccessToken::Keep => {}
            OldAccessToken::Kill => self.kill_access(index),
        }
        self.counters.refreshes += 1;
        self.counters.grace_uses += u64::from(in_grace);
        let access = self.issue(now, knobs, Some(index), &scope);
        let refresh = self.seal.token(index as u64, sequence);
        Refreshed::Granted { tokens: Tokens { access, refresh, scope }, in_grace }
    }

    fn reused(&mut self, index: usize, policy: ReusePolicy) {
        self.counters.reuse_events += 1;
        if let Some(consent) = self.consents.get_mut(index) {
            consent.reuse_events += 1;
        }
        match policy {
            ReusePolicy::Reject => {}
            ReusePolicy::RevokeFamily => self.end(index, State::DeadByReuse),
        }
    }
}
