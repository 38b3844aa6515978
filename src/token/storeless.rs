//! A client token while the store is away.
//!
//! A client-credentials token can be had twice without harm, so each process may get its own. It stays in this process
//! and is checked against the store as soon as the store answers.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::ask::Errand;
use super::flight::Outcome;
use super::keep::Origin;
use super::{ClientGrant, Core, TokenError};
use crate::oauth::{TokenEndpoint, TokenOutcome, TokenRequest};
use crate::store::Store;
use crate::words::clock::Clock;
use crate::words::ids::{AttemptId, GrantId, Version};
use crate::words::metrics::OutcomeLabels;

/// Gets a client token for this process alone.
pub(super) async fn client_token<S: Store, E: TokenEndpoint, C: Clock>(
    core: &Arc<Core<S, E, C>>,
    errand: &Errand,
    client: &ClientGrant,
    attempt: &AttemptId,
) -> Outcome {
    let provider = core.providers.get(&errand.provider).ok_or(TokenError::Unknown)?;
    let Ok(Ok(_permit)) = timeout(errand.patience, Arc::clone(&provider.permits).acquire_owned()).await else {
        return Err(TokenError::Overloaded);
    };
    let unavailable = |why: &str| TokenError::EndpointUnavailable {
        why: why.to_owned(),
        retry_after: core.timing.store_pause.max(Duration::from_secs(1)),
    };
    let connection = timeout(core.timing.connect, provider.endpoint.connect())
        .await
        .map_err(|_| unavailable("unreachable"))?
        .map_err(|_| unavailable("unreachable"))?;
    let request =
        TokenRequest::ClientCredentials { audience: client.audience.as_deref(), scope: client.scope.as_ref() };
    let (started, asked) = (Instant::now(), core.clock.boot());
    let outcome = timeout(core.timing.send, provider.endpoint.send(connection, &request)).await;
    core.metrics.token_request_seconds.observe(started.elapsed().as_secs_f64());
    let count = |outcome| {
        let provider = errand.provider.as_str().to_owned();
        core.metrics.token_requests.get_or_create(&OutcomeLabels { provider, outcome }).inc();
    };
    match outcome.map(|reply| reply.outcome) {
        Ok(TokenOutcome::Granted(set)) => {
            count("granted");
            let version = Version::first(GrantId::random());
            // Of the epoch before any: the store is asked as soon as it is back.
            let snapshot = Origin { provider: &errand.provider, version, scope: client.scope.as_ref() };
            let expires_at = asked.plus(set.expires_in);
            match core.make(snapshot, &set.access, expires_at, set.expires_in, 0) {
                Ok(held) => core.cache.put(&errand.key, Arc::new(held)),
                Err(error) => return Err(TokenError::Unreadable { why: error.to_string() }),
            }
            tracing::info!(attempt = attempt.as_str(), "Got a client token while the store is away.");
            Ok(())
        }
        Ok(TokenOutcome::Misconfigured { why }) => {
            count(why);
            Err(TokenError::Misconfigured { why: why.to_owned() })
        }
        Ok(TokenOutcome::InvalidGrant) => {
            count("invalid_grant");
            Err(TokenError::Misconfigured { why: "invalid_grant".to_owned() })
        }
        Ok(
            TokenOutcome::NotProcessed { why, .. }
            | TokenOutcome::Unknown { why }
            | TokenOutcome::Unreadable { why, .. },
        ) => {
            count(why);
            Err(unavailable(why))
        }
        Ok(TokenOutcome::NotSent(_)) => {
            count("not_sent");
            Err(unavailable("unreachable"))
        }
        Err(_) => {
            count("no_answer");
            Err(unavailable("no_answer"))
        }
    }
}
