//! To the bank and back, with the keyboard alone: at both banks, to a yes and to a no, on a desktop and on a phone, in every
//! language of ours.

use serde_json::json;

use crate::banks::{Bank, Ours};
use crate::customer::{Customer, Screen};
use crate::driver::Driver;
use crate::support::street::Street;

/// Every journey of a customer who reads this language.
async fn journeys(language: &'static str) {
    let (street, driver) = tokio::join!(Street::new(), Driver::start());
    let sidecar = street.replica().start().await;
    let mut customer = Customer::new(driver.open(language).await, language).await;
    for screen in Screen::BOTH {
        customer.sit_at(screen).await;
        for bank in Bank::BOTH {
            for yes in [true, false] {
                let consent = format!("{}-{screen:?}-{yes}", bank.control());
                customer.open(&bank.ask(&sidecar, &consent).await).await;
                bank.decide(&customer, yes).await;
                let ending = if yes { Ours::Granted } else { Ours::Denied };
                customer.sees(language, ending.heading(language)).await;
                if yes {
                    bank.is_read(&sidecar, &consent).await;
                    assert_eq!(sidecar.consent(&consent).await["state"], "active");
                } else {
                    assert_eq!(bank.read(&sidecar, &consent).await.problem(), "consent-denied");
                }
            }
        }
    }
    for bank in Bank::BOTH {
        assert_eq!(bank.exchanges(&street).await, 2, "one for each yes");
    }
    customer.window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_english_customer_consents_and_refuses_at_both_banks_and_what_was_granted_is_read() {
    journeys("en").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dutch_customer_consents_and_refuses_at_both_banks_and_what_was_granted_is_read() {
    journeys("nl").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_norwegian_customer_consents_and_refuses_at_both_banks_and_what_was_granted_is_read() {
    journeys("nb").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_of_a_bank_ends_on_a_page_that_says_whether_the_customer_refused() {
    let (street, driver) = tokio::join!(Street::new(), Driver::start());
    let sidecar = street.replica().start().await;
    let customer = Customer::new(driver.open("en").await, "en").await;
    // At ABN AMRO a customer's no looks like an error of the server.
    let rows = [
        ("consent_denied", Ours::Denied, Ours::Denied),
        ("access_denied", Ours::Denied, Ours::Denied),
        ("login_cancelled", Ours::Denied, Ours::Denied),
        ("server_error", Ours::Denied, Ours::Failed),
        ("invalid_scopes", Ours::Failed, Ours::Failed),
        ("something_nobody_has_heard_of", Ours::Failed, Ours::Failed),
    ];
    for (error, at_abn_amro, at_norsk_gjeldsinformasjon) in rows {
        for (bank, ending) in Bank::BOTH.into_iter().zip([at_abn_amro, at_norsk_gjeldsinformasjon]) {
            let consent = format!("{error}-{}", bank.control());
            street.bank.fault(bank.authorize(), 1, json!({ "authorize_error": error })).await;
            customer.open(&bank.ask(&sidecar, &consent).await).await;
            customer.sees("en", ending.heading("en")).await;
            let state = if matches!(ending, Ours::Denied) { "denied" } else { "pending" };
            assert_eq!(sidecar.consent(&consent).await["state"], state, "{bank:?}: {error}");
        }
    }
    // The same by the customer's own hand: the first page is left again.
    for bank in Bank::BOTH {
        let consent = format!("turned-back-{}", bank.control());
        customer.open(&bank.ask(&sidecar, &consent).await).await;
        bank.turn_back(&customer).await;
        customer.sees("en", Ours::Denied.heading("en")).await;
        assert_eq!(sidecar.consent(&consent).await["state"], "denied");
    }
    for bank in Bank::BOTH {
        assert_eq!(bank.exchanges(&street).await, 0);
    }
    customer.window.close().await;
}
