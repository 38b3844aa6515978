//! The line that forms before a provider in one process: what those who stand in it cost the store, who comes first, and
//! what ends the wait.

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::house::{House, Limits, TestTokens, ask, elsewhere, key};
use super::*;
use crate::token::follow;

const EXPIRED: Duration = Duration::ZERO;
/// What a flight does with a consent, all but reading it.
const STEPS: [&str; 6] = ["begin", "arm", "renew", "fail", "commit", "report"];

/// A house before a bank that is answering `first`, which is all it answers at once, while `second` is the first in line.
struct Queued {
    house: House,
    gate: watch::Sender<bool>,
    first: JoinHandle<Result<u64, TokenError>>,
    second: JoinHandle<Result<u64, TokenError>>,
}

impl Queued {
    async fn with(ids: &[&str]) -> Self {
        let house = House::limited(Limits { in_flight: 1, ..Limits::default() });
        house.connect_changes();
        for id in ["first", "second"].iter().chain(ids) {
            house.seed(id, Some(&format!("rt-{id}")), EXPIRED).await;
        }
        let gate = house.bank.hold_answers();
        let first = spawn(&house.tokens, "first");
        house.until(|| house.bank.presented().len() == 1).await;
        let second = spawn(&house.tokens, "second");
        // It has let go of its lease and asks for a permit alone.
        house.until(|| house.tokens.store().count("permits") >= 4).await;
        Self { house, gate, first, second }
    }

    fn spent(&self) -> Vec<usize> {
        STEPS.iter().map(|step| self.house.tokens.store().count(step)).collect()
    }

    fn reads(&self) -> usize {
        self.house.tokens.store().count("read")
    }

    async fn until_in_line(&self, length: i64) {
        let labels = ProviderLabels { provider: "bank".to_owned() };
        let queue = self.house.tokens.core.metrics.permit_queue.get_or_create(&labels).clone();
        self.house.until(|| queue.get() == length).await;
    }

    /// Lets the bank answer, and waits for those who came first.
    async fn go_on(self) -> House {
        self.gate.send_replace(true);
        assert_eq!(self.first.await.expect("no panic"), Ok(2));
        assert_eq!(self.second.await.expect("no panic"), Ok(2));
        self.house
    }
}

#[tokio::test]
async fn a_call_that_finds_a_line_holds_no_lease_and_costs_the_store_one_read_however_long_it_waits() {
    let queued = Queued::with(&["third"]).await;
    let (spent, reads) = (queued.spent(), queued.reads());
    let impatient = queued.house.ask_for("third", "bank", Duration::from_millis(300)).await;
    assert!(matches!(impatient, Err(TokenError::WaitTimeout | TokenError::Overloaded)), "{impatient:?}");
    queued.until_in_line(1).await;
    let third = spawn(&queued.house.tokens, "third");
    queued.until_in_line(2).await;
    let asked = queued.house.tokens.store().count("permits");
    queued.house.until(|| queued.house.tokens.store().count("permits") >= asked + 3).await;
    assert_eq!((queued.spent(), queued.reads()), (spent, reads + 2), "one for each call");
    let record = queued.house.record("third").await;
    assert_eq!((record.state, record.holder, record.lease_left), (RecordState::Active, None, Duration::ZERO));
    let house = queued.go_on().await;
    assert_eq!(third.await.expect("no panic"), Ok(2));
    assert_eq!(house.bank.presented(), ["rt-first", "rt-second", "rt-third"]);
    house.tokens.settled_once().await;
    house.until_standing(|standing| standing.in_flight == 0).await;
}

#[tokio::test]
async fn a_token_that_expired_while_it_was_held_stands_in_line_like_one_that_nobody_holds() {
    let queued = Queued::with(&[]).await;
    queued.house.seed("held", Some("rt-held"), Duration::from_secs(600)).await;
    assert_eq!(queued.house.ask("held").await.expect("it lives").version.generation, 1);
    queued.house.clock.advance(Duration::from_secs(600));
    let (begun, reads) = (queued.house.tokens.store().count("begin"), queued.reads());
    let held = spawn(&queued.house.tokens, "held");
    queued.until_in_line(2).await;
    assert_eq!((queued.house.tokens.store().count("begin"), queued.reads()), (begun, reads + 1));
    queued.gate.send_replace(true);
    assert_eq!(held.await.expect("no panic"), Ok(2));
}

#[tokio::test]
async fn whoever_lost_patience_and_comes_again_has_its_place_before_those_who_came_later() {
    let queued = Queued::with(&["third", "fourth"]).await;
    let impatient = queued.house.ask_for("third", "bank", Duration::from_millis(50)).await;
    assert!(impatient.is_err(), "there is no room");
    queued.until_in_line(1).await;
    let fourth = spawn(&queued.house.tokens, "fourth");
    queued.until_in_line(2).await;
    let third = spawn(&queued.house.tokens, "third");
    queued.until_in_line(3).await;
    let house = queued.go_on().await;
    assert_eq!(third.await.expect("no panic"), Ok(2));
    assert_eq!(fourth.await.expect("no panic"), Ok(2));
    assert_eq!(house.bank.presented(), ["rt-first", "rt-second", "rt-third", "rt-fourth"]);
}

#[tokio::test]
async fn news_that_another_process_has_refreshed_the_consent_ends_the_wait_in_line() {
    let mut queued = Queued::with(&["third"]).await;
    let third = spawn(&queued.house.tokens, "third");
    queued.until_in_line(2).await;
    // A process that is allowed more, at a bank that answers it.
    queued.house.limits.in_flight = 8;
    let another = queued.house.another();
    queued.house.bank.hold_answers().send_replace(true);
    assert_eq!(ask(&another, "third").await.expect("refreshed").version.generation, 2);
    // Its answer counts as soon as it is spilled, and is news once it is committed.
    another.settled_once().await;
    let (spent, version) = (queued.spent(), queued.house.record("third").await.version);
    follow::heard(&queued.house.tokens.core, key("third"), version);
    assert_eq!(third.await.expect("no panic"), Ok(2));
    assert_eq!(queued.spent(), spent);
    queued.until_in_line(1).await;
    let house = queued.go_on().await;
    assert_eq!(house.bank.presented(), ["rt-first", "rt-third", "rt-second"]);
}

#[tokio::test]
async fn a_record_that_somebody_is_on_is_waited_for_outside_the_line_and_so_is_one_of_which_no_news_would_come() {
    let queued = Queued::with(&["c", "deaf"]).await;
    elsewhere(&queued.house).await;
    let begun = queued.house.tokens.store().count("begin");
    let busy = spawn(&queued.house.tokens, "c");
    queued.house.until(|| queued.house.tokens.store().count("begin") >= begun + 3).await;
    queued.until_in_line(1).await;
    busy.abort();
    queued.house.tokens.core.link.lost(queued.house.clock.boot());
    let failed = queued.house.tokens.store().count("fail");
    let deaf = spawn(&queued.house.tokens, "deaf");
    queued.until_in_line(2).await;
    assert_eq!(queued.house.tokens.store().count("fail"), failed + 1, "it had a lease, and knows that nobody is on it");
    queued.gate.send_replace(true);
    assert_eq!(deaf.await.expect("no panic"), Ok(2));
}

#[tokio::test]
async fn a_refresh_behind_a_callers_back_that_finds_a_line_ends_and_sends_nothing() {
    let queued = Queued::with(&[]).await;
    queued.house.seed("quiet", Some("rt-quiet"), Duration::from_secs(20)).await;
    assert_eq!(queued.house.ask("quiet").await.expect("stored").version.generation, 1);
    let (spent, reads) = (queued.spent(), queued.reads());
    let lookups = queued.house.tokens.core.metrics.token_lookups.clone();
    assert_eq!(queued.house.ask("quiet").await.expect("held").version.generation, 1);
    assert_eq!(lookups.get_or_create(&KindLabels { kind: "held_soft" }).get(), 1);
    queued.house.until(|| queued.house.tokens.under_way() == 2).await;
    assert_eq!((queued.spent(), queued.reads()), (spent, reads));
    let house = queued.go_on().await;
    house.tokens.settled_once().await;
    house.clock.advance(Duration::from_secs(1));
    assert!(house.ask("quiet").await.is_ok());
    house.until(|| house.bank.presented() == ["rt-first", "rt-second", "rt-quiet"]).await;
}

fn spawn(tokens: &TestTokens, id: &'static str) -> JoinHandle<Result<u64, TokenError>> {
    let tokens = tokens.clone();
    tokio::spawn(async move { ask(&tokens, id).await.map(|held| held.version.generation) })
}
