//! `consentry demo` invites to consent as a customer does. Whoever follows it gets what it promises.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::banks::{Bank, Ours, start_url};
use crate::customer::Customer;
use crate::driver::Driver;
use crate::support::client::App;
use crate::support::program::{Program, consentry};

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_the_demo_consents_at_both_banks_and_reads_what_was_granted() {
    let mut command = consentry();
    command.arg("demo");
    let mut demo = Program::start(command);
    let (told, driver) = tokio::join!(
        demo.said("its last line", |output| output.contains("Ctrl-C ends it.").then(|| output.to_owned())),
        Driver::start()
    );
    let customer = Customer::new(driver.open("en").await, "en").await;
    let app = App::new();
    let address = |name: &str| {
        let line = told.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().to_owned()
    };
    let (proxy, admin) = (address("proxy"), address("admin"));
    for (bank, path) in [
        (Bank::AbnAmro, "/accounts/v1/accounts/NL91ABNA0417164300/balances"),
        (Bank::NorskGjeldsinformasjon, "/debt/v1/debt"),
    ] {
        let provider = bank.control();
        assert!(told.contains(&format!("\"{provider}\"")), "{told}");
        let started =
            app.json(Method::POST, &format!("{admin}/v1/consents"), &[], &json!({ "provider": provider })).await;
        assert_eq!(started.status, StatusCode::CREATED, "{started:?}");
        let started: Value = started.json();
        customer.open(&start_url(&started)).await;
        bank.decide(&customer, true).await;
        customer.sees("en", Ours::Granted.heading("en")).await;
        let consent = started["consent_id"].as_str().unwrap();
        let read = app.get(&format!("{proxy}{path}"), &[("consent-id", consent)]).await;
        assert_eq!(read.status, StatusCode::OK, "{read:?}");
    }
    customer.window.close().await;
    // Its folder goes with it.
    demo.signal("INT");
    assert!(demo.ended().await.success());
}
