//! ABN AMRO's authorize page, step by step, with a browser and without.

use http::StatusCode;
use serde_json::{Value, json};

use super::super::settings::SandboxSettings;
use super::Bench;
use super::browser::{Browser, SentTo, action};

const CALLBACK: &str = "http://localhost:8090/callback";
const BALANCE: &str = "psd2:account:balance:read+psd2:account:details:read";
const FAILED: &str = "error_description=Unexpected+Runtime+Authn+Adapter+Integration+Problem.&error=server_error";

/// The bank's authorize URL with what the documents show, and more.
fn url(bench: &Bench, more: &str) -> String {
    let endpoint = &bench.endpoints.abn_amro.authorization_endpoint;
    let given = "client_id=TPP_test&response_type=code&flow=code&bank=NLAA01&state=Silver-123";
    format!("{endpoint}?scope={BALANCE}&{given}&redirect_uri={CALLBACK}{more}")
}

#[tokio::test]
async fn a_customer_logs_on_checks_the_data_and_authorizes() {
    let bench = Bench::new().await;
    let mut browser = Browser::new(&bench);
    let url = url(&bench, "");
    let page = browser.get(&url).await;
    assert_eq!((page.status, page.header("content-type")), (StatusCode::OK, "text/html; charset=utf-8"));
    let cookie = page.header("set-cookie").to_owned();
    assert!(cookie.starts_with("PF=") && cookie.contains("; HttpOnly; SameSite=Lax; Secure"), "{cookie}");
    let page = browser.fill_in(&url, &page, "step=logon&user=customer&answer=next").await;
    let text = page.text();
    for shown in ["TPP_test", "psd2:account:balance:read", "Balance", "NL02ABNA0123456789", "NL91ABNA0417164300"] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    let page = browser.fill_in(&url, &page, "step=check&account=NL91ABNA0417164300&answer=next").await;
    let text = page.text();
    assert!(text.contains("NL91 ABNA 0417 1643 00") && text.contains("Days until it ends</dt><dd>90<"), "{text}");
    let back = browser.fill_in(&url, &page, "step=authorize&answer=authorize").await;
    assert_eq!(back.status, StatusCode::FOUND);
    let sent = SentTo::of(&back);
    let code = sent.code();
    assert_eq!((sent.uri(), sent.query()), (CALLBACK, format!("code={code}&state=Silver-123").as_str()));
    assert_eq!(code.len(), 40);
    let tokens = bench.exchange(&code, CALLBACK, "").await;
    assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.text());
    let info = bench.abn_api("/v1/consentinfo", &tokens.tokens().1).await.json();
    assert_eq!(info["iban"], "NL91ABNA0417164300");
    assert_eq!(info["scopes"], BALANCE.replace('+', " "));
}

#[tokio::test]
async fn every_page_runs_no_script_and_says_in_which_language_it_is() {
    let bench = Bench::new().await;
    let mut browser = Browser::new(&bench);
    let url = url(&bench, "");
    let first = browser.get(&url).await;
    let second = browser.fill_in(&url, &first, "step=logon&user=doe").await;
    let third = browser.fill_in(&url, &second, "step=check&account=NL12ABNA9999876523").await;
    let refused = browser.get(&url.replace("TPP_test", "x")).await;
    for page in [&first, &second, &third, &refused] {
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        assert!(!page.text().contains("<script") && page.text().contains("<html lang=\"en\">"));
        assert_eq!(
            (page.header("cache-control"), page.header("referrer-policy")),
            ("no-cache, no-store", "no-referrer")
        );
    }
    let dutch = browser.fill_in(&url, &third, "step=authorize&language=nl").await;
    assert!(dutch.text().contains("<html lang=\"nl\">") && dutch.text().contains("Toestemming geven"));
    assert_eq!(dutch.header("content-language"), "nl");
}

#[tokio::test]
async fn a_customers_no_goes_back_as_the_banks_server_error_from_every_step() {
    let bench = Bench::new().await;
    for steps in [&[][..], &["step=logon&user=doe"], &["step=logon&user=doe", "step=check&account=NL12ABNA9999876523"]]
    {
        let mut browser = Browser::new(&bench);
        let url = url(&bench, "");
        let mut page = browser.get(&url).await;
        for fields in steps {
            page = browser.fill_in(&url, &page, fields).await;
        }
        let back = browser.fill_in(&url, &page, "step=authorize&answer=cancel").await;
        let sent = SentTo::of(&back);
        assert_eq!((sent.uri(), sent.query()), (CALLBACK, format!("{FAILED}&state=Silver-123#").as_str()));
        let again = browser.fill_in(&url, &page, "step=authorize&answer=cancel").await;
        assert_eq!((again.status, again.header("location")), (StatusCode::BAD_REQUEST, ""), "the visit is over");
    }
}

#[tokio::test]
async fn without_the_banks_cookie_a_visit_does_not_go_on() {
    let bench = Bench::new().await;
    let mut browser = Browser::new(&bench);
    let url = url(&bench, "");
    let page = browser.get(&url).await;
    let mut forgetful = Browser::new(&bench);
    let mut another = Browser::new(&bench);
    another.get(&url).await;
    for stranger in [&mut forgetful, &mut another] {
        let lost = stranger.fill_in(&url, &page, "step=logon&user=doe&answer=cancel").await;
        assert_eq!((lost.status, lost.header("location")), (StatusCode::BAD_REQUEST, ""));
    }
    let next = browser.fill_in(&url, &page, "step=logon&user=doe").await;
    assert_eq!(next.status, StatusCode::OK, "its own browser goes on");
}

#[tokio::test]
async fn no_step_can_be_left_out() {
    let bench = Bench::new().await;
    let mut browser = Browser::new(&bench);
    let url = url(&bench, "");
    let first = browser.get(&url).await;
    let page = browser.fill_in(&url, &first, "step=authorize&answer=authorize").await;
    assert!(page.text().contains("<h1>Log on</h1>"), "{}", page.text());
    let page = browser.fill_in(&url, &first, "step=logon&user=nobody").await;
    assert!(page.text().contains("<h1>Log on</h1>"));
    browser.fill_in(&url, &first, "step=logon&user=doe").await;
    for foreign in ["step=authorize&answer=authorize", "step=check&account=NL62ABNA9999841479"] {
        let page = browser.fill_in(&url, &first, foreign).await;
        assert!(page.text().contains("<h1>Check the data</h1>"), "{foreign}: {}", page.text());
    }
    let counters = bench.control("GET", "/counters", Value::Null).await.json();
    assert_eq!(counters["abn"]["codes_issued"], 0);
}

#[tokio::test]
async fn an_unknown_client_or_redirect_uri_is_told_on_a_page_and_nobody_is_sent_there() {
    let bench = Bench::new().await;
    let good = url(&bench, "");
    let cases = [
        (good.replace("client_id=TPP_test", "client_id=other"), "Unknown or invalid client_id"),
        (good.replace("client_id=TPP_test&", ""), "Unknown or invalid client_id"),
        (format!("{good}&client_id=TPP_test"), "Unknown or invalid client_id"),
        (good.replace(CALLBACK, "http://localhost:8090/callback/"), "Invalid redirect_uri"),
        (good.replace(CALLBACK, "http://localhost:8090/callbac"), "Invalid redirect_uri"),
        (good.replace(CALLBACK, "HTTP://localhost:8090/callback"), "Invalid redirect_uri"),
        (good.replace(CALLBACK, "http://localhost:8090/callback?a=b"), "Invalid redirect_uri"),
        (good.replace(&format!("&redirect_uri={CALLBACK}"), ""), "Invalid redirect_uri"),
        (format!("{good}&redirect_uri=https://evil.example"), "Unknown or invalid client_id"),
    ];
    for (url, told) in cases {
        let page = Browser::new(&bench).get(&url).await;
        assert_eq!((page.status, page.header("location")), (StatusCode::BAD_REQUEST, ""), "{url}");
        assert!(page.text().contains(told), "{url}: {}", page.text());
        assert_eq!(page.header("set-cookie"), "", "no visit begins");
    }
}

#[tokio::test]
async fn every_other_fault_goes_back_to_the_client_with_its_state() {
    let bench = Bench::new().await;
    let good = url(&bench, "");
    let mixed = format!("{BALANCE}+psd2:payment:sepa:write");
    let short = "code_challenge=short&code_challenge_method=S256";
    let cases = [
        (good.replace("response_type=code&", ""), "invalid_request"),
        (good.replace("response_type=code", "response_type=token"), "unsupported_response_type"),
        (good.replace(BALANCE, &mixed), "invalid_scope"),
        (good.replace(BALANCE, "psd2:account:everything"), "invalid_scope"),
        (good.replace(BALANCE, ""), "invalid_scope"),
        (good.replace(BALANCE, "+"), "invalid_scope"),
        (good.replace(BALANCE, "psd2:payment:sepa:write"), "invalid_request"),
        (good.replace("flow=code", "flow=other"), "invalid_request"),
        (good.replace("NLAA01", "NLAA02"), "invalid_request"),
        (format!("{good}&scope={BALANCE}"), "invalid_request"),
        (format!("{good}&{short}"), "invalid_request"),
    ];
    for (url, error) in cases {
        let reply = Browser::new(&bench).get(&url).await;
        assert_eq!(reply.status, StatusCode::FOUND, "{url}");
        let sent = SentTo::of(&reply);
        assert_eq!((sent.uri(), sent.get("error").as_deref()), (CALLBACK, Some(error)), "{url}");
        assert_eq!(sent.get("state").as_deref(), Some("Silver-123"), "{url}");
    }
}

#[tokio::test]
async fn bank_flow_and_state_may_be_left_out_and_any_state_comes_back_as_it_was() {
    let bench = Bench::new().await;
    bench.control("PATCH", "/abn-amro/settings", json!({"auto_approve": true})).await;
    let bare = url(&bench, "").replace("&flow=code&bank=NLAA01&state=Silver-123", "");
    let sent = SentTo::of(&Browser::new(&bench).get(&bare).await);
    assert_eq!(sent.query(), format!("code={}", sent.code()));
    let odd = format!("{bare}&bank=BEPB02&state=a%20b%26c%3Dd%23%C3%A9%2B");
    let sent = SentTo::of(&Browser::new(&bench).get(&odd).await);
    assert_eq!(sent.get("state").as_deref(), Some("a b&c=d#é+"));
}

#[tokio::test]
async fn with_auto_approve_the_first_request_is_answered_with_a_code() {
    let bench = Bench::new().await;
    let set = bench.control("PATCH", "/abn-amro/settings", json!({"auto_approve": true})).await;
    assert_eq!(set.status, StatusCode::OK);
    let reply = Browser::new(&bench).get(&url(&bench, "")).await;
    assert_eq!((reply.status, reply.header("set-cookie")), (StatusCode::FOUND, ""));
    let tokens = bench.exchange(&SentTo::of(&reply).code(), CALLBACK, "").await;
    let info = bench.abn_api("/v1/consentinfo", &tokens.tokens().1).await.json();
    assert_eq!(info["iban"], "NL12ABNA9999876523");
}

#[tokio::test]
async fn redirect_uris_are_registered_at_the_start_and_over_the_control_api() {
    let mut settings = SandboxSettings::default();
    settings.abn_amro.auto_approve = true;
    settings.abn_amro.redirect_uris.push("https://tpp.example/cb?own=1".to_owned());
    let bench = Bench::with(settings).await;
    let to = |uri: &str| url(&bench, "").replace(CALLBACK, uri);
    let status = async |uri: &str| Browser::new(&bench).get(&to(uri)).await.status;
    assert_eq!(status("https://localhost/auth").await, StatusCode::FOUND);
    let own = Browser::new(&bench).get(&to("https://tpp.example/cb?own=1").replace("?own=1", "%3Fown=1")).await;
    assert!(own.header("location").starts_with("https://tpp.example/cb?own=1&code="), "{}", own.header("location"));
    let patch = json!({"redirect_uris": ["http://127.0.0.1:9/new"]});
    assert_eq!(bench.control("PATCH", "/abn-amro/settings", patch).await.status, StatusCode::OK);
    assert_eq!(status("http://127.0.0.1:9/new").await, StatusCode::FOUND);
    assert_eq!(status("https://localhost/auth").await, StatusCode::BAD_REQUEST);
    let bad = bench.control("PATCH", "/abn-amro/settings", json!({"redirect_uris": ["/relative"]})).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_rule_ends_the_next_visit_in_an_error_and_the_one_after_it_does_not() {
    let bench = Bench::new().await;
    let url = url(&bench, "");
    for error in ["server_error", "access_denied", "temporarily_unavailable"] {
        let fault = json!({"authorize_error": error});
        bench.fault(json!({"target": "abn-authorize", "times": 1, "fault": fault})).await;
        let sent = SentTo::of(&Browser::new(&bench).get(&url).await);
        assert_eq!((sent.get("error").as_deref(), sent.get("state").as_deref()), (Some(error), Some("Silver-123")));
        assert_eq!(sent.query() == format!("{FAILED}&state=Silver-123#"), error == "server_error");
    }
    assert_eq!(Browser::new(&bench).get(&url).await.status, StatusCode::OK);
    bench.fault(json!({"target": "abn-authorize", "times": 1, "fault": {"status": {"code": 503}}})).await;
    assert_eq!(Browser::new(&bench).get(&url).await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_consent_to_a_payment_names_its_payment() {
    let bench = Bench::new().await;
    let mut browser = Browser::new(&bench);
    let url = url(&bench, "&transactionId=321463282363179XX").replace(BALANCE, "psd2:payment:sepa:write");
    let page = browser.get(&url).await;
    let page = browser.fill_in(&url, &page, "step=logon&user=petstore").await;
    assert!(page.text().contains("321463282363179XX"), "{}", page.text());
    let page = browser.fill_in(&url, &page, "step=check&account=NL62ABNA9999841479").await;
    let back = browser.fill_in(&url, &page, "step=authorize&answer=authorize").await;
    let tokens = bench.exchange(&SentTo::of(&back).code(), CALLBACK, "").await;
    let info = bench.abn_api("/v1/consentinfo", &tokens.tokens().1).await.json();
    assert_eq!((&info["transactionId"], &info["iban"]), (&json!("321463282363179XX"), &json!("NL62ABNA9999841479")));
    assert_eq!((&info["scopes"], &info["consentStatus"]), (&json!("psd2:payment:sepa:write"), &json!("FULLY_SIGNED")));
}

#[tokio::test]
async fn pages_can_be_had_without_tls_and_then_their_cookie_does_not_ask_for_it() {
    let bench = Bench::with(SandboxSettings { plain_pages: true, ..SandboxSettings::default() }).await;
    let url = url(&bench, "");
    assert!(url.starts_with("http://"));
    let mut browser = Browser::new(&bench);
    let page = browser.get(&url).await;
    assert!(!page.header("set-cookie").is_empty() && !page.header("set-cookie").contains("Secure"));
    assert_eq!(browser.fill_in(&url, &page, "step=logon&user=doe").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_page_is_read_with_get_and_a_form_is_sent_with_post() {
    let bench = Bench::new().await;
    let url = url(&bench, "");
    let mut browser = Browser::new(&bench);
    let page = browser.get(&url).await;
    let origin = url.split("/as/").next().expect("an origin");
    let form = browser.get(&format!("{origin}{}", action(&page))).await;
    assert_eq!((form.status, form.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
    let post = bench.send(None, &url, super::form_post(), "").await.expect("answers");
    assert_eq!((post.status, post.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "GET"));
    assert_eq!(browser.get(&format!("{origin}/as/other")).await.status, StatusCode::NOT_FOUND);
}
