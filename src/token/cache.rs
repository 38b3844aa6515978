//! The token sets this process holds, ready to be sent.
//!
//! An entry is replaced whole. The few things that change while it stays (refused by the bank, overtaken in the store)
//! are flags on it. Whether an entry is *verified* follows from the link to the store: each time the subscription to
//! changes is re-established a new epoch begins, and an entry counts only in the epoch it was read in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderValue;

use super::decide::AtHand;
use super::error::TokenError;
use crate::words::bank::OldAccessToken;
use crate::words::clock::BootInstant;
use crate::words::ids::{ProviderId, TokenKey, Version};
use crate::words::token_set::Scope;

/// A token ready to be sent.
#[derive(Debug)]
pub struct Held {
    /// Where it was granted.
    pub provider: ProviderId,
    /// Which token set of which grant.
    pub version: Version,
    /// `Bearer …`, marked sensitive.
    pub bearer: HeaderValue,
    /// What it covers; `None` where the bank did not say.
    pub scope: Option<Scope>,
    pub(super) expires_at: BootInstant,
    pub(super) life: Duration,
    pub(super) soft_window: Duration,
    pub(super) on_refresh: OldAccessToken,
    pub(super) epoch: u64,
    pub(super) rejected: AtomicBool,
    pub(super) overtaken: AtomicBool,
    pub(super) quiet_until: AtomicU64,
}

impl Held {
    /// How much of the token's life is left.
    pub fn remaining(&self, now: BootInstant) -> Duration {
        self.expires_at.since(now)
    }

    pub(super) fn at_hand(&self, now: BootInstant, link: &Link, confirmed: bool) -> AtHand {
        AtHand {
            remaining: self.remaining(now),
            life: self.life,
            soft_window: self.soft_window,
            verified: confirmed || self.is_vouched_for(link),
            rejected: self.rejected.load(Ordering::Acquire),
            on_refresh: self.on_refresh,
        }
    }

    /// Whether changes arrive and would have told of anything newer than this.
    pub(super) fn is_vouched_for(&self, link: &Link) -> bool {
        link.vouches_for(self.epoch) && !self.overtaken.load(Ordering::Acquire)
    }

    /// Notes that a background refresh gets nowhere before `until`.
    pub(super) fn rest_until(&self, until: BootInstant) {
        self.quiet_until.fetch_max(until.as_millis(), Ordering::AcqRel);
    }

    /// Whether a background refresh may be tried. Says yes once, and then not before `pause` is over.
    pub(super) fn may_refresh_quietly(&self, now: BootInstant, pause: Duration) -> bool {
        let due = self.quiet_until.load(Ordering::Acquire);
        due <= now.as_millis()
            && self
                .quiet_until
                .compare_exchange(due, now.plus(pause).as_millis(), Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
    }
}

/// The tokens in memory, at most as many as the operator allows; the least recently useful one makes room.
#[derive(Debug)]
pub(super) struct Cache(quick_cache::sync::Cache<TokenKey, Arc<Held>>);

impl Cache {
    pub(super) fn new(capacity: usize) -> Self {
        Self(quick_cache::sync::Cache::new(capacity))
    }

    pub(super) fn get(&self, key: &TokenKey) -> Option<Arc<Held>> {
        self.0.get(key)
    }

    /// Holds `held`, unless a later token set of the same grant is held already.
    pub(super) fn put(&self, key: &TokenKey, held: Arc<Held>) {
        if let Some(present) = self.0.peek(key) {
            if present.version.is_newer_than(held.version) {
                return;
            }
            if present.version == held.version {
                held.rest_until(BootInstant::from_millis(present.quiet_until.load(Ordering::Acquire)));
            }
        }
        self.0.insert(key.clone(), held);
    }

    /// Lets go of what is held if the store holds another token set, and not an earlier one of the same grant.
    pub(super) fn displace(&self, key: &TokenKey, stored: Version) {
        let other = |held: &Arc<Held>| held.version != stored && !held.version.is_newer_than(stored);
        if self.0.peek(key).is_some_and(|held| other(&held)) {
            self.forget(key);
        }
    }

    /// Lets go of what is held, unless it was granted somewhere else.
    pub(super) fn forget_at(&self, key: &TokenKey, provider: &ProviderId) {
        if self.0.peek(key).is_some_and(|held| held.provider == *provider) {
            self.forget(key);
        }
    }

    pub(super) fn forget(&self, key: &TokenKey) {
        self.0.remove(key);
    }

    /// Notes that the bank refused this version, if it is the one that is held.
    pub(super) fn reject(&self, key: &TokenKey, version: Version) {
        if let Some(held) = self.0.peek(key).filter(|held| held.version == version) {
            held.rejected.store(true, Ordering::Release);
        }
    }

    /// Notes that the store tells of a change to `version`. Says at which provider what is held should be read again: it
    /// may be an older token set, or the same one in another state. News that is older than what is held says nothing.
    pub(super) fn moved(&self, key: &TokenKey, version: Version) -> Option<ProviderId> {
        let stale = self.0.peek(key).filter(|held| !held.version.is_newer_than(version))?;
        stale.overtaken.store(true, Ordering::Release);
        Some(stale.provider.clone())
    }

    /// Marks this version as overtaken, if it is the one that is held.
    pub(super) fn overtake(&self, key: &TokenKey, version: Version) {
        if let Some(held) = self.0.peek(key).filter(|held| held.version == version) {
            held.overtaken.store(true, Ordering::Release);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// What a stored record says about consents on routes that need no token of theirs. A verdict counts as long as the link
/// would have told of a change.
#[derive(Debug)]
pub(super) struct Standings {
    verdicts: quick_cache::sync::Cache<TokenKey, Standing>,
    moves: AtomicU64,
}

/// What was read of a record.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    /// Where the consent was granted; `None`: nothing is stored, and so nothing speaks against any provider.
    pub(super) provider: Option<ProviderId>,
    /// What its state says, at its own provider.
    pub(super) verdict: Result<(), TokenError>,
    /// The link's epoch before the record was read.
    pub(super) epoch: u64,
    /// [`Standings::moves`] before the record was read.
    pub(super) moves: u64,
    /// When the consent itself ends, which no change tells of.
    pub(super) until: Option<BootInstant>,
}

impl Standings {
    pub(super) fn new(capacity: usize) -> Self {
        Self { verdicts: quick_cache::sync::Cache::new(capacity), moves: AtomicU64::new(0) }
    }

    pub(super) fn get(&self, key: &TokenKey, link: &Link, now: BootInstant) -> Option<Standing> {
        let counts =
            |standing: &Standing| link.vouches_for(standing.epoch) && standing.until.is_none_or(|until| now < until);
        self.verdicts.get(key).filter(counts)
    }

    /// How many records have moved so far.
    pub(super) fn moves(&self) -> u64 {
        self.moves.load(Ordering::Acquire)
    }

    /// Remembers a verdict, unless some record moved since it was read.
    pub(super) fn put(&self, key: &TokenKey, standing: Standing) {
        let moves = standing.moves;
        self.verdicts.insert(key.clone(), standing);
        // Looked at afterwards, so that a move in between is not missed.
        if self.moves() != moves {
            self.verdicts.remove(key);
        }
    }

    pub(super) fn moved(&self, key: &TokenKey) {
        self.moves.fetch_add(1, Ordering::AcqRel);
        self.verdicts.remove(key);
    }
}

impl Standing {
    /// What it means for a call to an API of `provider`. A consent of another is as good as unknown.
    pub(super) fn at(&self, provider: &ProviderId) -> Result<(), TokenError> {
        match &self.provider {
            Some(own) if own != provider => Err(TokenError::Unknown),
            Some(_) | None => self.verdict.clone(),
        }
    }
}

/// The link to the store's changes: whether it is up, and how often it was re-established.
#[derive(Debug)]
pub(super) struct Link {
    epoch: AtomicU64,
    up: AtomicBool,
    away_until: AtomicU64,
    /// When the store was last found away, or was connected to.
    together_since: AtomicU64,
    /// When changes ceased to arrive.
    lost_at: AtomicU64,
}

impl Link {
    /// Not up yet.
    pub(super) fn new(now: BootInstant) -> Self {
        Self {
            epoch: AtomicU64::new(0),
            up: AtomicBool::new(false),
            away_until: AtomicU64::new(0),
            together_since: AtomicU64::new(now.as_millis()),
            lost_at: AtomicU64::new(now.as_millis()),
        }
    }

    /// The epoch a token that is read from here on belongs to.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub(super) fn connected(&self, now: BootInstant) {
        self.together_since.fetch_max(now.as_millis(), Ordering::AcqRel);
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.up.store(true, Ordering::Release);
    }

    pub(super) fn lost(&self, now: BootInstant) {
        self.lost_at.store(now.as_millis(), Ordering::Release);
        self.up.store(false, Ordering::Release);
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    fn vouches_for(&self, epoch: u64) -> bool {
        self.is_up() && self.epoch() == epoch
    }

    /// Notes that the store failed, and for how long that is taken as given.
    pub(super) fn store_is_away(&self, now: BootInstant, pause: Duration) {
        self.away_until.store(now.plus(pause).as_millis(), Ordering::Release);
        self.together_since.fetch_max(now.as_millis(), Ordering::AcqRel);
    }

    /// How long ago changes last arrived from the store; nothing while they do.
    pub(super) fn last_heard(&self, now: BootInstant) -> Duration {
        if self.is_up() {
            Duration::ZERO
        } else {
            now.since(BootInstant::from_millis(self.lost_at.load(Ordering::Acquire)))
        }
    }

    /// How long the store has been reached without a failure that was noticed.
    pub(super) fn in_touch_for(&self, now: BootInstant) -> Duration {
        now.since(BootInstant::from_millis(self.together_since.load(Ordering::Acquire)))
    }

    pub(super) fn is_store_away(&self, now: BootInstant) -> bool {
        self.away_until.load(Ordering::Acquire) > now.as_millis()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::ids::{ConsentId, GrantId};

    fn held(version: Version, epoch: u64) -> Arc<Held> {
        Arc::new(Held {
            provider: ProviderId::parse("bank").expect("valid"),
            version,
            bearer: HeaderValue::from_static("Bearer x"),
            scope: None,
            expires_at: BootInstant::from_millis(10_000),
            life: Duration::from_secs(10),
            soft_window: Duration::from_secs(3),
            on_refresh: OldAccessToken::Valid,
            epoch,
            rejected: AtomicBool::new(false),
            overtaken: AtomicBool::new(false),
            quiet_until: AtomicU64::new(0),
        })
    }

    fn key() -> TokenKey {
        TokenKey::Consent(ConsentId::parse("c").expect("valid"))
    }

    #[test]
    fn an_older_token_set_never_replaces_a_later_one_of_its_grant() {
        let cache = Cache::new(10);
        let first = Version::first(GrantId::random());
        cache.put(&key(), held(first.next(), 0));
        cache.put(&key(), held(first, 0));
        assert_eq!(cache.get(&key()).expect("held").version, first.next());
        let other = Version::first(GrantId::random());
        cache.put(&key(), held(other, 0));
        assert_eq!(cache.get(&key()).expect("held").version, other, "a new grant starts over");
    }

    #[test]
    fn an_entry_is_verified_only_in_its_own_epoch_and_while_the_link_is_up() {
        let link = Link::new(BootInstant::default());
        let verified = |held: &Held| held.at_hand(BootInstant::from_millis(0), &link, false).verified;
        let before = held(Version::first(GrantId::random()), link.epoch());
        assert!(!verified(&before), "nothing was ever connected");
        link.connected(BootInstant::default());
        let during = held(Version::first(GrantId::random()), link.epoch());
        assert!(verified(&during));
        assert!(!verified(&before));
        link.lost(BootInstant::default());
        assert!(!verified(&during));
        link.connected(BootInstant::default());
        assert!(!verified(&during), "changes may have been missed in between");
    }

    #[test]
    fn a_move_overtakes_what_is_held_but_not_what_is_newer() {
        let cache = Cache::new(10);
        let first = Version::first(GrantId::random());
        cache.put(&key(), held(first.next(), 0));
        assert!(cache.moved(&key(), first).is_none(), "the news is older than what is held");
        assert!(!cache.get(&key()).expect("held").overtaken.load(Ordering::Acquire));
        assert!(cache.moved(&key(), first.next().next()).is_some());
        assert!(cache.get(&key()).expect("held").overtaken.load(Ordering::Acquire));
    }

    #[test]
    fn a_verdict_counts_while_the_link_is_up_nothing_has_moved_and_the_consent_runs() {
        let (standings, link) = (Standings::new(10), Link::new(BootInstant::default()));
        link.connected(BootInstant::default());
        let at = BootInstant::from_millis;
        let bank = ProviderId::parse("bank").expect("valid");
        let standing = || Standing {
            provider: Some(bank.clone()),
            verdict: Ok(()),
            epoch: link.epoch(),
            moves: standings.moves(),
            until: Some(at(2_000)),
        };
        let get = |now| standings.get(&key(), &link, at(now)).map(|standing| standing.at(&bank));
        standings.put(&key(), standing());
        assert_eq!(get(1_999), Some(Ok(())));
        assert_eq!(get(2_000), None, "the consent's own time is over");
        standings.moved(&key());
        assert_eq!(get(1_000), None, "the record is another");
        let read_before_a_move = standing();
        standings.moved(&TokenKey::Consent(ConsentId::parse("d").expect("valid")));
        standings.put(&key(), read_before_a_move);
        assert_eq!(get(1_000), None, "it may have been this record that moved");
        standings.put(&key(), standing());
        link.lost(BootInstant::default());
        assert_eq!(get(1_000), None, "nobody would tell of a change");
    }

    #[test]
    fn a_quiet_refresh_is_allowed_once_per_pause() {
        let held = held(Version::first(GrantId::random()), 0);
        let pause = Duration::from_millis(100);
        assert!(held.may_refresh_quietly(BootInstant::from_millis(1_000), pause));
        assert!(!held.may_refresh_quietly(BootInstant::from_millis(1_050), pause));
        assert!(held.may_refresh_quietly(BootInstant::from_millis(1_100), pause));
    }
}
