//! `consentry curl`: one call with a consent's token, from the command line.

use std::io::Write as _;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::support::bank::{Bank, IBAN};
use crate::support::program::consentry;
use crate::support::redis::{RedisServer, free_port};
use crate::support::sidecar::Replica;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A replica whose listeners are where its configuration says.
fn replica(bank: &Bank, redis: &RedisServer) -> Replica {
    let mut replica = Replica::with_redis(bank, redis);
    for listener in ["proxy", "admin"] {
        let any = format!("{listener}: {{listen: \"127.0.0.1:0\"");
        replica = replica.change(&any, &format!("{listener}: {{listen: \"127.0.0.1:{}\"", free_port()));
    }
    replica
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_read_by_the_proxys_path_and_by_the_banks_own_url() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let replica = replica(&bank, &redis);
    let config = replica.write();
    let curl = |arguments: &[&str]| -> Output {
        let all = [&["curl"], arguments, &["--config", config.to_str().unwrap()]].concat();
        consentry().args(all).output().unwrap()
    };
    let path = format!("/accounts/v1/accounts/{IBAN}/balances");
    let nobody = curl(&["customer-1", &path]);
    assert_eq!(nobody.status.code(), Some(69), "{}", text(&nobody.stderr));
    assert!(text(&nobody.stderr).contains("consentry run"), "{}", text(&nobody.stderr));

    let sidecar = replica.start().await;
    let granted = bank.grant(7_200).await;
    sidecar.import("customer-1", &granted).await;
    let api = bank.endpoints["abn_amro"]["api"].as_str().unwrap();
    for target in [path.clone(), format!("{api}/v1/accounts/{IBAN}/balances"), sidecar.balances_url()] {
        let answer = curl(&["customer-1", &target]);
        let said = text(&answer.stderr);
        assert_eq!(answer.status.code(), Some(0), "{target}: {said}");
        let body: Value = serde_json::from_slice(&answer.stdout).unwrap();
        assert_eq!(body["accountNumber"], IBAN, "{body}");
        assert!(said.starts_with("200 OK\n") && said.contains("content-type: application/json"), "{said}");
        assert!(!said.contains(&granted.access), "{said}");
    }
    let answer = curl(&["customer-1", &path, "--json", "-H", "X-Request-ID: of-mine"]);
    let whole: Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!((&whole["status"], whole["from"].as_str()), (&Value::from(200), Some("bank")), "{whole}");
    assert_eq!(whole["body"]["accountNumber"], IBAN);

    let unknown = curl(&["customer-1", "/accounts/v1/accounts/NL00NONE0000000000/balances"]);
    assert_eq!(unknown.status.code(), Some(1), "{}", text(&unknown.stderr));
    assert!(text(&unknown.stderr).contains("the bank answered"), "{}", text(&unknown.stderr));
    for wrong in [
        &["customer-1", "https://elsewhere.example/v1/accounts"] as &[&str],
        &["customer-1", "//elsewhere.example/v1"],
        &["a b", &path],
        &["customer-1", &path, "-H", "no header"],
        &["customer-1", &path, "-H", "Consent-ID: other"],
        &["customer-1", &path, "-X", "NO METHOD"],
    ] {
        let output = curl(wrong);
        assert_eq!(output.status.code(), Some(64), "{wrong:?}: {}", text(&output.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_proxy_says_itself_is_explained_with_what_to_do() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let replica = replica(&bank, &redis);
    let config = replica.write();
    let curl = |arguments: &[&str]| -> Output {
        let all = [&["curl"], arguments, &["--config", config.to_str().unwrap()]].concat();
        consentry().args(all).output().unwrap()
    };
    let sidecar = replica.start().await;
    let path = format!("/accounts/v1/accounts/{IBAN}/balances");
    let unknown = curl(&["nobody", &path]);
    let said = text(&unknown.stderr);
    assert_eq!(unknown.status.code(), Some(1), "{said}");
    assert!(
        said.contains("the proxy's own answer") && said.contains("consentry login PROVIDER --consent nobody"),
        "{said}"
    );
    assert!(text(&unknown.stdout).contains("consent-unknown"));
    let elsewhere = curl(&["nobody", "/nowhere"]);
    assert!(text(&elsewhere.stderr).contains("look at apis"), "{}", text(&elsewhere.stderr));

    // The bank's token endpoint is away, and no token is left: later it may do.
    let granted = bank.grant(7_200).await;
    sidecar.import("customer-1", &granted).await;
    sidecar.expire(&bank, "customer-1", &granted).await;
    bank.fault("abn-token", 100, serde_json::json!({ "status": { "code": 503 } })).await;
    let later = curl(&["customer-1", &path, "--json"]);
    assert_eq!(later.status.code(), Some(69), "{}", text(&later.stderr));
    let whole: Value = serde_json::from_slice(&later.stdout).unwrap();
    assert_eq!(whole["from"], "consentry");
    assert!(text(&later.stderr).contains("when: in"), "{}", text(&later.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_sent_from_the_command_line_or_standard_input() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let replica = replica(&bank, &redis);
    let config = replica.write();
    let _sidecar = replica.start().await;
    let agreement = r#"{"nin": "14842249091", "scope_of_consent": "debt.unsecured.presentation", "consent_duration_days": 30, "client_consent_id": "c-1"}"#;
    let path = "/debt/v1/consent/agreement";
    let mut told = Vec::new();
    for data in [agreement, "@-"] {
        let mut command = consentry();
        command.args(["curl", "customer-1", path, "-X", "PUT", "-d", data, "--config", config.to_str().unwrap()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Where the body is on the command line nobody may be reading.
        let _ = child.stdin.take().unwrap().write_all(agreement.as_bytes());
        let output = child.wait_with_output().unwrap();
        told.push((output.status.code(), text(&output.stdout), text(&output.stderr)));
    }
    for (code, body, said) in &told {
        assert_eq!(*code, Some(0), "{said}");
        let agreed: Value = serde_json::from_str(body).unwrap();
        assert!(agreed.is_object(), "{body}");
    }
    assert_eq!(told[0].1, told[1].1, "the same agreement is the same consent");
}
