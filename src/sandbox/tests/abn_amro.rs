//! ABN AMRO's token endpoint and APIs, answer by answer.

use http::{Request, StatusCode};
use serde_json::{Value, json};

use super::super::settings::SandboxSettings;
use super::{Bench, form_post};
use std::time::Duration;

const UNKNOWN: &str =
    "{\"error_description\":\"unknown, invalid, or expired refresh token\",\"error\":\"invalid_grant\"}\r\n";

#[tokio::test]
async fn a_refresh_answers_as_the_documents_show() {
    let bench = Bench::new().await;
    let (id, _, refresh) = bench.consent().await;
    let reply = bench.refresh(&refresh).await.expect("answers");
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.header("content-type"), "application/json;charset=utf-8");
    assert_eq!(reply.header("cache-control"), "no-cache, no-store");
    let (next, access) = reply.tokens();
    assert_eq!((access.len(), next.len()), (28, 42));
    let text =
        format!(r#"{{"access_token":"{access}","refresh_token":"{next}","token_type":"Bearer","expires_in":7200}}"#);
    assert_eq!(reply.text(), text);
    let view = bench.control("GET", &format!("/abn-amro/consents/{id}"), Value::Null).await.json();
    assert_eq!((&view["refresh_token"], &view["sequence"]), (&json!(next), &json!(2)));
    assert_eq!((&view["refreshes"], &view["access_tokens_alive"]), (&json!(1), &json!(2)));
}

#[tokio::test]
async fn a_spent_refresh_token_ends_the_consent_and_is_counted() {
    let bench = Bench::new().await;
    let (id, _, first) = bench.consent().await;
    let (second, access) = bench.refresh(&first).await.expect("answers").tokens();
    let reply = bench.refresh(&first).await.expect("answers");
    assert_eq!((reply.status, reply.text().as_str()), (StatusCode::BAD_REQUEST, UNKNOWN));
    assert_eq!(bench.refresh(&second).await.expect("answers").text(), UNKNOWN);
    let reply = bench.abn_api("/v1/consentinfo", &access).await;
    assert_eq!(reply.abn_error(), (401, "ERR_2002_002".to_owned()));
    let view = bench.control("GET", &format!("/abn-amro/consents/{id}"), Value::Null).await.json();
    assert_eq!((&view["state"], &view["reuse_events"]), (&json!("dead_by_reuse"), &json!(1)));
    assert_eq!(bench.reuse_events().await, 1);
}

#[tokio::test]
async fn each_wrong_token_request_has_its_documented_answer() {
    let bench = Bench::new().await;
    let code = "a".repeat(40);
    let cases = [
        (
            "client_id=TPP_test".to_owned(),
            400,
            r#"{"error_description":"grant_type is required","error":"invalid_request"}"#,
        ),
        ("client_id=TPP_test&grant_type=password".to_owned(), 400, r#"{"error":"unsupported_grant_type"}"#),
        (
            "client_id=TPP_test&grant_type=refresh_token".to_owned(),
            400,
            r#"{"error_description":"refresh_token parameter is required","error":"invalid_request"}"#,
        ),
        ("client_id=TPP_test&grant_type=refresh_token&refresh_token=x".to_owned(), 400, UNKNOWN.trim_end()),
        (
            "client_id=other&grant_type=refresh_token&refresh_token=x".to_owned(),
            401,
            r#"{"error_description":"Invalid client or client credentials","error":"invalid_client"}"#,
        ),
        (
            "grant_type=refresh_token&refresh_token=x".to_owned(),
            401,
            r#"{"error_description":"Invalid client or client credentials","error":"invalid_client"}"#,
        ),
        (
            "client_id=TPP_test&grant_type=authorization_code&code=x".to_owned(),
            400,
            r#"{"error_description":"Authorization code is malformed.","error":"invalid_grant"}"#,
        ),
        (
            format!("client_id=TPP_test&grant_type=authorization_code&code={code}"),
            400,
            r#"{"error_description":"Authorization code is invalid or expired.","error":"invalid_grant"}"#,
        ),
        (
            "client_id=TPP_test&grant_type=a&grant_type=b".to_owned(),
            400,
            r#"{"error_description":"a parameter is included more than once","error":"invalid_request"}"#,
        ),
        (
            "client_id=TPP_test&grant_type=client_credentials&scope=psd2:account:details:read".to_owned(),
            400,
            r#"{"error_description":"The requested scope(s) must be blank or a subset of the provided scopes.","error":"invalid_scope"}"#,
        ),
    ];
    for (form, status, body) in cases {
        let reply = bench.abn_token(&form).await.expect("answers");
        assert_eq!(reply.status, status, "{form}");
        assert_eq!(reply.text(), format!("{body}\r\n"), "{form}");
    }
    assert_eq!(bench.reuse_events().await, 0);
}

#[tokio::test]
async fn the_certificate_is_required_and_must_be_the_clients() {
    let bench = Bench::new().await;
    let (_, _, refresh) = bench.consent().await;
    let url = bench.endpoints.abn_amro.token_endpoint.clone();
    let form = format!("grant_type=refresh_token&client_id=TPP_test&refresh_token={refresh}");
    assert!(bench.send(None, &url, form_post(), form.clone()).await.is_err());
    let stranger = bench.send(Some(&bench.stranger), &url, form_post(), form.clone()).await;
    assert_eq!(stranger.expect("answers").status, StatusCode::UNAUTHORIZED);
    let ours = bench.send(Some(&bench.tpp), &url, form_post(), form).await.expect("answers");
    assert_eq!(ours.status, StatusCode::OK, "nothing was spent before");
}

#[tokio::test]
async fn unknown_parameters_and_scopes_in_any_encoding_are_taken() {
    let bench = Bench::new().await;
    let (_, _, refresh) = bench.consent().await;
    let scope = "psd2%3Aaccount%3Abalance%3Aread+psd2:account:details:read";
    let form =
        format!("grant_type=refresh_token&client_id=TPP_test&refresh_token={refresh}&scope={scope}&psd2:account&x=y");
    let reply = bench.abn_token(&form).await.expect("answers");
    assert_eq!(reply.status, StatusCode::OK);
    let (_, access) = reply.tokens();
    let path = "/v1/accounts/NL12ABNA9999876523";
    assert_eq!(bench.abn_api(&format!("{path}/balances"), &access).await.status, StatusCode::OK);
    let reply = bench.abn_api(&format!("{path}/transactions"), &access).await;
    assert_eq!(reply.abn_error(), (403, "ERR_3002_003".to_owned()));
}

#[tokio::test]
async fn client_credentials_give_a_token_for_payments_and_no_refresh_token() {
    let bench = Bench::new().await;
    let form = "grant_type=client_credentials&client_id=TPP_test&scope=psd2:payment:sepa:write";
    let reply = bench.abn_token(form).await.expect("answers").json();
    assert_eq!(reply["access_token"].as_str().map(str::len), Some(28));
    assert!(reply.get("refresh_token").is_none());
}

#[tokio::test]
async fn the_apis_check_key_token_scope_and_account_in_turn() {
    let bench = Bench::new().await;
    let (_, access, _) = bench.consent().await;
    let api = &bench.endpoints.abn_amro.api;
    let key = bench.endpoints.abn_amro.api_key.as_str();
    let bearer = format!("Bearer {access}");
    let own = "/v1/accounts/NL12ABNA9999876523/details";
    let foreign = "/v1/accounts/NL62ABNA9999841479/details";
    let cases = [
        ("/v1/nothing", Some(key), Some(bearer.as_str()), 404, "ERR_4001_001"),
        (own, None, Some(&bearer), 400, "ERR_1002_003"),
        (own, Some("wrong"), Some(&bearer), 401, "ERR_2005_001"),
        (own, Some(key), None, 400, "ERR_1002_002"),
        (own, Some(key), Some("Basic eDp5"), 400, "ERR_1001_001"),
        (own, Some(key), Some("Bearer wrong"), 401, "ERR_2002_002"),
        (foreign, Some(key), Some(&bearer), 403, "MESSAGE_RST560_0016"),
        ("/v1/accounts/nl12/details", Some(key), Some(&bearer), 400, "MESSAGE_RST560_0007"),
    ];
    for (path, key, authorization, status, code) in cases {
        let mut request = Request::get("/");
        for (name, value) in [("api-key", key), ("authorization", authorization)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let reply = bench.send(None, &format!("{api}{path}"), request, "").await.expect("answers");
        assert_eq!(reply.abn_error(), (status, code.to_owned()), "{path}");
        assert_eq!(reply.json()["errors"][0]["traceId"], reply.header("trace-id"));
    }
}

#[tokio::test]
async fn the_apis_answer_as_the_documents_show() {
    let bench = Bench::new().await;
    let (_, access, _) = bench.consent().await;
    let account = "/v1/accounts/NL12ABNA9999876523";
    let info = bench.abn_api("/v1/consentinfo", &access).await.json();
    assert_eq!(info["iban"], "NL12ABNA9999876523");
    assert_eq!(info["valid"], json!(super::TODAY.as_millis() / 1_000 + 7_200));
    assert_eq!(info["consentExpiresIn"], "90 days, 0 hours, 0 minutes, and 0 seconds");
    let details = bench.abn_api(&format!("{account}/details"), &access).await.json();
    let wanted = json!({"accountNumber": "NL12ABNA9999876523", "currency": "USD", "accountHolderName": "E.P.G. Doe"});
    assert_eq!(details, wanted);
    let balances = bench.abn_api(&format!("{account}/balances"), &access).await;
    assert!(balances.text().contains("-3.02") && !balances.header("trace-id").is_empty());
    let page = bench.abn_api(&format!("{account}/transactions"), &access).await.json();
    assert_eq!(page["transactions"].as_array().map(Vec::len), Some(50));
    let key = page["nextPageKey"].as_str().expect("a key");
    let path = format!("{account}/transactions?nextPageKey={key}");
    let page = bench.abn_api(&path, &access).await.json();
    assert_eq!(page["transactions"].as_array().map(Vec::len), Some(38));
    assert!(page.get("nextPageKey").is_none());
    let funds = format!("{account}/funds?amount=123.45&currency=USD");
    let funds = bench.abn_api(&funds, &access).await.json();
    assert_eq!((&funds["available"], &funds["amount"]), (&json!(false), &json!(123.45)));
}

#[tokio::test]
async fn an_access_token_dies_in_time() {
    let bench = Bench::new().await;
    let (_, access, refresh) = bench.consent().await;
    bench.clock.advance(Duration::from_secs(7_200));
    let reply = bench.abn_api("/v1/consentinfo", &access).await;
    assert_eq!(reply.abn_error(), (401, "ERR_2002_002".to_owned()));
    assert_eq!(bench.refresh(&refresh).await.expect("answers").status, StatusCode::OK);
}

#[tokio::test]
async fn echo_tells_what_arrived_and_hides_the_token() {
    let bench = Bench::new().await;
    let (_, access, _) = bench.consent().await;
    let reply = bench.abn_api("/v1/echo?a=%20b", &access).await;
    let told = reply.json();
    assert_eq!((&told["method"], &told["target"]), (&json!("GET"), &json!("/v1/echo?a=%20b")));
    assert!(!reply.text().contains(&access));
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, format!("Bearer {access}").as_bytes());
    assert!(reply.text().contains(&crate::words::ids::hex(digest.as_ref())));
}

#[tokio::test]
async fn large_bodies_go_both_ways_over_plain_http() {
    let settings = SandboxSettings { plain_apis: true, ..SandboxSettings::default() };
    let bench = Bench::with(settings).await;
    assert!(bench.endpoints.abn_amro.api.starts_with("http://"));
    let (_, access, _) = bench.consent().await;
    let reply = bench.abn_api("/v1/bytes?n=5000000", &access).await;
    assert_eq!((reply.header("content-length"), reply.body.len()), ("5000000", 5_000_000));
    let reply = bench.abn_api("/v1/chunks?n=3&size=1000", &access).await;
    assert_eq!((reply.header("content-length"), reply.body.len()), ("", 3_000));
    let sent = "0123456789".repeat(100_000);
    let request = Request::post("/")
        .header("api-key", &bench.endpoints.abn_amro.api_key)
        .header("authorization", format!("Bearer {access}"));
    let url = format!("{}/v1/echo", bench.endpoints.abn_amro.api);
    let reply = bench.send(None, &url, request, sent.clone()).await.expect("answers");
    assert!(reply.body == sent.as_bytes());
}

#[tokio::test]
async fn the_apis_speak_http2_over_tls_and_the_token_endpoint_does_not() {
    let bench = Bench::new().await;
    let roots = crate::net::tls::Roots::Pem(bench.ca.clone().into_bytes());
    let tpp = bench.tpp.identity().expect("fits");
    let config = crate::net::tls::client_config(&roots, Some(&tpp), &[b"h2", b"http/1.1"]);
    let connector = tokio_rustls::TlsConnector::from(config.expect("valid"));
    let bank = &bench.endpoints.abn_amro;
    for (url, protocol) in [(&bank.api, &b"h2"[..]), (&bank.token_endpoint, &b"http/1.1"[..])] {
        let uri: http::Uri = url.parse().expect("a URL");
        let authority = uri.authority().expect("a host").as_str();
        let tcp = tokio::net::TcpStream::connect(authority).await.expect("connects");
        let name = rustls::pki_types::ServerName::try_from("127.0.0.1").expect("a name");
        let tls = super::within(connector.connect(name, tcp)).await.expect("handshake");
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(protocol), "{url}");
    }
}
