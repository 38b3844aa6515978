//! What a process does when somebody else moves a record whose refresh token it is spending: it hangs up where its answer
//! can no longer count, and waits where the bank may have meant it.

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::house::{House, Limits, ask, key, provider};
use super::*;
use crate::store::{Commit, CommitOutcome, End, EndOutcome};
use crate::words::ids::{AttemptId, Fingerprint};
use crate::words::metrics::ProviderLabels;
use crate::words::said::Said;
use crate::words::secrets::RefreshToken;

/// A refresh of `c` that the bank is thinking about, and that looks at its lease all the time.
struct Underway {
    house: House,
    gate: watch::Sender<bool>,
    call: JoinHandle<Result<u64, TokenError>>,
}

impl Underway {
    async fn at_a_bank(reuse_grace: Option<Duration>) -> Self {
        Self::looking_every(Duration::from_millis(20), reuse_grace).await
    }

    /// It does not look at its lease before the bank has answered.
    async fn unaware() -> Self {
        Self::looking_every(Timing::STANDARD.renewal, None).await
    }

    async fn looking_every(renewal: Duration, reuse_grace: Option<Duration>) -> Self {
        let timing = Timing { renewal, ..Timing::STANDARD };
        let limits = Limits { timing, ..Limits::default() };
        let house = House::made(limits, |behaviour| behaviour.reuse_grace = reuse_grace);
        house.connect_changes();
        house.seed("c", Some("rt-0"), Duration::ZERO).await;
        let gate = house.bank.hold_answers();
        let tokens = house.tokens.clone();
        let call = tokio::spawn(async move { ask(&tokens, "c").await.map(|held| held.version.generation) });
        house.until(|| house.bank.presented().len() == 1).await;
        Self { house, gate, call }
    }

    /// Somebody else commits what came of the same refresh token.
    async fn is_overtaken(&self) {
        let base = self.house.record("c").await.version;
        let (access, refresh) = (AccessToken::new("at-other"), RefreshToken::new("rt-other"));
        let (vault, provider) = (self.house.tokens.vault(), provider("bank"));
        let sealed = vault.seal(&key("c"), &provider, base.next(), &access, Some(&refresh));
        let (access, refresh) = sealed.expect("seals");
        let commit = Commit {
            attempt: AttemptId::new("other", 1),
            base,
            access,
            refresh,
            refresh_fingerprint: Some(Fingerprint::from_bytes([9; 16])),
            spent: None,
            remaining: LIFE,
            life: LIFE,
            scope: None,
            certificate: None,
            forced: false,
            since_intent: None,
            said: Said::default(),
        };
        let committed = self.house.tokens.store().commit(&key("c"), &commit).await;
        assert!(matches!(committed, Ok(CommitOutcome::Stored { .. })), "{committed:?}");
    }

    /// Another grant stands in the record's place.
    async fn is_replaced(&self) {
        self.house.seed("another", Some("rt-another"), Duration::ZERO).await;
        let another = self.house.tokens.store().raw(&key("another"));
        self.house.tokens.store().set_raw(&key("c"), another.as_ref()).await;
    }

    /// The consent ends.
    async fn is_ended(&self) {
        let end = End { grant: None, state: RecordState::Revoked, why: "asked".to_owned(), remembered: None };
        let ended = self.house.tokens.store().end(&key("c"), &end).await;
        assert!(matches!(ended, Ok(EndOutcome::Ended)), "{ended:?}");
    }

    /// The bank answers. How many late sends are counted?
    async fn late_sends_after(self, answer: TokenOutcome) -> u64 {
        self.house.bank.say(answer);
        self.gate.send_replace(true);
        drop(self.call.await.expect("no panic"));
        self.house.tokens.settled_once().await;
        let labels = ProviderLabels { provider: "bank".to_owned() };
        self.house.tokens.core.metrics.late_sends.get_or_create(&labels).get()
    }

    /// It gives the call up although the bank has not answered.
    async fn hangs_up(self) {
        let outcome = tokio::time::timeout(Duration::from_secs(5), self.call).await.expect("in time");
        assert!(outcome.expect("no panic").is_err(), "the bank has not answered");
        assert!(!*self.gate.borrow());
    }

    /// It waits for the bank, having seen what happened.
    async fn waits(self) {
        let looked = || self.house.tokens.store().count("reassert");
        let before = looked();
        self.house.until(|| looked() > before + 1).await;
        assert!(!self.call.is_finished());
        self.gate.send_replace(true);
        assert!(self.call.await.expect("no panic").is_ok());
        self.house.tokens.settled_once().await;
        let held = self.house.ask("c").await.expect("stored");
        assert_eq!(held.bearer.to_str().expect("text"), "Bearer at-other", "what came second is set aside");
    }
}

const GRACE: Option<Duration> = Some(Duration::from_secs(60));

#[tokio::test]
async fn whoever_is_overtaken_hangs_up_unless_the_bank_takes_a_token_twice() {
    let strict = Underway::at_a_bank(None).await;
    strict.is_overtaken().await;
    strict.hangs_up().await;
    let tolerant = Underway::at_a_bank(GRACE).await;
    tolerant.is_overtaken().await;
    tolerant.waits().await;
}

#[tokio::test]
async fn an_answer_for_a_grant_that_was_replaced_or_ended_is_not_waited_for_at_any_bank() {
    for grace in [None, GRACE] {
        let replaced = Underway::at_a_bank(grace).await;
        replaced.is_replaced().await;
        replaced.hangs_up().await;
        let ended = Underway::at_a_bank(grace).await;
        ended.is_ended().await;
        ended.hangs_up().await;
    }
}

#[tokio::test]
async fn two_requests_with_one_refresh_token_are_a_late_send_and_what_another_grant_brought_is_none() {
    let answers: [(fn() -> TokenOutcome, u64); 3] = [
        (|| TokenOutcome::InvalidGrant, 1),
        (|| TokenOutcome::Unknown { why: "no_answer" }, 1),
        (|| TokenOutcome::NotProcessed { why: "rate_limited", retry_after: None }, 0),
    ];
    for (answer, late_sends) in answers {
        let overtaken = Underway::unaware().await;
        overtaken.is_overtaken().await;
        assert_eq!(overtaken.late_sends_after(answer()).await, late_sends, "{:?} after another's commit", answer());
        let replaced = Underway::unaware().await;
        replaced.is_replaced().await;
        assert_eq!(replaced.late_sends_after(answer()).await, 0, "{:?} for another grant", answer());
    }
}

#[tokio::test]
async fn what_the_bank_did_not_process_is_not_told_to_a_store_that_forgot_the_request() {
    let call = Underway::unaware().await;
    let before = {
        let fresh = House::new();
        fresh.seed("c", Some("rt-0"), Duration::ZERO).await;
        fresh.tokens.store().raw(&key("c"))
    };
    call.house.tokens.store().set_raw(&key("c"), before.as_ref()).await;
    call.house.bank.say(TokenOutcome::NotProcessed { why: "rate_limited", retry_after: None });
    call.gate.send_replace(true);
    assert!(call.call.await.expect("no panic").is_err());
    call.house.tokens.settled_once().await;
    let record = call.house.record("c").await;
    assert_eq!((record.state, record.failures), (RecordState::Active, 0));
}
