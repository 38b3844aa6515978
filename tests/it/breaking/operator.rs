//! Wrong keys, garbled records and files, too few rights, and stores that do not take what they are given.

use std::fs;
use std::path::Path;

use http::StatusCode;

use super::{TOKENS, import, no_panic, token_set, told};
use crate::support::bank::Bank;
use crate::support::program::{Program, consentry};
use crate::support::redis::RedisServer;
use crate::support::rogue::{Rogue, Then, answer};
use crate::support::sidecar::Replica;

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_opened_or_understood_is_left_byte_for_byte_as_it_is() {
    let (bank, rogue, redis) = (Bank::start().await, Rogue::start().await, RedisServer::start().await);
    let replica = Replica::with_redis(&bank, &redis).before_rogue(&bank, &rogue);
    let mut sidecar = replica.start().await;
    let key = |consent: &str| format!("consentry:c:{{{consent}}}");
    let stored = |consent: &str| redis.cli(&["DUMP", &key(consent)]);
    for (consent, expires_in) in [("valid", 3_600), ("expired", 0)] {
        import(&sidecar, consent, expires_in).await;
    }
    for field in ["v", "prov", "grant", "gen", "st", "rt", "rt_fp", "at_exp", "fence", "it_n", "lease", "next", "scope"]
    {
        let consent = format!("bad-{field}");
        import(&sidecar, &consent, 0).await;
        redis.cli(&["HSET", &key(&consent), field, "\"garbage\n\u{e9}"]);
        let before = stored(&consent);
        let answer = sidecar.balances(&consent).await;
        assert_eq!(told(&answer), (503, "consent-unreadable".to_owned()), "{field}: {answer:?}");
        assert_eq!(stored(&consent), before, "{field}");
    }
    redis.cli(&["SET", &key("string"), "what is this"]);
    assert_eq!(told(&sidecar.balances("string").await), (503, "consent-unreadable".to_owned()));
    sidecar.program.kill();

    let (right_key, before) =
        (fs::read(replica.home().join("seal.key")).unwrap(), (stored("valid"), stored("expired")));
    // Another key under the same id, and a ring in which that id is missing.
    let removed = Replica::with_redis(&bank, &redis).before_rogue(&bank, &rogue).change("id: test", "id: newer");
    for (replica, key_file, why) in [
        (&replica, "dGhpcyBpcyBhbm90aGVyIGtleSBvZiAzMiBieXRlcyE=", "another key"),
        (&removed, "", "not in the keyring"),
    ] {
        if !key_file.is_empty() {
            fs::write(replica.home().join("seal.key"), key_file).unwrap();
        }
        let mut sidecar = replica.start().await;
        for consent in ["valid", "expired", "expired"] {
            let answer = sidecar.balances(consent).await;
            assert_eq!(told(&answer), (503, "consent-unreadable".to_owned()), "{answer:?}");
            assert!(answer.json()["detail"].as_str().unwrap().contains(why), "{answer:?}");
            assert_eq!(answer.json()["who_acts"], "operator");
        }
        assert_eq!((stored("valid"), stored("expired")), before, "{why}");
        no_panic(&sidecar);
        sidecar.program.kill();
    }
    assert!(rogue.token_requests().is_empty());

    fs::write(replica.home().join("seal.key"), right_key).unwrap();
    let sidecar = replica.start().await;
    rogue.next_token_answer((answer(200, TOKENS), Then::Hold));
    for consent in ["valid", "expired"] {
        assert_eq!(sidecar.balances(consent).await.status, StatusCode::OK, "with the right key all is well");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_user_with_too_few_rights_is_named_in_the_log_and_half_a_right_breaks_no_step() {
    let (bank, rogue, redis) = (Bank::start().await, Rogue::start().await, RedisServer::start().await);
    let users = [
        ("scriptless", "~consentry:* &* -@all +hgetall +ping +hello +client +select"),
        ("channelless", "~consentry:* resetchannels +@all"),
    ];
    for (name, rights) in users {
        let rights: Vec<&str> = rights.split(' ').collect();
        redis.cli(&[&["ACL", "SETUSER", name, "on", ">password-0123"], rights.as_slice()].concat());
    }
    redis.cli(&["ACL", "SETUSER", "default", "resetpass", ">other-password"]);
    let as_user = |name: &str, password: &str| {
        let replica = Replica::with_redis(&bank, &redis).before_rogue(&bank, &rogue);
        let (url, login) = (format!("{}/0\"", redis.port()), format!("username: {name}, password: {{file: pw}}"));
        fs::write(replica.home().join("pw"), password).unwrap();
        replica.change(&url, &format!("{url}, {login}"))
    };
    for (replica, said) in [
        (as_user("scriptless", "password-0123"), "NOPERM"),
        (as_user("scriptless", "wrong"), "does not accept the user or password"),
        (Replica::with_redis(&bank, &redis).before_rogue(&bank, &rogue), "NOAUTH"),
    ] {
        let mut sidecar = replica.start_unlinked().await;
        let answer = sidecar.put_tokens("c-1", None, &token_set("c-1", 0)).await;
        assert_eq!(told(&answer), (503, "store-unavailable".to_owned()), "{answer:?}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(said), "{answer:?}");
        assert_eq!(told(&sidecar.balances("c-1").await), (503, "store-unavailable".to_owned()));
        sidecar.program.said(said, |log| log.contains(said).then_some(())).await;
        assert!(!sidecar.program.output().contains("wrong"), "no password in the log");
    }

    let replica = as_user("channelless", "password-0123");
    let mut sidecar = replica.start_unlinked().await;
    sidecar.program.logged("Changes of the token store cannot be followed. Tokens are checked before use.").await;
    import(&sidecar, "c-1", 0).await;
    rogue.next_token_answer((answer(200, TOKENS), Then::Hold));
    for _ in 0..3 {
        assert_eq!(sidecar.balances("c-1").await.status, StatusCode::OK);
    }
    sidecar.until("it is committed", async || sidecar.consent("c-1").await["generation"] == 2).await;
    assert_eq!(rogue.token_requests().len(), 1);
    assert_eq!(sidecar.program.output().matches("cannot be followed").count(), 1, "said once");
    no_panic(&sidecar);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_has_or_nobody_can_read_ends_the_start_with_one_clear_line() {
    let bank = Bank::start().await;
    let replica = Replica::embedded(&bank);
    let mut sidecar = replica.start().await;
    sidecar.import("c-1", &bank.grant(3_600).await).await;
    let config = replica.write();
    let once = |said: &str, part: &str| assert_eq!(said.matches(part).count(), 1, "{said}");
    let (code, said) = ends(&config).await;
    assert_eq!(code, Some(69), "{said}");
    once(&said, "is in use by another process");
    let second = Replica::embedded(&bank)
        .change("path: tokens.redb", &format!("path: {}", replica.home().join("tokens.redb").display()));
    let (code, said) = ends(&second.write()).await;
    assert_eq!(code, Some(69), "{said}");
    once(&said, "is open in another process");
    let port = sidecar.url("").trim_start_matches("http://").to_owned();
    let third =
        Replica::embedded(&bank).change("proxy: {listen: \"127.0.0.1:0\"", &format!("proxy: {{listen: \"{port}\""));
    let (code, said) = ends(&third.write()).await;
    assert_eq!(code, Some(69), "{said}");
    once(&said, "proxy.listen: another process is listening there");
    sidecar.program.kill();

    let file = replica.home().join("tokens.redb");
    let whole = fs::read(&file).unwrap();
    for bad in [whole[..100].to_vec(), b"what is this".to_vec(), whole.iter().map(|byte| !byte).collect()] {
        fs::write(&file, &bad).unwrap();
        let (code, said) = ends(&config).await;
        assert_eq!(code, Some(69), "{said}");
        once(&said, "tokens.redb cannot be opened");
        assert_eq!(fs::read(&file).unwrap(), bad, "it is left as it is");
    }
    fs::write(&file, &whole).unwrap();
    assert_eq!(replica.start().await.balances("c-1").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_in_the_spill_directory_is_named_and_left_and_stops_nothing() {
    let bank = Bank::start().await;
    let replica = Replica::embedded(&bank);
    let spill = replica.home().join("spill");
    fs::create_dir(&spill).unwrap();
    let rubbish = ["empty.spill", "text.spill", "note.txt"];
    for (name, text) in rubbish.iter().zip(["", "what is this", "keep me"]) {
        fs::write(spill.join(name), text).unwrap();
    }
    fs::create_dir(spill.join("folder.spill")).unwrap();
    std::os::unix::fs::symlink("/nowhere", spill.join("link.spill")).unwrap();
    let sidecar = replica.start().await;
    sidecar.import("c-1", &bank.grant(0).await).await;
    assert_eq!(sidecar.balances("c-1").await.status, StatusCode::OK);
    let log = sidecar.program.output();
    for name in ["empty.spill", "text.spill", "folder.spill", "link.spill"] {
        assert!(log.contains(name), "{name} is not named in {log}");
        assert!(fs::symlink_metadata(spill.join(name)).is_ok(), "{name} is gone");
    }
    assert_eq!(bank.reuse_events().await, 0);
    no_panic(&sidecar);
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_the_store_does_not_take_hold_up_no_other_refresh_and_are_replayed_at_the_next_start() {
    const CONSENTS: usize = 100;
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let mut replica = Replica::with_redis(&bank, &redis).environment("CONSENTRY_FAILPOINTS", "before-commit");
    let mut sidecar = replica.start().await;
    for n in 0..CONSENTS {
        sidecar.import(&format!("c-{n}"), &bank.grant(0).await).await;
    }
    for n in 0..CONSENTS {
        let answer = sidecar.balances(&format!("c-{n}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{n}: {answer:?}");
    }
    assert_eq!(sidecar.spills().len(), CONSENTS);
    sidecar.program.kill();

    replica.forget_environment();
    let sidecar = replica.start().await;
    for n in 0..CONSENTS {
        let consent = format!("c-{n}");
        sidecar.until("it is replayed", async || sidecar.consent(&consent).await["generation"] == 2).await;
        assert_eq!(sidecar.balances(&consent).await.status, StatusCode::OK);
    }
    assert_eq!(bank.refreshes().await, CONSENTS as u64);
    assert_eq!(bank.reuse_events().await, 0);
}

/// How a program that cannot start ends, and what it says.
async fn ends(config: &Path) -> (Option<i32>, String) {
    let mut command = consentry();
    command.args(["run", "--config"]).arg(config);
    let mut program = Program::start(command);
    let status = program.ended().await;
    // The streams are read by threads of their own.
    program.said("why", |output| (!output.is_empty()).then_some(())).await;
    (status.code(), program.output())
}
