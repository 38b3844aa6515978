//! Customers who have to wait, and what they read at the banks when something is wrong.

use http::Method;
use serde_json::{Value, json};

use crate::banks::{Bank, Ours, origin};
use crate::customer::{Customer, Screen};
use crate::driver::{Driver, ENTER};
use crate::support::link::Link;
use crate::support::redis::free_port;
use crate::support::street::Street;

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_again_while_the_code_is_being_exchanged_waits_on_a_page_that_goes_on_by_itself() {
    let [one, another] = [free_port(), free_port()];
    let link = Link::to(one).await;
    let (street, driver) = tokio::join!(Street::at(link.port()), Driver::start());
    let frozen = street.replica_at(one).environment("CONSENTRY_FAILPOINTS", "after-claim=freeze");
    let other = street.replica_at(another);
    let (frozen, _other) = tokio::join!(frozen.start(), other.start());
    let customer = Customer::new(driver.open_hasty("en").await, "en").await;
    let bank = Bank::NorskGjeldsinformasjon;
    let start = bank.ask(&frozen, "c").await;
    customer.open(&start).await;
    customer.waits_for("Log in").await;
    let callback = format!("{}/callback?code=again&state={}", origin(&start), customer.state().await);
    customer.press("Log in").await;
    customer.tab_to("Approve").await;
    customer.window.press([ENTER]).await;
    let process = format!("/proc/{}/stat", frozen.program.id());
    customer.until("it stands still", async || std::fs::read_to_string(&process).unwrap().contains(") T ")).await;

    // The customer has waited long enough, and another replica answers.
    link.lead_to(another);
    link.sever();
    customer.open(&callback).await;
    customer.waits_for("One moment").await;
    customer.sees("en", "One moment").await;
    assert_eq!(bank.exchanges(&street).await, 0);
    frozen.program.signal("CONT");
    customer.waits_for(Ours::Granted.heading("en")).await;
    customer.sees("en", Ours::Granted.heading("en")).await;
    assert_eq!(bank.exchanges(&street).await, 1);
    customer.window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_bank_cannot_be_reached_nothing_is_sent_and_the_customer_tries_again_until_it_can() {
    let link = Link::to(free_port()).await;
    let (street, driver) = tokio::join!(Street::new(), Driver::start());
    let endpoint = street.bank.endpoints["norsk_gjeld"]["token_endpoint"].as_str().unwrap().to_owned();
    let port: u16 = endpoint.split(':').nth(2).and_then(|rest| rest.split('/').next()).unwrap().parse().unwrap();
    let through_the_link = endpoint.replace(&format!(":{port}/"), &format!(":{}/", link.port()));
    let sidecar = street.replica().change(&endpoint, &through_the_link).start().await;
    let mut customer = Customer::new(driver.open("nb").await, "nb").await;
    customer.sit_at(Screen::Phone).await;
    let bank = Bank::NorskGjeldsinformasjon;
    customer.open(&bank.ask(&sidecar, "c").await).await;
    bank.decide(&customer, true).await;
    for _ in 0..2 {
        customer.sees("nb", "Dette virker ikke akkurat nå").await;
        assert_eq!((sidecar.consent("c").await["state"].as_str(), bank.exchanges(&street).await), (Some("pending"), 0));
        customer.press("Prøv igjen").await;
    }
    link.lead_to(port);
    customer.press("Prøv igjen").await;
    customer.sees("nb", Ours::Granted.heading("nb")).await;
    bank.is_read(&sidecar, "c").await;
    assert_eq!(bank.exchanges(&street).await, 1);
    customer.window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banks_pages_change_their_language_and_say_what_is_wrong() {
    let (street, driver) = tokio::join!(Street::new(), Driver::start());
    let sidecar = street.replica().start().await;
    let customer = Customer::new(driver.open("fr").await, "fr").await;
    for (bank, other, pages) in [
        (Bank::AbnAmro, ("nl", "Nederlands"), ["Log on", "Inloggen", "This visit is over"]),
        (Bank::NorskGjeldsinformasjon, ("nb", "Norsk"), ["Log in", "Logg inn", "This visit is over"]),
    ] {
        customer.open(&bank.ask(&sidecar, "c").await).await;
        customer.sees("en", pages[0]).await;
        customer.press(other.1).await;
        customer.sees(other.0, pages[1]).await;
        customer.press("English").await;
        customer.sees("en", pages[0]).await;
        customer.window.forget_cookies().await;
        customer.press(pages[0]).await;
        customer.sees("en", pages[2]).await;
        assert_eq!(bank.exchanges(&street).await, 0);
    }

    customer.open(&Bank::NorskGjeldsinformasjon.ask(&sidecar, "c").await).await;
    // A browser that does not look at what is filled in.
    customer.window.run("document.forms[0].noValidate = true", json!([])).await;
    customer.tab_to("National identity number of a test person").await;
    customer.window.press("123".chars()).await;
    customer.press("Log in").await;
    customer.sees("en", "Log in").await;
    let said = customer.window.run("return document.querySelector('[role=alert]').textContent", json!([])).await;
    assert_eq!(said, "Eleven digits are needed.");
    let kept = customer.window.run("return document.querySelector('#nin').value", json!([])).await;
    assert_eq!(kept, "123", "what was written stands there");

    for bank in Bank::BOTH {
        let none: Value = json!({ "redirect_uris": [] });
        street.bank.control(Method::PATCH, &format!("/{}/settings", bank.control()), &none).await;
        customer.open(&bank.ask(&sidecar, "c2").await).await;
        customer.sees("en", "This request is refused").await;
    }
    customer.window.close().await;
}
