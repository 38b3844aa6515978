//! Keeps what a customer has just consented to, with the care of a refresh.
//!
//! A code buys one token set, once. So the answer is on disk or in the store before anything else happens, and the SEED is
//! repeated until its outcome is known. It replaces whatever was granted before, also while that is being refreshed; what
//! was granted or ended later stays. How the code is spent is told in `consent`; what is here is what only this floor can
//! do: the token endpoint, the spill, the store's last word.

use std::sync::Arc;

use super::disown::disown;
use super::keep::Since;
use super::recover::serve_from;
use super::{Core, Tokens, UnderWay, VaultError, fault};
use crate::oauth::TokenEndpoint;
use crate::store::spill::{SpillContent, SpillEntry, SpilledTokens};
use crate::store::{CommitOutcome, Store};
use crate::token::timing::Timing;
use crate::words::clock::{Clock, WallTime};
use crate::words::ids::{AttemptId, ConsentId, GrantId, ProviderId, TokenKey, Version};
use crate::words::metrics::Metrics;
use crate::words::said::Said;
use crate::words::token_set::{Scope, TokenSet};

/// A token set that a bank has just given for a code.
#[derive(Debug)]
pub struct Given<'a> {
    /// Whose.
    pub consent: &'a ConsentId,
    /// Where.
    pub provider: &'a ProviderId,
    /// What the grant is called.
    pub grant: GrantId,
    /// Who exchanged the code.
    pub attempt: &'a AttemptId,
    /// What came.
    pub set: &'a TokenSet,
    /// How long the request and its answer were on their way.
    pub under_way: UnderWay,
    /// What the consent covers.
    pub scope: Option<Scope>,
    /// When it ends, where that is known.
    pub consent_expires_at: Option<WallTime>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The store has it.
    Stored(Version),
    /// The store does not answer. It is on disk, or where that failed, too, in memory; this process serves it, and tells the
    /// store as soon as it answers.
    Later,
    /// The consent was granted anew or ended since. What came is let go of.
    Overtaken,
}

impl<S: Store, E: TokenEndpoint, C: Clock> Tokens<S, E, C> {
    /// The token endpoint of a provider.
    pub fn endpoint(&self, provider: &ProviderId) -> Option<&E> {
        self.core.providers.get(provider).map(|provider| &provider.endpoint)
    }

    /// The protocol's constants.
    pub fn timing(&self) -> &Timing {
        &self.core.timing
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.core.metrics
    }

    /// Runs work that must finish, though whoever asked for it goes away; [`Tokens::settled`] waits for it.
    pub fn detach(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.core.flights.detach(work);
    }

    /// A place where a test may end the process: a page of a bank's feed is applied, and the position is where it was.
    pub async fn feed_applied(&self) {
        fault::point("after-feed").await;
    }

    /// A place where a test may end the process: the attempt is claimed, and nothing is sent.
    pub async fn claimed(&self) {
        fault::point("after-claim").await;
    }

    /// Keeps a token set. `Err`: it cannot be sealed, and is lost.
    pub async fn keep_grant(&self, given: &Given<'_>) -> Result<Kept, VaultError> {
        let core = &self.core;
        fault::point("after-reply").await;
        let entry = core.grant_entry(given)?;
        let key = entry.key.clone();
        let spilling = async {
            match &core.spill {
                Some(spill) => core.spill_out(spill, entry.clone()).await.ok(),
                None => None,
            }
        };
        let nothing_said = Said::default();
        let since = Some(Since { armed_at: None, read_at: given.under_way.read_at });
        let (spilled, committed) = tokio::join!(spilling, core.commit_once(&key, &entry, &nothing_said, since));
        let Ok(outcome) = committed else {
            core.count_store_error("seed");
            serve_from(core, &entry);
            let core = Arc::clone(core);
            self.detach(async move {
                let outcome = core.commit_until_known(&entry.key, &entry, &Said::default(), since).await;
                core.granted(&entry.key, outcome).await;
                core.committed(&entry.key, outcome, spilled);
                if outcome == CommitOutcome::Gone {
                    disown(&core, &entry);
                }
            });
            return Ok(Kept::Later);
        };
        fault::point("after-commit").await;
        core.granted(&key, outcome).await;
        core.committed(&key, outcome, spilled);
        if outcome == CommitOutcome::Gone {
            core.disown(given.provider, given.set);
        }
        Ok(match outcome {
            CommitOutcome::Stored { version, .. } => Kept::Stored(version),
            CommitOutcome::Superseded { .. } | CommitOutcome::Gone | CommitOutcome::Missing => Kept::Overtaken,
        })
    }

    /// Keeps the bytes of an answer that said yes and cannot be read, sealed, for a person.
    pub async fn salvage_grant(&self, given: (&ConsentId, &ProviderId, GrantId), attempt: &AttemptId, body: &[u8]) {
        let (consent, provider, grant) = given;
        let core = &self.core;
        let Some(spill) = &core.spill else { return };
        let (key, base) = (TokenKey::Consent(consent.clone()), Version { grant, generation: 0 });
        match core.vault.seal_salvage(&key, provider, base.next(), body) {
            Ok(sealed) => {
                let entry = SpillEntry {
                    key,
                    provider: provider.clone(),
                    attempt: attempt.clone(),
                    base,
                    obtained_at: core.clock.wall(),
                    content: SpillContent::Salvage(sealed),
                };
                let _ = core.spill_out(spill, entry).await;
            }
            Err(error) => tracing::error!(?key, %error, "An unreadable answer cannot be sealed."),
        }
    }
}

impl<S: Store, E: TokenEndpoint, C: Clock> Core<S, E, C> {
    fn grant_entry(&self, given: &Given<'_>) -> Result<SpillEntry, VaultError> {
        let (set, base) = (given.set, Version { grant: given.grant, generation: 0 });
        let key = TokenKey::Consent(given.consent.clone());
        let refresh = set.refresh.as_ref();
        let (access, sealed) = self.vault.seal(&key, given.provider, base.next(), &set.access, refresh)?;
        let tokens = SpilledTokens {
            access,
            refresh: sealed,
            refresh_fingerprint: refresh.map(|token| self.vault.fingerprint(given.provider, token)).transpose()?,
            spent: None,
            remaining: given.under_way.remaining(set.expires_in),
            life: set.expires_in,
            scope: given.scope.clone(),
            bank_consent_id: None,
            consent_expires_at: given.consent_expires_at,
            certificate: self.providers.get(given.provider).and_then(|provider| provider.endpoint.certificate()),
            granted_at: None,
            forced: false,
        };
        Ok(SpillEntry {
            key,
            provider: given.provider.clone(),
            attempt: given.attempt.clone(),
            base,
            obtained_at: self.clock.wall(),
            content: SpillContent::Grant(Box::new(tokens)),
        })
    }

    /// Should the store forget it, this process does not.
    async fn granted(self: &Arc<Self>, key: &TokenKey, outcome: CommitOutcome) {
        if matches!(outcome, CommitOutcome::Stored { .. })
            && let Err(error) = self.look_again(key).await
        {
            tracing::warn!(?key, %error, "A new grant could not be read again.");
        }
    }
}
