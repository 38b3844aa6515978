//! The contract of the store, as one suite that runs against every store.
//!
//! A bench is a store with a way to let its clock move on: the embedded store's is moved by hand, a Redis server's is
//! waited for. Every test makes records of its own names, so that nothing is shared.

mod commits;
mod failures;
mod histories;
mod leases;
mod memories;
mod orders;

use std::time::Duration;

use consentry::store::{
    Arm, ArmOutcome, Begin, BeginOutcome, Change, Commit, End, Fail, FailTo, Grace, Holder, Lease, Reassert,
    RecordState, Renew, Resealed, Restore, Revive, Sealed, Seed, SeedOutcome, Snapshot, Store, Waiting,
};
use consentry::words::ids::{AttemptId, ConsentId, Fence, Fingerprint, GrantId, ProviderId, TokenKey, Version};
use consentry::words::said::Said;
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
    leases {
        what_is_not_there_is_unknown
        a_record_is_made_by_a_begin_only_where_it_is_asked_for
        a_token_is_fresh_while_more_is_left_than_wanted
        a_record_of_another_provider_is_as_good_as_absent
        of_many_attempts_at_once_one_is_granted
        a_repeated_begin_has_the_same_lease
        a_lease_that_ran_out_unarmed_is_passed_on_at_once
        an_intent_is_written_once_and_only_by_the_holder
        after_an_armed_lease_ran_out_there_is_quarantine_then_hold_then_a_probe
        a_holder_that_nobody_could_hear_still_has_the_quarantine_to_come_back_in
        a_renewed_lease_lasts_and_a_lost_one_is_not_renewed
        a_late_sender_that_renews_is_in_flight_again
        a_rejected_version_is_refreshed_once_and_then_believed_for_a_while
        within_its_grace_a_bank_is_asked_again_soon_and_after_it_as_any_other
        a_probe_that_renews_its_lease_leaves_the_record_uncertain
    }
    commits {
        a_commit_replaces_the_token_set_and_may_be_repeated
        a_commit_is_accepted_after_its_lease_ran_out
        a_commit_that_was_held_up_does_not_lengthen_a_life
        a_commit_that_lost_by_one_is_kept_as_alt
        a_commit_that_lost_to_another_grant_or_by_more_is_not_kept
        a_commit_brings_back_generations_that_the_store_forgot
        a_commit_never_revives_an_ended_consent
        a_record_remembers_the_last_spent_fingerprints_only
        a_token_that_came_second_takes_the_place_of_a_refused_one
    }
    failures {
        a_lease_that_is_given_back_leaves_no_trace
        a_failed_refresh_makes_everybody_wait
        an_unknown_outcome_is_quarantined_from_the_report_on
        a_refused_refresh_token_is_kept_and_the_consent_suspended
        a_probe_that_sent_nothing_leaves_the_record_uncertain
        a_probe_that_was_turned_away_leaves_the_record_uncertain
        a_sender_that_reports_not_sent_ends_the_quarantine
    }
    orders {
        a_seed_repeated_after_its_consent_ended_brings_nothing_back
        a_seed_creates_and_replaces_only_what_it_expects
        a_seed_refuses_a_refresh_token_that_was_spent_or_is_being_spent
        a_grant_of_this_very_moment_counts
        a_seed_beats_any_refresh_in_flight
        an_end_wipes_the_tokens_and_leaves_a_tombstone
        a_consent_whose_time_is_over_is_refused_and_keeps_its_tokens
        a_record_tells_everything_it_was_given
        a_revival_has_the_kept_refresh_token_tried_again
        a_revival_of_what_is_not_suspended_changes_nothing
        a_replaced_grant_comes_back_as_a_new_one
        a_replaced_refresh_token_that_was_spent_stays_where_it_is
    }
    memories {
        a_restore_puts_back_what_the_store_forgot
        a_restore_changes_nothing_that_it_should_not
        a_holder_has_back_the_lease_that_the_store_forgot
        a_holder_that_comes_back_too_late_is_counted_and_gets_nothing
        a_token_that_may_have_been_spent_is_quarantined
        a_reassertion_changes_nothing_that_moved_on
        a_restore_puts_back_a_later_grant_and_no_earlier_one
        a_holder_that_tells_of_its_lease_again_prolongs_it
        whatever_takes_a_record_out_of_its_holder_s_hands_has_a_fence_of_its_own
        a_remembered_tombstone_is_put_up_where_nothing_is_stored
        a_follower_hears_of_every_replaced_record
        a_follower_hears_nothing_of_a_record_that_holds_no_token_yet
    }
    histories {
        a_history_tells_every_step_that_changed_something_once
        a_history_tells_what_came_late
        a_history_is_bounded_and_outlives_its_consent_as_long_as_the_tombstone
        a_lease_given_back_and_a_client_token_leave_no_history
    }
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
    loop {
        match tokio::time::timeout(Duration::from_secs(5), changes.recv()).await.unwrap().unwrap() {
            Change::Happened(_) => {}
            change => break change,
        }
    }
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
