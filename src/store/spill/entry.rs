//! What a spill holds, and which steps of the store it stands for.

use std::time::Duration;

use crate::store::contract::{Commit, Restore, Sealed, Seed};
use crate::words::clock::WallTime;
use crate::words::ids::{AttemptId, Fingerprint, ProviderId, TokenKey, Version};
use crate::words::said::Said;
use crate::words::token_set::Scope;

/// What a bank answered, as it must outlive us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpillEntry {
    /// The record it belongs to.
    pub key: TokenKey,
    /// Where it was issued.
    pub provider: ProviderId,
    /// Who got it.
    pub attempt: AttemptId,
    /// The version that was spent for it.
    pub base: Version,
    /// When the answer was read.
    pub obtained_at: WallTime,
    /// What it was.
    pub content: SpillContent,
}

/// What a spill holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpillContent {
    /// A token set, sealed for `base.next()`.
    Tokens(Box<SpilledTokens>),
    /// The first token set of a new grant, sealed for `base.next()`; `base` is generation 0.
    Grant(Box<SpilledTokens>),
    /// An answer that said 200 and could not be understood: its body, sealed for `base.next()`, for a person.
    Salvage(Sealed),
}

/// A token set with everything its record needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpilledTokens {
    /// The access token.
    pub access: Sealed,
    /// The refresh token to use next.
    pub refresh: Option<Sealed>,
    /// Its fingerprint.
    pub refresh_fingerprint: Option<Fingerprint>,
    /// The fingerprint of the refresh token that was spent, where it is dead.
    pub spent: Option<Fingerprint>,
    /// How long the access token lived when it was obtained.
    pub remaining: Duration,
    /// Its whole life.
    pub life: Duration,
    /// What the consent covers.
    pub scope: Option<Scope>,
    /// The bank's own name for the consent.
    pub bank_consent_id: Option<String>,
    /// When the consent itself ends.
    pub consent_expires_at: Option<WallTime>,
    /// The thumbprint of the client certificate that was presented.
    pub certificate: Option<String>,
    /// When the grant was stored first.
    pub granted_at: Option<WallTime>,
    /// Whether a rejection by the bank's API forced the refresh.
    pub forced: bool,
}

impl SpillEntry {
    /// The COMMIT that this spill stands for, at `now`; `None` for a new grant and for a salvaged body.
    pub fn to_commit(&self, now: WallTime) -> Option<Commit> {
        let tokens = match &self.content {
            SpillContent::Tokens(tokens) => tokens,
            SpillContent::Grant(_) | SpillContent::Salvage(_) => return None,
        };
        Some(Commit {
            attempt: self.attempt.clone(),
            base: self.base,
            access: tokens.access.clone(),
            refresh: tokens.refresh.clone(),
            refresh_fingerprint: tokens.refresh_fingerprint,
            spent: tokens.spent,
            remaining: self.remaining_at(tokens, now),
            life: tokens.life,
            scope: tokens.scope.clone(),
            certificate: tokens.certificate.clone(),
            forced: tokens.forced,
            since_intent: None,
            said: Said::default(),
        })
    }

    /// The SEED that this spill stands for, at `now`; `None` for all but a new grant. A calendar that jumped back behind the
    /// answer tells no age: then it counts as just obtained.
    pub fn to_seed(&self, now: WallTime) -> Option<Seed> {
        let tokens = match &self.content {
            SpillContent::Grant(tokens) => tokens,
            SpillContent::Tokens(_) | SpillContent::Salvage(_) => return None,
        };
        Some(Seed {
            provider: self.provider.clone(),
            grant: self.base.grant,
            expected: None,
            age: Some(now.checked_since(self.obtained_at).unwrap_or_default()),
            access: tokens.access.clone(),
            refresh: tokens.refresh.clone(),
            refresh_fingerprint: tokens.refresh_fingerprint,
            remaining: self.remaining_at(tokens, now),
            life: tokens.life,
            scope: tokens.scope.clone(),
            bank_consent_id: tokens.bank_consent_id.clone(),
            consent_expires_at: tokens.consent_expires_at,
            certificate: tokens.certificate.clone(),
        })
    }

    /// The RESTORE for a store that knows nothing of it, at `now`; `None` for a salvaged body.
    pub fn to_restore(&self, now: WallTime) -> Option<Restore> {
        let tokens = self.tokens()?;
        Some(Restore {
            attempt: self.attempt.clone(),
            provider: self.provider.clone(),
            version: self.base.next(),
            access: tokens.access.clone(),
            refresh: tokens.refresh.clone(),
            refresh_fingerprint: tokens.refresh_fingerprint,
            remaining: self.remaining_at(tokens, now),
            life: tokens.life,
            scope: tokens.scope.clone(),
            bank_consent_id: tokens.bank_consent_id.clone(),
            consent_expires_at: tokens.consent_expires_at,
            certificate: tokens.certificate.clone(),
            granted_at: tokens.granted_at,
        })
    }

    fn tokens(&self) -> Option<&SpilledTokens> {
        match &self.content {
            SpillContent::Tokens(tokens) | SpillContent::Grant(tokens) => Some(tokens),
            SpillContent::Salvage(_) => None,
        }
    }

    /// Nothing, if the calendar jumped back behind the answer: its age is then not known.
    fn remaining_at(&self, tokens: &SpilledTokens, now: WallTime) -> Duration {
        now.checked_since(self.obtained_at).map_or(Duration::ZERO, |age| tokens.remaining.saturating_sub(age))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::words::ids::{ConsentId, GrantId};

    pub(in crate::store::spill) fn tokens() -> SpillEntry {
        SpillEntry {
            key: TokenKey::Consent(ConsentId::parse("c1").unwrap()),
            provider: ProviderId::parse("bank").unwrap(),
            attempt: AttemptId::new("replica/boot", 7),
            base: Version { grant: GrantId::random(), generation: 3 },
            obtained_at: WallTime::from_millis(1_000_000),
            content: SpillContent::Tokens(Box::new(SpilledTokens {
                access: Sealed::from_bytes(*b"sealed access"),
                refresh: Some(Sealed::from_bytes(*b"sealed refresh")),
                refresh_fingerprint: Some(Fingerprint::from_bytes([1; 16])),
                spent: Some(Fingerprint::from_bytes([2; 16])),
                remaining: Duration::from_secs(300),
                life: Duration::from_secs(600),
                scope: Scope::parse("a b"),
                bank_consent_id: Some("B-1".into()),
                consent_expires_at: Some(WallTime::from_millis(9_000_000)),
                certificate: Some("thumb".into()),
                granted_at: Some(WallTime::from_millis(900_000)),
                forced: true,
            })),
        }
    }

    pub(in crate::store::spill) fn salvage() -> SpillEntry {
        SpillEntry { content: SpillContent::Salvage(Sealed::from_bytes(*b"sealed body")), ..tokens() }
    }

    #[test]
    fn time_on_the_disk_is_taken_off_the_life_that_remains() {
        let entry = tokens();
        let at = |milliseconds| entry.to_commit(WallTime::from_millis(milliseconds)).unwrap().remaining;
        assert_eq!(at(1_000_000), Duration::from_secs(300));
        assert_eq!(at(1_100_000), Duration::from_secs(200));
        assert_eq!(at(2_000_000), Duration::ZERO);
        assert_eq!(at(999_999), Duration::ZERO, "a calendar that jumped back tells no age");
        let restore = entry.to_restore(WallTime::from_millis(1_100_000)).unwrap();
        assert_eq!((restore.remaining, restore.version), (Duration::from_secs(200), entry.base.next()));
    }

    pub(in crate::store::spill) fn grant() -> SpillEntry {
        let SpillContent::Tokens(set) = tokens().content else { panic!("tokens") };
        let base = Version { grant: GrantId::random(), generation: 0 };
        SpillEntry { base, content: SpillContent::Grant(set), ..tokens() }
    }

    #[test]
    fn a_new_grant_is_a_seed_that_is_as_old_as_its_answer() {
        let entry = grant();
        assert!(entry.to_commit(WallTime::from_millis(1_000_000)).is_none());
        assert!(tokens().to_seed(WallTime::from_millis(1_000_000)).is_none());
        let at = |milliseconds| entry.to_seed(WallTime::from_millis(milliseconds)).unwrap();
        let later = at(1_100_000);
        assert_eq!((later.age, later.remaining), (Some(Duration::from_secs(100)), Duration::from_secs(200)));
        assert_eq!((later.grant, later.expected), (entry.base.grant, None));
        let unknown = at(999_999);
        assert_eq!((unknown.age, unknown.remaining), (Some(Duration::ZERO), Duration::ZERO));
    }

    #[test]
    fn a_salvaged_body_is_no_step_of_the_store() {
        assert!(salvage().to_commit(WallTime::from_millis(0)).is_none());
        assert!(salvage().to_restore(WallTime::from_millis(0)).is_none());
    }
}
