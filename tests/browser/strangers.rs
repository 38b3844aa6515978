//! Browsers that come again, come late, or are somebody else's. None of them changes anything.

use serde_json::json;

use crate::banks::{Bank, Ours, origin};
use crate::customer::Customer;
use crate::driver::Driver;
use crate::support::redis::RedisServer;
use crate::support::rogue::{Rogue, Then, answer};
use crate::support::street::Street;

const USED: &str = "You have been at your bank already";
const FOREIGN: &str = "This was begun in another browser";
const UNKNOWN: &str = "This link is no longer valid";

#[tokio::test(flavor = "multi_thread")]
async fn who_loads_the_last_page_again_or_brings_another_code_there_is_told_the_same_and_nothing_is_sent() {
    let (street, driver) = tokio::join!(Street::new(), Driver::start());
    let sidecar = street.replica().start().await;
    let customer = Customer::new(driver.open("en").await, "en").await;
    for bank in Bank::BOTH {
        let (consent, granted) = (bank.control(), Ours::Granted.heading("en"));
        let start = bank.ask(&sidecar, consent).await;
        customer.open(&start).await;
        bank.decide(&customer, true).await;
        customer.sees("en", granted).await;
        let version = sidecar.version(consent).await;
        for _ in 0..2 {
            customer.window.reload().await;
            customer.sees("en", granted).await;
        }
        let back = customer.window.url().await;
        for forged in [back.replace("code=", "code=forged"), back.replace("code=", "error=access_denied&was=")] {
            assert_ne!(forged, back);
            customer.open(&forged).await;
            customer.sees("en", granted).await;
        }
        customer.open(&start).await;
        customer.sees("en", USED).await;
        assert_eq!((bank.exchanges(&street).await, sidecar.version(consent).await), (1, version));
        bank.is_read(&sidecar, consent).await;
    }
    customer.window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_browser_gets_nowhere_with_the_address_the_state_or_the_code_of_a_customer() {
    let (street, driver) = tokio::join!(Street::new(), Driver::start());
    let sidecar = street.replica().start().await;
    let customer = Customer::new(driver.open("en").await, "en").await;
    let thief = Customer::new(driver.open("en").await, "en").await;
    for bank in Bank::BOTH {
        let consent = bank.control();
        let start = bank.ask(&sidecar, consent).await;
        customer.open(&start).await;
        thief.open(&start).await;
        thief.sees("en", FOREIGN).await;

        let (callback, state) = (format!("{}/callback", origin(&start)), customer.state().await);
        for answer in ["code=of-the-thief", "error=access_denied"] {
            thief.open(&format!("{callback}?{answer}&state={state}")).await;
            thief.sees("en", FOREIGN).await;
        }
        assert_eq!(sidecar.consent(consent).await["state"], "pending");

        bank.decide(&customer, true).await;
        customer.sees("en", Ours::Granted.heading("en")).await;
        thief.open(&customer.window.url().await).await;
        thief.sees("en", FOREIGN).await;
        assert_eq!(bank.exchanges(&street).await, 1, "the customer's");
        bank.is_read(&sidecar, consent).await;
    }
    thief.window.close().await;
    customer.window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_frames_or_embeds_the_address_of_a_customer_takes_nothing_from_the_customer() {
    let (street, driver, site) = tokio::join!(Street::new(), Driver::start(), Rogue::start());
    let sidecar = street.replica().start().await;
    let customer = Customer::new(driver.open("en").await, "en").await;
    let victim = Customer::new(driver.open("en").await, "en").await;
    let start = Bank::AbnAmro.ask(&sidecar, "c").await;
    let page = format!("<!doctype html><h1>Look</h1><iframe src=\"{start}\"></iframe><img src=\"{start}\">");
    site.next_api_answer((answer(200, &page), Then::Close));
    // The page is there when what it embeds was answered.
    victim.open(&site.url("/look")).await;
    let embedded = "return performance.getEntriesByType('resource').map(({ name }) => name).filter((name) => name.includes('/start/'))";
    assert_eq!(victim.window.run(embedded, json!([])).await, json!([start, start]));

    // Had one of them counted, the first browser would have been the victim's.
    customer.open(&start).await;
    Bank::AbnAmro.decide(&customer, true).await;
    customer.sees("en", Ours::Granted.heading("en")).await;
    Bank::AbnAmro.is_read(&sidecar, "c").await;
    victim.window.close().await;
    customer.window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_are_over_or_were_never_given_out_lead_to_a_page_that_says_so() {
    let (street, driver) = tokio::join!(Street::new(), Driver::start());
    let sidecar = street.replica().start().await;
    let customer = Customer::new(driver.open("en").await, "en").await;
    for bank in Bank::BOTH {
        // Nobody has come for ten minutes.
        let start = bank.ask(&sidecar, "too-late").await;
        let_it_run_out(&street.redis, &customer).await;
        customer.open(&start).await;
        customer.sees("en", UNKNOWN).await;

        // The customer has been at the bank for ten minutes.
        customer.open(&bank.ask(&sidecar, "too-slow").await).await;
        let_it_run_out(&street.redis, &customer).await;
        bank.decide(&customer, true).await;
        customer.sees("en", UNKNOWN).await;
        assert_eq!(sidecar.consent("too-slow").await["state"], "pending");
        assert_eq!(bank.exchanges(&street).await, 0);
        street.redis.cli(&["FLUSHALL"]);
    }
    let start = Bank::AbnAmro.ask(&sidecar, "c").await;
    for (path, heading) in [
        ("/start/never-given-out", UNKNOWN),
        ("/callback?code=c&state=never-given-out", UNKNOWN),
        ("/callback?code=c", "This answer cannot be understood"),
        ("/callback?code=c&error=e&state=s", "This answer cannot be understood"),
        ("/", "There is nothing here"),
    ] {
        customer.open(&format!("{}{path}", origin(&start))).await;
        customer.sees("en", heading).await;
    }
    customer.window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_consents_in_one_browser_do_not_undo_each_other() {
    let (street, driver) = tokio::join!(Street::new(), Driver::start());
    let sidecar = street.replica().start().await;
    let customer = Customer::new(driver.open("en").await, "en").await;
    customer.open(&Bank::AbnAmro.ask(&sidecar, "first").await).await;
    let first = customer.open_another().await;
    customer.open(&Bank::AbnAmro.ask(&sidecar, "second").await).await;
    Bank::AbnAmro.decide(&customer, true).await;
    customer.sees("en", Ours::Granted.heading("en")).await;
    customer.window.turn_to(&first).await;
    Bank::AbnAmro.decide(&customer, true).await;
    customer.sees("en", Ours::Granted.heading("en")).await;
    for consent in ["first", "second"] {
        Bank::AbnAmro.is_read(&sidecar, consent).await;
    }
    assert_eq!(street.exchanges().await, (2, 0));
    customer.window.close().await;
}

/// Lets the time of the one attempt be over, as the server lets it go by itself after ten minutes.
async fn let_it_run_out(redis: &RedisServer, customer: &Customer) {
    let printed = redis.cli(&["KEYS", "consentry:a:*"]);
    let keys: Vec<_> = printed.lines().filter_map(|line| line.split_once('"')?.1.strip_suffix('"')).collect();
    let [key] = keys[..] else { panic!("not one attempt: {printed}") };
    let life = redis.cli(&["PTTL", key]);
    let life: u64 = life.trim_start_matches("(integer) ").trim().parse().unwrap();
    assert!((1..=600_000).contains(&life), "{life}");
    redis.cli(&["PEXPIRE", key, "1"]);
    customer.until("it is gone", async || redis.cli(&["EXISTS", key]).contains('0')).await;
}
