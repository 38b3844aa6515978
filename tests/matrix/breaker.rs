//! F26, F38: a bank that refuses everybody, and one that answers nobody.

use http::StatusCode;
use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::support::bank::Bank;
use crate::support::redis::{RedisServer, free_port};
use crate::support::rogue::{Rogue, Then, answer};
use crate::support::sidecar::{Replica, Sidecar};

const TOKENS: &str = r#"{"access_token":"new-access","refresh_token":"new-refresh","expires_in":3600}"#;
const REFUSED: &str = r#"{"error":"invalid_grant"}"#;

fn expired(consent: &str) -> Value {
    json!({
        "provider": "abn-amro", "access_token": format!("access-of-{consent}"),
        "refresh_token": format!("refresh-of-{consent}"), "expires_in": 0,
    })
}

async fn import(sidecar: &Sidecar, consent: &str) {
    let answer = sidecar.put_tokens(consent, None, &expired(consent)).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f26_a_bank_that_refuses_every_consent_costs_none() {
    let (bank, rogue, redis) = (Bank::start().await, Rogue::start().await, RedisServer::start().await);
    let replicas: [Replica; 2] =
        std::array::from_fn(|_| Replica::with_redis(&bank, &redis).before_rogue(&bank, &rogue));
    let (one, other) = (replicas[0].start().await, replicas[1].start().await);
    let consents: Vec<_> = (0..4).map(|n| format!("c-{n}")).collect();
    for consent in &consents {
        import(&one, consent).await;
    }
    for (n, consent) in consents.iter().take(3).enumerate() {
        rogue.next_token_answer((answer(400, REFUSED), Then::Hold));
        let sidecar = if n % 2 == 0 { &one } else { &other };
        assert_ne!(sidecar.balances(consent).await.status, StatusCode::OK);
    }
    assert_eq!(rogue.token_requests().len(), 3);
    for consent in &consents {
        one.until("nobody is suspended", async || one.consent(consent).await["state"] == "active").await;
    }
    // The fault is mended: every consent works again, with the refresh token it had.
    for _ in 0..consents.len() {
        rogue.next_token_answer((answer(200, TOKENS), Then::Hold));
    }
    for consent in &consents {
        one.until("it works again", async || one.balances(consent).await.status == StatusCode::OK).await;
        let spent = format!("refresh_token=refresh-of-{consent}&");
        let asked = rogue.token_requests().iter().filter(|body| body.contains(&spent)).count();
        assert!((1..=2).contains(&asked), "{consent} was presented {asked} times, and refused at the first of two");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f38_a_bank_that_is_down_is_tried_by_a_few_and_one_probe_ends_it() {
    const CONSENTS: usize = 40;
    let (bank, rogue, redis) = (Bank::start().await, Rogue::start().await, RedisServer::start().await);
    let port = free_port();
    let down = format!("http://127.0.0.1:{port}/token");
    let replica = Replica::with_redis(&bank, &redis).before_rogue(&bank, &rogue).change(&rogue.url("/token"), &down);
    let sidecar = replica.start().await;
    let consents: Vec<_> = (0..CONSENTS).map(|n| format!("c-{n}")).collect();
    let mut untried = 0;
    for consent in &consents {
        import(&sidecar, consent).await;
        let told = sidecar.balances(consent).await;
        assert_eq!(told.status, StatusCode::SERVICE_UNAVAILABLE, "{told:?}");
        untried += usize::from(sidecar.consent(consent).await["failures"] == 0);
    }
    assert!(untried > CONSENTS / 2, "only {untried} of {CONSENTS} were turned away without a try");
    // Somebody listens again.
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let bank_again = rogue.url("").trim_start_matches("http://").to_owned();
    let passing = tokio::spawn(async move {
        while let Ok((mut app, _)) = listener.accept().await {
            let mut bank = TcpStream::connect(&bank_again).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut app, &mut bank).await });
        }
    });
    for _ in &consents {
        rogue.next_token_answer((answer(200, TOKENS), Then::Hold));
    }
    for consent in &consents {
        sidecar.until("it works again", async || sidecar.balances(consent).await.status == StatusCode::OK).await;
    }
    assert_eq!(rogue.token_requests().len(), CONSENTS, "each refresh token was sent once");
    passing.abort();
}
