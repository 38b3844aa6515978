//! One consent on its way to its end: ask the bank in the way it has, then put up the tombstone, or tell why not.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{AtBank, RevokeError, RevokeRequest, Revoked};
use crate::consent::desk::{About, BankCall, Desk, Desks, Heard, Unheard};
use crate::consent::persist::persist;
use crate::net::courier::Undelivered;
use crate::oauth::{Revocation, RevocationRequest, TokenEndpoint};
use crate::store::{
    Attempts, Begin, BeginOutcome, End, EndOutcome, EventKind, Fail, FailTo, Lease, RecordState, Snapshot, StoreError,
    Tell, Waiting,
};
use crate::token::Tokens;
use crate::words::clock::Clock;
use crate::words::failure::FailureClass;
use crate::words::ids::{AttemptId, ConsentId, TokenKey};
use crate::words::metrics::OutcomeLabels;
use crate::words::said::Said;

/// How long a refresh that is running is waited for.
const FOR_A_REFRESH: Duration = Duration::from_secs(5);
/// How long the authorization server may take for one token.
const FOR_THE_BANK: Duration = Duration::from_secs(8);
/// A token with more life than this is not wanted by anybody: BEGIN is asked for the lease.
const NEVER_ENOUGH: Duration = Duration::from_secs(400 * 86_400);

/// One consent on its way to its end.
pub(super) struct Errand<S, E, C> {
    pub(super) tokens: Tokens<S, E, C>,
    pub(super) desks: Desks,
    pub(super) consent: ConsentId,
    pub(super) by: AttemptId,
}

impl<S: Attempts, E: TokenEndpoint, C: Clock> Errand<S, E, C> {
    pub(super) async fn run(&self, request: RevokeRequest) -> Result<Revoked, RevokeError> {
        let key = TokenKey::Consent(self.consent.clone());
        // What a store has forgotten may be the newest refresh token, and an older one is of no use to revoke.
        let record = persist(|| self.tokens.put_right(&self.consent)).await?.ok_or(RevokeError::Unknown)?;
        if let Some(over) = over(&record) {
            return Ok(over);
        }
        let current = record.version;
        if request.expected.is_some_and(|expected| expected != current) {
            return Err(RevokeError::Mismatch { current });
        }
        let provider = record.provider.as_str().to_owned();
        let ended = self.carry_out(&key, record, request.only_here).await;
        let outcome = ended.as_ref().map_or_else(RevokeError::outcome, |revoked| revoked.at_bank.as_str());
        self.tokens.metrics().revocations.get_or_create(&OutcomeLabels { provider, outcome }).inc();
        ended
    }

    async fn carry_out(&self, key: &TokenKey, record: Snapshot, only_here: bool) -> Result<Revoked, RevokeError> {
        if only_here {
            return self.end(key, &record, AtBank::NotTold).await;
        }
        if record.state == RecordState::Pending {
            return self.end(key, &record, AtBank::NothingGranted).await;
        }
        let desk = self.desks.get(&record.provider);
        let done = match desk.and_then(|desk| Some((desk, desk.revoke()?))) {
            Some((desk, call)) => self.at_the_desk(&record, desk, call).await,
            None => self.tokens_of(key, record).await,
        };
        match done {
            Ok((record, at_bank)) => self.end(key, &record, at_bank).await,
            Err(Undone { error, why, said }) => {
                if let Some(why) = why {
                    let (attempt, why) = (Some(self.by.clone()), why.as_str().to_owned());
                    let tell = Tell { kind: EventKind::NotRevoked, why, said, attempt };
                    if persist(|| self.tokens.store().tell(key, &tell)).await.is_err() {
                        tracing::warn!(consent = ?self.consent, "The history of a consent lacks that it was not revoked.");
                    }
                }
                Err(error)
            }
        }
    }

    /// By the call that the bank offers for it.
    async fn at_the_desk(&self, record: &Snapshot, desk: &Desk, call: &BankCall) -> Done {
        let current = record.version;
        // A bank that counts on the id in the path knows the consent by it, as calls through the proxy do.
        let known = record.bank_consent_id.as_deref();
        let bank_id = known.unwrap_or(self.consent.as_str());
        if call.path.names_consent() && matches!(bank_id, "." | "..") {
            let why = "its name for the consent is not fit for a path".to_owned();
            return Err(RevokeError::Impossible { current, why }.into());
        }
        let about = About { consent: &self.consent, provider: &record.provider, bank_id };
        let refused = |why: &str, word, said| {
            let why = why.to_owned();
            Undone { error: RevokeError::Refused { current, why }, why: Some(word), said }
        };
        match desk.call(&self.tokens, call, about).await {
            Ok(Heard::Answer(answer, _)) if answer.status.is_success() => Ok((record.clone(), AtBank::Revoked)),
            Ok(Heard::ConsentDead(said)) if known.is_none() && call.path.names_consent() => {
                let why = "it knows no consent of this name that has not ended, and what it calls this one is not \
                           stored here (bank_consent_id)";
                Err(refused(why, FailureClass::UnexpectedAnswer, said))
            }
            Ok(Heard::ConsentDead(_)) => Ok((record.clone(), AtBank::EndedBefore)),
            Ok(Heard::TokenRejected(said)) => {
                Err(refused("it accepts no token of ours", FailureClass::TokenRejected, said))
            }
            Ok(Heard::Answer(answer, said)) if answer.status.is_server_error() => {
                let why = format!("it answered {}", answer.status.as_u16());
                Err(Undone { error: RevokeError::Silent { current, why }, why: Some(FailureClass::ServerError), said })
            }
            Ok(Heard::Answer(answer, said)) => {
                Err(refused(&format!("it answered {}", answer.status.as_u16()), FailureClass::UnexpectedStatus, said))
            }
            Err(Unheard::NoToken(error)) => {
                let why = format!("there is no token to ask it with: {error}");
                Err(refused(&why, FailureClass::NotSent, Said::default()))
            }
            Err(Unheard::Undelivered(error @ Undelivered::NotSent(_))) => {
                Err(refused(&error.to_string(), FailureClass::Unreachable, Said::default()))
            }
            Err(Unheard::Undelivered(error @ Undelivered::NoAnswer(_))) => {
                let error = RevokeError::Silent { current, why: error.to_string() };
                Err(Undone { error, why: Some(FailureClass::ConnectionLost), said: Said::default() })
            }
        }
    }

    /// By revoking its tokens at the authorization server, where that offers it.
    async fn tokens_of(&self, key: &TokenKey, record: Snapshot) -> Done {
        let Some(endpoint) = self.tokens.endpoint(&record.provider).filter(|endpoint| endpoint.revokes()) else {
            return Ok((record, AtBank::NotTold));
        };
        let (record, lease) = self.lease(key, record).await?;
        let revoked = self.revoke_each(key, &record, endpoint).await;
        if let (Err(_), Some(lease)) = (&revoked, &lease) {
            self.give_back(key, lease).await;
        }
        let doubt = record.state == RecordState::Uncertain || lease.is_some_and(|lease| lease.probe);
        revoked.map(|()| (record, if doubt { AtBank::Unknown } else { AtBank::Revoked }))
    }

    /// The right to refresh, so that nobody replaces what is being revoked. Where nobody may refresh, it is not needed; where
    /// a refresh is running, its end is waited for.
    async fn lease(&self, key: &TokenKey, record: Snapshot) -> Result<(Snapshot, Option<Lease>), Undone> {
        let timing = self.tokens.timing();
        let begin = Begin {
            attempt: self.by.clone(),
            provider: record.provider.clone(),
            wanted: NEVER_ENOUGH,
            rejected: None,
            rejection_pause: timing.rejection_pause,
            lease: timing.armed_lease,
            quarantine: timing.quarantine,
            grace: None,
            create: None,
        };
        let until = Instant::now() + FOR_A_REFRESH;
        loop {
            match self.tokens.store().begin(key, &begin).await {
                Ok(BeginOutcome::Granted(lease, record)) => return Ok((record, Some(lease))),
                Ok(BeginOutcome::Wait(Waiting::Busy, _, record)) if Instant::now() >= until => {
                    return Err(RevokeError::Busy { current: record.version }.into());
                }
                Ok(BeginOutcome::Wait(Waiting::Busy, ..)) => sleep(Duration::from_millis(100)).await,
                Ok(
                    BeginOutcome::Wait(Waiting::Backoff | Waiting::Quarantine | Waiting::Hold, _, record)
                    | BeginOutcome::Fresh(record)
                    | BeginOutcome::Refused(record),
                ) => return Ok((record, None)),
                Ok(BeginOutcome::Unknown) => return Err(RevokeError::Unknown.into()),
                Err(StoreError::Unavailable(_) | StoreError::Reuniting) if Instant::now() < until => {
                    sleep(Duration::from_millis(250)).await;
                }
                Err(error) => return Err(RevokeError::from(error).into()),
            }
        }
    }

    async fn revoke_each(&self, key: &TokenKey, record: &Snapshot, endpoint: &E) -> Result<(), Undone> {
        let vault = self.tokens.vault();
        let unsealed = |error| Undone::from(RevokeError::from(error));
        if let Some(sealed) = &record.refresh {
            let refresh = vault.open_refresh(key, record, record.version, sealed).map_err(unsealed)?;
            self.revoke_one(record, endpoint, RevocationRequest::Refresh(&refresh)).await?;
        }
        if record.access.is_some() && !record.remaining.is_zero() {
            let access = vault.open_snapshot(key, record).map_err(unsealed)?;
            let revoked = self.revoke_one(record, endpoint, RevocationRequest::Access(&access)).await;
            revoked.map_err(|undone| if record.refresh.is_some() { undone.in_part() } else { undone })?;
        }
        Ok(())
    }

    async fn revoke_one(&self, record: &Snapshot, endpoint: &E, request: RevocationRequest<'_>) -> Result<(), Undone> {
        let current = record.version;
        let asked = timeout(FOR_THE_BANK, endpoint.revoke(&request)).await;
        let outcome = asked.unwrap_or(Revocation::Unknown { why: FailureClass::NoAnswer, said: Said::default() });
        match outcome {
            Revocation::Revoked => Ok(()),
            // What it does not revoke it lets run out (RFC 7009 §2.2.1); with the refresh token the grant is gone.
            Revocation::Unsupported if matches!(request, RevocationRequest::Access(_)) && record.refresh.is_some() => {
                Ok(())
            }
            Revocation::Unsupported => {
                let why = "it does not revoke tokens of this kind".to_owned();
                Err(RevokeError::Impossible { current, why }.into())
            }
            Revocation::Refused { why, said } => {
                let error = RevokeError::Refused { current, why: why.says().to_owned() };
                Err(Undone { error, why: Some(why), said })
            }
            Revocation::Unknown { why, said } => {
                let error = RevokeError::Silent { current, why: why.says().to_owned() };
                Err(Undone { error, why: Some(why), said })
            }
        }
    }

    /// Lets others refresh again. A lease that is not given back ends by itself.
    async fn give_back(&self, key: &TokenKey, lease: &Lease) {
        let fail = Fail {
            attempt: self.by.clone(),
            fence: lease.fence,
            base: lease.base,
            to: FailTo::Released,
            why: FailureClass::NotSent.as_str(),
            said: Said::default(),
        };
        if let Err(error) = persist(|| self.tokens.store().fail(key, &fail)).await {
            tracing::warn!(consent = ?self.consent, %error, "A lease could not be given back. It ends by itself.");
        }
    }

    /// The tombstone.
    async fn end(&self, key: &TokenKey, record: &Snapshot, at_bank: AtBank) -> Result<Revoked, RevokeError> {
        let end = End {
            grant: Some(record.version.grant),
            state: RecordState::Revoked,
            why: at_bank.class().as_str().to_owned(),
            remembered: None,
        };
        let store = self.tokens.store();
        let not_stored = |error: StoreError| RevokeError::NotStored { at_bank, why: error.to_string() };
        let ended = persist(|| store.end(key, &end)).await.map_err(not_stored)?;
        self.tokens.forget(&self.consent).await;
        match ended {
            EndOutcome::Ended => {
                let (consent, provider) = (&self.consent, &record.provider);
                tracing::info!(?consent, %provider, ?at_bank, "A consent was revoked on request.");
                let version = match persist(|| store.read(key)).await {
                    Ok(Some(stored)) => stored.version,
                    Ok(None) | Err(_) => record.version.next(),
                };
                Ok(Revoked { state: RecordState::Revoked.as_str(), version, at_bank })
            }
            EndOutcome::NotFound => match persist(|| store.read(key)).await.map_err(not_stored)? {
                Some(other) => Err(RevokeError::GrantedAnew { at_bank, current: other.version }),
                None => Err(RevokeError::Unknown),
            },
        }
    }
}

/// The record that was revoked at the bank, and what the bank said.
type Done = Result<(Snapshot, AtBank), Undone>;

/// Why nothing ends here, and what the history is told.
struct Undone {
    error: RevokeError,
    why: Option<FailureClass>,
    said: Said,
}

impl Undone {
    /// The same where the refresh token is revoked already, so that nobody may be told that nothing has changed.
    fn in_part(self) -> Self {
        let error = match self.error {
            RevokeError::Refused { current, why } => {
                let why = format!("its refresh token is revoked, and its access token is not: {why}");
                RevokeError::Silent { current, why }
            }
            other => other,
        };
        Self { error, ..self }
    }
}

impl From<RevokeError> for Undone {
    fn from(error: RevokeError) -> Self {
        Self { error, why: None, said: Said::default() }
    }
}

/// A consent that has ended before anything was done.
fn over(record: &Snapshot) -> Option<Revoked> {
    let nothing_left = record.access.is_none() && record.refresh.is_none();
    let at_bank = match record.state {
        RecordState::Denied => AtBank::NothingGranted,
        RecordState::Revoked => AtBank::of(record.why.as_deref()),
        // One whose own time is over keeps its tokens until it is ended.
        RecordState::Expired if nothing_left => AtBank::EndedBefore,
        RecordState::Expired
        | RecordState::Pending
        | RecordState::Active
        | RecordState::Leased
        | RecordState::Armed
        | RecordState::Uncertain
        | RecordState::ReauthorizationRequired => return None,
    };
    Some(Revoked { state: record.state.consent_state(), version: record.version, at_bank })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::ids::{GrantId, Version};

    #[test]
    fn a_refusal_after_the_refresh_token_was_revoked_is_not_told_as_if_nothing_had_changed() {
        let (current, why) = (Version::first(GrantId::random()), "no".to_owned());
        let undone = Undone::from(RevokeError::Refused { current, why }).in_part();
        let RevokeError::Silent { why, .. } = undone.error else { panic!("{}", undone.error) };
        assert!(why.starts_with("its refresh token is revoked") && why.ends_with("no"), "{why}");
        let busy = Undone::from(RevokeError::Busy { current }).in_part();
        assert_eq!(busy.error, RevokeError::Busy { current });
    }
}
