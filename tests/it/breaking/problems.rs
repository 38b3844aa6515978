//! Every problem an app can meet, provoked; the table in `docs/errors.md` names the same ones.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use consentry::words::clock::{Clock as _, SystemClock};
use consentry::words::problem::ProblemType;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{import, no_panic, say, token_set, told};
use crate::support::bank::Bank;
use crate::support::redis::{RedisServer, free_port};
use crate::support::rogue::{Rogue, Then, answer};
use crate::support::sidecar::{ADMIN_KEY, Replica, Sidecar};

/// What cannot occur yet.
const NOT_YET: [ProblemType; 1] = [ProblemType::Draining];
/// States that only the browser flow leads to.
const NO_WAY_IN: [ProblemType; 2] = [ProblemType::ConsentPending, ProblemType::ConsentDenied];

fn tight(bank: &Bank, rogue: &Rogue, redis: &RedisServer) -> Replica {
    let limits =
        "limits: {max_body_size: 1KiB, body_idle_timeout: 1s, upstream_response_timeout: 1s, max_in_flight: 2}";
    let routes = "routes: [{match: \"/v1/**\"}, {match: \"GET /get/**\"}, {match: \"/scoped/**\", needs: [c]}, \
                  {match: \"/rare/**\", quota: {calls: 1}}]";
    let dead = "    consent_dead: [{status: 403, json: /error, any_of: [gone]}]\n";
    let nobody = format!(
        "  nobody:\n    path: /nobody\n    upstream: http://127.0.0.1:{}\n    provider: abn-amro\n  debt:",
        free_port()
    );
    Replica::with_redis(bank, redis)
        .before_rogue(bank, rogue)
        .change("proxy: {listen", &format!("proxy: {{token_wait: 1s, {limits}, listen"))
        .change("routes: [{match: \"/v1/**\", token: consent}]", routes)
        .change("    ca_file: ca.pem\n  norsk-gjeld", &format!("    ca_file: ca.pem\n{dead}  norsk-gjeld"))
        .change("  debt:", &nobody)
}

/// Sends a request of this consent and notes which problem it met.
async fn meets(sidecar: &Sidecar, met: &mut BTreeSet<ProblemType>, request: &str, wanted: ProblemType) {
    let heard = say(sidecar, request.as_bytes()).await;
    assert!(heard.starts_with(&format!("HTTP/1.1 {} ", wanted.status().as_u16())), "{wanted:?}: {request}\n{heard}");
    let (fields, body) = heard.split_once("\r\n\r\n").unwrap();
    assert!(fields.contains("proxy-status: consentry; error="), "{wanted:?}: {fields}");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["type"], wanted.uri(), "{request}\n{heard}");
    assert_eq!(body["status"], wanted.status().as_u16());
    let members = ["title", "detail", "who_acts", "retry", "request_id"];
    assert!(members.iter().all(|member| body[member].as_str().is_some_and(|text| !text.is_empty())), "{body}");
    met.insert(wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_problem_that_can_occur_is_met_by_an_app_and_named_in_the_documentation() {
    let (bank, rogue, mut redis) = (Bank::start().await, Rogue::start().await, RedisServer::start().await);
    let replica = tight(&bank, &rogue, &redis);
    let sidecar = replica.start().await;
    let mut met = BTreeSet::new();
    let call = |line: &str, consent: &str, more: &str| {
        format!("{line} HTTP/1.1\r\nHost: localhost\r\nConsent-ID: {consent}\r\nConnection: close\r\n{more}\r\n")
    };
    let get = |consent: &str| call("GET /accounts/v1/x", consent, "");
    import(&sidecar, "valid", 3_600).await;
    let hang = || (Vec::new(), Then::Hold);
    let error = |code: &str| (answer(400, &format!(r#"{{"error":"{code}"}}"#)), Then::Hold);

    let long = "x".repeat(9_000);
    let slow = call("POST /accounts/v1/x", "valid", "Content-Length: 10\r\n") + "abc";
    for (request, wanted) in [
        (get("valid").replace("Consent-ID: valid\r\n", ""), ProblemType::ConsentIdMissing),
        (get("a b"), ProblemType::ConsentIdInvalid),
        (get("valid").replace("/accounts/v1", "/nothing"), ProblemType::NoSuchApi),
        (get("valid").replace("/v1/", "/v9/"), ProblemType::RouteNotAllowed),
        (call("POST /accounts/get/x", "valid", "Content-Length: 0\r\n"), ProblemType::MethodNotAllowed),
        (get("nobody-s"), ProblemType::ConsentUnknown),
        (call("GET /accounts/scoped/x", "valid", ""), ProblemType::ScopeInsufficient),
        (get("valid").replace("localhost", "evil.example"), ProblemType::BadRequest),
        (slow, ProblemType::RequestTimeout),
        (call("POST /accounts/v1/x", "valid", "Content-Length: 1025\r\n"), ProblemType::RequestTooLarge),
        (get("valid").replace("/v1/x", &format!("/v1/{long}")), ProblemType::TargetTooLong),
        (call("GET /accounts/v1/x", "valid", "Expect: more\r\n"), ProblemType::ExpectationFailed),
        (call("GET /accounts/v1/x", "valid", &"X-Many: y\r\n".repeat(70)), ProblemType::HeadersTooLarge),
        (call("GET /accounts/v1/x", "valid", "Upgrade: websocket\r\n"), ProblemType::NotSupported),
        (call("GET /accounts/v1/x", "valid", "Via: 1.1 consentry\r\n"), ProblemType::LoopDetected),
        (get("valid").replace("/accounts", "/nobody"), ProblemType::UpstreamUnreachable),
    ] {
        meets(&sidecar, &mut met, &request, wanted).await;
    }
    let rare = call("GET /accounts/rare/x", "valid", "");
    assert!(say(&sidecar, rare.as_bytes()).await.contains("consentry-quota-remaining: 0\r\n"));
    meets(&sidecar, &mut met, &rare, ProblemType::QuotaExhausted).await;
    rogue.next_api_answer((b"220 smtp.example\r\n".to_vec(), Then::Close));
    meets(&sidecar, &mut met, &get("valid"), ProblemType::UpstreamProtocol).await;
    // Two calls that the bank does not answer, and a third that finds no place.
    rogue.next_api_answer(hang());
    rogue.next_api_answer(hang());
    let asked = rogue.requests("/api/v1/x").len();
    let hanging = [
        tokio::spawn({
            let (app, url) = (sidecar.app.clone(), sidecar.url("/accounts/v1/x"));
            async move { app.get(&url, &[("consent-id", "valid")]).await }
        }),
        tokio::spawn({
            let (app, url) = (sidecar.app.clone(), sidecar.url("/accounts/v1/x"));
            async move { app.get(&url, &[("consent-id", "valid")]).await }
        }),
    ];
    sidecar.until("both calls hang", async || rogue.requests("/api/v1/x").len() == asked + 2).await;
    meets(&sidecar, &mut met, &get("valid"), ProblemType::Overloaded).await;
    for call in hanging {
        assert_eq!(told(&call.await.unwrap()), (504, "upstream-timeout".to_owned()));
    }
    met.insert(ProblemType::UpstreamTimeout);

    for (consent, told, wanted) in [
        ("slow", hang(), ProblemType::TokenWaitTimeout),
        ("lost", (Vec::new(), Then::Close), ProblemType::TokenRefreshUncertain),
        ("throttled", error("invalid_request"), ProblemType::TokenEndpointUnavailable),
        ("unregistered", error("invalid_client"), ProblemType::ProviderMisconfigured),
        ("over", error("invalid_grant"), ProblemType::ConsentReauthorizationRequired),
    ] {
        import(&sidecar, consent, 0).await;
        rogue.next_token_answer(told);
        meets(&sidecar, &mut met, &get(consent), wanted).await;
    }
    import(&sidecar, "garbled", 0).await;
    redis.cli(&["HSET", "consentry:c:{garbled}", "gen", "what"]);
    meets(&sidecar, &mut met, &get("garbled"), ProblemType::ConsentUnreadable).await;

    import(&sidecar, "frozen", 0).await;
    let order = async |change: &str| {
        let key = format!("Bearer {ADMIN_KEY}");
        let url = sidecar.admin_url(&format!("/v1/providers/abn-amro/{change}"));
        let answer = sidecar.app.json(Method::POST, &url, &[("authorization", &key)], &json!({})).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    };
    let asked = rogue.requests("/token").len();
    order("freeze").await;
    meets(&sidecar, &mut met, &get("frozen"), ProblemType::ProviderFrozen).await;
    order("thaw").await;
    assert_eq!(rogue.requests("/token").len(), asked, "a frozen provider is not asked");

    import(&sidecar, "revoked", 3_600).await;
    rogue.next_api_answer((answer(403, r#"{"error":"gone"}"#), Then::Hold));
    say(&sidecar, get("revoked").as_bytes()).await;
    sidecar.until("it is revoked", async || sidecar.consent("revoked").await["state"] == "revoked").await;
    // The process that recorded it forgets what it holds a moment later.
    sidecar
        .until("no token of it is held", async || !say(&sidecar, get("revoked").as_bytes()).await.contains(" 200 "))
        .await;
    meets(&sidecar, &mut met, &get("revoked"), ProblemType::ConsentRevoked).await;

    let mut brief = token_set("brief", 3_600);
    brief["consent_expires_at"] = json!(SystemClock.wall().plus(Duration::from_millis(1_500)).to_string());
    assert_eq!(sidecar.put_tokens("brief", None, &brief).await.status, StatusCode::CREATED);
    let url = sidecar.url("/accounts/v1/x");
    let answer = async || sidecar.app.get(&url, &[("consent-id", "brief")]).await;
    sidecar.until("its time is over", async || answer().await.problem() == "consent-expired").await;
    meets(&sidecar, &mut met, &get("brief"), ProblemType::ConsentExpired).await;

    import(&sidecar, "stored", 0).await;
    redis.stop();
    let answer = async || sidecar.app.get(&url, &[("consent-id", "stored")]).await;
    sidecar.until("the store is found to be away", async || answer().await.problem() == "store-unavailable").await;
    meets(&sidecar, &mut met, &get("stored"), ProblemType::StoreUnavailable).await;
    no_panic(&sidecar);

    let table = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md")).unwrap();
    for problem in ProblemType::ALL {
        let (slug, status) = (problem.slug(), problem.status().as_u16());
        assert!(table.contains(&format!("| `{slug}` | {status} |")), "{slug} is not documented with {status}");
        let excused = NOT_YET.contains(problem) || NO_WAY_IN.contains(problem);
        assert_ne!(met.contains(problem), excused, "{slug}");
    }
    for problem in consentry::admin::AdminProblem::ALL {
        assert!(table.contains(&format!("| `{}` | {}", problem.slug(), problem.status().as_u16())), "{problem:?}");
    }
}
