//! Paths that two servers read differently, and names of consents that are none.

use super::{C1, HOST, House, get};

const TRICKS: &[&str] = &[
    "/accounts/v1/../x",
    "/accounts/v1/..",
    "/accounts/v1/./x",
    "/accounts/../v1/x",
    "/../accounts/v1/x",
    "/accounts/v1/%2e%2e/x",
    "/accounts/v1/%2E./x",
    "/accounts/v1/%252e%252e/x",
    "/accounts/v1/%25252e/x",
    "/accounts/v1/..;/x",
    "/accounts/v1/..;a=b/x",
    "/accounts/v1/%2e%2e%3b/x",
    "/accounts/v1;a=b/x",
    "/accounts%2fv1/x",
    "/accounts/v1%2Fx",
    "/accounts/v1%252fx",
    "/accounts%2f../v1/x",
    "/accounts/v1\\x",
    "/accounts/v1/..\\x",
    "/accounts/v1%5cx",
    "/accounts/v1%255cx",
    "/accounts//v1/x",
    "/accounts/v1//x",
    "//accounts/v1/x",
    "/accounts/v1/x//",
    "/accounts/v1/%00",
    "/accounts/v1/x%00.json",
    "/accounts/v1/%0d%0aX:1",
    "/accounts/v1/%0a",
    "/accounts/v1/%7f",
    "/accounts/v1/%zz",
    "/accounts/v1/%2",
    "/accounts/v1/%",
    "/accounts/v1/%u002f",
    "/accounts/v1/%c0%ae%c0%ae/x",
    "/accounts/v1/%c0%af",
    "/accounts/v1/%ff",
    "/accounts/v1/%ed%a0%80",
    "/accounts/v1/caf\u{e9}",
    "/accounts/v1/\u{2025}/x",
    "/accounts/v1/\u{ff0e}\u{ff0e}/x",
    "/accounts/v1/x?caf\u{e9}",
    "/accounts/v1/\x01",
    "/accounts/v1/x?a\x7f",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_two_servers_could_read_differently_is_refused() {
    let house = House::new().await;
    for target in TRICKS {
        house.refuses(get(target, ""), 400).await;
    }
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_forwarded_byte_for_byte() {
    let house = House::new().await;
    for (target, wanted) in [
        ("/accounts/v1/x?a=../..//%2f%00&b=\\&c=;", "/api/v1/x?a=../..//%2f%00&b=\\&c=;"),
        ("/accounts/v1/caf%C3%A9/%e2%82%ac/a%20b", "/api/v1/caf%C3%A9/%e2%82%ac/a%20b"),
        ("/accounts/v1/a%3Ab%25c", "/api/v1/a%3Ab%25c"),
        ("/accounts/v1/.../a..b/.x", "/api/v1/.../a..b/.x"),
        ("/accounts/v1/x;version=2", "/api/v1/x;version=2"),
        ("/accounts/v1/", "/api/v1/"),
        ("/accounts/v1?", "/api/v1?"),
        ("/%61ccounts/v1/x", "/api/v1/x"),
        ("/accounts/v1/x?%zz", "/api/v1/x?%zz"),
        // The parser cuts a fragment off before anybody sees it, so it decides nothing and goes nowhere.
        ("/accounts/v1/x#/../../evil", "/api/v1/x"),
    ] {
        let (_, seen) = house.passes(get(target, "")).await;
        assert_eq!(seen.line, format!("GET {wanted} HTTP/1.1"), "{target}");
        seen.has(&[]);
    }
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_is_whole_segments() {
    let house = House::new().await;
    for target in ["/accountsX/v1/x", "/account/v1/x", "/accounts.v1/x", "/Accounts/v1/x", "/accounts%20/v1/x", "/"] {
        house.rogue.forget();
        let heard = house.say(get(target, "Connection: close\r\n")).await;
        assert!(heard.starts_with("HTTP/1.1 404 ") && heard.contains("/no-such-api"), "{target}\n{heard}");
        assert_eq!(house.rogue.all_requests(), [""; 0]);
    }
    for target in ["/accounts", "/accounts/", "/accounts/v1x/y", "/accounts/V1/x"] {
        let heard = house.say(get(target, "Connection: close\r\n")).await;
        assert!(heard.starts_with("HTTP/1.1 403 ") && heard.contains("/route-not-allowed"), "{target}\n{heard}");
        assert_eq!(house.rogue.all_requests(), [""; 0]);
    }
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_s_name_is_taken_as_it_stands_or_not_at_all() {
    let house = House::new().await;
    let long = "x".repeat(129);
    let by_header: &[&str] = &[
        "Consent-ID: c-1\r\nConsent-ID: c-1\r\n",
        "Consent-ID: c-1\r\nConsent-ID: c-2\r\n",
        "Consent-ID: c-1, c-1\r\n",
        "Consent-ID: c-1,\r\n",
        "Consent-ID:\r\n",
        "Consent-ID: .\r\n",
        "Consent-ID: ..\r\n",
        "Consent-ID: c 1\r\n",
        "Consent-ID: c%2d1\r\n",
        "Consent-ID: c-1%0d%0aX:1\r\n",
        "Consent-ID: c/1\r\n",
        "Consent-ID: {c-1}\r\n",
        "Consent-ID: c-1\u{0}\r\n",
        "Consent-ID: c-\u{661}\r\n",
        "Consent-ID: \u{ff43}-1\r\n",
    ];
    let ok = get("/accounts/v1/x", "Connection: close\r\n");
    for lines in by_header.iter().map(ToString::to_string).chain([format!("Consent-ID: {long}\r\n")]) {
        house.rogue.forget();
        let heard = house.say(ok.replacen(C1, &lines, 1)).await;
        assert!(heard.starts_with("HTTP/1.1 400 "), "{lines}\n{heard}");
        assert_eq!(house.rogue.all_requests(), [""; 0], "{lines}");
    }
    let debt = |segment: &str, header: &str| {
        format!("GET /debt/v1/debt/{segment}/x HTTP/1.1\r\n{HOST}{header}Connection: close\r\n\r\n")
    };
    for (request, status) in [
        (debt("a%20b", ""), 400),
        (debt("%61%21", ""), 400),
        (debt("c-1", "Consent-ID: c-2\r\n"), 400),
        (debt("c-1", "Consent-ID: C-1\r\n"), 400),
        (debt(&long, ""), 400),
        (debt("%2e%2e", ""), 400),
        (debt("a%2fb", ""), 400),
        // c-1 was granted at the other bank.
        (debt("c-1", ""), 404),
        (debt("%63-1", "Consent-ID: c-1\r\n"), 404),
    ] {
        let heard = house.say(&request).await;
        assert!(heard.starts_with(&format!("HTTP/1.1 {status} ")), "{request}\n{heard}");
        assert_eq!(house.rogue.all_requests(), [""; 0], "{request}");
    }
    house.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_that_is_unknown_and_one_of_another_bank_look_the_same() {
    let house = House::new().await;
    let told = async |consent: &str| {
        let request = format!("GET /debt/v1/debt/{consent}/x HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n");
        let heard = house.say(request).await;
        let (fields, body) = heard.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let mut names: Vec<_> =
            fields.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(n, _)| n.to_owned()).collect();
        names.sort_unstable();
        let mut body = body.as_object().unwrap().clone();
        body.remove("request_id");
        (fields.lines().next().unwrap().to_owned(), names, body)
    };
    let (foreign, request) = (told("c-1").await, format!("{C1}Connection: close\r\n"));
    let unknown =
        house.say(format!("GET /accounts/v1/x HTTP/1.1\r\n{HOST}{request}\r\n").replacen("c-1", "c-9", 1)).await;
    assert!(unknown.starts_with(&foreign.0), "{unknown}\n{foreign:?}");
    let body: serde_json::Value = serde_json::from_str(unknown.split_once("\r\n\r\n").unwrap().1).unwrap();
    let mut body = body.as_object().unwrap().clone();
    body.remove("request_id");
    assert_eq!(body, foreign.2, "not a word differs");
    house.ends_well();
}
