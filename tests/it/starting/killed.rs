//! A process that is killed while it exchanges a code.

use super::*;

/// A browser that has come back to a process that dies at one of these places. The replica, started again without it, and where
/// the bank had sent the browser.
async fn killed_at(street: &Street, places: &str) -> (Replica, Sidecar, Browser, String) {
    let mut replica = street.replica().environment("CONSENTRY_FAILPOINTS", places);
    let mut sidecar = replica.start().await;
    let started = start(&sidecar, "customer-1").await;
    let mut browser = Browser::new();
    let back = browser.agree(&started).await;
    let lost =
        browser.app.try_send(request(Method::GET, &back, &cookies(&browser).headers(), bytes::Bytes::new())).await;
    assert!(lost.is_err(), "{lost:?}");
    sidecar.program.ended().await;
    drop(sidecar);
    replica.forget_environment();
    let sidecar = replica.start().await;
    browser.app = App::new();
    (replica, sidecar, browser, back)
}

struct Cookies(String);

impl Cookies {
    fn headers(&self) -> [(&str, &str); 1] {
        [("cookie", &self.0)]
    }
}

fn cookies(browser: &Browser) -> Cookies {
    let jar: Vec<_> = browser.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Cookies(jar.join("; "))
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_the_claim_and_the_request_nobody_sends_the_code_and_the_customer_starts_again() {
    let street = Street::new().await;
    let (_replica, sidecar, mut browser, back) = killed_at(&street, "after-claim=kill").await;
    assert_eq!(street.exchanges().await, (0, 0));
    let waiting = browser.get(&back).await;
    assert_eq!(waiting.status, StatusCode::ACCEPTED, "whether it was sent is not known: {waiting:?}");
    assert_eq!(street.exchanges().await, (0, 0));
    assert_eq!(sidecar.balances("customer-1").await.problem(), "consent-pending");

    let started = start(&sidecar, "customer-1").await;
    let mut browser = Browser::new();
    let back = browser.agree(&started).await;
    assert_eq!(location(&browser.get(&back).await), ended("customer-1", "granted"));
    assert_eq!(sidecar.balances("customer-1").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_with_the_answer_on_disk_the_next_start_stores_it_and_the_customer_is_told() {
    let street = Street::new().await;
    let (_replica, sidecar, mut browser, back) = killed_at(&street, "before-commit=stop,after-spill=kill").await;
    sidecar
        .until("the spilled grant serves", async || sidecar.balances("customer-1").await.status == StatusCode::OK)
        .await;
    assert_eq!(sidecar.consent("customer-1").await["generation"], 1);
    assert_eq!(location(&browser.get(&back).await), ended("customer-1", "granted"));
    assert_eq!(street.exchanges().await, (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_the_commit_the_replay_changes_nothing() {
    let street = Street::new().await;
    let (_replica, sidecar, mut browser, back) = killed_at(&street, "after-commit=kill").await;
    let version = sidecar.version("customer-1").await;
    assert_eq!(location(&browser.get(&back).await), ended("customer-1", "granted"));
    assert_eq!(sidecar.balances("customer-1").await.status, StatusCode::OK);
    sidecar.until_within(30, "the spill is removed", async || sidecar.spills().is_empty()).await;
    assert_eq!(sidecar.version("customer-1").await, version);
    assert_eq!(street.exchanges().await, (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_store_away_after_the_answer_the_customer_is_told_and_the_consent_serves() {
    let street = Street::new().await;
    let replica = street.replica();
    let sidecar = replica.start().await;
    let started = start(&sidecar, "customer-1").await;
    let mut browser = Browser::new();
    let back = browser.agree(&started).await;
    let rule = json!({"target": "abn-token", "grant_type": "authorization_code", "times": 1,
                      "fault": {"delay_ms": 1_500}});
    street.bank.control(Method::POST, "/faults", &rule).await;
    let arriving = browser.get(&back);
    let stopping = async {
        sidecar.until("the bank was asked", async || street.exchanges().await.0 == 1).await;
        street.redis.signal("STOP");
    };
    let (arrived, ()) = tokio::join!(arriving, stopping);
    assert_eq!(location(&arrived), ended("customer-1", "granted"));
    assert_eq!(sidecar.balances("customer-1").await.status, StatusCode::OK, "from memory and the spill");
    street.redis.signal("CONT");
    sidecar
        .until_within(30, "it is stored", async || {
            let url = sidecar.admin_url("/v1/consents/customer-1");
            let view = sidecar.app.get(&url, &[]).await;
            view.status == StatusCode::OK && view.json()["state"] == "active"
        })
        .await;
    assert_eq!(street.exchanges().await, (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_store_away_before_the_claim_nothing_is_sent_and_a_reload_goes_on() {
    let street = Street::new().await;
    let sidecar = street.replica().start().await;
    let started = start(&sidecar, "customer-1").await;
    let mut browser = Browser::new();
    let back = browser.agree(&started).await;
    street.redis.signal("STOP");
    let turned_away = browser.get(&back).await;
    assert_eq!(turned_away.status, StatusCode::SERVICE_UNAVAILABLE, "{turned_away:?}");
    assert_eq!(street.exchanges().await, (0, 0));
    street.redis.signal("CONT");
    assert_eq!(location(&browser.get(&back).await), ended("customer-1", "granted"));
    assert_eq!(street.exchanges().await, (1, 0));
}
