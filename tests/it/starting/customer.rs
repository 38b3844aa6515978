//! What a customer may do, and what somebody may do who is none.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_consents_at_the_banks_pages_and_the_account_is_read_and_its_token_renewed() {
    let street = Street::new().await;
    let sidecar = street.replica().change("level: info", "level: trace").start().await;
    let started = start(&sidecar, "customer-1").await;
    assert_eq!(started["state"], "pending");
    assert_eq!(sidecar.balances("customer-1").await.problem(), "consent-pending");

    let mut browser = Browser::new();
    let back = browser.agree(&started).await;
    let arrived = browser.get(&back).await;
    assert_eq!(location(&arrived), ended("customer-1", "granted"));
    let view = sidecar.consent("customer-1").await;
    assert_eq!((&view["state"], &view["generation"]), (&json!("active"), &json!(1)));
    assert!(view["scope"].as_str().unwrap().contains("psd2:account:balance:read"), "{view}");
    assert!(view["consent_expires_at"].as_str().is_some(), "{view}");
    let read = sidecar.balances("customer-1").await;
    assert_eq!(read.status, StatusCode::OK, "{read:?}");

    street.bank.control(Method::POST, "/abn-amro/expire-access-tokens", &Value::Null).await;
    assert_eq!(sidecar.balances("customer-1").await.status, StatusCode::OK);
    assert_eq!((street.bank.refreshes().await, street.bank.reuse_events().await), (1, 0));
    assert_eq!(street.exchanges().await, (1, 0));
    assert!(kinds(&sidecar, "customer-1").await.starts_with(&["asked".to_owned(), "seeded".to_owned()]));
    let metrics = sidecar.metrics().await;
    for outcome in ["started", "granted"] {
        let line = format!("consentry_attempts_total{{provider=\"abn-amro\",outcome=\"{outcome}\"}} 1");
        assert!(metrics.contains(&line), "{metrics}");
    }

    // Nothing that is worth stealing is in the log, at any level.
    let output = sidecar.program.output();
    let code = back.split("code=").nth(1).unwrap().split('&').next().unwrap();
    let state = back.split("state=").nth(1).unwrap().split('&').next().unwrap();
    let ticket = started["start_url"].as_str().unwrap().rsplit('/').next().unwrap();
    for secret in [code, state, ticket].into_iter().chain(browser.cookies.iter().map(|(_, value)| value.as_str())) {
        assert!(!output.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_who_cancels_leaves_a_new_consent_denied() {
    let street = Street::new().await;
    let sidecar = street.replica().start().await;
    let started = start(&sidecar, "customer-1").await;
    let mut browser = Browser::new();
    let (at, page) = browser.open_the_bank(&started).await;
    // As this bank says it: server_error.
    let cancelled = browser.fill_in(&at, &page, "answer=cancel").await;
    let arrived = browser.get(&location(&cancelled)).await;
    assert_eq!(location(&arrived), ended("customer-1", "denied"));
    assert_eq!(sidecar.balances("customer-1").await.problem(), "consent-denied");
    assert_eq!(street.exchanges().await, (0, 0));

    let started = start(&sidecar, "customer-1").await;
    assert_eq!(started["state"], "pending");
    let mut browser = Browser::new();
    let back = browser.agree(&started).await;
    assert_eq!(location(&browser.get(&back).await), ended("customer-1", "granted"));
    assert_eq!(sidecar.balances("customer-1").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_of_the_bank_ends_clearly_and_is_in_the_history() {
    let street = Street::new().await;
    let sidecar = street.replica().start().await;
    let rows = [
        ("access_denied", "denied", "access_denied"),
        ("consent_denied", "denied", "consent_denied"),
        ("login_cancelled", "denied", "login_cancelled"),
        ("server_error", "denied", "server_error"),
        ("invalid_scopes", "failed", "invalid_scopes"),
        ("temporarily_unavailable", "failed", "temporarily_unavailable"),
        ("Something-else!", "failed", "other_error"),
    ];
    for (number, (error, status, why)) in rows.into_iter().enumerate() {
        let consent = format!("customer-{number}");
        street.bank.fault("abn-authorize", 1, json!({ "authorize_error": error })).await;
        let started = start(&sidecar, &consent).await;
        let mut browser = Browser::new();
        let (_, sent_back) = browser.open_the_bank(&started).await;
        let back = location(&sent_back);
        for _ in 0..2 {
            assert_eq!(location(&browser.get(&back).await), ended(&consent, status), "{error}");
        }
        let history = sidecar.history(&consent).await;
        let last = history["events"].as_array().unwrap().last().unwrap().clone();
        let kind = if status == "denied" { "ended" } else { "not_granted" };
        assert_eq!((&last["event"], &last["why"]), (&json!(kind), &json!(why)), "{error}");
        let state = if status == "denied" { "denied" } else { "pending" };
        assert_eq!(history["state"], state, "{error}");
    }
    assert_eq!(street.exchanges().await, (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_browser_gets_nowhere_and_a_callback_that_is_repeated_sends_nothing() {
    let street = Street::new().await;
    let sidecar = street.replica().start().await;
    let started = start(&sidecar, "customer-1").await;
    let (mut browser, mut thief) = (Browser::new(), Browser::new());
    let back = browser.agree(&started).await;
    for url in [started["start_url"].as_str().unwrap(), &back] {
        let refused = thief.get(url).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
        assert!(text(&refused).contains("another browser"), "{refused:?}");
    }
    assert!(thief.cookies.is_empty());
    assert_eq!(street.exchanges().await, (0, 0));

    for _ in 0..3 {
        assert_eq!(location(&browser.get(&back).await), ended("customer-1", "granted"));
    }
    let forged = back.replace("code=", "code=forged");
    assert_eq!(location(&browser.get(&forged).await), ended("customer-1", "granted"));
    assert_eq!(thief.get(&back).await.status, StatusCode::FORBIDDEN);
    assert_eq!(street.exchanges().await, (1, 0), "a code that comes twice would end the consent");
    assert_eq!(sidecar.balances("customer-1").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_in_use_serves_until_the_customer_has_consented_again() {
    let street = Street::new().await;
    let sidecar = street.replica().start().await;
    let granted = street.bank.grant(7_200).await;
    sidecar.import("customer-1", &granted).await;
    let before = sidecar.version("customer-1").await;
    let started = start(&sidecar, "customer-1").await;
    assert_eq!(started["state"], "active");
    let mut browser = Browser::new();
    let back = browser.agree(&started).await;
    assert_eq!(sidecar.balances("customer-1").await.status, StatusCode::OK);

    // The answer to the exchange is lost: what there was stays, and the customer starts again.
    let rule = json!({"target": "abn-token", "grant_type": "authorization_code", "times": 1,
                      "fault": {"drop_after_processing": true}});
    street.bank.control(Method::POST, "/faults", &rule).await;
    for _ in 0..2 {
        assert_eq!(location(&browser.get(&back).await), ended("customer-1", "failed"));
    }
    assert_eq!(sidecar.version("customer-1").await, before);
    assert_eq!(sidecar.balances("customer-1").await.status, StatusCode::OK);

    let started = start(&sidecar, "customer-1").await;
    let mut browser = Browser::new();
    let back = browser.agree(&started).await;
    assert_eq!(location(&browser.get(&back).await), ended("customer-1", "granted"));
    assert_ne!(sidecar.version("customer-1").await, before);
    street.bank.control(Method::POST, "/abn-amro/expire-access-tokens", &Value::Null).await;
    sidecar
        .until("the new grant is renewed", async || sidecar.balances("customer-1").await.status == StatusCode::OK)
        .await;
    assert_eq!(street.bank.reuse_events().await, 0);
    assert_eq!(street.exchanges().await, (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_norsk_gjeldsinformasjon_a_person_approves_denies_or_turns_back() {
    let street = Street::new().await;
    let sidecar = street.replica().start().await;
    let login = "step=login&answer=next&nin=14842249091";
    let rows = [
        ("person-1", vec![login, "step=consent&answer=approve"], "granted"),
        ("person-2", vec![login, "step=consent&answer=deny"], "denied"),
        ("person-3", vec!["step=login&answer=cancel"], "denied"),
    ];
    for (consent, forms, status) in rows {
        let scope = "debt.unsecured.presentation.30";
        let body = json!({ "provider": "norsk-gjeld", "consent_id": consent, "scope": scope, "return_url": DONE });
        let started = start_with(&sidecar, &body).await;
        let mut browser = Browser::new();
        let (at, mut page) = browser.open_the_bank(&started).await;
        for form in forms {
            page = browser.fill_in(&at, &page, form).await;
        }
        assert_eq!(location(&browser.get(&location(&page)).await), ended(consent, status));
        let read = sidecar.app.get(&sidecar.url("/debt/v1/debt"), &[("consent-id", consent)]).await;
        if status == "granted" {
            assert_eq!(read.status, StatusCode::OK, "{read:?}");
            let view = sidecar.consent(consent).await;
            assert_eq!(view["scope"], "debt.unsecured.presentation", "the bank's words, without days");
            assert!(
                view["consent_expires_at"].as_str().is_some() && view["refresh_token_fingerprint"].is_null(),
                "{view}"
            );
        } else {
            assert_eq!(read.problem(), "consent-denied");
        }
    }
    assert_eq!(street.bank.count("norsk_gjeld", "code_exchanges").await, 1);
    // Two scopes at once are the bank's own rule, and are not even tried.
    let both = json!({ "provider": "norsk-gjeld", "scope": "debt.unsecured.presentation debt.unsecured.processing" });
    let key = format!("Bearer {ADMIN_KEY}");
    let url = sidecar.admin_url("/v1/consents");
    let refused = sidecar.app.json(Method::POST, &url, &[("authorization", &key)], &both).await;
    assert_eq!((refused.status, refused.problem().as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "start-invalid"));
}

#[tokio::test(flavor = "multi_thread")]
async fn any_replica_takes_a_customer_back() {
    let street = Street::new().await;
    // The one that customers come to, and one that apps ask.
    let front = street.replica().start().await;
    let home = street.replica_at(free_port());
    let behind = home.start().await;
    let started = start(&behind, "customer-1").await;
    let mut browser = Browser::new();
    let back = browser.agree(&started).await;
    assert_eq!(location(&browser.get(&back).await), ended("customer-1", "granted"));
    for sidecar in [&front, &behind] {
        assert_eq!(sidecar.balances("customer-1").await.status, StatusCode::OK);
    }
    assert_eq!(street.bank.refreshes().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_prints_where_to_send_the_customer() {
    let street = Street::new().await;
    let replica = street
        .replica()
        .change("admin: {listen: \"127.0.0.1:0\"", &format!("admin: {{listen: \"127.0.0.1:{}\"", free_port()));
    let config = replica.write();
    let run = |more: &[&str]| {
        let mut command = crate::support::program::consentry();
        command.args(["consent", "start", "abn-amro", "--config", config.to_str().unwrap()]).args(more);
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, _, said) = run(&[]);
    assert_eq!(code, Some(69), "nobody runs: {said}");
    let sidecar = replica.start().await;
    let (code, url, said) = run(&["--id", "customer-1", "--return-url", DONE]);
    assert_eq!(code, Some(0), "{said}");
    let mut browser = Browser::new();
    let back = browser.agree(&json!({ "start_url": url.trim() })).await;
    assert_eq!(location(&browser.get(&back).await), ended("customer-1", "granted"));
    let (_, told, _) = run(&["--id", "customer-1", "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["state"], "active");
    let both = "psd2:account:balance:read psd2:payment:sepa:write";
    let (code, _, said) = run(&["--scope", both]);
    assert_eq!(code, Some(1));
    assert!(said.contains("psd2:payment:*"), "{said}");
    let (code, _, said) = run(&["--id", "a b"]);
    assert_eq!(code, Some(64));
    assert!(said.contains("consent_id"), "{said}");
    let why = sidecar.history("customer-1").await;
    assert!(why["events"][0]["text"].as_str().unwrap().contains("a customer was asked"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_that_is_revoked_while_its_customer_is_asked_stays_revoked_whatever_the_customer_says() {
    let street = Street::new().await;
    let sidecar = street.replica().start().await;
    let started = start(&sidecar, "customer-1").await;
    let mut browser = Browser::new();
    let back = browser.agree(&started).await;
    let key = format!("Bearer {ADMIN_KEY}");
    let url = sidecar.admin_url("/v1/consents/customer-1");
    let revoked = sidecar.app.send(request(Method::DELETE, &url, &[("authorization", &key)], "".into())).await;
    assert_eq!((revoked.status, &revoked.json()["at_bank"]), (StatusCode::OK, &json!("nothing_granted")));
    assert_eq!(location(&browser.get(&back).await), ended("customer-1", "failed"));
    assert_eq!(sidecar.balances("customer-1").await.problem(), "consent-revoked");

    let started = start(&sidecar, "customer-1").await;
    let mut browser = Browser::new();
    let back = browser.agree(&started).await;
    assert_eq!(location(&browser.get(&back).await), ended("customer-1", "granted"), "who is asked anew may consent");
    assert_eq!(sidecar.balances("customer-1").await.status, StatusCode::OK);
}
