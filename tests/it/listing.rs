//! The list of consents, over the admin listener and on the command line.

use std::process::Output;

use http::StatusCode;
use serde_json::Value;

use crate::support::bank::Bank;
use crate::support::program::consentry;
use crate::support::redis::{RedisServer, free_port};
use crate::support::sidecar::{ADMIN_KEY, Replica, Sidecar};

fn run(arguments: &[&str]) -> Output {
    consentry().args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn on_a_port(replica: Replica) -> Replica {
    replica.change("admin: {listen: \"127.0.0.1:0\"", &format!("admin: {{listen: \"127.0.0.1:{}\"", free_port()))
}

async fn page(sidecar: &Sidecar, query: &str) -> Value {
    let key = format!("Bearer {ADMIN_KEY}");
    let answer = sidecar.app.get(&sidecar.admin_url(&format!("/v1/consents{query}")), &[("authorization", &key)]).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()
}

fn names(view: &Value) -> Vec<String> {
    let consents = view["consents"].as_array().unwrap();
    let mut names: Vec<_> = consents.iter().map(|it| it["consent_id"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn consents_are_listed_by_state_provider_and_end_and_never_with_a_token() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let sidecar = Replica::with_redis(&bank, &redis).start().await;
    let granted = bank.grant(7_200).await;
    for name in ["customer-1", "customer-2", "customer-3"] {
        let granted = bank.grant(7_200).await;
        let mut import = granted.import.clone();
        import["consent_expires_at"] =
            if name == "customer-2" { "2099-01-01T00:00:00Z".into() } else { "2098-01-01T00:00:00Z".into() };
        let answer = sidecar.put_tokens(name, None, &import).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    }
    sidecar.import("customer-4", &granted).await;
    let key = format!("Bearer {ADMIN_KEY}");
    let url = sidecar.admin_url("/v1/consents/customer-3");
    sidecar
        .app
        .send(crate::support::client::request(http::Method::DELETE, &url, &[("authorization", &key)], "".into()))
        .await;

    let all = page(&sidecar, "").await;
    assert_eq!(names(&all), ["customer-1", "customer-2", "customer-3", "customer-4"]);
    assert_eq!(all["next_cursor"], Value::Null);
    let told = all.to_string();
    assert!(!told.contains(&granted.access) && !told.contains(&granted.refresh), "{told}");
    for (query, wanted) in [
        ("?state=revoked", &["customer-3"] as &[&str]),
        ("?state=active&provider=abn-amro", &["customer-1", "customer-2", "customer-4"]),
        ("?state=active,revoked&expires_before=2098-06-01T00:00:00Z", &["customer-1", "customer-3"]),
        ("?provider=norsk-gjeld", &[]),
    ] {
        assert_eq!(names(&page(&sidecar, query).await), wanted, "{query}");
    }

    let url = |query: &str| sidecar.admin_url(&format!("/v1/consents{query}"));
    let refused = sidecar.app.get(&url(""), &[]).await;
    assert_eq!(refused.problem(), "admin-key-needed", "ids are not for everybody");
    for wrong in ["?state=odd", "?limit=0", "?cursor=eA", "?cursor=.", "?id=a"] {
        let answer = sidecar.app.get(&url(wrong), &[("authorization", &key)]).await;
        assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::BAD_REQUEST, "bad-request"), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_lists_all_pages_with_or_without_a_running_process() {
    let bank = Bank::start().await;
    let replica = on_a_port(Replica::embedded(&bank));
    let config = replica.write();
    let config = config.to_str().unwrap();
    let list = |more: &[&str]| run(&[&["consent", "list", "--config", config], more].concat());
    let granted = bank.grant(7_200).await;
    let file = replica.home().join("tokens.json");
    std::fs::write(&file, granted.import.to_string()).unwrap();
    let output = list(&[]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), ""), "there is none");
    assert!(text(&output.stderr).contains("no consent"));
    let output = run(&["consent", "import", "customer-0", file.to_str().unwrap(), "--config", config]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));

    // Nobody runs: the file is opened.
    let offline = list(&[]);
    let said = text(&offline.stdout);
    assert!(said.lines().next().unwrap().starts_with("CONSENT") && said.contains("customer-0"), "{said}");
    assert!(said.contains("abn-amro") && said.contains("active") && !said.contains(&granted.access), "{said}");

    let sidecar = replica.start().await;
    for number in 1..=12 {
        sidecar.import(&format!("customer-{number}"), &bank.grant(7_200).await).await;
    }
    let all: Value = serde_json::from_slice(&list(&["--json"]).stdout).unwrap();
    assert_eq!(names(&all).len(), 13);
    let some: Value = serde_json::from_slice(&list(&["--json", "--limit", "3"]).stdout).unwrap();
    assert_eq!(names(&some).len(), 3);
    let none: Value = serde_json::from_slice(&list(&["--json", "--state", "denied,revoked"]).stdout).unwrap();
    assert_eq!(names(&none), Vec::<String>::new());
    let soon: Value = serde_json::from_slice(&list(&["--json", "--expires-before", "14d"]).stdout).unwrap();
    assert_eq!(names(&soon), Vec::<String>::new(), "nobody knows when these end");
    for wrong in
        [&["--state", "odd"] as &[&str], &["--limit", "0"], &["--expires-before", "soon"], &["--provider", "A B"]]
    {
        assert_eq!(list(wrong).status.code(), Some(64), "{wrong:?}");
    }
}
