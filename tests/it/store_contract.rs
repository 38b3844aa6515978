//! The contract of the store, as one suite that runs against every store.
//!
//! A bench is a store with a way to let its clock move on: the embedded store's is moved by hand, a Redis server's is
//! waited for. Every test makes records of its own names, so that nothing is shared.

use std::time::Duration;

use consentry::store::{
    Arm, ArmOutcome, Begin, BeginOutcome, Change, Commit, CommitOutcome, End, EndOutcome, EventKind, Fail, FailOutcome,
    FailTo, Grace, Holder, Lease, MOST_EVENTS, Reassert, ReassertOutcome, RecordState, Renew, RenewOutcome, Resealed,
    Restore, RestoreOutcome, Revive, ReviveOutcome, Sealed, Seed, SeedOutcome, Snapshot, Store, Waiting,
};
use consentry::words::clock::WallTime;
use consentry::words::ids::{
    AttemptId, ClientKey, ConsentId, Fence, Fingerprint, GrantId, ProviderId, TokenKey, Version,
};
use consentry::words::said::{BankRequestId, Said};
use consentry::words::token_set::Scope;
use tokio::sync::mpsc;

use crate::support::bench::Bench;

pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);
/// A time that a test can wait for.
const SHORT: Duration = Duration::from_millis(60);
/// A time that a test can wait for, and that is not over before the test's next step even on a busy machine.
const A_WHILE: Duration = Duration::from_millis(700);
const NONE: Duration = Duration::ZERO;

suite! {
    what_is_not_there_is_unknown
    a_record_is_made_by_a_begin_only_where_it_is_asked_for
    a_token_is_fresh_while_more_is_left_than_wanted
    a_record_of_another_provider_is_as_good_as_absent
    of_many_attempts_at_once_one_is_granted
    a_repeated_begin_has_the_same_lease
    a_lease_that_ran_out_unarmed_is_passed_on_at_once
    an_intent_is_written_once_and_only_by_the_holder
    after_an_armed_lease_ran_out_there_is_quarantine_then_hold_then_a_probe
    a_commit_replaces_the_token_set_and_may_be_repeated
    a_commit_is_accepted_after_its_lease_ran_out
    a_commit_that_was_held_up_does_not_lengthen_a_life
    a_commit_that_lost_by_one_is_kept_as_alt
    a_commit_that_lost_to_another_grant_or_by_more_is_not_kept
    a_commit_brings_back_generations_that_the_store_forgot
    a_commit_never_revives_an_ended_consent
    a_seed_repeated_after_its_consent_ended_brings_nothing_back
    a_holder_that_nobody_could_hear_still_has_the_quarantine_to_come_back_in
    a_lease_that_is_given_back_leaves_no_trace
    a_failed_refresh_makes_everybody_wait
    an_unknown_outcome_is_quarantined_from_the_report_on
    a_refused_refresh_token_is_kept_and_the_consent_suspended
    a_probe_that_sent_nothing_leaves_the_record_uncertain
    a_probe_that_was_turned_away_leaves_the_record_uncertain
    a_sender_that_reports_not_sent_ends_the_quarantine
    a_renewed_lease_lasts_and_a_lost_one_is_not_renewed
    a_late_sender_that_renews_is_in_flight_again
    a_rejected_version_is_refreshed_once_and_then_believed_for_a_while
    a_restore_puts_back_what_the_store_forgot
    a_restore_changes_nothing_that_it_should_not
    a_seed_creates_and_replaces_only_what_it_expects
    a_seed_refuses_a_refresh_token_that_was_spent_or_is_being_spent
    a_seed_beats_any_refresh_in_flight
    an_end_wipes_the_tokens_and_leaves_a_tombstone
    a_consent_whose_time_is_over_is_refused_and_keeps_its_tokens
    a_record_remembers_the_last_spent_fingerprints_only
    a_token_that_came_second_takes_the_place_of_a_refused_one
    within_its_grace_a_bank_is_asked_again_soon_and_after_it_as_any_other
    a_holder_has_back_the_lease_that_the_store_forgot
    a_holder_that_comes_back_too_late_is_counted_and_gets_nothing
    a_token_that_may_have_been_spent_is_quarantined
    a_reassertion_changes_nothing_that_moved_on
    a_restore_puts_back_a_later_grant_and_no_earlier_one
    a_remembered_tombstone_is_put_up_where_nothing_is_stored
    a_follower_hears_of_every_replaced_record
    a_record_tells_everything_it_was_given
    a_revival_has_the_kept_refresh_token_tried_again
    a_revival_of_what_is_not_suspended_changes_nothing
    a_replaced_grant_comes_back_as_a_new_one
    a_replaced_refresh_token_that_was_spent_stays_where_it_is
    a_history_tells_every_step_that_changed_something_once
    a_history_tells_what_came_late
    a_history_is_bounded_and_outlives_its_consent_as_long_as_the_tombstone
    a_lease_given_back_and_a_client_token_leave_no_history
}

async fn what_is_not_there_is_unknown(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = Version::first(GrantId::random());
    assert!(store.read(&key).await.unwrap().is_none());
    assert!(matches!(store.begin(&key, &begin(1)).await.unwrap(), BeginOutcome::Unknown));
    assert_eq!(store.arm(&key, &arm(1, 1, version)).await.unwrap(), ArmOutcome::Lost);
    assert_eq!(store.renew(&key, &renew(1, 1, HOUR)).await.unwrap(), RenewOutcome::Lost);
    assert_eq!(store.commit(&key, &commit(1, version)).await.unwrap(), CommitOutcome::Missing);
    assert_eq!(store.fail(&key, &fail(1, 1, version, FailTo::Uncertain)).await.unwrap(), FailOutcome::Lost);
    assert_eq!(store.end(&key, &end(None)).await.unwrap(), EndOutcome::NotFound);
    let seed = Seed { expected: Some(version), ..seed(1) };
    assert_eq!(store.seed(&key, &seed).await.unwrap(), SeedOutcome::Missing);
    assert!(store.read(&key).await.unwrap().is_none());
}

async fn a_record_is_made_by_a_begin_only_where_it_is_asked_for(bench: &impl Bench) {
    let (store, grant) = (bench.store(), GrantId::random());
    let key = TokenKey::Client(ClientKey::new(bank(), Some("https://api.example"), Some("a b")));
    let create = Begin { create: Some(grant), ..begin(1) };
    let (lease, snapshot) = granted(store.begin(&key, &create).await.unwrap());
    assert_eq!((lease.base, lease.probe), (Version { grant, generation: 0 }, false));
    assert!(snapshot.access.is_none() && snapshot.remaining == NONE);
    let repeated = Begin { create: Some(GrantId::random()), ..begin(1) };
    assert_eq!(granted(store.begin(&key, &repeated).await.unwrap()).0.base.grant, grant);
    let outcome = store.commit(&key, &commit(1, lease.base)).await.unwrap();
    assert_eq!(outcome, CommitOutcome::Stored { version: Version::first(grant), rolled_back: false });
    let wanted = Begin { wanted: NONE, ..begin(2) };
    assert!(matches!(store.begin(&key, &wanted).await.unwrap(), BeginOutcome::Fresh(_)));
}

async fn a_token_is_fresh_while_more_is_left_than_wanted(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    store.seed(&key, &Seed { remaining: MINUTE, ..seed(1) }).await.unwrap();
    let fresh = store.begin(&key, &Begin { wanted: MINUTE / 2, ..begin(1) }).await.unwrap();
    let BeginOutcome::Fresh(snapshot) = fresh else { panic!("{fresh:?}") };
    assert!(snapshot.remaining > MINUTE / 2 && snapshot.remaining <= MINUTE);
    assert_eq!(snapshot.access, Some(sealed("access 1")));
    let soon = store.begin(&key, &Begin { wanted: MINUTE, ..begin(1) }).await.unwrap();
    assert_eq!(granted(soon).1.state, RecordState::Leased);
}

async fn a_record_of_another_provider_is_as_good_as_absent(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    store.seed(&key, &seed(1)).await.unwrap();
    let other = Begin { provider: ProviderId::parse("other").unwrap(), create: Some(GrantId::random()), ..begin(1) };
    assert!(matches!(store.begin(&key, &other).await.unwrap(), BeginOutcome::Unknown));
    assert_eq!(read(store, &key).await.provider, bank());
}

async fn of_many_attempts_at_once_one_is_granted(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    seeded(store, &key, 1).await;
    let (one, two, three, four) = (begin(1), begin(2), begin(3), begin(4));
    let (one, two, three, four) = tokio::join!(
        store.begin(&key, &one),
        store.begin(&key, &two),
        store.begin(&key, &three),
        store.begin(&key, &four)
    );
    let outcomes = [one.unwrap(), two.unwrap(), three.unwrap(), four.unwrap()];
    let leases = outcomes.iter().filter(|outcome| matches!(outcome, BeginOutcome::Granted(..))).count();
    let busy = outcomes.iter().filter(|outcome| matches!(outcome, BeginOutcome::Wait(Waiting::Busy, ..))).count();
    assert_eq!((leases, busy), (1, 3), "{outcomes:?}");
}

async fn a_repeated_begin_has_the_same_lease(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    seeded(store, &key, 1).await;
    let (first, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
    let (again, snapshot) = granted(store.begin(&key, &begin(1)).await.unwrap());
    assert_eq!((first.fence, first.base), (again.fence, again.base));
    assert_eq!(snapshot.holder, Some(attempt(1)));
    let wait = waiting(store.begin(&key, &begin(2)).await.unwrap());
    assert!(wait.0 == Waiting::Busy && wait.1 <= HOUR && wait.1 > HOUR / 2, "{wait:?}");
}

async fn a_lease_that_ran_out_unarmed_is_passed_on_at_once(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    let (first, _) = granted(store.begin(&key, &Begin { lease: SHORT, ..begin(1) }).await.unwrap());
    bench.pass(SHORT).await;
    let (second, _) = granted(store.begin(&key, &begin(2)).await.unwrap());
    assert!(second.fence > first.fence && !second.probe);
    assert_eq!(store.arm(&key, &arm(1, first.fence, version)).await.unwrap(), ArmOutcome::Lost);
    let back = FailTo::Active { backoff: NONE };
    assert_eq!(store.fail(&key, &fail(1, first.fence, version, back)).await.unwrap(), FailOutcome::Lost);
    assert_eq!(store.renew(&key, &renew(1, first.fence, HOUR)).await.unwrap(), RenewOutcome::Lost);
}

async fn an_intent_is_written_once_and_only_by_the_holder(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    let (lease, _) = granted(store.begin(&key, &Begin { lease: SHORT, ..begin(1) }).await.unwrap());
    bench.pass(SHORT).await;
    assert_eq!(store.arm(&key, &arm(1, lease.fence, version)).await.unwrap(), ArmOutcome::Lost, "it ran out");
    let (lease, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
    for stranger in
        [arm(2, lease.fence, version), arm(1, lease.fence + 1, version), arm(1, lease.fence, version.next())]
    {
        assert_eq!(store.arm(&key, &stranger).await.unwrap(), ArmOutcome::Lost, "{stranger:?}");
    }
    assert_eq!(read(store, &key).await.sends, 0);
    for _ in 0..2 {
        assert_eq!(store.arm(&key, &arm(1, lease.fence, version)).await.unwrap(), ArmOutcome::Armed);
        let snapshot = read(store, &key).await;
        assert_eq!((snapshot.state, snapshot.sends), (RecordState::Armed, 1));
    }
    assert_eq!(waiting(store.begin(&key, &begin(1)).await.unwrap()).0, Waiting::Busy, "even its own holder waits");
}

async fn after_an_armed_lease_ran_out_there_is_quarantine_then_hold_then_a_probe(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, _) = armed(bench, &key, SHORT).await;
    bench.pass(SHORT).await;
    let (why, wait) = waiting(store.begin(&key, &begin(2)).await.unwrap());
    assert!(why == Waiting::Quarantine && wait <= HOUR, "{why:?} {wait:?}");
    assert_eq!(read(store, &key).await.state, RecordState::Uncertain);
    let early = Begin { quarantine: NONE, grace: None, ..begin(2) };
    assert_eq!(waiting(store.begin(&key, &early).await.unwrap()).0, Waiting::Hold);
    let rejected = Begin { rejected: Some(version), lease: SHORT, ..early };
    let (lease, _) = granted(store.begin(&key, &rejected).await.unwrap());
    assert!(lease.probe, "an access token that is refused is no reason to hold");
    bench.pass(SHORT).await;
    let (lease, snapshot) = granted(store.begin(&key, &Begin { quarantine: NONE, ..begin(3) }).await.unwrap());
    assert!(lease.probe && snapshot.state == RecordState::Uncertain && snapshot.refresh.is_some());
    let (again, _) = granted(store.begin(&key, &Begin { quarantine: NONE, ..begin(3) }).await.unwrap());
    assert_eq!((again.fence, again.probe), (lease.fence, true));
    let busy = store.begin(&key, &Begin { quarantine: NONE, ..begin(4) }).await.unwrap();
    assert_eq!(waiting(busy).0, Waiting::Busy);
    assert_eq!(store.arm(&key, &arm(3, lease.fence, version)).await.unwrap(), ArmOutcome::ProbeNeeded);
    let probe = Arm { probe: true, ..arm(3, lease.fence, version) };
    for _ in 0..2 {
        assert_eq!(store.arm(&key, &probe).await.unwrap(), ArmOutcome::Armed);
        assert_eq!(read(store, &key).await.sends, 2);
    }
}

async fn a_commit_replaces_the_token_set_and_may_be_repeated(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, _) = armed(bench, &key, HOUR).await;
    for _ in 0..2 {
        let outcome = store.commit(&key, &commit(1, version)).await.unwrap();
        assert_eq!(outcome, CommitOutcome::Stored { version: version.next(), rolled_back: false });
        let snapshot = read(store, &key).await;
        assert_eq!((snapshot.version, snapshot.state), (version.next(), RecordState::Active));
        assert_eq!(snapshot.access, Some(sealed("access of attempt 1")));
        assert_eq!(snapshot.refresh_fingerprint, Some(fingerprint(101)));
        assert_eq!((snapshot.sends, snapshot.failures, snapshot.holder), (0, 0, None));
        assert_eq!(snapshot.scope, Scope::parse("granted"), "an answer without scope keeps the stored one");
        assert!(snapshot.remaining <= HOUR && snapshot.remaining > HOUR / 2);
    }
    let scoped = Commit { scope: Scope::parse("less"), refresh: None, ..commit(2, version.next()) };
    store.commit(&key, &scoped).await.unwrap();
    let snapshot = read(store, &key).await;
    assert_eq!((snapshot.scope, snapshot.refresh), (Scope::parse("less"), None));
}

async fn a_commit_is_accepted_after_its_lease_ran_out(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, _) = armed(bench, &key, SHORT).await;
    bench.pass(SHORT).await;
    let (prober, _) = granted(store.begin(&key, &Begin { quarantine: NONE, ..begin(2) }).await.unwrap());
    let outcome = store.commit(&key, &commit(1, version)).await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Stored { .. }));
    let probe = Arm { probe: true, ..arm(2, prober.fence, version) };
    assert_eq!(store.arm(&key, &probe).await.unwrap(), ArmOutcome::Lost, "nothing is left to probe");
}

async fn a_commit_that_was_held_up_does_not_lengthen_a_life(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, _) = armed(bench, &key, HOUR).await;
    bench.pass(A_WHILE).await;
    let held_up = Commit { since_intent: Some(NONE), ..commit(1, version) };
    assert!(matches!(store.commit(&key, &held_up).await.unwrap(), CommitOutcome::Stored { .. }));
    let snapshot = read(store, &key).await;
    assert!(snapshot.remaining + A_WHILE <= HOUR && snapshot.life == HOUR, "{:?}", snapshot.remaining);
    let other = consent();
    let (version, _) = armed(bench, &other, HOUR).await;
    let prompt = Commit { since_intent: Some(HOUR), ..commit(1, version) };
    assert!(matches!(store.commit(&other, &prompt).await.unwrap(), CommitOutcome::Stored { .. }));
    assert!(read(store, &other).await.remaining + A_WHILE > HOUR, "a holder's own slowness is no reason");
}

async fn a_commit_that_lost_by_one_is_kept_as_alt(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    store.commit(&key, &commit(1, version)).await.unwrap();
    for _ in 0..2 {
        let outcome = store.commit(&key, &commit(2, version)).await.unwrap();
        assert_eq!(outcome, CommitOutcome::Superseded { current: version.next() });
    }
    assert_eq!(read(store, &key).await.access, Some(sealed("access of attempt 1")));
    let (lease, _) = granted(store.begin(&key, &begin(3)).await.unwrap());
    assert!(lease.alternate);
    store.commit(&key, &commit(3, version.next())).await.unwrap();
    let (lease, _) = granted(store.begin(&key, &begin(4)).await.unwrap());
    assert!(!lease.alternate, "a newer token set has no need of it");
}

async fn a_commit_that_lost_to_another_grant_or_by_more_is_not_kept(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    store.commit(&key, &commit(1, version)).await.unwrap();
    store.commit(&key, &commit(2, version.next())).await.unwrap();
    let current = version.next().next();
    let foreign = Version::first(GrantId::random());
    let same_pair = Commit { refresh_fingerprint: Some(fingerprint(102)), ..commit(3, version.next()) };
    for lost in [commit(3, version), commit(3, foreign), same_pair] {
        assert_eq!(store.commit(&key, &lost).await.unwrap(), CommitOutcome::Superseded { current });
    }
    assert!(!granted(store.begin(&key, &begin(4)).await.unwrap()).0.alternate);
}

async fn a_commit_brings_back_generations_that_the_store_forgot(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    let base = Version { generation: 7, ..version };
    for _ in 0..2 {
        let outcome = store.commit(&key, &commit(1, base)).await.unwrap();
        assert_eq!(outcome, CommitOutcome::Stored { version: base.next(), rolled_back: true });
    }
    let outcome = store.commit(&key, &commit(2, base.next())).await.unwrap();
    assert_eq!(outcome, CommitOutcome::Stored { version: base.next().next(), rolled_back: false });
}

async fn a_commit_never_revives_an_ended_consent(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, fence) = armed(bench, &key, HOUR).await;
    store.end(&key, &end(None)).await.unwrap();
    assert_eq!(store.renew(&key, &renew(1, fence, HOUR)).await.unwrap(), RenewOutcome::Lost);
    for _ in 0..2 {
        assert_eq!(store.commit(&key, &commit(1, version)).await.unwrap(), CommitOutcome::Gone);
    }
    assert_eq!(store.restore(&key, &restore(1, version.next())).await.unwrap(), RestoreOutcome::Gone);
    let snapshot = read(store, &key).await;
    assert_eq!((snapshot.state, snapshot.access, snapshot.refresh), (RecordState::Revoked, None, None));
}

async fn a_seed_repeated_after_its_consent_ended_brings_nothing_back(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let first = seed(1);
    assert!(matches!(store.seed(&key, &first).await.unwrap(), SeedOutcome::Created(_)));
    store.end(&key, &end(None)).await.unwrap();
    assert!(matches!(store.seed(&key, &first).await.unwrap(), SeedOutcome::Mismatch(_)));
    assert_eq!(read(store, &key).await.state, RecordState::Revoked);
    assert!(matches!(store.seed(&key, &seed(2)).await.unwrap(), SeedOutcome::Created(_)), "a new grant may");
}

async fn a_holder_that_nobody_could_hear_still_has_the_quarantine_to_come_back_in(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, _) = armed(bench, &key, SHORT).await;
    // Longer than lease and quarantine together: nobody reached the store, the holder included.
    bench.pass(SHORT * 3).await;
    let (why, wait) = waiting(store.begin(&key, &Begin { quarantine: A_WHILE, ..begin(2) }).await.unwrap());
    assert!(why == Waiting::Quarantine && wait > A_WHILE / 2, "{why:?} {wait:?}");
    let outcome = store.commit(&key, &commit(1, version)).await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Stored { .. }), "{outcome:?}");
}

async fn a_lease_that_is_given_back_leaves_no_trace(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    let (lease, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
    for _ in 0..2 {
        let released = store.fail(&key, &fail(1, lease.fence, version, FailTo::Released)).await.unwrap();
        assert_eq!(released, FailOutcome::Recorded);
    }
    let snapshot = read(store, &key).await;
    assert_eq!((snapshot.failures, snapshot.why, snapshot.backoff), (0, None, NONE));
    assert_eq!((snapshot.state, snapshot.holder), (RecordState::Active, None));
    let (lease, _) = granted(store.begin(&key, &begin(2)).await.unwrap());
    assert!(!lease.probe);
    let (version, lease) = probing(bench, &ConsentId::parse("other").map(TokenKey::Consent).unwrap()).await;
    let other = TokenKey::Consent(ConsentId::parse("other").unwrap());
    store.fail(&other, &fail(2, lease.fence, version, FailTo::Released)).await.unwrap();
    assert_eq!(read(store, &other).await.state, RecordState::Uncertain, "an earlier send is still unexplained");
}

async fn a_failed_refresh_makes_everybody_wait(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    let (lease, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
    let failure = fail(1, lease.fence, version, FailTo::Active { backoff: A_WHILE });
    for _ in 0..2 {
        assert_eq!(store.fail(&key, &failure).await.unwrap(), FailOutcome::Recorded);
        let snapshot = read(store, &key).await;
        assert_eq!((snapshot.failures, snapshot.why.as_deref()), (1, Some("refused")));
        assert_eq!((snapshot.state, snapshot.holder), (RecordState::Active, None));
    }
    let (why, wait) = waiting(store.begin(&key, &begin(2)).await.unwrap());
    assert!(why == Waiting::Backoff && wait <= A_WHILE, "{why:?} {wait:?}");
    assert!(matches!(store.begin(&key, &Begin { wanted: NONE, ..begin(2) }).await.unwrap(), BeginOutcome::Fresh(_)));
    bench.pass(A_WHILE).await;
    let (lease, _) = granted(store.begin(&key, &begin(2)).await.unwrap());
    store.arm(&key, &arm(2, lease.fence, version)).await.unwrap();
    let failure = fail(2, lease.fence, version, FailTo::Active { backoff: NONE });
    assert_eq!(store.fail(&key, &failure).await.unwrap(), FailOutcome::Recorded);
    let snapshot = read(store, &key).await;
    assert_eq!((snapshot.failures, snapshot.sends, snapshot.state), (2, 0, RecordState::Active));
    assert!(!granted(store.begin(&key, &begin(3)).await.unwrap()).0.probe);
}

async fn an_unknown_outcome_is_quarantined_from_the_report_on(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, fence) = armed(bench, &key, HOUR).await;
    bench.pass(SHORT).await;
    let failure = fail(1, fence, version, FailTo::Uncertain);
    for _ in 0..2 {
        assert_eq!(store.fail(&key, &failure).await.unwrap(), FailOutcome::Recorded);
    }
    let snapshot = read(store, &key).await;
    assert_eq!((snapshot.state, snapshot.sends, snapshot.holder), (RecordState::Uncertain, 1, None));
    assert!(snapshot.access.is_some() && snapshot.refresh.is_some());
    assert!(matches!(store.begin(&key, &Begin { wanted: NONE, ..begin(2) }).await.unwrap(), BeginOutcome::Fresh(_)));
    let soon = Begin { quarantine: A_WHILE, ..begin(2) };
    assert_eq!(waiting(store.begin(&key, &soon).await.unwrap()).0, Waiting::Quarantine);
    bench.pass(A_WHILE).await;
    assert!(granted(store.begin(&key, &soon).await.unwrap()).0.probe);
}

async fn a_refused_refresh_token_is_kept_and_the_consent_suspended(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, fence) = armed(bench, &key, HOUR).await;
    let failure = fail(1, fence, version, FailTo::ReauthorizationRequired);
    for _ in 0..2 {
        assert_eq!(store.fail(&key, &failure).await.unwrap(), FailOutcome::Recorded);
    }
    let refused = store.begin(&key, &begin(2)).await.unwrap();
    let BeginOutcome::Refused(snapshot) = refused else { panic!("{refused:?}") };
    assert_eq!(snapshot.state, RecordState::ReauthorizationRequired);
    assert_eq!((snapshot.version, snapshot.refresh), (version, Some(sealed("refresh 1"))));
    let outcome = store.commit(&key, &commit(1, version)).await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Stored { .. }), "a token set that comes after all is the newest there is");
    assert_eq!(read(store, &key).await.state, RecordState::Active);
}

async fn a_probe_that_sent_nothing_leaves_the_record_uncertain(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, lease) = probing(bench, &key).await;
    let failure = fail(2, lease.fence, version, FailTo::Active { backoff: NONE });
    for _ in 0..2 {
        assert_eq!(store.fail(&key, &failure).await.unwrap(), FailOutcome::Recorded);
        let snapshot = read(store, &key).await;
        assert_eq!((snapshot.state, snapshot.sends), (RecordState::Uncertain, 1));
    }
    let next = store.begin(&key, &Begin { quarantine: SHORT, ..begin(3) }).await.unwrap();
    assert!(granted(next).0.probe, "the quarantine is over and does not begin anew");
}

async fn a_probe_that_was_turned_away_leaves_the_record_uncertain(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, lease) = probing(bench, &key).await;
    let probe = Arm { probe: true, ..arm(2, lease.fence, version) };
    assert_eq!(store.arm(&key, &probe).await.unwrap(), ArmOutcome::Armed);
    let failure = fail(2, lease.fence, version, FailTo::Active { backoff: NONE });
    for _ in 0..2 {
        assert_eq!(store.fail(&key, &failure).await.unwrap(), FailOutcome::Recorded);
        let snapshot = read(store, &key).await;
        assert_eq!((snapshot.state, snapshot.sends), (RecordState::Uncertain, 1));
    }
    let again = Begin { quarantine: NONE, rejected: Some(version), ..begin(3) };
    assert!(granted(store.begin(&key, &again).await.unwrap()).0.probe);
    let outcome = store.commit(&key, &commit(1, version)).await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Stored { .. }));
    assert_eq!(read(store, &key).await.sends, 0);
}

async fn a_sender_that_reports_not_sent_ends_the_quarantine(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, fence) = armed(bench, &key, SHORT).await;
    bench.pass(SHORT).await;
    assert_eq!(waiting(store.begin(&key, &begin(2)).await.unwrap()).0, Waiting::Quarantine);
    let failure = fail(1, fence, version, FailTo::Active { backoff: NONE });
    for _ in 0..2 {
        assert_eq!(store.fail(&key, &failure).await.unwrap(), FailOutcome::Recorded);
        let snapshot = read(store, &key).await;
        assert_eq!((snapshot.state, snapshot.sends), (RecordState::Active, 0));
    }
    assert!(!granted(store.begin(&key, &begin(2)).await.unwrap()).0.probe);
}

async fn a_renewed_lease_lasts_and_a_lost_one_is_not_renewed(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    let (lease, _) = granted(store.begin(&key, &Begin { lease: SHORT, ..begin(1) }).await.unwrap());
    assert_eq!(store.renew(&key, &renew(1, lease.fence, HOUR)).await.unwrap(), RenewOutcome::Renewed);
    bench.pass(SHORT).await;
    assert_eq!(waiting(store.begin(&key, &begin(2)).await.unwrap()).0, Waiting::Busy);
    assert_eq!(store.arm(&key, &arm(1, lease.fence, version)).await.unwrap(), ArmOutcome::Armed);
    assert_eq!(store.renew(&key, &renew(1, lease.fence, HOUR)).await.unwrap(), RenewOutcome::Renewed);
    for stranger in [renew(2, lease.fence, HOUR), renew(1, lease.fence + 1, HOUR)] {
        assert_eq!(store.renew(&key, &stranger).await.unwrap(), RenewOutcome::Lost);
    }
    store.commit(&key, &commit(1, version)).await.unwrap();
    assert_eq!(store.renew(&key, &renew(1, lease.fence, HOUR)).await.unwrap(), RenewOutcome::Lost);
}

async fn a_late_sender_that_renews_is_in_flight_again(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (_, fence) = armed(bench, &key, SHORT).await;
    bench.pass(SHORT).await;
    assert_eq!(waiting(store.begin(&key, &begin(2)).await.unwrap()).0, Waiting::Quarantine);
    assert_eq!(store.renew(&key, &renew(1, fence, HOUR)).await.unwrap(), RenewOutcome::Renewed);
    assert_eq!(read(store, &key).await.state, RecordState::Armed);
    let probe = Begin { quarantine: NONE, ..begin(2) };
    assert_eq!(waiting(store.begin(&key, &probe).await.unwrap()).0, Waiting::Busy);
}

async fn a_rejected_version_is_refreshed_once_and_then_believed_for_a_while(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    let usual = Begin { wanted: NONE, rejection_pause: HOUR, ..begin(1) };
    assert!(matches!(store.begin(&key, &usual).await.unwrap(), BeginOutcome::Fresh(_)));
    let rejected = Begin { rejected: Some(version), ..usual };
    let (lease, _) = granted(store.begin(&key, &rejected).await.unwrap());
    store.commit(&key, &Commit { forced: true, ..commit(1, lease.base) }).await.unwrap();
    let stale = store.begin(&key, &rejected).await.unwrap();
    let BeginOutcome::Fresh(snapshot) = stale else { panic!("{stale:?}") };
    assert_eq!(snapshot.version, version.next(), "a stale caller learns of the newer generation");
    let again = Begin { rejected: Some(version.next()), ..rejected };
    assert!(matches!(store.begin(&key, &again).await.unwrap(), BeginOutcome::Fresh(_)));
    let later = Begin { rejection_pause: NONE, ..again };
    granted(store.begin(&key, &later).await.unwrap());
}

async fn a_restore_puts_back_what_the_store_forgot(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = Version { grant: GrantId::random(), generation: 5 };
    for _ in 0..2 {
        assert_eq!(store.restore(&key, &restore(1, version)).await.unwrap(), RestoreOutcome::Restored);
        let snapshot = read(store, &key).await;
        assert_eq!((snapshot.version, snapshot.state), (version, RecordState::Active));
        assert_eq!(snapshot.refresh, Some(sealed("restored refresh")));
        assert_eq!(snapshot.bank_consent_id.as_deref(), Some("B-2"));
    }
    let (lease, _) = granted(store.begin(&key, &begin(2)).await.unwrap());
    let newer = version.next();
    assert_eq!(store.restore(&key, &restore(3, newer)).await.unwrap(), RestoreOutcome::Restored);
    assert_eq!(store.arm(&key, &arm(2, lease.fence, version)).await.unwrap(), ArmOutcome::Lost);
    let (next, _) = granted(store.begin(&key, &begin(2)).await.unwrap());
    assert!(next.fence > lease.fence && next.base == newer);
}

async fn a_restore_changes_nothing_that_it_should_not(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    let current = version;
    let foreign = Version { grant: GrantId::random(), generation: 9 };
    for needless in [restore(1, version), restore(1, foreign)] {
        assert_eq!(store.restore(&key, &needless).await.unwrap(), RestoreOutcome::NotNeeded { current });
    }
    assert_eq!(read(store, &key).await.access, Some(sealed("access 1")));
}

async fn a_seed_creates_and_replaces_only_what_it_expects(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (first, second) = (seed(1), seed(2));
    let (one, two) = (Version::first(first.grant), Version::first(second.grant));
    for _ in 0..2 {
        assert_eq!(store.seed(&key, &first).await.unwrap(), SeedOutcome::Created(one));
    }
    assert_eq!(store.seed(&key, &second).await.unwrap(), SeedOutcome::Exists(one));
    let wrong = Seed { expected: Some(one.next()), ..second.clone() };
    assert_eq!(store.seed(&key, &wrong).await.unwrap(), SeedOutcome::Mismatch(one));
    let right = Seed { expected: Some(one), ..second };
    for _ in 0..2 {
        assert_eq!(store.seed(&key, &right).await.unwrap(), SeedOutcome::Replaced(two));
    }
    let snapshot = read(store, &key).await;
    assert_eq!((snapshot.version, snapshot.access), (two, Some(sealed("access 2"))));
    assert_eq!(snapshot.replaced, Some((sealed("refresh 1"), one)));
}

async fn a_seed_refuses_a_refresh_token_that_was_spent_or_is_being_spent(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, fence) = armed(bench, &key, HOUR).await;
    let same = Seed { expected: Some(version), ..seed(1) };
    assert_eq!(store.seed(&key, &same).await.unwrap(), SeedOutcome::Spent(version), "it is being spent");
    store.fail(&key, &fail(1, fence, version, FailTo::Uncertain)).await.unwrap();
    assert_eq!(store.seed(&key, &same).await.unwrap(), SeedOutcome::Spent(version), "it may have been spent");
    store.commit(&key, &commit(1, version)).await.unwrap();
    let after = Seed { expected: Some(version.next()), ..same };
    assert_eq!(store.seed(&key, &after).await.unwrap(), SeedOutcome::Spent(version.next()), "it was spent");
    let idle = Seed {
        refresh_fingerprint: read(store, &key).await.refresh_fingerprint,
        expected: Some(version.next()),
        ..seed(2)
    };
    let outcome = store.seed(&key, &idle).await.unwrap();
    assert_eq!(outcome, SeedOutcome::Replaced(Version::first(idle.grant)), "nobody is spending it");
    store.end(&key, &end(None)).await.unwrap();
    let tombstone = read(store, &key).await.version;
    assert_eq!(store.seed(&key, &seed(1)).await.unwrap(), SeedOutcome::Spent(tombstone), "an end forgives nothing");
}

async fn a_seed_beats_any_refresh_in_flight(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, fence) = armed(bench, &key, HOUR).await;
    let next = Seed { expected: Some(version), ..seed(2) };
    let current = Version::first(next.grant);
    assert_eq!(store.seed(&key, &next).await.unwrap(), SeedOutcome::Replaced(current));
    assert_eq!(store.renew(&key, &renew(1, fence, HOUR)).await.unwrap(), RenewOutcome::Lost);
    assert_eq!(store.commit(&key, &commit(1, version)).await.unwrap(), CommitOutcome::Superseded { current });
    assert_eq!(store.fail(&key, &fail(1, fence, version, FailTo::Uncertain)).await.unwrap(), FailOutcome::Lost);
    let snapshot = read(store, &key).await;
    assert_eq!((snapshot.version, snapshot.state, snapshot.sends), (current, RecordState::Active, 0));
    let (lease, _) = granted(store.begin(&key, &begin(2)).await.unwrap());
    assert!(lease.fence > fence && !lease.alternate && !lease.probe);
}

async fn an_end_wipes_the_tokens_and_leaves_a_tombstone(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    let foreign = end(Some(GrantId::random()));
    assert_eq!(store.end(&key, &foreign).await.unwrap(), EndOutcome::NotFound);
    for _ in 0..2 {
        assert_eq!(store.end(&key, &end(Some(version.grant))).await.unwrap(), EndOutcome::Ended);
        let refused = store.begin(&key, &Begin { create: Some(GrantId::random()), ..begin(1) }).await.unwrap();
        let BeginOutcome::Refused(snapshot) = refused else { panic!("{refused:?}") };
        assert_eq!((snapshot.state, snapshot.why.as_deref()), (RecordState::Revoked, Some("asked")));
        assert_eq!((&snapshot.access, &snapshot.refresh, &snapshot.replaced), (&None, &None, &None));
        assert_eq!(snapshot.version, version.next(), "whoever remembers the last version hears of a newer one");
    }
    let again = seed(2);
    let outcome = store.seed(&key, &again).await.unwrap();
    assert_eq!(outcome, SeedOutcome::Created(Version::first(again.grant)));
    assert!(matches!(store.begin(&key, &Begin { wanted: NONE, ..begin(1) }).await.unwrap(), BeginOutcome::Fresh(_)));
}

async fn a_consent_whose_time_is_over_is_refused_and_keeps_its_tokens(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let over = Seed { consent_expires_at: Some(WallTime::from_millis(1_000)), ..seed(1) };
    store.seed(&key, &over).await.unwrap();
    let refused = store.begin(&key, &begin(1)).await.unwrap();
    let BeginOutcome::Refused(snapshot) = refused else { panic!("{refused:?}") };
    assert_eq!((snapshot.state, snapshot.consent_remaining), (RecordState::Expired, Some(NONE)));
    assert!(snapshot.refresh.is_some());
    assert_eq!(read(store, &key).await.state, RecordState::Expired);
}

async fn a_record_remembers_the_last_spent_fingerprints_only(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let mut version = seeded(store, &key, 1).await;
    for spent in 0..40 {
        let commit = Commit { spent: Some(fingerprint(spent)), ..commit(u64::from(spent), version) };
        store.commit(&key, &commit).await.unwrap();
        version = version.next();
    }
    let again = |spent| Seed { refresh_fingerprint: Some(fingerprint(spent)), expected: Some(version), ..seed(2) };
    for spent in [8, 39] {
        assert_eq!(store.seed(&key, &again(spent)).await.unwrap(), SeedOutcome::Spent(version), "{spent}");
    }
    assert!(matches!(store.seed(&key, &again(7)).await.unwrap(), SeedOutcome::Replaced(_)));
}

async fn a_token_that_came_second_takes_the_place_of_a_refused_one(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, _) = armed(bench, &key, HOUR).await;
    assert!(matches!(store.commit(&key, &commit(1, version)).await.unwrap(), CommitOutcome::Stored { .. }));
    assert!(matches!(store.commit(&key, &commit(2, version)).await.unwrap(), CommitOutcome::Superseded { .. }));
    let (lease, before) = granted(store.begin(&key, &begin(3)).await.unwrap());
    assert!(lease.alternate);
    let refused = fail(3, lease.fence, lease.base, FailTo::Alternate);
    assert_eq!(store.fail(&key, &refused).await.unwrap(), FailOutcome::Recorded);
    assert_eq!(store.fail(&key, &refused).await.unwrap(), FailOutcome::Recorded, "a lost reply is repeated");
    let after = read(store, &key).await;
    assert_eq!((after.state, after.version), (RecordState::Active, before.version));
    assert_eq!(after.refresh, Some(sealed("refresh of attempt 2")));
    assert_eq!(after.refresh_fingerprint, Some(fingerprint(102)));
    let again = Seed { expected: Some(after.version), refresh_fingerprint: Some(fingerprint(101)), ..seed(5) };
    assert!(matches!(store.seed(&key, &again).await.unwrap(), SeedOutcome::Spent(_)), "the refused one is spent");
    let (lease, _) = granted(store.begin(&key, &begin(4)).await.unwrap());
    assert!(!lease.alternate && !lease.probe);
    let refused = fail(4, lease.fence, lease.base, FailTo::Alternate);
    assert_eq!(store.fail(&key, &refused).await.unwrap(), FailOutcome::Recorded);
    assert_eq!(read(store, &key).await.state, RecordState::ReauthorizationRequired, "there is no third");
}

async fn within_its_grace_a_bank_is_asked_again_soon_and_after_it_as_any_other(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, fence) = armed(bench, &key, HOUR).await;
    assert_eq!(store.fail(&key, &fail(1, fence, version, FailTo::Uncertain)).await.unwrap(), FailOutcome::Recorded);
    let within = |pause| Begin { grace: Some(Grace { window: HOUR, pause }), ..begin(2) };
    let (why, wait) = waiting(store.begin(&key, &within(MINUTE)).await.unwrap());
    assert!(why == Waiting::Quarantine && wait <= MINUTE, "{why:?} {wait:?}");
    let over = Begin { grace: Some(Grace { window: NONE, pause: NONE }), ..begin(2) };
    assert!(waiting(store.begin(&key, &over).await.unwrap()).1 > MINUTE);
    let over = Begin { quarantine: NONE, ..over };
    assert_eq!(waiting(store.begin(&key, &over).await.unwrap()).0, Waiting::Hold, "the old access token lives");
    assert!(granted(store.begin(&key, &within(NONE)).await.unwrap()).0.probe);
}

async fn a_holder_has_back_the_lease_that_the_store_forgot(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let SeedOutcome::Created(version) = store.seed(&key, &seed(1)).await.unwrap() else { panic!("not created") };
    let told = store.reassert(&key, &reassert(1, 7, version)).await.unwrap();
    assert_eq!(told, ReassertOutcome::Held(8));
    assert_eq!(store.reassert(&key, &reassert(1, 7, version)).await.unwrap(), ReassertOutcome::Held(8), "once");
    let snapshot = read(store, &key).await;
    assert_eq!((snapshot.state, snapshot.sends), (RecordState::Armed, 1));
    assert_eq!(waiting(store.begin(&key, &begin(2)).await.unwrap()).0, Waiting::Busy);
    assert_eq!(store.renew(&key, &renew(1, 8, HOUR)).await.unwrap(), RenewOutcome::Renewed);
    let next = CommitOutcome::Stored { version: version.next(), rolled_back: false };
    assert_eq!(store.commit(&key, &commit(1, version)).await.unwrap(), next);
}

async fn a_holder_that_comes_back_too_late_is_counted_and_gets_nothing(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let SeedOutcome::Created(version) = store.seed(&key, &seed(1)).await.unwrap() else { panic!("not created") };
    let (lease, _) = granted(store.begin(&key, &begin(2)).await.unwrap());
    let earlier = store.reassert(&key, &reassert(1, lease.fence + 3, version)).await.unwrap();
    let ReassertOutcome::Held(fence) = earlier else { panic!("a lease that is not armed gives way: {earlier:?}") };
    assert_eq!(store.arm(&key, &arm(2, lease.fence, version)).await.unwrap(), ArmOutcome::Lost);
    let late = store.reassert(&key, &reassert(3, fence, version)).await.unwrap();
    assert_eq!(late, ReassertOutcome::Noted);
    assert_eq!(store.reassert(&key, &reassert(3, fence, version)).await.unwrap(), ReassertOutcome::Noted);
    let snapshot = read(store, &key).await;
    assert_eq!((snapshot.holder, snapshot.sends), (Some(attempt(1)), 2), "and is counted once");
}

async fn a_token_that_may_have_been_spent_is_quarantined(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let SeedOutcome::Created(version) = store.seed(&key, &seed(1)).await.unwrap() else { panic!("not created") };
    let (lease, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
    let doubt = Reassert { base: version, holder: None };
    assert_eq!(store.reassert(&key, &doubt).await.unwrap(), ReassertOutcome::Noted);
    assert_eq!(store.reassert(&key, &doubt).await.unwrap(), ReassertOutcome::Noted);
    let snapshot = read(store, &key).await;
    assert_eq!((snapshot.state, snapshot.sends), (RecordState::Uncertain, 1));
    assert_eq!(store.arm(&key, &arm(1, lease.fence, version)).await.unwrap(), ArmOutcome::Lost);
    assert_eq!(waiting(store.begin(&key, &begin(2)).await.unwrap()).0, Waiting::Quarantine);
}

async fn a_reassertion_changes_nothing_that_moved_on(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = Version::first(GrantId::random());
    assert_eq!(store.reassert(&key, &reassert(1, 1, version)).await.unwrap(), ReassertOutcome::Missing);
    let (version, fence) = armed(bench, &key, HOUR).await;
    assert!(matches!(store.commit(&key, &commit(1, version)).await.unwrap(), CommitOutcome::Stored { .. }));
    assert_eq!(store.reassert(&key, &reassert(1, fence, version)).await.unwrap(), ReassertOutcome::Moved);
    assert_eq!(store.end(&key, &end(None)).await.unwrap(), EndOutcome::Ended);
    let ended = read(store, &key).await.version;
    assert_eq!(store.reassert(&key, &reassert(1, fence, ended)).await.unwrap(), ReassertOutcome::Moved);
    assert_eq!(read(store, &key).await.state, RecordState::Revoked);
}

async fn a_restore_puts_back_a_later_grant_and_no_earlier_one(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let SeedOutcome::Created(_) = store.seed(&key, &seed(1)).await.unwrap() else { panic!("not created") };
    let granted_at = read(store, &key).await.granted_at.unwrap();
    let later = Version::first(GrantId::random());
    let at = |time| Restore { granted_at: Some(time), ..restore(1, later) };
    let early = at(WallTime::from_millis(granted_at.as_millis() - 1));
    assert!(matches!(store.restore(&key, &early).await.unwrap(), RestoreOutcome::NotNeeded { .. }));
    let late = at(granted_at.plus(MINUTE));
    assert_eq!(store.restore(&key, &late).await.unwrap(), RestoreOutcome::Restored);
    assert_eq!(store.restore(&key, &late).await.unwrap(), RestoreOutcome::Restored, "a lost reply is repeated");
    assert_eq!(read(store, &key).await.version, later);
    assert_eq!(store.end(&key, &end(None)).await.unwrap(), EndOutcome::Ended);
    assert_eq!(store.restore(&key, &late).await.unwrap(), RestoreOutcome::Gone, "its own end is final");
    let other = Restore { version: Version::first(GrantId::random()), granted_at: Some(granted_at), ..late.clone() };
    assert_eq!(store.restore(&key, &other).await.unwrap(), RestoreOutcome::Gone, "it was granted before the end");
    let newer = Restore { granted_at: Some(granted_at.plus(HOUR)), ..other };
    assert_eq!(store.restore(&key, &newer).await.unwrap(), RestoreOutcome::Restored);
}

async fn a_remembered_tombstone_is_put_up_where_nothing_is_stored(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = Version::first(GrantId::random());
    let remembered = End { remembered: Some((bank(), version.next())), ..end(Some(version.grant)) };
    assert_eq!(store.end(&key, &remembered).await.unwrap(), EndOutcome::Ended);
    assert_eq!(read(store, &key).await.state, RecordState::Revoked);
    assert_eq!(store.commit(&key, &commit(1, version)).await.unwrap(), CommitOutcome::Gone);
    assert_eq!(store.restore(&key, &restore(1, version.next())).await.unwrap(), RestoreOutcome::Gone);
}

async fn a_follower_hears_of_every_replaced_record(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (sender, mut changes) = mpsc::channel(16);
    let follow = store.follow(sender);
    let script = async {
        assert_eq!(next(&mut changes).await, Change::Connected);
        // News of another test's records may still be on its way between the nodes of a cluster.
        let mut told = async |version| loop {
            match next(&mut changes).await {
                Change::Moved { key: other, .. } if other != key => {}
                change => break assert_eq!(change, Change::Moved { key: key.clone(), version }),
            }
        };
        let version = seeded(store, &key, 1).await;
        told(version).await;
        let (lease, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
        store.arm(&key, &arm(1, lease.fence, version)).await.unwrap();
        store.commit(&key, &commit(1, version)).await.unwrap();
        told(version.next()).await;
        store.restore(&key, &restore(2, version.next().next())).await.unwrap();
        let version = version.next().next();
        told(version).await;
        let (lease, _) = granted(store.begin(&key, &begin(3)).await.unwrap());
        store.fail(&key, &fail(3, lease.fence, version, FailTo::ReauthorizationRequired)).await.unwrap();
        told(version).await;
        store.end(&key, &end(None)).await.unwrap();
        told(version.next()).await;
    };
    tokio::select! {
        () = follow => panic!("it stopped following"),
        () = script => {}
    }
}

async fn a_record_tells_everything_it_was_given(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let ends = WallTime::from_millis(4_102_444_800_000);
    let full = Seed { consent_expires_at: Some(ends), life: HOUR * 2, ..seed(1) };
    store.seed(&key, &full).await.unwrap();
    let snapshot = read(store, &key).await;
    assert_eq!(snapshot.provider, bank());
    assert_eq!((snapshot.access, snapshot.refresh), (Some(full.access), full.refresh));
    assert_eq!(snapshot.refresh_fingerprint, full.refresh_fingerprint);
    assert_eq!((snapshot.scope, snapshot.bank_consent_id), (full.scope, full.bank_consent_id));
    assert_eq!((snapshot.certificate, snapshot.consent_expires_at), (full.certificate, Some(ends)));
    assert!(snapshot.life == HOUR * 2 && snapshot.consent_remaining.is_some_and(|left| left > HOUR));
}

async fn a_revival_has_the_kept_refresh_token_tried_again(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    assert_eq!(store.revive(&key, &revive(1)).await.unwrap(), ReviveOutcome::NotFound);
    let (version, fence) = armed(bench, &key, HOUR).await;
    store.fail(&key, &fail(1, fence, version, FailTo::ReauthorizationRequired)).await.unwrap();
    let elsewhere = Revive { expected: Some(version.next()), ..revive(1) };
    assert_eq!(store.revive(&key, &elsewhere).await.unwrap(), ReviveOutcome::Mismatch(version));
    let right = Revive { expected: Some(version), ..revive(1) };
    for _ in 0..2 {
        assert_eq!(store.revive(&key, &right).await.unwrap(), ReviveOutcome::Revived(version));
        let snapshot = read(store, &key).await;
        assert_eq!((snapshot.state, snapshot.version), (RecordState::Active, version));
        assert_eq!((snapshot.failures, snapshot.why, snapshot.sends), (0, None, 0));
        assert_eq!(snapshot.refresh, Some(sealed("refresh 1")));
    }
    let (lease, _) = granted(store.begin(&key, &begin(2)).await.unwrap());
    assert!(!lease.probe && lease.fence > fence + 1, "who held it before holds nothing");
    store.arm(&key, &arm(2, lease.fence, version)).await.unwrap();
    store.fail(&key, &fail(2, lease.fence, version, FailTo::ReauthorizationRequired)).await.unwrap();
    assert_eq!(store.revive(&key, &right).await.unwrap(), ReviveOutcome::Revived(version));
    let state = read(store, &key).await.state;
    assert_eq!(state, RecordState::ReauthorizationRequired, "a repeated revival revives nothing a second time");
}

async fn a_revival_of_what_is_not_suspended_changes_nothing(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    let refused = async |state, current| {
        let outcome = store.revive(&key, &revive(1)).await.unwrap();
        assert_eq!(outcome, ReviveOutcome::NotSuspended { state, current });
        assert_eq!(read(store, &key).await.state, state);
    };
    refused(RecordState::Active, version).await;
    let (lease, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
    refused(RecordState::Leased, version).await;
    store.arm(&key, &arm(1, lease.fence, version)).await.unwrap();
    refused(RecordState::Armed, version).await;
    store.fail(&key, &fail(1, lease.fence, version, FailTo::Uncertain)).await.unwrap();
    refused(RecordState::Uncertain, version).await;
    store.end(&key, &end(None)).await.unwrap();
    refused(RecordState::Revoked, version.next()).await;

    let bare = consent();
    let seed = Seed { refresh: None, refresh_fingerprint: None, ..seed(1) };
    store.seed(&bare, &seed).await.unwrap();
    let (lease, _) = granted(store.begin(&bare, &begin(1)).await.unwrap());
    store.fail(&bare, &fail(1, lease.fence, lease.base, FailTo::ReauthorizationRequired)).await.unwrap();
    assert_eq!(store.revive(&bare, &revive(1)).await.unwrap(), ReviveOutcome::Nothing(lease.base));
}

async fn a_replaced_grant_comes_back_as_a_new_one(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let old = seeded(store, &key, 1).await;
    let none = resealed(1, old, 1);
    assert_eq!(store.revive(&key, &none).await.unwrap(), ReviveOutcome::Nothing(old));
    let wrong = Seed { expected: Some(old), consent_expires_at: Some(WallTime::from_millis(9)), ..seed(2) };
    let current = Version::first(wrong.grant);
    store.seed(&key, &wrong).await.unwrap();
    let stale = resealed(1, current, 1);
    assert_eq!(store.revive(&key, &stale).await.unwrap(), ReviveOutcome::Nothing(current));
    let right = Revive { expected: Some(current), ..resealed(1, old, 1) };
    let new = Version::first(right.replaced.as_ref().unwrap().grant);
    for _ in 0..2 {
        assert_eq!(store.revive(&key, &right).await.unwrap(), ReviveOutcome::Revived(new));
    }
    let snapshot = read(store, &key).await;
    assert_eq!((snapshot.version, snapshot.state), (new, RecordState::Active));
    assert_eq!((snapshot.refresh, snapshot.refresh_fingerprint), (Some(sealed("resealed 1")), Some(fingerprint(1))));
    assert_eq!((snapshot.access, snapshot.remaining, snapshot.consent_expires_at), (None, NONE, None));
    assert_eq!(snapshot.replaced, Some((sealed("refresh 2"), current)), "and so can this be taken back");
    let (lease, _) = granted(store.begin(&key, &begin(2)).await.unwrap());
    assert_eq!(lease.base, new);
    let busy = store.revive(&key, &resealed(2, current, 2)).await.unwrap();
    assert_eq!(busy, ReviveOutcome::NotSuspended { state: RecordState::Leased, current: new });
}

async fn a_replaced_refresh_token_that_was_spent_stays_where_it_is(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (old, _) = armed(bench, &key, HOUR).await;
    let next = Seed { expected: Some(old), ..seed(2) };
    let current = Version::first(next.grant);
    store.seed(&key, &next).await.unwrap();
    assert_eq!(store.revive(&key, &resealed(1, old, 1)).await.unwrap(), ReviveOutcome::Spent(current));
    let again = Seed { expected: Some(current), ..seed(1) };
    assert_eq!(store.seed(&key, &again).await.unwrap(), SeedOutcome::Spent(current), "it was being spent");
}

async fn a_history_tells_every_step_that_changed_something_once(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    assert_eq!(store.history(&key).await.unwrap(), []);
    let (version, fence) = armed(bench, &key, HOUR).await;
    let said = Said { status: Some(503), request_id: BankRequestId::parse(b"bank-1"), late: true };
    let unknown = Fail { why: "server_error", said: said.clone(), ..fail(1, fence, version, FailTo::Uncertain) };
    for _ in 0..2 {
        store.fail(&key, &unknown).await.unwrap();
    }
    let (lease, _) = granted(store.begin(&key, &Begin { quarantine: NONE, ..begin(2) }).await.unwrap());
    let probe = Arm { probe: true, ..arm(2, lease.fence, version) };
    for _ in 0..2 {
        store.arm(&key, &probe).await.unwrap();
    }
    let back = Fail { why: "rate_limited", ..fail(2, lease.fence, version, FailTo::Active { backoff: HOUR }) };
    store.fail(&key, &back).await.unwrap();
    for _ in 0..2 {
        store.commit(&key, &Commit { said: said.clone(), ..commit(1, version) }).await.unwrap();
    }
    let (lease, _) = granted(store.begin(&key, &begin(3)).await.unwrap());
    store.arm(&key, &arm(3, lease.fence, version.next())).await.unwrap();
    let refused = Fail { why: "lost_reply", ..fail(3, lease.fence, version.next(), FailTo::ReauthorizationRequired) };
    store.fail(&key, &refused).await.unwrap();
    store.revive(&key, &revive(4)).await.unwrap();
    let next = Seed { expected: Some(version.next()), ..seed(2) };
    for _ in 0..2 {
        store.seed(&key, &next).await.unwrap();
    }
    for _ in 0..2 {
        store.end(&key, &end(None)).await.unwrap();
    }

    let history = store.history(&key).await.unwrap();
    let told = history.iter().map(|event| (event.kind, event.why.as_deref().unwrap_or("-"))).collect::<Vec<_>>();
    let expected = [
        (EventKind::Seeded, "-"),
        (EventKind::Armed, "-"),
        (EventKind::Uncertain, "server_error"),
        (EventKind::ProbeGranted, "-"),
        (EventKind::Armed, "probe"),
        (EventKind::Failed, "rate_limited"),
        (EventKind::Committed, "late"),
        (EventKind::Armed, "-"),
        (EventKind::Suspended, "lost_reply"),
        (EventKind::Revived, "-"),
        (EventKind::Replaced, "-"),
        (EventKind::Ended, "asked"),
    ];
    assert_eq!(told, expected);
    let (uncertain, failed, committed) = (&history[2], &history[5], &history[6]);
    assert_eq!((&uncertain.said, uncertain.attempt.as_ref()), (&said, Some(&attempt(1))));
    assert_eq!((uncertain.fence, uncertain.version, uncertain.until), (fence, version, None));
    let until = failed.until.unwrap().checked_since(failed.at).unwrap();
    assert_eq!((until, failed.said.clone()), (HOUR, Said::default()));
    assert_eq!((committed.version, &committed.said), (version.next(), &said));
    assert!(history.is_sorted_by_key(|event| event.at), "{history:?}");
    let now = read(store, &key).await.version;
    assert_eq!(history.last().unwrap().version, now);
}

async fn a_history_tells_what_came_late(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let (version, fence) = armed(bench, &key, SHORT).await;
    bench.pass(SHORT).await;
    for _ in 0..2 {
        store.begin(&key, &begin(2)).await.unwrap();
    }
    store.renew(&key, &renew(1, fence, SHORT)).await.unwrap();
    bench.pass(SHORT).await;
    let (lease, _) = granted(store.begin(&key, &Begin { quarantine: NONE, ..begin(2) }).await.unwrap());
    for to in [FailTo::Released, FailTo::Active { backoff: HOUR }, FailTo::Uncertain] {
        assert_eq!(store.fail(&key, &fail(1, fence, version, to)).await.unwrap(), FailOutcome::Lost);
    }
    store.commit(&key, &commit(2, version)).await.unwrap();
    for _ in 0..2 {
        store.commit(&key, &commit(1, version)).await.unwrap();
    }
    let further = Version { generation: 7, ..version };
    store.restore(&key, &restore(5, further)).await.unwrap();
    store.commit(&key, &commit(1, version)).await.unwrap();
    store.commit(&key, &commit(6, Version { generation: 9, ..version })).await.unwrap();
    store.commit(&key, &commit(1, Version::first(GrantId::random()))).await.unwrap();
    store.end(&key, &end(None)).await.unwrap();
    store.commit(&key, &commit(1, version)).await.unwrap();

    let history = store.history(&key).await.unwrap();
    let told = history.iter().map(|event| (event.kind, event.why.as_deref().unwrap_or("-"))).collect::<Vec<_>>();
    let expected = [
        (EventKind::Seeded, "-"),
        (EventKind::Armed, "-"),
        (EventKind::HolderLost, "-"),
        (EventKind::Resumed, "-"),
        (EventKind::HolderLost, "-"),
        (EventKind::ProbeGranted, "-"),
        (EventKind::Overtaken, "refused"),
        (EventKind::Committed, "late"),
        (EventKind::Superseded, "kept_as_alt"),
        (EventKind::Restored, "behind"),
        (EventKind::Superseded, "older"),
        (EventKind::Committed, "rolled_back"),
        (EventKind::Superseded, "other_grant"),
        (EventKind::Ended, "asked"),
        (EventKind::Superseded, "ended"),
    ];
    assert_eq!(told, expected);
    let lost = &history[2];
    assert_eq!((lost.attempt.as_ref(), lost.fence), (Some(&attempt(1)), fence));
    let quarantine = lost.until.unwrap().checked_since(lost.at).unwrap();
    assert_eq!(quarantine, HOUR);
    assert_eq!((history[6].attempt.as_ref(), history[6].fence), (Some(&attempt(1)), lease.fence));
    let forgotten = consent();
    store.restore(&forgotten, &restore(1, version)).await.unwrap();
    assert_eq!(store.history(&forgotten).await.unwrap()[0].why.as_deref(), Some("forgotten"));
}

async fn a_history_is_bounded_and_outlives_its_consent_as_long_as_the_tombstone(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    for number in 0..50 {
        let (lease, _) = granted(store.begin(&key, &begin(number)).await.unwrap());
        store.arm(&key, &arm(number, lease.fence, version)).await.unwrap();
        let back = FailTo::Active { backoff: NONE };
        store.fail(&key, &fail(number, lease.fence, version, back)).await.unwrap();
    }
    let history = store.history(&key).await.unwrap();
    assert_eq!(history.len(), MOST_EVENTS);
    assert_eq!(history.last().unwrap().attempt, Some(attempt(49)));
    store.end(&key, &end(None)).await.unwrap();
    assert_eq!(store.history(&key).await.unwrap().last().unwrap().kind, EventKind::Ended);
    store.seed(&key, &seed(2)).await.unwrap();
    let kinds = store.history(&key).await.unwrap().iter().rev().map(|event| event.kind).take(2).collect::<Vec<_>>();
    assert_eq!(kinds, [EventKind::Seeded, EventKind::Ended], "what was before is still told");
}

async fn a_lease_given_back_and_a_client_token_leave_no_history(bench: &impl Bench) {
    let (store, key) = (bench.store(), consent());
    let version = seeded(store, &key, 1).await;
    let (lease, _) = granted(store.begin(&key, &begin(1)).await.unwrap());
    store.fail(&key, &fail(1, lease.fence, version, FailTo::Released)).await.unwrap();
    assert_eq!(store.history(&key).await.unwrap().len(), 1);
    let client = TokenKey::Client(ClientKey::new(bank(), Some("https://api.example/history"), None));
    let create = Begin { create: Some(GrantId::random()), ..begin(1) };
    let (lease, _) = granted(store.begin(&client, &create).await.unwrap());
    store.commit(&client, &commit(1, lease.base)).await.unwrap();
    assert_eq!(store.history(&client).await.unwrap(), []);
}

/// A record whose refresh token attempt 1 is spending, under a lease of this length.
async fn armed(bench: &impl Bench, key: &TokenKey, lease: Duration) -> (Version, Fence) {
    let store = bench.store();
    let version = seeded(store, key, 1).await;
    let (granted, _) = granted(store.begin(key, &begin(1)).await.unwrap());
    let arm = Arm { lease, ..arm(1, granted.fence, version) };
    assert_eq!(store.arm(key, &arm).await.unwrap(), ArmOutcome::Armed);
    (version, granted.fence)
}

/// A record that attempt 1 left uncertain and attempt 2 may probe. A quarantine of `SHORT` is over.
async fn probing(bench: &impl Bench, key: &TokenKey) -> (Version, Lease) {
    let store = bench.store();
    let (version, fence) = armed(bench, key, HOUR).await;
    store.fail(key, &fail(1, fence, version, FailTo::Uncertain)).await.unwrap();
    bench.pass(SHORT).await;
    let (lease, _) = granted(store.begin(key, &Begin { quarantine: SHORT, ..begin(2) }).await.unwrap());
    assert!(lease.probe);
    (version, lease)
}

pub(crate) async fn seeded(store: &impl Store, key: &TokenKey, number: u8) -> Version {
    let seed = seed(number);
    let version = Version::first(seed.grant);
    assert_eq!(store.seed(key, &seed).await.unwrap(), SeedOutcome::Created(version));
    version
}

pub(crate) async fn read(store: &impl Store, key: &TokenKey) -> Snapshot {
    store.read(key).await.unwrap().unwrap()
}

pub(crate) async fn next(changes: &mut mpsc::Receiver<Change>) -> Change {
    tokio::time::timeout(Duration::from_secs(5), changes.recv()).await.unwrap().unwrap()
}

pub(crate) fn granted(outcome: BeginOutcome) -> (Lease, Snapshot) {
    let BeginOutcome::Granted(lease, snapshot) = outcome else { panic!("not granted: {outcome:?}") };
    (lease, snapshot)
}

fn waiting(outcome: BeginOutcome) -> (Waiting, Duration) {
    match outcome {
        BeginOutcome::Wait(why, wait, _) if wait > NONE => (why, wait),
        other => panic!("not to wait: {other:?}"),
    }
}

pub(crate) fn consent() -> TokenKey {
    TokenKey::Consent(ConsentId::parse(&format!("c-{}", GrantId::random())).unwrap())
}

pub(crate) fn bank() -> ProviderId {
    ProviderId::parse("bank").unwrap()
}

pub(crate) fn attempt(number: u64) -> AttemptId {
    AttemptId::new("replica/boot", number)
}

pub(crate) fn sealed(text: &str) -> Sealed {
    Sealed::from_bytes([&[0, 255, 13, 10], text.as_bytes()].concat())
}

pub(crate) fn fingerprint(number: u8) -> Fingerprint {
    Fingerprint::from_bytes([number; 16])
}

/// A caller who finds no token good enough.
pub(crate) fn begin(number: u64) -> Begin {
    Begin {
        attempt: attempt(number),
        provider: bank(),
        wanted: HOUR * 24,
        rejected: None,
        rejection_pause: NONE,
        lease: HOUR,
        quarantine: HOUR,
        grace: Some(Grace { window: HOUR * 24, pause: HOUR * 24 }),
        create: None,
    }
}

pub(crate) fn arm(number: u64, fence: Fence, base: Version) -> Arm {
    Arm { attempt: attempt(number), fence, base, lease: HOUR, probe: false }
}

pub(crate) fn renew(number: u64, fence: Fence, lease: Duration) -> Renew {
    Renew { attempt: attempt(number), fence, lease }
}

pub(crate) fn commit(number: u64, base: Version) -> Commit {
    Commit {
        attempt: attempt(number),
        base,
        access: sealed(&format!("access of attempt {number}")),
        refresh: Some(sealed(&format!("refresh of attempt {number}"))),
        refresh_fingerprint: Some(fingerprint(100 + u8::try_from(number).unwrap())),
        spent: Some(fingerprint(1)),
        remaining: HOUR,
        life: HOUR,
        scope: None,
        certificate: Some("thumb".into()),
        forced: false,
        since_intent: None,
        said: Said::default(),
    }
}

pub(crate) fn fail(number: u64, fence: Fence, base: Version, to: FailTo) -> Fail {
    Fail { attempt: attempt(number), fence, base, to, why: "refused", said: Said::default() }
}

pub(crate) fn revive(number: u64) -> Revive {
    Revive { attempt: attempt(number), expected: None, replaced: None }
}

/// A revival of the replaced grant whose refresh token has the fingerprint `mark`.
pub(crate) fn resealed(number: u64, from: Version, mark: u8) -> Revive {
    let (refresh, fingerprint) = (sealed(&format!("resealed {mark}")), fingerprint(mark));
    Revive { replaced: Some(Resealed { from, grant: GrantId::random(), refresh, fingerprint }), ..revive(number) }
}

pub(crate) fn restore(number: u64, version: Version) -> Restore {
    Restore {
        attempt: attempt(number),
        provider: bank(),
        version,
        access: sealed("restored access"),
        refresh: Some(sealed("restored refresh")),
        refresh_fingerprint: Some(fingerprint(9)),
        remaining: HOUR,
        life: HOUR,
        scope: None,
        bank_consent_id: Some("B-2".into()),
        consent_expires_at: None,
        certificate: None,
        granted_at: None,
    }
}

pub(crate) fn reassert(number: u64, fence: Fence, base: Version) -> Reassert {
    Reassert { base, holder: Some(Holder { attempt: attempt(number), fence, lease: HOUR }) }
}

/// The `number`th grant, whose refresh token has the fingerprint `number`.
pub(crate) fn seed(number: u8) -> Seed {
    Seed {
        provider: bank(),
        grant: GrantId::random(),
        expected: None,
        age: None,
        access: sealed(&format!("access {number}")),
        refresh: Some(sealed(&format!("refresh {number}"))),
        refresh_fingerprint: Some(fingerprint(number)),
        remaining: HOUR,
        life: HOUR,
        scope: Scope::parse("granted"),
        bank_consent_id: Some("B-1".into()),
        consent_expires_at: None,
        certificate: Some("thumb".into()),
    }
}

pub(crate) fn end(grant: Option<GrantId>) -> End {
    End { grant, state: RecordState::Revoked, why: "asked".into(), remembered: None }
}
