//! At start: commits what an earlier process had spilled and the store never acknowledged.
//!
//! Every spilled token set becomes a flight of its own, which occupies its token until the commit's outcome is known.
//! So a consent with an unreplayed spill is served from that spill and is never refreshed, however long the store is
//! away, and the listeners need not wait for it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::ask::hold_unseen;
use super::disown::disown;
use super::flight::Cockpit;
use super::{Core, follow};
use crate::oauth::TokenEndpoint;
use crate::store::spill::{SpillContent, SpillEntry, SpillHandle, SpilledTokens};
use crate::store::{CommitOutcome, RecordState, Snapshot, Store};
use crate::words::clock::Clock;
use crate::words::ids::TokenKey;
use crate::words::metrics::KindLabels;
use crate::words::said::Said;

/// What was found at start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Token sets that waited to be committed.
    pub found: usize,
    /// Bodies that an earlier process could not read and kept for a person.
    pub salvaged: usize,
    /// Files that cannot be understood; they were left where they are.
    pub unreadable: usize,
    /// Commits whose outcome was not known when the time was up; they go on.
    pub pending: usize,
}

pub(super) async fn run<S: Store, E: TokenEndpoint, C: Clock>(core: &Arc<Core<S, E, C>>, at_most: Duration) -> Replay {
    let mut replay = Replay::default();
    let Some(spill) = &core.spill else { return replay };
    let count = |kind| core.metrics.spills.get_or_create(&KindLabels { kind }).inc();
    let loaded = spill.load().await.unwrap_or_else(|error| {
        tracing::error!(%error, "The spill directory cannot be read.");
        Vec::new()
    });
    let mut waiting: BTreeMap<TokenKey, Vec<(SpillHandle, SpillEntry)>> = BTreeMap::new();
    for (handle, entry) in loaded {
        match entry {
            Ok(entry) if matches!(entry.content, SpillContent::Tokens(_) | SpillContent::Grant(_)) => {
                replay.found += 1;
                waiting.entry(entry.key.clone()).or_default().push((handle, entry));
            }
            Ok(entry) => {
                replay.salvaged += 1;
                tracing::error!(key = ?entry.key, ?handle, "A bank's answer that could not be read is kept in the spill.");
            }
            Err(error) => {
                replay.unreadable += 1;
                count("unreadable");
                tracing::error!(?handle, %error, "A spill cannot be read. It is left where it is.");
            }
        }
    }
    let mut seats = Vec::new();
    for (key, mut entries) in waiting {
        // The newest first: should the store not take an older one, it must not stand in the way.
        entries.sort_by_key(|(_, entry)| Reverse((entry.obtained_at, entry.base.generation)));
        let Some((_, newest)) = entries.first().cloned() else { continue };
        let flying = Arc::clone(core);
        let fly = |cockpit: Cockpit| async move {
            for (handle, entry) in entries {
                let outcome = match flying.commit_once(&key, &entry, &Said::default(), None).await {
                    Ok(outcome) => outcome,
                    Err(_) => flying.commit_until_known(&key, &entry, &Said::default(), None).await,
                };
                flying.metrics.spills.get_or_create(&KindLabels { kind: "replayed" }).inc();
                tracing::info!(?key, attempt = entry.attempt.as_str(), ?outcome, "Replayed a spilled token set.");
                flying.committed(&key, outcome, Some(handle));
                if outcome == CommitOutcome::Gone {
                    disown(&flying, &entry);
                }
            }
            cockpit.announce(Ok(()));
            follow::leave(&flying, key, cockpit);
        };
        // First the place, then the token: whatever asks for it from here on finds the place taken. None of them may be
        // left out for want of room, because what it has spent would be spent again.
        seats.extend(core.flights.board_regardless(&newest.key, &newest.provider, |cockpit| {
            serve_from(core, &newest);
            fly(cockpit)
        }));
    }
    let landings = async {
        for seat in seats {
            seat.landing().await;
        }
    };
    if timeout(at_most, landings).await.is_err() {
        replay.pending = core.flights.under_way();
    }
    replay
}

/// Holds the newest spilled token of a consent, for calls that come before the store has it.
pub(super) fn serve_from<S: Store, E: TokenEndpoint, C: Clock>(core: &Arc<Core<S, E, C>>, entry: &SpillEntry) {
    let (SpillContent::Tokens(tokens) | SpillContent::Grant(tokens)) = &entry.content else { return };
    let snapshot = as_snapshot(entry, tokens, core.clock.wall());
    // Of the epoch before any: it is checked against the store as soon as the store answers.
    if let Err(error) = hold_unseen(core, &entry.key, &snapshot, core.clock.boot(), 0) {
        tracing::error!(key = ?entry.key, %error, "A spilled token set cannot be opened. It is replayed as it is.");
    }
}

/// What a spill holds, as the store would show it.
pub(super) fn as_snapshot(entry: &SpillEntry, tokens: &SpilledTokens, now: crate::words::clock::WallTime) -> Snapshot {
    let age = now.checked_since(entry.obtained_at);
    Snapshot {
        provider: entry.provider.clone(),
        state: RecordState::Active,
        version: entry.base.next(),
        access: Some(tokens.access.clone()),
        remaining: age.map_or(Duration::ZERO, |age| tokens.remaining.saturating_sub(age)),
        life: tokens.life,
        refresh: tokens.refresh.clone(),
        refresh_fingerprint: tokens.refresh_fingerprint,
        scope: tokens.scope.clone(),
        bank_consent_id: tokens.bank_consent_id.clone(),
        consent_expires_at: tokens.consent_expires_at,
        consent_remaining: tokens.consent_expires_at.map(|end| end.checked_since(now).unwrap_or_default()),
        certificate: tokens.certificate.clone(),
        granted_at: tokens.granted_at,
        holder: Some(entry.attempt.clone()),
        lease_left: Duration::ZERO,
        uncertain_for: None,
        sends: 0,
        failures: 0,
        backoff: Duration::ZERO,
        why: None,
        replaced: None,
    }
}
