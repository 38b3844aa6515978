//! The consents of the imitated ABN AMRO and their tokens.
//!
//! Every operation is one step under one lock, as a database transaction at a real bank would be. Refresh tokens are
//! numbered within their consent; a token whose number has passed is spent. [`super::refresh`] says what comes of it.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use serde::Serialize;

use super::super::answers::{random_text, uuid};
use super::super::codes::Codes;
use super::super::journal::AbnAmroCounters;
use super::super::settings::AbnAmroKnobs;
use super::super::visits::Visits;
use super::authorize::Visit;
use super::seal::Seal;
use crate::words::clock::BootInstant;

/// Characters of an access token.
const ACCESS_LENGTH: usize = 28;
/// Access tokens remembered per consent; of more the oldest dies before its time.
const MAX_ACCESS_PER_CONSENT: usize = 16;
/// Client-credentials tokens remembered.
const MAX_CLIENT_TOKENS: usize = 10_000;
/// All consents and every token that is alive.
#[derive(Default)]
pub(in crate::sandbox) struct Ledger {
    pub(super) seal: Seal,
    pub(super) consents: Vec<Consent>,
    by_id: HashMap<String, usize>,
    access: HashMap<String, Access>,
    client_tokens: VecDeque<String>,
    /// Customers on its pages.
    pub(super) visits: Visits<Visit>,
    /// Codes, and what they become.
    pub(super) codes: Codes<Terms>,
    pub(in crate::sandbox) counters: AbnAmroCounters,
}

/// What a customer has agreed to.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) id: String,
    pub(super) iban: String,
    pub(super) scope: String,
    /// The registered payment, where it is one that was agreed to.
    pub(super) transaction_id: Option<String>,
    pub(super) ends: BootInstant,
}

pub(super) struct Consent {
    pub(super) terms: Terms,
    pub(super) state: State,
    /// The number of the refresh token that is good.
    pub(super) sequence: u64,
    /// Since when it is.
    pub(super) rotated: BootInstant,
    /// The latest refresh, or the beginning.
    pub(super) refreshed: BootInstant,
    /// Earlier ones and when they were superseded.
    pub(super) superseded: VecDeque<(u64, BootInstant)>,
    pub(super) access: VecDeque<String>,
    pub(super) refreshes: u64,
    pub(super) grace_uses: u64,
    pub(super) reuse_events: u64,
}

/// Whether a consent can still be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::sandbox) enum State {
    Active,
    /// Somebody revoked it.
    Revoked,
    /// A spent refresh token was presented.
    DeadByReuse,
    /// The code that it came from was presented once more.
    DeadByCodeReuse,
}

struct Access {
    /// Absent for client-credentials tokens.
    consent: Option<usize>,
    scope: String,
    expires: BootInstant,
}

/// A token pair, fresh.
pub(in crate::sandbox) struct Tokens {
    pub(in crate::sandbox) access: String,
    pub(in crate::sandbox) refresh: String,
    pub(in crate::sandbox) scope: String,
}

/// There are as many consents as this sandbox holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sandbox) struct Full;

/// What a live access token stands for.
#[derive(Clone, Copy, Debug)]
pub(in crate::sandbox) struct Presented<'l> {
    /// The account, absent for a client-credentials token.
    pub(in crate::sandbox) iban: Option<&'l str>,
    /// The payment, where the consent is to one.
    pub(in crate::sandbox) transaction_id: Option<&'l str>,
    pub(in crate::sandbox) scope: &'l str,
    /// Until the token's end.
    pub(in crate::sandbox) left: Duration,
    /// Until the consent's end; zero for a client-credentials token.
    pub(in crate::sandbox) consent_left: Duration,
}

/// A consent as the control API shows it.
#[derive(Clone, Serialize)]
pub(in crate::sandbox) struct View {
    bank_consent_id: String,
    iban: String,
    scope: String,
    state: State,
    refresh_token: String,
    sequence: u64,
    access_tokens_alive: usize,
    refreshes: u64,
    grace_uses: u64,
    reuse_events: u64,
}

impl Ledger {
    /// A consent as if the customer had just given it. Gives its id and its first tokens.
    pub(in crate::sandbox) fn grant(
        &mut self,
        now: BootInstant,
        knobs: &AbnAmroKnobs,
        limit: usize,
        iban: &str,
        scope: &str,
    ) -> Result<(String, Tokens), Full> {
        let id = uuid();
        let ends = now.plus(Duration::from_secs(knobs.consent_life_s));
        let (iban, scope) = (iban.to_owned(), scope.to_owned());
        let terms = Terms { id: id.clone(), iban, scope, transaction_id: None, ends };
        Ok((id, self.open(now, knobs, limit, terms)?))
    }

    /// A consent on these terms. Gives its first tokens.
    pub(super) fn open(
        &mut self,
        now: BootInstant,
        knobs: &AbnAmroKnobs,
        limit: usize,
        terms: Terms,
    ) -> Result<Tokens, Full> {
        if self.consents.len() >= limit {
            return Err(Full);
        }
        let index = self.consents.len();
        let scope = terms.scope.clone();
        self.by_id.insert(terms.id.clone(), index);
        self.consents.push(Consent {
            terms,
            state: State::Active,
            sequence: 1,
            rotated: now,
            refreshed: now,
            superseded: VecDeque::new(),
            access: VecDeque::new(),
            refreshes: 0,
            grace_uses: 0,
            reuse_events: 0,
        });
        let access = self.issue(now, knobs, Some(index), &scope);
        let refresh = self.seal.token(index as u64, 1);
        Ok(Tokens { access, refresh, scope })
    }

    /// A token for the client itself.
    pub(in crate::sandbox) fn client_token(&mut self, now: BootInstant, knobs: &AbnAmroKnobs, scope: &str) -> String {
        self.counters.client_credentials += 1;
        let token = self.issue(now, knobs, None, scope);
        self.client_tokens.push_back(token.clone());
        if self.client_tokens.len() > MAX_CLIENT_TOKENS
            && let Some(oldest) = self.client_tokens.pop_front()
        {
            self.access.remove(&oldest);
        }
        token
    }

    /// What this access token stands for, if it is alive.
    pub(in crate::sandbox) fn presented(&self, now: BootInstant, token: &str) -> Option<Presented<'_>> {
        let access = self.access.get(token).filter(|access| now < access.expires)?;
        let left = access.expires.since(now);
        let scope = access.scope.as_str();
        let Some(index) = access.consent else {
            return Some(Presented { iban: None, transaction_id: None, scope, left, consent_left: Duration::ZERO });
        };
        let consent = self.consents.get(index)?;
        let alive = consent.state == State::Active && now < consent.terms.ends;
        let consent_left = consent.terms.ends.since(now);
        let transaction_id = consent.terms.transaction_id.as_deref();
        alive.then_some(Presented { iban: Some(&consent.terms.iban), transaction_id, scope, left, consent_left })
    }

    /// The consent that an access token belongs to or once belonged to.
    pub(in crate::sandbox) fn consent_of_access(&self, token: &str) -> Option<&str> {
        let index = self.access.get(token)?.consent?;
        self.consents.get(index).map(|consent| consent.terms.id.as_str())
    }

    /// The consent that a refresh token belongs to, and its number there.
    pub(in crate::sandbox) fn consent_of_refresh(&self, token: &str) -> Option<(&str, u64)> {
        let (index, sequence) = self.opened(token)?;
        self.consents.get(index).map(|consent| (consent.terms.id.as_str(), sequence))
    }

    /// Ends a consent as its customer would at the bank; `false` if there is none of this id.
    pub(in crate::sandbox) fn revoke(&mut self, id: &str) -> bool {
        let known = self.by_id.contains_key(id);
        self.end_of(id, State::Revoked);
        known
    }

    /// Ends the consent that this token is of, if the token is alive: a spent refresh token is none.
    pub(in crate::sandbox) fn revoke_token(&mut self, token: &str) {
        let of_refresh = self
            .opened(token)
            .filter(|(index, sequence)| self.consents.get(*index).is_some_and(|consent| consent.sequence == *sequence));
        let of_access = self.access.get(token).and_then(|access| access.consent);
        self.counters.revocations += 1;
        if let Some(index) = of_refresh.map(|(index, _)| index).or(of_access) {
            self.end(index, State::Revoked);
        }
    }

    /// Ends the consent of this id, if there is one.
    pub(super) fn end_of(&mut self, id: &str, state: State) {
        if let Some(&index) = self.by_id.get(id) {
            self.end(index, state);
        }
    }

    /// Kills the access tokens of one consent; `false` if there is none of this id.
    pub(in crate::sandbox) fn expire_access(&mut self, id: &str) -> bool {
        let Some(&index) = self.by_id.get(id) else { return false };
        self.kill_access(index);
        true
    }

    /// Kills every access token.
    pub(in crate::sandbox) fn expire_all_access(&mut self) {
        self.access.clear();
        self.client_tokens.clear();
        self.consents.iter_mut().for_each(|consent| consent.access.clear());
    }

    pub(in crate::sandbox) fn view(&self, now: BootInstant, id: &str) -> Option<View> {
        let index = *self.by_id.get(id)?;
        let consent = self.consents.get(index)?;
        let alive = |token: &&String| self.presented(now, token).is_some();
        Some(View {
            bank_consent_id: consent.terms.id.clone(),
            iban: consent.terms.iban.clone(),
            scope: consent.terms.scope.clone(),
            state: consent.state,
            refresh_token: self.seal.token(index as u64, consent.sequence),
            sequence: consent.sequence,
            access_tokens_alive: consent.access.iter().filter(alive).count(),
            refreshes: consent.refreshes,
            grace_uses: consent.grace_uses,
            reuse_events: consent.reuse_events,
        })
    }

    pub(super) fn opened(&self, token: &str) -> Option<(usize, u64)> {
        let (index, sequence) = self.seal.open(token)?;
        Some((usize::try_from(index).ok()?, sequence))
    }

    pub(super) fn end(&mut self, index: usize, state: State) {
        self.kill_access(index);
        if let Some(consent) = self.consents.get_mut(index)
            && consent.state == State::Active
        {
            consent.state = state;
            self.counters.consents_dead += 1;
        }
    }

    pub(super) fn kill_access(&mut self, index: usize) {
        let Some(consent) = self.consents.get_mut(index) else { return };
        for token in consent.access.drain(..) {
            self.access.remove(&token);
        }
    }

    pub(super) fn issue(
        &mut self,
        now: BootInstant,
        knobs: &AbnAmroKnobs,
        consent: Option<usize>,
        scope: &str,
    ) -> String {
        let token = random_text(ACCESS_LENGTH);
        let expires = now.plus(Duration::from_secs(knobs.access_token_life_s));
        if let Some(own) = consent.and_then(|index| self.consents.get_mut(index)) {
            own.access.push_back(token.clone());
            while let Some(oldest) = own.access.front()
                && (own.access.len() > MAX_ACCESS_PER_CONSENT
                    || self.access.get(oldest).is_some_and(|access| access.expires <= now))
            {
                self.access.remove(oldest);
                own.access.pop_front();
            }
        }
        self.access.insert(token.clone(), Access { consent, scope: scope.to_owned(), expires });
        token
    }
}
