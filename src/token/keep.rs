//! What happens to a token set from the moment the bank's answer is read: it is kept.
//!
//! Spill and COMMIT go out side by side, and nothing else is done before both are under way: at a bank that rotates,
//! the answer in our memory is the only copy of the newest refresh token on earth. Those who wait are told as soon as
//! either has succeeded; the COMMIT is repeated until its outcome is known.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use super::ask::Errand;
use super::cache::Held;
use super::flight::{Cockpit, Flights, Outcome};
use super::timing::{jittered, soft_window, spread};
use super::{Core, UnderWay, VaultError, fault, loss};
use crate::oauth::TokenEndpoint;
use crate::store::spill::{SpillContent, SpillDirectory, SpillEntry, SpillError, SpillHandle, SpilledTokens};
use crate::store::{Commit, CommitOutcome, RestoreOutcome, SeedOutcome, Snapshot, Store, StoreError};
use crate::words::bank::OldAccessToken;
use crate::words::clock::{BootInstant, Clock};
use crate::words::ids::{AttemptId, ProviderId, TokenKey, Version};
use crate::words::metrics::KindLabels;
use crate::words::said::Said;
use crate::words::secrets::{AccessToken, RefreshToken};
use crate::words::token_set::{Scope, TokenSet};

/// A token set on its way from the bank to the store.
pub(super) struct Obtained<'a> {
    pub(super) attempt: &'a AttemptId,
    pub(super) base: Version,
    pub(super) snapshot: &'a Snapshot,
    pub(super) set: &'a TokenSet,
    /// How long the request and its answer were on their way.
    pub(super) under_way: UnderWay,
    /// Just before the intent was written.
    pub(super) armed_at: Option<BootInstant>,
    /// The refresh token that was sent.
    pub(super) spent: Option<&'a RefreshToken>,
    pub(super) forced: bool,
    /// What is known of the request.
    pub(super) said: &'a Said,
}

/// When a token set came that this process has from the bank, by its own clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Since {
    /// Just before the intent was written.
    pub(super) armed_at: Option<BootInstant>,
    /// When the answer had been read.
    pub(super) read_at: BootInstant,
}

impl Obtained<'_> {
    /// What was left of the access token's life when it had been read.
    fn remaining(&self) -> Duration {
        self.under_way.remaining(self.set.expires_in)
    }
}

/// Keeps a token set, and tells those who wait as early as it is safe.
pub(super) async fn keep<S: Store, E: TokenEndpoint, C: Clock>(
    core: &Arc<Core<S, E, C>>,
    errand: &Errand,
    cockpit: &Cockpit,
    obtained: Obtained<'_>,
) -> Outcome {
    fault::point("after-reply").await;
    let (epoch, read_at) = (core.link.epoch(), obtained.under_way.read_at);
    let entry = match core.to_spill(errand, &obtained) {
        Ok(entry) => entry,
        Err(error) => {
            tracing::error!(key = ?errand.key, %error, "A new token set cannot be sealed. It is used, and then lost.");
            core.put(errand, &obtained, read_at, epoch);
            core.give_back_apart(errand, obtained.attempt, None);
            return Ok(());
        }
    };
    // A client token can be had again, so only what a consent depends on is spilled.
    let spilling = async {
        match &core.spill {
            Some(spill) if errand.client.is_none() => Some(core.spill_out(spill, entry.clone()).await),
            Some(_) | None => None,
        }
    };
    let since = Some(Since { armed_at: obtained.armed_at, read_at });
    let committing = core.commit_once(&errand.key, &entry, obtained.said, since);
    let (mut spilling, mut committing) = (pin!(spilling), pin!(committing));
    let (mut spilled, mut committed) = (None, None);
    let (mut told, mut trying) = (false, None);
    while spilled.is_none() || committed.is_none() {
        tokio::select! {
            // Both are wanted, so the order says nothing; a fixed one makes a simulation repeatable.
            biased;
            outcome = &mut spilling, if spilled.is_none() => spilled = Some(outcome),
            outcome = &mut committing, if committed.is_none() => committed = Some(outcome),
        }
        let safe = match &committed {
            Some(Ok(CommitOutcome::Stored { .. })) => true,
            // The store has the last word: what it does not take is not used.
            Some(Ok(CommitOutcome::Superseded { .. } | CommitOutcome::Gone | CommitOutcome::Missing)) => false,
            Some(Err(_)) | None => matches!(spilled, Some(Some(Ok(_)))),
        };
        if safe && !told {
            core.put(errand, &obtained, read_at, epoch);
            core.remember_obtained(&entry);
            cockpit.announce(Ok(()));
            told = true;
            let (sender, tried) = oneshot::channel();
            trying = Some(sender);
            core.give_back_apart(errand, obtained.attempt, Some(tried));
        }
    }
    drop(trying);
    if !told {
        core.give_back_apart(errand, obtained.attempt, None);
    }
    let handle = spilled.flatten().and_then(Result::ok);
    let outcome = if let Some(Ok(outcome)) = committed {
        outcome
    } else {
        // With neither done the token is in memory alone. Not using it would make nothing better.
        if !told {
            core.put(errand, &obtained, read_at, epoch);
            core.remember_obtained(&entry);
            cockpit.announce(Ok(()));
        }
        core.commit_until_known(&errand.key, &entry, obtained.said, since).await
    };
    let same_grant = |current: Version| current.grant == obtained.base.grant;
    if matches!(outcome, CommitOutcome::Superseded { current } if same_grant(current))
        && errand.client.is_none()
        && !obtained.said.late
        && core.providers.get(&errand.provider).is_none_or(|bank| bank.behaviour.reuse_grace.is_none())
    {
        loss::sent_late(&core.metrics, errand, obtained.attempt);
    }
    fault::point("after-commit").await;
    core.committed(&errand.key, outcome, handle);
    if outcome == CommitOutcome::Gone {
        core.disown(&errand.provider, obtained.set);
    }
    Ok(())
}

/// Where a token comes from.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) provider: &'a ProviderId,
    pub(super) version: Version,
    pub(super) scope: Option<&'a Scope>,
}

impl<S: Store, E: TokenEndpoint, C: Clock> Core<S, E, C> {
    /// Makes a stored token ready to be sent.
    pub(super) fn make_held(
        &self,
        snapshot: &Snapshot,
        access: &AccessToken,
        expires_at: BootInstant,
        life: Duration,
        epoch: u64,
    ) -> Result<Held, VaultError> {
        let origin = Origin { provider: &snapshot.provider, version: snapshot.version, scope: snapshot.scope.as_ref() };
        self.make(origin, access, expires_at, life, epoch)
    }

    pub(super) fn make(
        &self,
        origin: Origin<'_>,
        access: &AccessToken,
        expires_at: BootInstant,
        life: Duration,
        epoch: u64,
    ) -> Result<Held, VaultError> {
        let on_refresh = self
            .providers
            .get(origin.provider)
            .map_or(OldAccessToken::Revoked, |provider| provider.behaviour.old_access_token);
        Ok(Held {
            provider: origin.provider.clone(),
            version: origin.version,
            bearer: access.to_bearer()?,
            scope: origin.scope.cloned(),
            expires_at,
            life,
            soft_window: soft_window(life, spread()),
            on_refresh,
            epoch,
            rejected: AtomicBool::new(false),
            overtaken: AtomicBool::new(false),
            quiet_until: AtomicU64::new(0),
        })
    }

    /// Holds a token set that was just obtained.
    fn put(&self, errand: &Errand, obtained: &Obtained<'_>, read_at: BootInstant, epoch: u64) {
        let version = obtained.base.next();
        let scope = obtained.set.scope.as_ref().or(obtained.snapshot.scope.as_ref());
        let life = obtained.set.expires_in;
        let left = obtained.remaining();
        let left = obtained.snapshot.consent_remaining.map_or(left, |rest| rest.min(left));
        let origin = Origin { provider: &errand.provider, version, scope };
        match self.make(origin, &obtained.set.access, read_at.plus(left), life, epoch) {
            Ok(held) => self.cache.put(&errand.key, Arc::new(held)),
            Err(error) => tracing::error!(key = ?errand.key, %error, "The bank's access token cannot be used."),
        }
        self.metrics.tokens_cached.set(i64::try_from(self.cache.len()).unwrap_or(i64::MAX));
    }

    fn remember_obtained(&self, entry: &SpillEntry) {
        if let Some(restore) = entry.to_restore(self.clock.wall()) {
            self.memories.obtained(&entry.key, restore, self.clock.boot());
        }
    }

    fn to_spill(&self, errand: &Errand, obtained: &Obtained<'_>) -> Result<SpillEntry, VaultError> {
        let (set, snapshot) = (obtained.set, obtained.snapshot);
        let next = set.refresh.as_ref().or(obtained.spent);
        let (access, refresh) =
            self.vault.seal(&errand.key, &errand.provider, obtained.base.next(), &set.access, next)?;
        let fingerprint = |token| self.vault.fingerprint(&errand.provider, token);
        let refresh_fingerprint = next.map(fingerprint).transpose()?;
        let spent = obtained.spent.map(fingerprint).transpose()?.filter(|spent| Some(*spent) != refresh_fingerprint);
        let certificate = self.providers.get(&errand.provider).and_then(|provider| provider.endpoint.certificate());
        let tokens = SpilledTokens {
            access,
            refresh,
            refresh_fingerprint,
            spent,
            remaining: obtained.remaining(),
            life: set.expires_in,
            scope: set.scope.clone().or_else(|| snapshot.scope.clone()),
            bank_consent_id: snapshot.bank_consent_id.clone(),
            consent_expires_at: snapshot.consent_expires_at,
            certificate,
            granted_at: snapshot.granted_at,
            forced: obtained.forced,
        };
        Ok(SpillEntry {
            key: errand.key.clone(),
            provider: errand.provider.clone(),
            attempt: obtained.attempt.clone(),
            base: obtained.base,
            obtained_at: self.clock.wall(),
            content: SpillContent::Tokens(Box::new(tokens)),
        })
    }

    pub(super) async fn spill_out(&self, spill: &SpillDirectory, entry: SpillEntry) -> Result<SpillHandle, SpillError> {
        let written = spill.write(entry).await;
        fault::point("after-spill").await;
        let kind = if written.is_ok() { "written" } else { "failed" };
        self.metrics.spills.get_or_create(&KindLabels { kind }).inc();
        if let Err(error) = &written {
            tracing::error!(%error, "A spill could not be written.");
        }
        written
    }

    /// Keeps the bytes of an answer that could not be read, for a person.
    pub(super) async fn salvage(
        &self,
        errand: &Errand,
        attempt: &AttemptId,
        base: Version,
        snapshot: &Snapshot,
        body: &[u8],
    ) {
        let Some(spill) = &self.spill else { return };
        match self.vault.seal_salvage(&errand.key, &snapshot.provider, base.next(), body) {
            Ok(sealed) => {
                let entry = SpillEntry {
                    key: errand.key.clone(),
                    provider: errand.provider.clone(),
                    attempt: attempt.clone(),
                    base,
                    obtained_at: self.clock.wall(),
                    content: SpillContent::Salvage(sealed),
                };
                let _ = self.spill_out(spill, entry).await;
            }
            Err(error) => tracing::error!(key = ?errand.key, %error, "An unreadable answer cannot be sealed."),
        }
    }

    /// One COMMIT of what a spill holds, or the SEED of a new grant, and a RESTORE where the store has forgotten the record
    /// altogether. `since`: where this process has it from the bank itself; a commit that is held up on its way must not
    /// lengthen a life.
    pub(super) async fn commit_once(
        &self,
        key: &TokenKey,
        entry: &SpillEntry,
        said: &Said,
        since: Option<Since>,
    ) -> Result<CommitOutcome, StoreError> {
        fault::point("before-commit").await;
        let (now, boot) = (self.clock.wall(), self.clock.boot());
        // A calendar may be put back meanwhile.
        let now = since.map_or(now, |since| now.max(entry.obtained_at.plus(boot.since(since.read_at))));
        if let Some(seed) = entry.to_seed(now) {
            return Ok(match self.store.seed(key, &seed).await? {
                SeedOutcome::Created(version) | SeedOutcome::Replaced(version) => {
                    CommitOutcome::Stored { version, rolled_back: false }
                }
                SeedOutcome::Exists(current) | SeedOutcome::Spent(current) => CommitOutcome::Superseded { current },
                SeedOutcome::Mismatch(_) => CommitOutcome::Gone,
                SeedOutcome::Missing => CommitOutcome::Missing,
            });
        }
        let (Some(commit), Some(restore)) = (entry.to_commit(now), entry.to_restore(now)) else {
            return Err(StoreError::Unreadable("the spill holds no token set".to_owned()));
        };
        let since_intent = since.and_then(|since| since.armed_at).map(|armed_at| boot.since(armed_at));
        let commit = Commit { said: said.clone(), since_intent, ..commit };
        match self.store.commit(key, &commit).await? {
            CommitOutcome::Missing => Ok(match self.store.restore(key, &restore).await? {
                RestoreOutcome::Restored => {
                    self.metrics.store_rollbacks.get_or_create(&KindLabels { kind: loss::RESTORE }).inc();
                    CommitOutcome::Stored { version: restore.version, rolled_back: true }
                }
                RestoreOutcome::NotNeeded { current } => CommitOutcome::Superseded { current },
                RestoreOutcome::Gone => CommitOutcome::Gone,
            }),
            outcome => {
                if matches!(outcome, CommitOutcome::Stored { rolled_back: true, .. }) {
                    self.metrics.store_rollbacks.get_or_create(&KindLabels { kind: loss::COMMIT }).inc();
                }
                Ok(outcome)
            }
        }
    }

    /// Repeats the COMMIT until its outcome is known, however long the store is away.
    pub(super) async fn commit_until_known(
        &self,
        key: &TokenKey,
        entry: &SpillEntry,
        said: &Said,
        since: Option<Since>,
    ) -> CommitOutcome {
        let mut pause = Duration::from_millis(50);
        loop {
            sleep(jittered(pause)).await;
            match self.commit_once(key, entry, said, since).await {
                Ok(outcome) => return outcome,
                Err(error) => {
                    self.count_store_error("commit");
                    tracing::warn!(?key, %error, "A new token set is not committed yet. It is in memory and spilled.");
                }
            }
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    /// What follows from a COMMIT's outcome.
    pub(super) fn committed(self: &Arc<Self>, key: &TokenKey, outcome: CommitOutcome, spill: Option<SpillHandle>) {
        match outcome {
            CommitOutcome::Stored { version, rolled_back } => {
                if rolled_back {
                    tracing::error!(?key, %version, "The store had forgotten generations; they are restored.");
                    self.count_store_error("rolled_back");
                }
            }
            CommitOutcome::Superseded { current } => {
                tracing::warn!(?key, %current, "A token set came after a newer one and is set aside.");
                self.cache.forget(key);
            }
            CommitOutcome::Gone => {
                tracing::warn!(?key, "A consent ended while it was being refreshed. Its tokens are dropped.");
                self.cache.forget(key);
            }
            CommitOutcome::Missing => {
                tracing::error!(?key, "The store has no record to commit to.");
            }
        }
        if let (Some(spill), Some(handle)) = (self.spill.clone(), spill) {
            // Longer than the store's word, which a store that crashes may yet take back.
            let keep = self.timing.spill_keep;
            Flights::detach_idle(async move {
                sleep(keep).await;
                if let Err(error) = spill.remove(handle).await {
                    tracing::warn!(%error, "A spill that is no longer needed could not be removed.");
                }
            });
        }
    }

    /// Whether a refresh may go ahead as far as the spill is concerned.
    pub(super) async fn spill_is_ready(&self) -> Result<(), SpillError> {
        match &self.spill {
            Some(spill) if self.spill_required => spill.check().await,
            Some(_) | None => Ok(()),
        }
    }
}
