//! Norsk Gjeldsinformasjon's authorize page, step by step, with a browser and without.

use http::StatusCode;
use serde_json::{Value, json};

use super::super::settings::SandboxSettings;
use super::Bench;
use super::browser::{Browser, SentTo};

const CALLBACK: &str = "https://api-eksempelbank.no/v1/callback";
const SCOPE: &str = "debt.unsecured.presentation";

fn url(bench: &Bench, scope: &str) -> String {
    let endpoint = &bench.endpoints.norsk_gjeld.authorization_endpoint;
    let given = "client_id=my-client&response_type=code&state=thisShouldBeARandomValue";
    format!("{endpoint}?{given}&scope={scope}&redirect_uri={CALLBACK}")
}

/// The pages one after the other, filled in like this.
async fn visit(bench: &Bench, scope: &str, steps: &[&str]) -> SentTo {
    let mut browser = Browser::new(bench);
    let url = url(bench, scope);
    let mut page = browser.get(&url).await;
    for fields in steps {
        page = browser.fill_in(&url, &page, fields).await;
    }
    assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.text());
    SentTo::of(&page)
}

#[tokio::test]
async fn a_person_logs_in_and_approves() {
    let bench = Bench::new().await;
    let mut browser = Browser::new(&bench);
    let url = url(&bench, "debt.unsecured.presentation.100");
    let page = browser.get(&url).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.header("set-cookie").contains("; HttpOnly; SameSite=Lax; Secure"));
    assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
    let page = browser.fill_in(&url, &page, "step=login&answer=next&nin=29868099311").await;
    for shown in ["my-client", "29868099311", SCOPE, "Days until it ends</dt><dd>100<"] {
        assert!(page.text().contains(shown), "{shown}: {}", page.text());
    }
    let back = browser.fill_in(&url, &page, "step=consent&answer=approve").await;
    let sent = SentTo::of(&back);
    let code = sent.code();
    let halves: Vec<_> = code.split('.').map(str::len).collect();
    assert_eq!(halves, [43, 43]);
    let wanted = format!("code={code}&scope={SCOPE}&state=thisShouldBeARandomValue");
    assert_eq!((back.status, sent.uri(), sent.query()), (StatusCode::SEE_OTHER, CALLBACK, wanted.as_str()));
}

#[tokio::test]
async fn a_login_that_is_cancelled_and_a_consent_that_is_denied_go_back_in_the_services_words() {
    let bench = Bench::new().await;
    let login = "step=login&answer=next&nin=14842249091";
    let ends = [
        ("login_cancelled", &["step=login&answer=cancel"][..]),
        ("consent_denied", &[login, "step=consent&answer=deny"]),
    ];
    for (error, steps) in ends {
        let sent = visit(&bench, SCOPE, steps).await;
        let wanted = format!("error={error}&error_description=&state=thisShouldBeARandomValue");
        assert_eq!((sent.uri(), sent.query()), (CALLBACK, wanted.as_str()));
    }
    let counters = bench.control("GET", "/counters", Value::Null).await.json();
    let told = |name: &str| counters["norsk_gjeld"][name].clone();
    assert_eq!((told("authorize_requests"), told("codes_issued")), (json!(2), json!(0)));
    assert_eq!(told("consents_created"), 0);
}

#[tokio::test]
async fn a_number_that_is_none_is_asked_for_again_and_nobody_approves_without_one() {
    let bench = Bench::new().await;
    let mut browser = Browser::new(&bench);
    let url = url(&bench, SCOPE);
    let first = browser.get(&url).await;
    for fields in ["step=login&nin=123", "step=login&nin=1484224909x", "step=consent&answer=approve", ""] {
        let page = browser.fill_in(&url, &first, fields).await;
        assert!(page.text().contains("<h1>Log in</h1>"), "{fields}: {}", page.text());
    }
    let mut forgetful = Browser::new(&bench);
    let lost = forgetful.fill_in(&url, &first, "step=login&nin=14842249091").await;
    assert_eq!((lost.status, lost.header("location")), (StatusCode::BAD_REQUEST, ""));
}

#[tokio::test]
async fn an_unknown_client_or_redirect_uri_is_told_on_a_page_and_nobody_is_sent_there() {
    let bench = Bench::new().await;
    let good = url(&bench, SCOPE);
    let cases = [
        (good.replace("client_id=my-client", "client_id=other"), "invalid_client"),
        (good.replace("client_id=my-client&", ""), "invalid_client"),
        (format!("{good}&redirect_uri=https://evil.example"), "invalid_client"),
        (good.replace(CALLBACK, "https://api-eksempelbank.no/v1/callback/"), "invalid_request"),
        (good.replace(&format!("&redirect_uri={CALLBACK}"), ""), "invalid_request"),
    ];
    for (url, told) in cases {
        let page = Browser::new(&bench).get(&url).await;
        assert_eq!((page.status, page.header("location")), (StatusCode::BAD_REQUEST, ""), "{url}");
        assert!(page.text().contains(told), "{url}: {}", page.text());
    }
}

#[tokio::test]
async fn every_other_fault_goes_back_to_the_client_with_its_state() {
    let bench = Bench::new().await;
    let good = url(&bench, SCOPE);
    let state = "thisShouldBeARandomValue";
    let plain = format!("{good}&code_challenge={}", "a".repeat(43));
    let cases = [
        (url(&bench, "debt.unsecured"), "invalid_scopes", Some(state)),
        (url(&bench, "openid+debt.unsecured.presentation"), "invalid_scopes", Some(state)),
        (url(&bench, "debt.unsecured.presentation+debt.unsecured.processing"), "invalid_scopes", Some(state)),
        (url(&bench, ""), "invalid_scopes", Some(state)),
        (good.replace("response_type=code", "response_type=token"), "unsupported_response_type", Some(state)),
        (good.replace("response_type=code&", ""), "unsupported_response_type", Some(state)),
        (format!("{good}&scope={SCOPE}"), "invalid_request", Some(state)),
        (plain, "invalid_request", Some(state)),
        (good.replace(state, "tooweak"), "invalid_state", Some("tooweak")),
        (good.replace(&format!("&state={state}"), ""), "invalid_state", None),
    ];
    for (url, error, state) in cases {
        let reply = Browser::new(&bench).get(&url).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{url}");
        let sent = SentTo::of(&reply);
        assert_eq!((sent.uri(), sent.get("error").as_deref()), (CALLBACK, Some(error)), "{url}");
        assert_eq!(sent.get("state").as_deref(), state, "{url}");
    }
}

#[tokio::test]
async fn a_rule_ends_the_next_visit_in_each_error_of_the_documents() {
    let bench = Bench::new().await;
    for error in ["consent_denied", "server_error", "invalid_scopes", "login_cancelled", "access_denied"] {
        let fault = json!({"authorize_error": error});
        bench.fault(json!({"target": "nogi-authorize", "times": 1, "fault": fault})).await;
        let sent = SentTo::of(&Browser::new(&bench).get(&url(&bench, SCOPE)).await);
        let wanted = format!("error={error}&error_description=&state=thisShouldBeARandomValue");
        assert_eq!(sent.query(), wanted);
    }
    assert_eq!(Browser::new(&bench).get(&url(&bench, SCOPE)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_service_that_holds_no_more_says_so_as_a_server_error() {
    let settings = SandboxSettings { max_consents: 0, ..SandboxSettings::default() };
    let bench = Bench::with(settings).await;
    bench.control("PATCH", "/norsk-gjeld/settings", json!({"auto_approve": true})).await;
    let sent = SentTo::of(&Browser::new(&bench).get(&url(&bench, SCOPE)).await);
    assert_eq!(sent.get("error").as_deref(), Some("server_error"));
}

#[tokio::test]
async fn pages_without_tls_come_from_the_same_listener_as_the_other_banks() {
    let bench = Bench::with(SandboxSettings { plain_pages: true, ..SandboxSettings::default() }).await;
    assert!(url(&bench, SCOPE).starts_with("http://"));
    let sent = visit(&bench, SCOPE, &["step=login&nin=14842249091", "step=consent&answer=approve"]).await;
    assert_eq!(sent.get("scope").as_deref(), Some(SCOPE));
    let access = &bench.endpoints.norsk_gjeld.access;
    let url = format!("{access}/.well-known/openid-configuration");
    let found = bench.send(None, &url, http::Request::get("/"), "").await.expect("answers").json();
    assert_eq!(found["authorization_endpoint"], json!(bench.endpoints.norsk_gjeld.authorization_endpoint));
}
