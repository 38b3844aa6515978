//! `consentry login`: through the callback listener, and with an address that is pasted.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use super::*;
use crate::support::program::{Program, consentry};

/// Where ABN AMRO's sandbox sends browsers, and nobody listens.
const NOWHERE: &str = "https://localhost/auth";

fn at_home(street: &Street) -> Replica {
    let admin = format!("admin: {{listen: \"127.0.0.1:{}\"", free_port());
    street.replica().change("admin: {listen: \"127.0.0.1:0\"", &admin)
}

fn login(replica: &Replica, more: &[&str]) -> Program {
    let mut command = consentry();
    command.args(["login", "abn-amro", "--config"]).arg(replica.write()).args(more).stdin(Stdio::piped());
    command.env("BROWSER", "/nowhere/browser");
    Program::start(command)
}

/// The address that it prints for the browser.
async fn printed(program: &mut Program) -> String {
    let find = |output: &str| {
        let line = output.lines().map(str::trim).find(|line| line.starts_with("http://") && line.len() > 30);
        line.map(str::to_owned)
    };
    program.said("an address", find).await
}

/// A street on which the bank takes the address as well at which nobody listens.
async fn street() -> Street {
    let street = Street::new().await;
    let uris = json!({ "redirect_uris": [format!("{}/callback", street.public_url), NOWHERE] });
    street.bank.control(Method::PATCH, "/abn-amro/settings", &uris).await;
    street
}

async fn post(sidecar: &Sidecar, path: &str, body: &Value) -> Answer {
    let key = format!("Bearer {ADMIN_KEY}");
    sidecar.app.json(Method::POST, &sidecar.admin_url(path), &[("authorization", &key)], body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_logs_in_with_a_browser_and_is_told_when_the_consent_is_active() {
    let street = street().await;
    let replica = at_home(&street);
    let mut nobody = login(&replica, &["--callback"]);
    assert_eq!(nobody.ended().await.code(), Some(69), "{}", nobody.output());
    let sidecar = replica.start().await;

    // What is to open the address writes it down.
    let (script, opened) = (replica.home().join("browser"), replica.home().join("opened"));
    fs::write(&script, format!("#!/bin/sh\nprintf %s \"$2\" > {}\n", opened.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = consentry();
    command.args(["login", "abn-amro", "--callback", "--consent", "customer-1", "--config"]).arg(replica.write());
    let mut program = Program::start({
        command.env("BROWSER", format!("{} --new-window %s", script.display()));
        command
    });
    let url = printed(&mut program).await;
    sidecar.until("the browser is opened", async || fs::read_to_string(&opened).is_ok_and(|seen| seen == url)).await;
    let mut browser = Browser::new();
    let back = browser.agree(&json!({ "start_url": url })).await;
    let arrived = browser.get(&back).await;
    assert_eq!(arrived.status, StatusCode::OK, "a page, for there is no app");
    assert!(program.ended().await.success(), "{}", program.output());
    assert!(program.output().contains("customer-1 is active"), "{}", program.output());
    assert_eq!(sidecar.balances("customer-1").await.status, StatusCode::OK);

    // Again, and the bank is told no: what there is stays.
    let mut program = login(&replica, &["--callback", "--no-browser", "--json", "--consent", "customer-1"]);
    let mut browser = Browser::new();
    let (at, page) = browser.open_the_bank(&json!({ "start_url": printed(&mut program).await })).await;
    let cancelled = browser.fill_in(&at, &page, "answer=cancel").await;
    browser.get(&location(&cancelled)).await;
    assert_eq!(program.ended().await.code(), Some(1), "{}", program.output());
    assert!(program.output().contains("\"status\": \"denied\""), "{}", program.output());
    assert_eq!(sidecar.balances("customer-1").await.status, StatusCode::OK);

    let mut alone = login(&replica, &["--callback", "--timeout", "1"]);
    assert_eq!(alone.ended().await.code(), Some(69), "{}", alone.output());
    assert!(alone.output().contains("nobody came back"), "{}", alone.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_bank_sends_the_browser_nowhere_its_address_is_pasted() {
    let street = street().await;
    let replica = at_home(&street);
    let sidecar = replica.start().await;
    let mut program = login(&replica, &["--consent", "customer-1"]);
    let url = printed(&mut program).await;
    assert!(url.contains("redirect_uri=https%3A%2F%2Flocalhost%2Fauth&"), "{url}");
    let mut browser = Browser::new();
    let page = browser.get(&url).await;
    let back = browser.agree_at(&url, page).await;
    assert!(back.starts_with("https://localhost/auth?"), "{back}");

    // Neither what is no such address, nor what somebody else was sent back to, nor a browser that brings it: all without a code.
    program.type_line("https://localhost/elsewhere?code=x&state=y");
    program.said("that it is wrong", |output| output.contains("pasted_redirect_uri").then_some(())).await;
    let other = post(&sidecar, "/v1/logins", &json!({ "provider": "abn-amro" })).await;
    assert_eq!(other.status, StatusCode::CREATED, "{other:?}");
    let at = other.json()["authorize_url"].as_str().unwrap().to_owned();
    let mut thief = Browser::new();
    let page = thief.get(&at).await;
    let foreign = thief.agree_at(&at, page).await;
    program.type_line(&foreign);
    program.said("whose it is", |output| output.contains("another attempt").then_some(())).await;
    let here = back.replace(NOWHERE, &format!("{}/callback", street.public_url));
    assert_eq!(browser.get(&here).await.status, StatusCode::FORBIDDEN);
    assert_eq!(street.exchanges().await, (0, 0));
    assert_eq!(sidecar.balances("customer-1").await.problem(), "consent-pending");

    program.type_line(&format!("{back}#"));
    assert!(program.ended().await.success(), "{}", program.output());
    assert!(program.output().contains("customer-1 is active"), "{}", program.output());
    assert_eq!(sidecar.balances("customer-1").await.status, StatusCode::OK);
    assert_eq!(street.exchanges().await, (1, 0));
    street.bank.control(Method::POST, "/abn-amro/expire-access-tokens", &Value::Null).await;
    assert_eq!(sidecar.balances("customer-1").await.status, StatusCode::OK, "and it is renewed as any other");

    let returned = json!({ "url": foreign, "key": other.json()["key"] });
    for _ in 0..2 {
        let answer = post(&sidecar, "/v1/logins/return", &returned).await;
        assert_eq!((answer.status, &answer.json()["status"]), (StatusCode::OK, &json!("granted")), "{answer:?}");
    }
    assert_eq!(street.exchanges().await, (2, 0), "an address that is handed over twice sends nothing twice");

    let output = sidecar.program.output();
    for secret in [&back, &foreign].map(|url| url.split("code=").nth(1).unwrap().split('&').next().unwrap()) {
        assert!(!output.contains(secret), "{secret} is in the log");
    }
    assert!(!output.contains(other.json()["key"].as_str().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_is_pasted_too_and_what_is_no_address_at_all_ends_it() {
    let street = street().await;
    let replica = at_home(&street);
    let _sidecar = replica.start().await;
    let mut program = login(&replica, &["--consent", "customer-1"]);
    let url = printed(&mut program).await;
    let mut browser = Browser::new();
    let page = browser.get(&url).await;
    let cancelled = browser.fill_in(&url, &page, "answer=cancel").await;
    program.type_line(&location(&cancelled));
    assert_eq!(program.ended().await.code(), Some(1), "{}", program.output());
    assert!(program.output().contains("denied"), "{}", program.output());

    let mut program = login(&replica, &[]);
    printed(&mut program).await;
    for _ in 0..3 {
        program.type_line("what?");
    }
    assert_eq!(program.ended().await.code(), Some(1), "{}", program.output());
    assert!(program.output().contains("begin anew"), "{}", program.output());
    let mut late = login(&replica, &["--timeout", "1"]);
    assert_eq!(late.ended().await.code(), Some(69), "{}", late.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_began_at_the_callback_listener_is_not_finished_by_hand() {
    let street = street().await;
    let sidecar = at_home(&street).start().await;
    let started = start(&sidecar, "customer-1").await;
    let mut browser = Browser::new();
    let back = browser.agree(&started).await;
    // Even with the key of its cookie.
    let key = browser.cookies.iter().find(|(name, _)| name.contains("consentry")).unwrap().1.clone();
    let moved = back.replace(&format!("{}/callback", street.public_url), NOWHERE);
    let refused = post(&sidecar, "/v1/logins/return", &json!({ "url": moved, "key": key })).await;
    assert_eq!((refused.status, refused.problem().as_str()), (StatusCode::NOT_FOUND, "login-unknown"), "{refused:?}");
    assert_eq!(location(&browser.get(&back).await), ended("customer-1", "granted"));

    let rows = [
        ("/v1/logins", json!({ "provider": "nobody" }), "provider-unknown"),
        ("/v1/logins", json!({ "provider": "norsk-gjeld" }), "start-not-offered"),
        ("/v1/logins", json!({ "provider": "abn-amro", "return_url": DONE }), "start-invalid"),
        ("/v1/logins/return", json!({ "url": NOWHERE }), "login-invalid"),
        ("/v1/logins/return", json!({ "url": format!("{NOWHERE}?code=a&state=b"), "key": "c" }), "login-unknown"),
        ("/v1/logins/return", json!({ "url": format!("{NOWHERE}?code=a"), "key": "c" }), "login-invalid"),
    ];
    for (path, body, kind) in rows {
        assert_eq!(post(&sidecar, path, &body).await.problem(), kind, "{path} {body}");
    }
    let bare = sidecar.app.json(Method::POST, &sidecar.admin_url("/v1/logins"), &[], &json!({})).await;
    assert_eq!(bare.problem(), "admin-key-needed");
}
