//! What this process remembers of records, for a store that may forget.
//!
//! A store that fails over, or restarts without its last writes, shows a record as it was before. A refresh token that was
//! spent in between must not be spent again, and a consent that ended must not come back to life. So every process keeps
//! the newest it has seen of each record, tokens sealed and unopened, and puts it back where the store shows less.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Core, loss};
use crate::oauth::TokenEndpoint;
use crate::store::{End, EndOutcome, Reassert, RecordState, Restore, RestoreOutcome, Snapshot, Store, StoreError};
use crate::words::clock::{BootInstant, Clock, WallTime};
use crate::words::ids::{AttemptId, GrantId, ProviderId, TokenKey, Version};
use crate::words::metrics::KindLabels;

/// The newest of every record, at most as many as tokens are held; the least recently useful one makes room.
#[derive(Debug)]
pub(super) struct Memories(quick_cache::sync::Cache<TokenKey, Arc<Memory>>);

/// What was seen of one record.
#[derive(Debug)]
pub(super) struct Memory {
    what: What,
    /// When it was seen. The access token's life is counted from here.
    seen: BootInstant,
    /// Its refresh token may have been spent: nobody knew. Shared by all that was seen of one version, so that a doubt is not
    /// lost to a look that began before it.
    doubtful: Arc<AtomicBool>,
    /// Who was last seen to spend its refresh token.
    spender: Option<AttemptId>,
}

#[derive(Debug)]
enum What {
    Tokens(Box<Restore>),
    Ended { provider: ProviderId, version: Version, granted_at: Option<WallTime>, state: RecordState, why: String },
}

/// What a look at the store says beside what is remembered.
#[derive(Debug)]
pub(super) enum Recollection {
    /// The store shows all that is known here, or more.
    Current,
    /// The store shows less than this, under this grant.
    Behind(Arc<Memory>, GrantId),
}

impl Memory {
    pub(super) fn version(&self) -> Version {
        match &self.what {
            What::Tokens(restore) => restore.version,
            What::Ended { version, .. } => *version,
        }
    }

    fn is_doubtful(&self) -> bool {
        self.doubtful.load(Ordering::Acquire)
    }

    /// Whether the store, showing `snapshot`, has forgotten something. Generations are compared within a grant, and dates
    /// between grants.
    fn is_ahead_of(&self, snapshot: &Snapshot) -> bool {
        if matches!(self.what, What::Ended { .. }) && is_tombstone(snapshot) {
            return false;
        }
        // A consent is pending where there was nothing before. Whoever knows of tokens knows of something that was forgotten.
        if snapshot.state == RecordState::Pending {
            return matches!(self.what, What::Tokens(_));
        }
        let (mine, stored) = (self.version(), snapshot.version);
        if mine.grant == stored.grant {
            return mine.generation > stored.generation;
        }
        let granted_at = match &self.what {
            What::Tokens(restore) => restore.granted_at,
            What::Ended { granted_at, .. } => *granted_at,
        };
        granted_at.zip(snapshot.granted_at).is_some_and(|(mine, stored)| mine > stored)
    }
}

impl Memories {
    pub(super) fn new(capacity: usize) -> Self {
        Self(quick_cache::sync::Cache::new(capacity))
    }

    /// Takes note of what the store shows, and says whether that is less than what is remembered. `taken`: before the
    /// store was asked.
    pub(super) fn learn(&self, key: &TokenKey, snapshot: &Snapshot, taken: BootInstant) -> Recollection {
        // A client token can be had again.
        if matches!(key, TokenKey::Client(_)) {
            return Recollection::Current;
        }
        if let Some(memory) = self.0.get(key)
            && memory.is_ahead_of(snapshot)
        {
            return Recollection::Behind(memory, snapshot.version.grant);
        }
        if snapshot.state == RecordState::Pending {
            return Recollection::Current;
        }
        let ended = is_tombstone(snapshot);
        let what = match (&snapshot.access, ended) {
            (_, true) => What::Ended {
                provider: snapshot.provider.clone(),
                version: snapshot.version,
                granted_at: snapshot.granted_at,
                state: snapshot.state,
                why: snapshot.why.clone().unwrap_or_default(),
            },
            (Some(access), false) => What::Tokens(Box::new(Restore {
                // Whoever obtained it is not known here; each restoration gets a name of its own.
                attempt: AttemptId::from_stored(""),
                provider: snapshot.provider.clone(),
                version: snapshot.version,
                access: access.clone(),
                refresh: snapshot.refresh.clone(),
                refresh_fingerprint: snapshot.refresh_fingerprint,
                remaining: snapshot.remaining,
                life: snapshot.life,
                scope: snapshot.scope.clone(),
                bank_consent_id: snapshot.bank_consent_id.clone(),
                consent_expires_at: snapshot.consent_expires_at,
                certificate: snapshot.certificate.clone(),
                granted_at: snapshot.granted_at,
            })),
            (None, false) => return Recollection::Current,
        };
        // That the store shows it no more explains nothing: it may have been forgotten since.
        let known = self.0.get(key).filter(|memory| memory.version() == snapshot.version && snapshot.state.is_usable());
        let doubtful = known.map(|memory| Arc::clone(&memory.doubtful)).unwrap_or_default();
        if snapshot.state == RecordState::Uncertain {
            doubtful.store(true, Ordering::Release);
        }
        let spends = snapshot.state == RecordState::Armed;
        let spender = if spends { snapshot.holder.clone() } else { self.spender(key, snapshot.version) };
        self.0.insert(key.clone(), Arc::new(Memory { what, seen: taken, doubtful, spender }));
        Recollection::Current
    }

    /// Takes note of a token set that was just obtained.
    pub(super) fn obtained(&self, key: &TokenKey, restore: Restore, now: BootInstant) {
        if matches!(key, TokenKey::Consent(_)) {
            let what = What::Tokens(Box::new(restore));
            let memory = Memory { what, seen: now, doubtful: Arc::default(), spender: None };
            self.0.insert(key.clone(), Arc::new(memory));
        }
    }

    /// Takes note that this version's refresh token may have been spent. Before the store is told: it may forget that at once.
    pub(super) fn doubt(&self, key: &TokenKey, version: Version) {
        if let Some(memory) = self.0.get(key).filter(|memory| memory.version() == version) {
            memory.doubtful.store(true, Ordering::Release);
        }
    }

    /// Whom this process saw spend the refresh token of this version, and last.
    pub(super) fn spender(&self, key: &TokenKey, version: Version) -> Option<AttemptId> {
        self.0.get(key).filter(|memory| memory.version() == version).and_then(|memory| memory.spender.clone())
    }

    /// What is remembered of a consent at `provider` of which the store has no record at all.
    pub(super) fn of_missing(&self, key: &TokenKey, provider: &ProviderId) -> Option<Arc<Memory>> {
        self.0.get(key).filter(|memory| match &memory.what {
            What::Tokens(restore) => restore.provider == *provider,
            // A tombstone is taken away when its time is over.
            What::Ended { .. } => false,
        })
    }

    /// Lets the store's word hold.
    fn yield_to_store(&self, key: &TokenKey, memory: &Arc<Memory>) {
        self.0.remove_if(key, |held| Arc::ptr_eq(held, memory));
    }

    /// What was seen within `age` before `now`; with `None`, everything.
    pub(super) fn seen_within(&self, age: Option<Duration>, now: BootInstant) -> Vec<(TokenKey, Arc<Memory>)> {
        let recent = |memory: &Memory| age.is_none_or(|age| now.since(memory.seen) <= age);
        let mut seen: Vec<_> = self.0.iter().filter(|(_, memory)| recent(memory)).collect();
        // In an order that does not hang on chance: who looks into a history again must find the same.
        seen.sort_by(|(one, _), (other, _)| one.cmp(other));
        seen
    }
}

/// A consent whose own time is over keeps its tokens; one that was ended does not.
fn is_tombstone(snapshot: &Snapshot) -> bool {
    match snapshot.state {
        RecordState::Denied | RecordState::Revoked | RecordState::Expired => {
            snapshot.access.is_none() && snapshot.refresh.is_none()
        }
        RecordState::Pending
        | RecordState::Active
        | RecordState::Leased
        | RecordState::Armed
        | RecordState::Uncertain
        | RecordState::ReauthorizationRequired => false,
    }
}

impl<S: Store, E: TokenEndpoint, C: Clock> Core<S, E, C> {
    /// Puts back what the store has forgotten, if it still has. `shown` is the grant that it shows instead.
    pub(super) async fn bring_back(
        &self,
        key: &TokenKey,
        memory: &Arc<Memory>,
        shown: Option<GrantId>,
    ) -> Result<(), StoreError> {
        let version = memory.version();
        let restored = match &memory.what {
            What::Tokens(restore) => {
                let age = self.clock.boot().since(memory.seen);
                let remaining = restore.remaining.saturating_sub(age);
                // What this process obtained itself goes back under the name it commits under, so that its own commit, when it
                // comes through, is no other's.
                let own = Some(restore.attempt.clone()).filter(|attempt| !attempt.as_str().is_empty());
                let attempt = own.unwrap_or_else(|| self.next_attempt());
                let restore = Restore { attempt, remaining, ..Restore::clone(restore) };
                match self.store.restore(key, &restore).await? {
                    RestoreOutcome::Restored => {
                        self.metrics.store_rollbacks.get_or_create(&KindLabels { kind: loss::RESTORE }).inc();
                        true
                    }
                    RestoreOutcome::NotNeeded { .. } | RestoreOutcome::Gone => false,
                }
            }
            What::Ended { provider, state, why, .. } => {
                let remembered = Some((provider.clone(), version));
                let grant = Some(shown.unwrap_or(version.grant));
                let end = End { grant, state: *state, why: why.clone(), remembered };
                match self.store.end(key, &end).await? {
                    EndOutcome::Ended => true,
                    EndOutcome::NotFound => false,
                }
            }
        };
        if restored {
            tracing::error!(?key, %version, "The store had forgotten what became of a consent. It is put back.");
            self.count_store_error("rolled_back");
        } else {
            self.memories.yield_to_store(key, memory);
        }
        Ok(())
    }

    /// Reads a record, so that it is remembered.
    pub(super) async fn look_again(&self, key: &TokenKey) -> Result<(), StoreError> {
        let taken = self.clock.boot();
        if let Some(snapshot) = self.store.read(key).await? {
            self.memories.learn(key, &snapshot, taken);
        }
        Ok(())
    }

    /// After a store came back: looks whether it still shows what is remembered, and says what it may have forgotten.
    pub(super) async fn confirm(&self, key: &TokenKey, memory: &Arc<Memory>) -> Result<(), StoreError> {
        let taken = self.clock.boot();
        match self.store.read(key).await? {
            Some(snapshot) => match self.memories.learn(key, &snapshot, taken) {
                Recollection::Behind(memory, shown) => self.bring_back(key, &memory, Some(shown)).await?,
                Recollection::Current if memory.is_doubtful() && memory.version() == snapshot.version => {
                    let reassert = Reassert { base: snapshot.version, holder: None };
                    self.store.reassert(key, &reassert).await.map(drop)?;
                }
                Recollection::Current => {}
            },
            None => match &memory.what {
                What::Tokens(_) => self.bring_back(key, memory, None).await?,
                What::Ended { .. } if self.clock.boot().since(memory.seen) < FRESH_TOMBSTONE => {
                    self.bring_back(key, memory, None).await?;
                }
                What::Ended { .. } => {}
            },
        }
        Ok(())
    }
}

/// For so long after it was seen a tombstone that is missing was forgotten, and did not end its week.
const FRESH_TOMBSTONE: Duration = Duration::from_secs(6 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Sealed;
    use crate::words::ids::ConsentId;

    fn key() -> TokenKey {
        TokenKey::Consent(ConsentId::parse("c").expect("valid"))
    }

    fn snapshot(version: Version, granted_at: u64) -> Snapshot {
        Snapshot {
            provider: ProviderId::parse("bank").expect("valid"),
            state: RecordState::Active,
            version,
            access: Some(Sealed::from_bytes(*b"access")),
            remaining: Duration::from_secs(60),
            life: Duration::from_secs(60),
            refresh: None,
            refresh_fingerprint: None,
            granted_at: Some(WallTime::from_millis(granted_at)),
            scope: None,
            bank_consent_id: None,
            consent_expires_at: None,
            consent_remaining: None,
            certificate: None,
            holder: None,
            lease_left: Duration::ZERO,
            uncertain_for: None,
            sends: 0,
            failures: 0,
            backoff: Duration::ZERO,
            why: None,
            replaced: None,
        }
    }

    fn ended(version: Version) -> Snapshot {
        Snapshot { state: RecordState::Revoked, access: None, ..snapshot(version, 1) }
    }

    fn behind(recollection: &Recollection) -> bool {
        matches!(recollection, Recollection::Behind(..))
    }

    #[test]
    fn an_earlier_generation_of_the_same_grant_is_behind() {
        let (memories, first, at) = (Memories::new(10), Version::first(GrantId::random()), BootInstant::default());
        assert!(!behind(&memories.learn(&key(), &snapshot(first.next(), 1), at)));
        assert!(behind(&memories.learn(&key(), &snapshot(first, 1), at)));
        assert!(!behind(&memories.learn(&key(), &snapshot(first.next(), 1), at)));
        assert!(!behind(&memories.learn(&key(), &snapshot(first.next().next(), 1), at)));
    }

    #[test]
    fn between_grants_the_later_one_counts_and_with_equal_dates_the_store() {
        let at = BootInstant::default();
        let (one, other) = (Version::first(GrantId::random()), Version::first(GrantId::random()));
        let memories = Memories::new(10);
        memories.learn(&key(), &snapshot(one, 5), at);
        assert!(behind(&memories.learn(&key(), &snapshot(other, 4), at)));
        assert!(!behind(&memories.learn(&key(), &snapshot(other, 5), at)));
        assert!(!behind(&memories.learn(&key(), &snapshot(one, 6), at)));
    }

    #[test]
    fn a_pending_consent_is_behind_whatever_was_granted_before() {
        let (memories, at) = (Memories::new(10), BootInstant::default());
        let version = Version { grant: GrantId::random(), generation: 0 };
        let pending = Snapshot { state: RecordState::Pending, access: None, granted_at: None, ..snapshot(version, 0) };
        assert!(!behind(&memories.learn(&key(), &pending, at)), "nothing is known");
        memories.learn(&key(), &snapshot(Version::first(GrantId::random()), 1), at);
        assert!(behind(&memories.learn(&key(), &pending, at)));
        memories.learn(&key(), &ended(Version::first(GrantId::random())), at);
        assert!(!behind(&memories.learn(&key(), &pending, at)), "an end is no reason not to ask again");
    }

    #[test]
    fn a_tombstone_is_remembered_for_its_own_grant_and_earlier_ones() {
        let at = BootInstant::default();
        let (one, other) = (Version::first(GrantId::random()), Version::first(GrantId::random()));
        let memories = Memories::new(10);
        memories.learn(&key(), &ended(one.next()), at);
        assert!(behind(&memories.learn(&key(), &snapshot(one, 1), at)));
        assert!(behind(&memories.learn(&key(), &snapshot(other, 0), at)), "it was granted before");
        assert!(!behind(&memories.learn(&key(), &ended(other), at)), "an end is an end");
        assert!(!behind(&memories.learn(&key(), &snapshot(one, 1), at)));
    }

    #[test]
    fn a_consent_that_ran_out_is_no_tombstone_while_any_token_of_it_is_kept() {
        let (access, refresh) = (Some(Sealed::from_bytes(*b"access")), Some(Sealed::from_bytes(*b"refresh")));
        for (access, refresh, tombstone) in [
            (None, None, true),
            (access.clone(), None, false),
            (None, refresh.clone(), false),
            (access, refresh, false),
        ] {
            let expired = RecordState::Expired;
            let kept = Snapshot { state: expired, access, refresh, ..snapshot(Version::first(GrantId::random()), 1) };
            assert_eq!(is_tombstone(&kept), tombstone, "{kept:?}");
        }
    }

    #[test]
    fn a_tombstone_that_is_no_longer_there_is_not_put_back_by_a_call() {
        let (memories, provider) = (Memories::new(10), ProviderId::parse("bank").expect("valid"));
        let first = Version::first(GrantId::random());
        memories.learn(&key(), &snapshot(first, 1), BootInstant::default());
        assert!(memories.of_missing(&key(), &provider).is_some());
        assert!(memories.of_missing(&key(), &ProviderId::parse("other").expect("valid")).is_none());
        memories.learn(&key(), &ended(first.next()), BootInstant::default());
        assert!(memories.of_missing(&key(), &provider).is_none());
    }

    #[test]
    fn who_was_seen_to_spend_a_refresh_token_is_remembered_for_as_long_as_it_is_the_newest() {
        let (memories, first) = (Memories::new(10), Version::first(GrantId::random()));
        let holder = Some(AttemptId::new("other", 1));
        let armed = Snapshot { state: RecordState::Armed, holder: holder.clone(), ..snapshot(first, 1) };
        let leased =
            Snapshot { state: RecordState::Leased, holder: Some(AttemptId::new("b", 2)), ..snapshot(first, 1) };
        for seen in [&armed, &leased, &snapshot(first, 1)] {
            memories.learn(&key(), seen, BootInstant::default());
            assert_eq!(memories.spender(&key(), first), holder);
        }
        assert_eq!(memories.spender(&key(), first.next()), None);
        memories.learn(&key(), &snapshot(first.next(), 1), BootInstant::default());
        assert_eq!(memories.spender(&key(), first.next()), None);
    }

    fn is_in_doubt(memories: &Memories, version: Version) -> bool {
        memories.0.get(&key()).is_some_and(|memory| memory.version() == version && memory.is_doubtful())
    }

    #[test]
    fn a_doubt_lasts_as_long_as_the_version_whatever_a_store_shows_that_may_have_forgotten_it() {
        let (memories, first) = (Memories::new(10), Version::first(GrantId::random()));
        memories.doubt(&key(), first);
        assert!(!is_in_doubt(&memories, first), "nothing is known of it");
        memories.learn(&key(), &snapshot(first, 1), BootInstant::default());
        memories.doubt(&key(), first.next());
        assert!(!is_in_doubt(&memories, first), "it was another version's");
        memories.doubt(&key(), first);
        for state in [RecordState::Active, RecordState::Leased, RecordState::Armed, RecordState::Uncertain] {
            memories.learn(&key(), &Snapshot { state, ..snapshot(first, 1) }, BootInstant::default());
            assert!(is_in_doubt(&memories, first), "{state:?}");
        }
        memories.learn(&key(), &snapshot(first.next(), 1), BootInstant::default());
        assert!(!is_in_doubt(&memories, first.next()));
    }

    #[test]
    fn a_doubt_that_comes_while_a_look_is_under_way_is_kept() {
        let (memories, first) = (Memories::new(10), Version::first(GrantId::random()));
        memories.learn(&key(), &snapshot(first, 1), BootInstant::default());
        let before = memories.0.get(&key()).expect("learned");
        memories.learn(&key(), &snapshot(first, 1), BootInstant::default());
        before.doubtful.store(true, Ordering::Release);
        assert!(is_in_doubt(&memories, first));
    }

    #[test]
    fn what_was_seen_lately_is_told_from_the_rest() {
        let memories = Memories::new(10);
        memories.learn(&key(), &snapshot(Version::first(GrantId::random()), 1), BootInstant::from_millis(1_000));
        let now = BootInstant::from_millis(11_000);
        assert_eq!(memories.seen_within(Some(Duration::from_secs(10)), now).len(), 1);
        assert_eq!(memories.seen_within(Some(Duration::from_secs(9)), now).len(), 0);
        assert_eq!(memories.seen_within(None, now).len(), 1);
    }
}
