//! What becomes of tokens that a bank gave for a consent which has ended meanwhile: they are revoked there, where the bank
//! offers it. Nobody here may use them, and nobody could name them later.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Core;
use super::recover::as_snapshot;
use crate::oauth::{Revocation, RevocationRequest, TokenEndpoint};
use crate::store::Store;
use crate::store::spill::{SpillContent, SpillEntry};
use crate::words::clock::Clock;
use crate::words::ids::ProviderId;
use crate::words::secrets::{AccessToken, RefreshToken};
use crate::words::token_set::TokenSet;

/// How long a bank may take.
const DISOWNING: Duration = Duration::from_secs(10);

/// Has what was spilled for a consent that ended meanwhile revoked at the bank, where that offers it.
pub(super) fn disown<S: Store, E: TokenEndpoint, C: Clock>(core: &Arc<Core<S, E, C>>, entry: &SpillEntry) {
    let (SpillContent::Tokens(tokens) | SpillContent::Grant(tokens)) = &entry.content else { return };
    let snapshot = as_snapshot(entry, tokens, core.clock.wall());
    let open = |sealed| core.vault.open_refresh(&entry.key, &snapshot, snapshot.version, sealed);
    let refresh = snapshot.refresh.as_ref().map(open).transpose();
    match refresh.and_then(|refresh| Ok((refresh, core.vault.open_snapshot(&entry.key, &snapshot)?))) {
        Ok((refresh, access)) => core.disown_tokens(entry.provider.clone(), refresh, access),
        Err(error) => tracing::warn!(key = ?entry.key, %error, "A spilled token set that came too late does not open."),
    }
}

impl<S: Store, E: TokenEndpoint, C: Clock> Core<S, E, C> {
    /// Revokes what a bank gave for a consent that ended meanwhile, where it offers that, as a task of its own: nobody here may
    /// use it, and nobody could name it later.
    pub(super) fn disown(self: &Arc<Self>, provider: &ProviderId, set: &TokenSet) {
        // The set itself ends with the work that brought it.
        let refresh = set.refresh.as_ref().map(|refresh| RefreshToken::new(refresh.expose()));
        self.disown_tokens(provider.clone(), refresh, AccessToken::new(set.access.expose()));
    }

    /// The same for tokens that nobody else holds.
    pub(super) fn disown_tokens(
        self: &Arc<Self>,
        provider: ProviderId,
        refresh: Option<RefreshToken>,
        access: AccessToken,
    ) {
        if !self.providers.get(&provider).is_some_and(|provider| provider.endpoint.revokes()) {
            return;
        }
        let core = Arc::clone(self);
        self.flights.detach(async move {
            let Some(endpoint) = core.providers.get(&provider).map(|provider| &provider.endpoint) else { return };
            let request = refresh.as_ref().map_or(RevocationRequest::Access(&access), RevocationRequest::Refresh);
            match timeout(DISOWNING, endpoint.revoke(&request)).await {
                Ok(Revocation::Revoked) => {
                    tracing::info!(%provider, "Tokens that came too late were revoked at the bank.");
                }
                Ok(outcome) => {
                    tracing::warn!(%provider, ?outcome, "Tokens that came too late were not revoked at the bank.");
                }
                Err(_) => {
                    tracing::warn!(%provider, "The bank did not answer to the revocation of tokens that came too late.");
                }
            }
        });
    }
}
