//! The tokens and the consents of the imitated Norsk Gjeldsinformasjon.
//!
//! Every operation is one step under one lock.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::super::answers::uuid;
use super::super::codes::Codes;
use super::super::journal::NorskGjeldCounters;
use super::super::visits::Visits;
use super::DEBT_SCOPES;
use super::authorize::Visit;
use super::exchange::Grant;
use super::feed::{Feed, Subject};
use crate::words::clock::{BootInstant, WallTime};
use crate::words::ids::random;

/// Tokens remembered, dead ones included.
const MAX_TOKENS: usize = 100_000;
/// How long a consent without a duration can be used, once.
const SINGLE_USE_LIFE: Duration = Duration::from_secs(10 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Tokens and consents.
#[derive(Default)]
pub(in crate::sandbox) struct Register {
    tokens: HashMap<String, Token>,
    issued: VecDeque<String>,
    consents: HashMap<String, Consent>,
    /// When consents run out that nobody has seen running out.
    endings: BTreeSet<(BootInstant, String)>,
    agreements: HashMap<String, (Agreement, String)>,
    /// What has happened to consents.
    pub(in crate::sandbox) feed: Feed,
    /// Persons on its pages.
    pub(super) visits: Visits<Visit>,
    /// Codes, and what they become.
    pub(super) codes: Codes<Grant>,
    pub(in crate::sandbox) counters: NorskGjeldCounters,
}

/// What a token is good for.
#[derive(Clone, Debug)]
pub(in crate::sandbox) struct Token {
    /// Paths of the services that its audiences name.
    pub(in crate::sandbox) services: Vec<&'static str>,
    pub(in crate::sandbox) scope: String,
    /// The one consent that it carries, if it came from a code; a client's own token carries none.
    pub(in crate::sandbox) consent: Option<String>,
    pub(in crate::sandbox) expires: BootInstant,
}

/// A registered consent.
#[derive(Clone, Debug)]
pub(in crate::sandbox) struct Consent {
    pub(in crate::sandbox) id: String,
    pub(in crate::sandbox) nin: String,
    pub(in crate::sandbox) scope: String,
    pub(in crate::sandbox) expires_at: WallTime,
    ends: BootInstant,
    single_use: bool,
    /// Revoked, or used up.
    over: bool,
    /// The id that its client registered it with.
    external: Option<String>,
}

impl Consent {
    fn subject(&self) -> Subject {
        Subject { consent: self.id.clone(), scope: self.scope.clone(), external: self.external.clone() }
    }
}

/// What a client registers a consent with. The same again is the same consent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sandbox) struct Agreement {
    pub(in crate::sandbox) nin: String,
    pub(in crate::sandbox) scope: String,
    pub(in crate::sandbox) days: u64,
}

/// Both clocks at once.
#[derive(Clone, Copy, Debug)]
pub(in crate::sandbox) struct Now {
    pub(in crate::sandbox) boot: BootInstant,
    pub(in crate::sandbox) wall: WallTime,
}

/// Why an agreement is not registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sandbox) enum NotRegistered {
    /// The same `client_consent_id` came with other data before.
    Conflict,
    /// There are as many consents as this sandbox holds.
    Full,
}

/// What became of asking for a consent.
#[derive(Clone, Debug)]
pub(in crate::sandbox) enum Found {
    Consent(Consent),
    Unknown,
    /// Expired, used up or revoked.
    Over(WallTime),
}

impl Register {
    /// Remembers a token and gives its text.
    pub(in crate::sandbox) fn issue(&mut self, token: Token) -> String {
        let text = two_halves();
        self.issued.push_back(text.clone());
        self.tokens.insert(text.clone(), token);
        if self.issued.len() > MAX_TOKENS
            && let Some(oldest) = self.issued.pop_front()
        {
            self.tokens.remove(&oldest);
        }
        text
    }

    /// A token that was issued, expired or not.
    pub(in crate::sandbox) fn token(&self, text: &str) -> Option<&Token> {
        self.tokens.get(text)
    }

    /// Ends a token, known or not (RFC 7009 §2.2).
    pub(in crate::sandbox) fn revoke_token(&mut self, text: &str) {
        if self.tokens.remove(text).is_some() {
            self.issued.retain(|issued| issued != text);
        }
    }

    /// Ends every token at this moment.
    pub(in crate::sandbox) fn expire_tokens(&mut self, now: BootInstant) {
        for token in self.tokens.values_mut() {
            token.expires = token.expires.min(now);
        }
    }

    /// A consent for so many days, no more than its scope allows; without days for one lookup within ten minutes.
    pub(in crate::sandbox) fn create(
        &mut self,
        now: Now,
        limit: usize,
        nin: &str,
        scope: &str,
        days: Option<u64>,
    ) -> Result<Consent, NotRegistered> {
        self.register(now, limit, nin, scope, days, None)
    }

    fn register(
        &mut self,
        now: Now,
        limit: usize,
        nin: &str,
        scope: &str,
        days: Option<u64>,
        external: Option<&str>,
    ) -> Result<Consent, NotRegistered> {
        if self.consents.len() >= limit {
            return Err(NotRegistered::Full);
        }
        let most = DEBT_SCOPES.iter().find(|(own, _)| *own == scope).map_or(0, |(_, most)| *most);
        let life =
            days.map_or(SINGLE_USE_LIFE, |days| DAY.saturating_mul(u32::try_from(days.min(most)).unwrap_or(u32::MAX)));
        let consent = Consent {
            id: uuid(),
            nin: nin.to_owned(),
            scope: scope.to_owned(),
            expires_at: now.wall.plus(life),
            ends: now.boot.plus(life),
            single_use: days.is_none(),
            over: false,
            external: external.map(str::to_owned),
        };
        self.counters.consents_created += 1;
        self.endings.insert((consent.ends, consent.id.clone()));
        self.feed.created(now.wall, consent.subject());
        self.consents.insert(consent.id.clone(), consent.clone());
        Ok(consent)
    }

    /// Registers a consent that the client has obtained itself; the same again gives the same consent.
    pub(in crate::sandbox) fn agree(
        &mut self,
        now: Now,
        limit: usize,
        client_consent_id: &str,
        agreement: Agreement,
    ) -> Result<Consent, NotRegistered> {
        if let Some((before, id)) = self.agreements.get(client_consent_id) {
            let same = (*before == agreement).then(|| self.consents.get(id)).flatten();
            return same.cloned().ok_or(NotRegistered::Conflict);
        }
        let days = Some(agreement.days);
        let consent = self.register(now, limit, &agreement.nin, &agreement.scope, days, Some(client_consent_id))?;
        let entry = (agreement, consent.id.clone());
        self.agreements.insert(client_consent_id.to_owned(), entry);
        Ok(consent)
    }

    /// The consent of this id, if it can be used.
    pub(in crate::sandbox) fn find(&self, now: BootInstant, id: &str) -> Found {
        match self.consents.get(id) {
            None => Found::Unknown,
            Some(consent) if consent.over || now >= consent.ends => Found::Over(consent.expires_at),
            Some(consent) => Found::Consent(consent.clone()),
        }
    }

    /// Uses a consent for a lookup that succeeds.
    pub(in crate::sandbox) fn used(&mut self, now: Now, id: &str) {
        self.counters.lookups += 1;
        if self.consents.get(id).is_some_and(|consent| consent.single_use) {
            self.end(now, id);
        }
    }

    /// Revokes a consent; `false` if there is none that can be used.
    pub(in crate::sandbox) fn revoke(&mut self, now: Now, id: &str) -> bool {
        let usable = |consent: &Consent| !consent.over && now.boot < consent.ends;
        if !self.consents.get(id).is_some_and(usable) {
            return false;
        }
        self.end(now, id);
        self.counters.consents_revoked += 1;
        true
    }

    fn end(&mut self, now: Now, id: &str) {
        let Some(consent) = self.consents.get_mut(id) else { return };
        consent.over = true;
        consent.expires_at = now.wall;
        self.endings.remove(&(consent.ends, consent.id.clone()));
        self.feed.archived(now.wall, consent.subject());
    }

    /// Tells the feed of the consents that have run out since it was last asked.
    pub(super) fn archive_expired(&mut self, now: BootInstant) {
        while let Some((ends, id)) = self.endings.pop_first() {
            if ends > now {
                self.endings.insert((ends, id));
                return;
            }
            if let Some(consent) = self.consents.get(&id) {
                self.feed.archived(consent.expires_at, consent.subject());
            }
        }
    }
}

/// The form of a token and of a code: 43 characters, a dot, 43 characters.
pub(super) fn two_halves() -> String {
    let half = || {
        let bytes = [random(), random()].concat();
        URL_SAFE_NO_PAD.encode(digest(&SHA256, &bytes).as_ref())
    };
    format!("{}.{}", half(), half())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { boot: BootInstant::from_millis(5), wall: WallTime::from_millis(7) };

    fn days(register: &mut Register, scope: &str, days: u64) -> u64 {
        let consent = register.create(NOW, 9, "1", scope, Some(days)).expect("room");
        consent.ends.since(NOW.boot).as_secs() / DAY.as_secs()
    }

    #[test]
    fn durations_are_cut_to_what_the_scope_allows() {
        let mut register = Register::default();
        assert_eq!(days(&mut register, "debt.unsecured.presentation", 30), 30);
        assert_eq!(days(&mut register, "debt.unsecured.presentation", 9_999), 365);
        assert_eq!(days(&mut register, "debt.unsecured.processing", 100), 28);
    }

    #[test]
    fn the_register_is_bounded() {
        let mut register = Register::default();
        let create = |register: &mut Register| register.create(NOW, 1, "1", "s", None).map(|_| ());
        assert_eq!(create(&mut register), Ok(()));
        assert_eq!(create(&mut register), Err(NotRegistered::Full));
    }

    #[test]
    fn a_token_has_two_halves_of_43_characters() {
        let text = two_halves();
        let halves: Vec<_> = text.split('.').map(str::len).collect();
        assert_eq!(halves, [43, 43]);
    }
}
