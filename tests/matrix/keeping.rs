//! F39 to F43: changes that are not heard, spills that cannot be written, seals that do not open.

use std::fs;

use serde_json::json;

use crate::house::{SERVED, Scene, at, key, metric, story, told, until_told};
use crate::support::link::{Flow, Link, Toward};

const UNREADABLE: (u16, &str) = (503, "consent-unreadable");

#[tokio::test(flavor = "multi_thread")]
async fn f39_a_replica_that_hears_no_changes_serves_no_old_token_and_finds_what_others_committed() {
    let scene = Scene::set().await;
    // The bank kills the old access token, so that serving it would show.
    scene.bank.control(http::Method::PATCH, "/abn-amro/settings", &json!({ "old_access_token": "kill" })).await;
    let deaf = scene.replica();
    let (deaf, other) = (deaf, scene.replica());
    let (deaf, other) = tokio::join!(deaf.start(), other.start());
    let granted = scene.bank.grant(7_200).await;
    other.import("c-1", &granted).await;
    until_told(&deaf, "c-1", SERVED).await;
    // What is published reaches nobody from here on, again and again.
    for generation in 1..=3 {
        scene.redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        other.expire(&scene.bank, "c-1", &granted).await;
        until_told(&other, "c-1", SERVED).await;
        assert_eq!(told(&deaf.balances("c-1").await), (200, String::new()));
        assert_eq!(scene.asked(&granted.bank_id).await.len(), generation);
    }
}

/// Waiters poll: a change is a hint, and the one that a waiter hopes for may be lost.
#[tokio::test(flavor = "multi_thread")]
async fn f39_waiters_whose_connection_for_changes_says_nothing_finish_all_the_same() {
    let scene = Scene::set().await;
    let link = Link::to(scene.redis.port()).await;
    let (deaf, other) = (at(&scene.bank, link.port(), ""), scene.replica());
    let (deaf, other) = tokio::join!(deaf.start(), other.start());
    let granted = scene.bank.grant(0).await;
    other.import("c-1", &granted).await;
    // From here on every message to it is lost with its connection.
    link.trap("SUBSCRIBE", crate::support::link::Trap::Mute, 1_000);
    link.sever();
    scene.bank.fault("abn-token", 1, json!({ "delay_ms": 1_500 })).await;
    let (one, another) = tokio::join!(until_told(&other, "c-1", SERVED), until_told(&deaf, "c-1", SERVED));
    assert_eq!((one, another), (story(&[SERVED]), story(&[SERVED])));
    assert_eq!(scene.asked(&granted.bank_id).await, ["granted"]);
    assert!(link.passed(Toward::Client) > 0);
    link.clear_traps();
    link.set_both(Flow::Pass);
}

#[tokio::test(flavor = "multi_thread")]
async fn f40_a_spill_that_cannot_be_written_is_an_alarm_and_stops_refreshing_only_where_it_is_required() {
    let scene = Scene::set().await;
    for required in [false, true] {
        let consent = format!("c-{required}");
        let replica = scene
            .replica()
            .change("spill: {directory: spill}", &format!("spill: {{directory: spill, required: {required}}}"));
        let mut sidecar = replica.start().await;
        let granted = scene.bank.grant(0).await;
        sidecar.import(&consent, &granted).await;
        // Whoever runs as root may write anywhere, but not into a directory that is not there.
        fs::rename(replica.home().join("spill"), replica.home().join("gone")).unwrap();
        if required {
            let answer = sidecar.balances(&consent).await;
            assert_eq!(story(&[(503, "store-unavailable")]), [told(&answer)]);
            sidecar.program.logged("The spill cannot be written, and it is required: nothing is refreshed.").await;
            assert!(scene.asked(&granted.bank_id).await.is_empty());
            fs::rename(replica.home().join("gone"), replica.home().join("spill")).unwrap();
        }
        until_told(&sidecar, &consent, SERVED).await;
        if !required {
            sidecar.program.logged("A spill could not be written.").await;
            assert_eq!(metric(&sidecar, "consentry_spills_total{kind=\"failed\"}").await, 1);
        }
        sidecar.until("it is committed", async || scene.record(&consent)["gen"] == "2").await;
        assert_eq!(scene.asked(&granted.bank_id).await, ["granted"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f40_a_disk_that_is_full_leaves_no_half_a_spill_and_stops_refreshing_only_where_a_spill_is_required() {
    let scene = Scene::set().await;
    for required in [false, true] {
        let consent = format!("c-{required}");
        let replica = scene
            .replica()
            .change("spill: {directory: spill}", &format!("spill: {{directory: spill, required: {required}}}"))
            .no_room_for_files();
        let mut sidecar = replica.start().await;
        let granted = scene.bank.grant(0).await;
        sidecar.import(&consent, &granted).await;
        if required {
            let answer = sidecar.balances(&consent).await;
            assert_eq!(story(&[(503, "store-unavailable")]), [told(&answer)]);
            sidecar.program.logged("The spill cannot be written, and it is required: nothing is refreshed.").await;
            assert!(scene.asked(&granted.bank_id).await.is_empty());
        } else {
            until_told(&sidecar, &consent, SERVED).await;
            sidecar.program.logged("A spill could not be written.").await;
            assert_eq!(metric(&sidecar, "consentry_spills_total{kind=\"failed\"}").await, 1);
            sidecar.until("it is committed", async || scene.record(&consent)["gen"] == "2").await;
        }
        let files = fs::read_dir(replica.home().join("spill")).unwrap().map(|file| file.unwrap().file_name());
        // Beside the lock may be what is known of the store, which fits into a block.
        assert_eq!(files.filter(|name| name != "high-water").collect::<Vec<_>>(), ["lock"]);
        drop(sidecar);
        // There is room at the next start.
        let replica = replica.room_for_files();
        let sidecar = replica.start().await;
        until_told(&sidecar, &consent, SERVED).await;
        sidecar.until("it is committed", async || scene.record(&consent)["gen"] == "2").await;
        assert_eq!(scene.asked(&granted.bank_id).await, ["granted"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f41_a_record_with_a_sealed_token_that_is_not_its_own_is_reported_and_left_as_it_is() {
    let scene = Scene::set().await;
    let replica = scene.replica();
    let mut sidecar = replica.start().await;
    for consent in ["one", "two"] {
        sidecar.import(consent, &scene.bank.grant(0).await).await;
    }
    let swap = |from: &str, to: &str| {
        let script = "redis.call('HSET', KEYS[2], 'rt', redis.call('HGET', KEYS[1], 'rt'))";
        scene.redis.cli(&["EVAL", script, "2", &key(from), &key(to)]);
    };
    swap("one", "two");
    let before = scene.redis.cli(&["DUMP", &key("two")]);
    for _ in 0..3 {
        assert_eq!(story(&[UNREADABLE]), [told(&sidecar.balances("two").await)]);
    }
    assert_eq!(scene.redis.cli(&["DUMP", &key("two")]), before);
    sidecar.program.logged("A stored refresh token cannot be opened. The record is left as it is.").await;
    // One byte of its own.
    let script = "local rt = redis.call('HGET', KEYS[1], 'rt') \
         redis.call('HSET', KEYS[1], 'rt', rt:sub(1, -2) .. string.char((rt:byte(-1) + 1) % 256))";
    scene.redis.cli(&["EVAL", script, "1", &key("one")]);
    assert_eq!(story(&[UNREADABLE]), [told(&sidecar.balances("one").await)]);
    assert_eq!(scene.bank.count("abn", "token_requests").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn f42_the_old_key_opens_until_it_is_taken_out_and_then_its_records_are_left_as_they_are() {
    let scene = Scene::set().await;
    let keys = "keys: [{id: test, key: {file: seal.key}}]";
    let with_keys = |list: &str| {
        let replica = scene.replica().change(keys, &format!("keys: [{list}]"));
        fs::write(replica.home().join("new.key"), "dGhpcyBpcyBhbm90aGVyIGtleSBvZiAzMiBieXRlcyE=").unwrap();
        fs::set_permissions(replica.home().join("new.key"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        replica
    };
    let granted = scene.bank.grant(0).await;
    let other = scene.bank.grant(0).await;
    {
        let replica = scene.replica();
        let sidecar = replica.start().await;
        sidecar.import("c-1", &granted).await;
        sidecar.import("left", &other).await;
    }
    let both = with_keys("{id: new, key: {file: new.key}}, {id: test, key: {file: seal.key}}");
    {
        let sidecar = both.start().await;
        assert_eq!(until_told(&sidecar, "c-1", SERVED).await, story(&[SERVED]));
        sidecar.until("it is sealed with the new one", async || scene.record("c-1")["gen"] == "2").await;
    }
    let new_only = with_keys("{id: new, key: {file: new.key}}");
    let sidecar = new_only.start().await;
    assert_eq!(until_told(&sidecar, "c-1", SERVED).await, story(&[SERVED]));
    let before = scene.redis.cli(&["DUMP", &key("left")]);
    let answer = sidecar.balances("left").await;
    assert_eq!(story(&[UNREADABLE]), [told(&answer)]);
    assert!(answer.json()["detail"].as_str().unwrap().contains("not in the keyring"));
    assert_eq!(scene.redis.cli(&["DUMP", &key("left")]), before);
    assert!(scene.asked(&other.bank_id).await.is_empty());
}

/// An older copy of the whole record, every part of which opens.
#[tokio::test(flavor = "multi_thread")]
async fn f41_an_older_copy_of_a_record_is_found_out_by_whoever_remembers_a_newer_one() {
    let scene = Scene::set().await;
    let replica = scene.replica();
    let sidecar = replica.start().await;
    let granted = scene.bank.grant(0).await;
    sidecar.import("c-1", &granted).await;
    scene.redis.cli(&["COPY", &key("c-1"), "older"]);
    scene.bank.fault("abn-token", 1, json!({ "expires_in": 6 })).await;
    until_told(&sidecar, "c-1", SERVED).await;
    sidecar.until("it is committed", async || scene.record("c-1")["gen"] == "2").await;
    scene.redis.cli(&["COPY", "older", &key("c-1"), "REPLACE"]);
    assert_eq!(scene.record("c-1")["gen"], "1");
    sidecar
        .until_within(40, "the token has expired and is refreshed", async || {
            sidecar.balances("c-1").await;
            scene.asked(&granted.bank_id).await.len() >= 2
        })
        .await;
    assert_eq!(scene.asked(&granted.bank_id).await, ["granted", "granted"], "the spent refresh token is not sent");
    until_told(&sidecar, "c-1", SERVED).await;
    sidecar.until("it is committed", async || scene.record("c-1")["gen"] == "3").await;
    assert_eq!(metric(&sidecar, "consentry_store_errors_total{kind=\"rolled_back\"}").await, 1, "it is counted");
}

/// What is swapped is first half of a new pair, and then all of it.
#[tokio::test(flavor = "multi_thread")]
async fn f43_a_certificate_is_shown_as_soon_as_its_files_hold_a_pair_that_fits_and_not_before() {
    const REFUSED: &str = "consentry_certificate_renewal_refused{certificate=\"providers.abn-amro.client_auth\"}";
    let scene = Scene::set().await;
    let replica = scene.replica();
    let sidecar = replica.start().await;
    let granted = scene.bank.grant(0).await;
    sidecar.import("c-1", &granted).await;
    until_told(&sidecar, "c-1", SERVED).await;
    sidecar.until("it is committed", async || scene.record("c-1")["gen"] == "2").await;
    let first = scene.record("c-1")["crt"].clone();

    let swap = |from: &str, to: &str| fs::copy(scene.bank.files().join(from), replica.home().join(to)).unwrap();
    swap("tpp-renewed.crt", "tpp.crt");
    sidecar.until("half a pair is refused", async || metric(&sidecar, REFUSED).await == 1).await;
    sidecar.expire(&scene.bank, "c-1", &granted).await;
    assert_eq!(scene.record("c-1")["crt"], first);
    assert_eq!(until_told(&sidecar, "c-1", SERVED).await, story(&[SERVED]), "the old pair is shown");

    swap("tpp-renewed.key", "tpp.key");
    sidecar.until("the whole pair is taken", async || metric(&sidecar, REFUSED).await == 0).await;
    sidecar.expire(&scene.bank, "c-1", &granted).await;
    assert_eq!(until_told(&sidecar, "c-1", SERVED).await, story(&[SERVED]), "the bank takes the new pair");
    sidecar.until("it is committed under it", async || scene.record("c-1")["crt"] != first).await;
    assert_eq!(scene.asked(&granted.bank_id).await, ["granted"; 3]);
}
