//! Authorization requests that are pushed to the server before a browser is sent there (RFC 9126).

use http::StatusCode;
use serde_json::json;

use crate::browser::Visit;
use crate::house::{ALONE, BASIC, House, POST, PUBLIC, PUSHED, call, ended, p256, start};

#[tokio::test(flavor = "multi_thread")]
async fn the_browser_carries_a_name_for_the_request_and_the_server_has_the_rest() {
    let house = House::new().await;
    let clients = [PUSHED, BASIC, POST, ALONE, PUBLIC];
    let replica = clients.iter().fold(house.replica(), |replica, client| house.pushing(replica, client));
    let sidecar = replica.change("level: info", "level: trace").start().await;
    for client in &clients {
        let name = client.name;
        let started = start(&sidecar, client, name).await;
        let mut browser = house.browser();
        let at = browser.depart(&started).await;
        let (_, query) = at.split_once('?').unwrap();
        let carried: Vec<_> = query.split('&').filter_map(|pair| pair.split('=').next()).collect();
        assert_eq!(carried, ["client_id", "request_uri"], "{name}: {at}");
        // The same browser comes to the start once more, and a name is good for one visit to the server.
        let back = browser.agree(&started).await;
        let arrived = browser.get(&back).await;
        assert_eq!(browser.location(&arrived), ended(name, "granted"), "{name}");
        let served = call(&sidecar, client, name).await;
        assert_eq!(served.status, StatusCode::OK, "{name}: {served:?}");

        let pushed = house.server.asked("pushed_authorization_request", client.id);
        assert_eq!(pushed.len(), 2, "{name}: {pushed:?}");
        for line in &pushed {
            assert_eq!((&line["status"], &line["proof"]), (&json!(201), &json!(client.proof)), "{name}: {line}");
        }
        for line in house.server.asked("authorization", client.id) {
            assert_eq!(line["parameters"], json!(["client_id", "request_uri"]), "{name}");
        }
    }
    assert!(!sidecar.program.output().contains("request_uri:"), "the name of a request is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_insists_on_it_refuses_what_is_not_pushed_and_a_client_that_it_does_not_know_is_told_to_the_operator()
 {
    let house = House::new().await;
    let sidecar = house.replica().start().await;
    let started = start(&sidecar, &PUSHED, "customer-1").await;
    let mut browser = house.browser();
    let at = browser.depart(&started).await;
    match browser.follow(&at).await {
        Visit::Away(back) => assert!(back.contains("error="), "{back}"),
        Visit::Page(page) => assert_eq!(page.status, StatusCode::BAD_REQUEST, "{page:?}"),
    }
    drop(sidecar);

    let wrong = house.pushing(house.replica(), &PUSHED);
    wrong.secret("es256.key", &p256());
    let sidecar = wrong.start().await;
    let started = start(&sidecar, &PUSHED, "customer-2").await;
    let mut browser = house.browser();
    let held = browser.get(started["start_url"].as_str().unwrap()).await;
    assert_eq!(held.status, StatusCode::BAD_GATEWAY, "{held:?}");
    let history = sidecar.history("customer-2").await;
    let last = history["events"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["event"], &last["why"]), (&json!("not_granted"), &json!("invalid_client")), "{history}");
    drop(sidecar);

    // Mended, and the very same browser goes on from the very same address.
    let sidecar = house.pushing(house.replica(), &PUSHED).start().await;
    let back = browser.agree(&started).await;
    let arrived = browser.get(&back).await;
    assert_eq!(browser.location(&arrived), ended("customer-2", "granted"));
    assert_eq!(call(&sidecar, &PUSHED, "customer-2").await.status, StatusCode::OK);
}
