//! Customers who are asked again, and the app that has them back.

use serde_json::json;

use crate::banks::{Bank, Ours, start_url};
use crate::customer::Customer;
use crate::driver::Driver;
use crate::support::rogue::{Rogue, Then, answer};
use crate::support::street::{DONE, Street, start_with};

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_who_refuses_to_consent_again_keeps_the_consent_that_there_is_and_reads_nothing_else() {
    let (street, driver) = tokio::join!(Street::new(), Driver::start());
    let sidecar = street.replica().start().await;
    let customer = Customer::new(driver.open("en").await, "en").await;
    for bank in Bank::BOTH {
        let consent = bank.control();
        customer.open(&bank.ask(&sidecar, consent).await).await;
        bank.decide(&customer, true).await;
        let granted = sidecar.version(consent).await;

        customer.open(&bank.ask(&sidecar, consent).await).await;
        bank.decide(&customer, false).await;
        customer.sees("en", Ours::Denied.heading("en")).await;
        let said = customer.window.run("return document.querySelector('main').textContent", json!([])).await;
        assert!(said.as_str().unwrap().contains("What you agreed to before has not changed."), "{said}");

        street.bank.fault(bank.authorize(), 1, json!({"authorize_error": "temporarily_unavailable"})).await;
        customer.open(&bank.ask(&sidecar, consent).await).await;
        customer.sees("en", Ours::Failed.heading("en")).await;

        assert_eq!(sidecar.consent(consent).await["state"], "active");
        assert_eq!(sidecar.version(consent).await, granted);
        bank.is_read(&sidecar, consent).await;

        customer.open(&bank.ask(&sidecar, consent).await).await;
        bank.decide(&customer, true).await;
        customer.sees("en", Ours::Granted.heading("en")).await;
        assert_ne!(sidecar.version(consent).await, granted);
        bank.is_read(&sidecar, consent).await;
    }
    customer.window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_has_its_customer_back_and_learns_how_it_ended_and_nothing_more() {
    let (street, driver, app) = tokio::join!(Street::new(), Driver::start(), Rogue::start());
    let done = app.url("/done");
    let sidecar = street.replica().change(DONE, &done).start().await;
    let customer = Customer::new(driver.open("en").await, "en").await;
    for (consent, yes, status) in [("c-1", true, "granted"), ("c-2", false, "denied")] {
        let body = json!({ "provider": "abn-amro", "consent_id": consent, "return_url": done });
        let started = start_with(&sidecar, &body).await;
        customer.open(&start_url(&started)).await;
        app.forget();
        app.next_api_answer((answer(200, "<!doctype html><h1>The app</h1>"), Then::Close));
        Bank::AbnAmro.decide(&customer, yes).await;
        customer.waits_for("The app").await;
        assert_eq!(customer.window.url().await, format!("{done}?consent_id={consent}&status={status}"));
        let asked = app.all_requests()[0].to_lowercase();
        // A cookie of the bank's may be there, as both are at 127.0.0.1; ours may not.
        for secret in ["referer", "code=", "state=", "consentry-"] {
            assert!(!asked.contains(secret), "{asked}");
        }
    }
    customer.window.close().await;
}
