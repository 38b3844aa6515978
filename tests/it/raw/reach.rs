//! Where connections lead: to the authorities of the configuration, directly, and to no private address if the operator
//! says so.

use super::{House, get};
use crate::breaking::{TOKENS, import};
use crate::support::bank::Bank;
use crate::support::rogue::{Rogue, Then, answer};
use crate::support::sidecar::Replica;

#[tokio::test(flavor = "multi_thread")]
async fn no_proxy_of_the_environment_is_asked() {
    let elsewhere = Rogue::start().await;
    let house = House::changed(|mut replica| {
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
            replica.set_environment(name, &elsewhere.url(""));
        }
        replica
    })
    .await;
    import(&house.sidecar, "expired", 0).await;
    house.rogue.next_token_answer((answer(200, TOKENS), Then::Hold));
    let heard = house.say(get("/accounts/v1/x", "Connection: close\r\n").replacen("c-1", "expired", 1)).await;
    assert!(heard.starts_with("HTTP/1.1 200 "), "{heard}");
    assert_eq!(house.rogue.token_requests().len(), 1);
    assert!(elsewhere.connections().is_empty());
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_to_a_private_address_is_refused_where_the_operator_says_so() {
    for refuse in [true, false] {
        let (bank, rogue) = (Bank::start().await, Rogue::start().await);
        let by_name = |path: &str| rogue.url(path).replace("127.0.0.1", "localhost");
        let key = format!("refuse_private_addresses: {refuse}");
        let replica = Replica::embedded(&bank)
            .before_rogue(&bank, &rogue)
            .change(&rogue.url("/token"), &by_name("/token"))
            .change(&rogue.url("/api"), &by_name("/api"))
            .change("    profile: abn-amro-sandbox\n", &format!("    profile: abn-amro-sandbox\n    {key}\n"))
            .change("    path: /accounts\n", &format!("    path: /accounts\n    {key}\n"));
        let sidecar = replica.start().await;
        import(&sidecar, "valid", 3_600).await;
        import(&sidecar, "expired", 0).await;
        rogue.next_token_answer((answer(200, TOKENS), Then::Hold));
        for (consent, problem) in [("valid", "upstream-unreachable"), ("expired", "token-endpoint-unavailable")] {
            let answer = sidecar.app.get(&sidecar.url("/accounts/v1/x"), &[("consent-id", consent)]).await;
            if refuse {
                assert_eq!(answer.problem(), problem, "{answer:?}");
            } else {
                assert_eq!(answer.status, 200, "{answer:?}");
            }
        }
        let heard = rogue.connections();
        assert_eq!(heard.is_empty(), refuse, "{heard:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_token_request_has_a_connection_of_its_own() {
    let house = House::new().await;
    for consent in ["one", "two", "three"] {
        import(&house.sidecar, consent, 0).await;
        house.rogue.next_token_answer((answer(200, &TOKENS.replace("new", consent)), Then::Hold));
        let heard = house.say(get("/accounts/v1/x", "Connection: close\r\n").replacen("c-1", consent, 1)).await;
        assert!(heard.starts_with("HTTP/1.1 200 "), "{heard}");
    }
    let heard = house.rogue.connections();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let of_tokens: Vec<_> = heard.iter().filter(|heard| heard.bytes.starts_with(b"POST /token")).collect();
    assert_eq!(of_tokens.len(), 3, "{heard:?}");
    for heard in of_tokens {
        assert_eq!(text(&heard.bytes).matches("HTTP/1.1\r\n").count(), 1, "one request: {}", text(&heard.bytes));
    }
    let calls: Vec<_> = heard.iter().filter(|heard| heard.bytes.starts_with(b"GET /api")).collect();
    assert_eq!(calls.len(), 1, "the calls themselves share one: {heard:?}");
    house.ends_well();
}
