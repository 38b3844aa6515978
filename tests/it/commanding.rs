//! The command line: what it says when something is wrong, with which exit code, and that the demo is a pleasure.

use std::fs;
use std::process::Output;

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::bank::Bank;
use crate::support::client::App;
use crate::support::program::{Program, consentry};
use crate::support::redis::{RedisServer, free_port};
use crate::support::sidecar::Replica;

fn run(arguments: &[&str]) -> Output {
    consentry().args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_wrong_command_line_ends_with_64_and_help_with_0() {
    for wrong in [&["frobnicate"] as &[&str], &["run"], &["check", "--colour"], &["consent", "import"]] {
        let output = run(wrong);
        assert_eq!(output.status.code(), Some(64), "{wrong:?}");
        assert!(output.stdout.is_empty());
    }
    let output = run(&["consent", "show", "a b", "--config", "x.yaml"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("A-Z a-z 0-9"), "{}", text(&output.stderr));
    for help in [&["--help"] as &[&str], &["run", "--help"], &["--version"]] {
        assert_eq!(run(help).status.code(), Some(0), "{help:?}");
    }
}

#[test]
fn a_wrong_configuration_ends_with_78_and_names_every_place() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("consentry.yaml");
    let yaml = "proxy: {listen: 0.0.0.0:8080}\nproviders:\n  bank:\n    client_id: x\n    client_auth: {method: \
                client_secret_basic, secret: {file: missing}}\napis:\n  a: {path: accounts, provider: bnak}\nstor: {}\n";
    fs::write(&path, yaml).unwrap();
    for command in ["check", "run"] {
        let output = run(&[command, "--config", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(78), "{command}");
        let said = text(&output.stderr);
        for place in ["proxy.listen", "providers.bank", "apis.a.path", "apis.a.provider", "stor", "missing", "line"] {
            assert!(said.contains(place), "{command} does not name {place}:\n{said}");
        }
    }
    let output = run(&["check", "--json", "--config", path.to_str().unwrap()]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["usable"], false);
    assert!(report["faults"].as_array().unwrap().len() >= 5, "{report}");
    let output = run(&["run", "--config", "/nowhere/consentry.yaml"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("/nowhere/consentry.yaml"), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_or_a_file_that_is_taken_ends_with_69_and_is_named() {
    let bank = Bank::start().await;
    let port = free_port();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let replica = Replica::embedded(&bank)
        .change("proxy: {listen: \"127.0.0.1:0\"}", &format!("proxy: {{listen: 127.0.0.1:{port}}}"));
    let output = run(&["run", "--config", replica.write().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("proxy.listen"), "{}", text(&output.stderr));

    let replica = Replica::embedded(&bank);
    let running = replica.start().await;
    let output = run(&["run", "--config", replica.write().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    assert!(said.contains("another process"), "{said}");
    assert_eq!(running.app.get(&running.health_url("/livez"), &[]).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_imported_from_a_file_or_standard_input_with_or_without_a_running_process() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let replica = Replica::with_redis(&bank, &redis)
        .change("admin: {listen: \"127.0.0.1:0\"", &format!("admin: {{listen: \"127.0.0.1:{}\"", free_port()));
    let config = replica.write();
    let config = config.to_str().unwrap();
    let granted = bank.grant(7_200).await;
    let file = replica.home().join("tokens.json");
    fs::write(&file, granted.import.to_string()).unwrap();
    let file = file.to_str().unwrap();

    // Nobody runs: the store itself is opened.
    let output = run(&["consent", "import", "offline", file, "--config", config]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let output = run(&["consent", "show", "offline", "--json", "--config", config]);
    let view: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((view["state"].as_str(), view["provider"].as_str()), (Some("active"), Some("abn-amro")));

    let sidecar = replica.start().await;
    assert_eq!(sidecar.balances("offline").await.status, StatusCode::OK);
    let mut command = consentry();
    command.args(["consent", "import", "online", "--config", config]);
    command.stdin(fs::File::open(file).unwrap());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(!text(&output.stdout).contains(&granted.access));
    assert_eq!(sidecar.balances("online").await.status, StatusCode::OK);

    let again = run(&["consent", "import", "online", file, "--config", config]);
    assert_eq!(again.status.code(), Some(1));
    let version = sidecar.version("online").await;
    assert!(text(&again.stderr).contains(&version), "it names what is there: {}", text(&again.stderr));
    let replaced = run(&["consent", "import", "online", file, "--replace", &version, "--config", config]);
    assert_eq!(replaced.status.code(), Some(0), "{}", text(&replaced.stderr));
    assert_ne!(sidecar.version("online").await, version);

    fs::write(file, json!({ "provider": "abn-amro", "access_token": 7 }).to_string()).unwrap();
    let output = run(&["consent", "import", "broken", file, "--config", config]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("access_token"), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_frozen_on_one_replica_is_frozen_on_all_until_it_is_thawed() {
    let (bank, redis) = (Bank::start().await, RedisServer::start().await);
    let replica = Replica::with_redis(&bank, &redis)
        .change("admin: {listen: \"127.0.0.1:0\"", &format!("admin: {{listen: \"127.0.0.1:{}\"", free_port()));
    let config = replica.write();
    let config = config.to_str().unwrap();
    let provider = |action: &str, more: &[&str]| {
        let output = run(&[&["provider", action], more, &["--json", "--config", config]].concat());
        assert_eq!(output.status.code(), Some(0), "{action}: {}", text(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    // Nobody runs: the store itself is opened.
    assert_eq!(provider("freeze", &["norsk-gjeld"])["freeze"]["reason"], "operator");

    let (one, elsewhere) = (replica.start().await, Replica::with_redis(&bank, &redis));
    let other = elsewhere.start().await;
    let frozen = provider("freeze", &["abn-amro", "--why", "their migration"]);
    assert_eq!(frozen["freeze"]["why"], "their migration");
    let seen = other.app.get(&other.admin_url("/v1/providers/abn-amro"), &[]).await.json();
    assert_eq!(seen["freeze"]["why"], "their migration", "{seen}");
    assert_eq!(seen["freeze"]["by"], frozen["freeze"]["by"]);
    let line = "frozen: abn-amro (operator), norsk-gjeld (operator)";
    for sidecar in [&one, &other] {
        sidecar
            .until("it says so and stays ready", async || {
                let answer = sidecar.app.get(&sidecar.health_url("/readyz?verbose"), &[]).await;
                assert_eq!(answer.status, StatusCode::OK);
                text(&answer.body).lines().any(|told| told == line)
            })
            .await;
        let told = sidecar.metrics().await;
        assert!(told.contains("consentry_provider_frozen{provider=\"abn-amro\"} 1"), "{told}");
    }
    let all = provider("show", &[]);
    assert_eq!(all["providers"].as_array().unwrap().len(), 2, "{all}");
    let shown = run(&["provider", "show", "abn-amro", "--config", config]);
    let said = text(&shown.stdout);
    assert!(said.contains("their migration") && said.contains("closed"), "{said}");

    assert_eq!(provider("thaw", &["abn-amro"])["freeze"], Value::Null);
    let seen = other.app.get(&other.admin_url("/v1/providers/abn-amro"), &[]).await.json();
    assert_eq!(seen["freeze"], Value::Null);
    let unknown = run(&["provider", "freeze", "nobody", "--config", config]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("no such provider"), "{}", text(&unknown.stderr));
}

#[test]
fn a_new_seal_key_is_32_bytes_of_base64_and_never_the_same() {
    use base64::Engine as _;
    let keys: Vec<_> = (0..2).map(|_| text(&run(&["keygen"]).stdout).trim().to_owned()).collect();
    assert_ne!(keys[0], keys[1]);
    assert_eq!(base64::engine::general_purpose::STANDARD.decode(&keys[0]).unwrap().len(), 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_starts_at_once_and_everything_it_prints_works() {
    let mut command = consentry();
    command.arg("demo");
    let started = tokio::time::Instant::now();
    let mut demo = Program::start(command);
    let said = demo.said("how to end it", |output| output.contains("Ctrl-C").then(|| output.to_owned())).await;
    let took = started.elapsed();
    assert!(took.as_secs() < 5, "a second is promised, and this machine is busy: {took:?}");

    let commands: Vec<String> = said.replace("\\\n", " ").lines().map(str::trim).map(str::to_owned).collect();
    let curls: Vec<_> = commands.iter().filter(|line| line.starts_with("curl ") || line.starts_with("seq ")).collect();
    assert_eq!(curls.len(), 8, "{said}");
    let shell = |line: &str| {
        let output = std::process::Command::new("sh").args(["-c", line]).output().unwrap();
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    assert!(shell(curls[0]).contains("accountNumber"), "{}", shell(curls[0]));
    assert!(shell(curls[1]).contains("14842249091"));
    assert!(shell(curls[1]).contains("14842249091"), "more than once");
    shell(curls[2]);
    assert_eq!(shell(curls[3]).split_whitespace().collect::<Vec<_>>(), ["200", "200"], "200 calls, all answered 200");
    let counters: Value = serde_json::from_str(&shell(curls[4])).unwrap();
    assert_eq!((counters["abn"]["refreshes"].as_u64(), counters["abn"]["reuse_events"].as_u64()), (Some(1), Some(0)));

    let started: Value = serde_json::from_str(&shell(curls[5])).unwrap();
    assert_eq!(started["state"], "pending", "{started}");
    let sent =
        shell(&format!("curl -s -o /dev/null -w '%{{redirect_url}}' {}", started["start_url"].as_str().unwrap()));
    assert!(shell(&format!("curl -s '{sent}'")).contains("<form"), "the bank's first page is behind {sent}");

    // What is granted in a browser is read like this; until then nobody has consented, and at the other bank nobody was asked.
    let consent = started["consent_id"].as_str().unwrap();
    for (curl, problem) in curls[6..].iter().zip(["consent-pending", "consent-unknown"]) {
        let answer: Value = serde_json::from_str(&shell(&curl.replace("CONSENT_ID", consent))).unwrap();
        assert!(answer["type"].as_str().unwrap().ends_with(problem), "{curl}: {answer}");
    }

    // The other bank as well: nothing may lead off this machine.
    let other = curls[5]
        .replace("abn-amro", "norsk-gjeld")
        .replace("\"}", "\", \"scope\": \"debt.unsecured.presentation.30\"}");
    let started: Value = serde_json::from_str(&shell(&other)).unwrap();
    let start_url = started["start_url"].as_str().unwrap_or_else(|| panic!("{other}: {started}"));
    let sent = shell(&format!("curl -s -o /dev/null -w '%{{redirect_url}}' {start_url}"));
    assert!(sent.starts_with("http://127.0.0.1:") || sent.starts_with("http://localhost:"), "{sent}");
    assert!(shell(&format!("curl -s '{sent}'")).contains("<form"), "the bank's first page is behind {sent}");

    let admin = commands.iter().find_map(|line| line.strip_prefix("admin")).unwrap().trim();
    let url = admin.split_whitespace().collect::<String>();
    let view = App::new().get(&url, &[]).await;
    assert_eq!(view.json()["state"], "active");
    let folder = std::env::temp_dir().join(format!("consentry-demo-{}", demo.id()));
    assert!(folder.exists());
    demo.signal("INT");
    assert!(demo.ended().await.success());
    assert!(!folder.exists(), "it cleans up");
}
