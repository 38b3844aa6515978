//! The built-in profiles, read as an operator's file reads them.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, Uri};

use super::Folder;
use crate::config::Config;
use crate::consent::settings::Asking;
use crate::consent::{BankCall, CallToken, Per};
use crate::http::prefix::PathPrefix;
use crate::http::target::CheckedPath;
use crate::oauth::settings::{ClientAuth, Pkce};
use crate::profiles;
use crate::words::bank::{BankBehaviour, Matcher, Rotation};
use crate::words::ids::ProviderId;
use crate::words::token_set::Scope;

/// A file in which one provider starts from `profile` and adds what every profile leaves open.
fn file(profile: &str, more: &str) -> String {
    let auth = if profiles::find(profile).expect(profile).contains("method: tls_client_auth") {
        "{certificate: {file: secrets/tls.crt}, key: {file: secrets/tls.key}}"
    } else {
        "{secret: {env: SECRET}}"
    };
    format!(
        "store: {{embedded: {{path: c.redb}}, seal: {{keys: [{{id: a, key: {{file: secrets/seal.key}}}}]}}}}\n\
         providers: {{bank: {{profile: {profile}, client_id: us, client_auth: {auth}, {more}}}}}\n\
         apis: {{api: {{path: /, provider: bank, upstream: \"https://api.bank.example\"}}}}\n"
    )
}

fn own_addresses(profile: &str) -> &'static str {
    match profile {
        "berlin-group" | "uk-open-banking" => "token_endpoint: \"https://auth.bank.example/token\"",
        _ => "",
    }
}

fn behaviour(profile: &str, more: &str) -> BankBehaviour {
    let mut config = Folder::new().config(&file(profile, more));
    let bank = ProviderId::parse("bank").expect("a name");
    config.tokens.providers.remove(&bank).expect("it is there").behaviour
}

/// How customers are asked at a provider with this profile, where it knows.
fn asking(profile: &str) -> Option<Asking> {
    let yaml = file(profile, own_addresses(profile)) + "callback: {public_url: \"https://us.example\"}\n";
    let (_, asking) = Folder::new().config(&yaml).callback?;
    asking.providers.into_values().next()
}

fn any_matches(matchers: &[Matcher], status: u16, body: &str) -> bool {
    let status = StatusCode::from_u16(status).expect("a status");
    matchers.iter().any(|it| it.head_matches(status, &HeaderMap::new()) && it.body_matches(body.as_bytes()))
}

#[test]
fn every_profile_is_complete_but_for_what_is_ours_and_none_trusts_a_spent_refresh_token() {
    for (profile, _) in profiles::ALL {
        let behaviour = behaviour(profile, own_addresses(profile));
        assert_eq!(behaviour.reuse_grace, None, "{profile}");
        assert!(!behaviour.trust_5xx, "{profile}");
        assert!(!behaviour.token_rejected.is_empty(), "{profile}");
        assert!(!behaviour.request_id_headers.is_empty(), "{profile}");
    }
}

#[test]
fn profiles_that_know_the_api_lend_it_to_their_apis() {
    let without_upstream = |profile| file(profile, "").replace(", upstream: \"https://api.bank.example\"", "");
    for profile in ["abn-amro", "abn-amro-sandbox", "norsk-gjeld", "norsk-gjeld-preprod"] {
        Folder::new().config(&without_upstream(profile));
    }
}

#[test]
fn an_operator_overrides_a_profile_key_by_key() {
    let changed = behaviour("abn-amro", "reuse_grace: 60s, token_rejected: [{status: 401}]");
    let own = behaviour("abn-amro", "");
    assert_eq!(changed.reuse_grace, Some(Duration::from_secs(60)));
    assert_eq!(changed.token_rejected, [Matcher::status(StatusCode::UNAUTHORIZED)]);
    assert_eq!(changed.default_expires_in, own.default_expires_in);
}

#[test]
fn the_profile_gives_the_method_and_the_operator_the_secret() {
    let config = Folder::new().config(&file("norsk-gjeld", ""));
    let registration = config.registrations.values().next().expect("one");
    assert!(
        matches!(&registration.client_auth, ClientAuth::SecretBasic(secret) if secret.current().expose() == "CANARY-SECRET")
    );
    assert_eq!(registration.token_endpoint, "https://access.norskgjeld.no/oauth2/token");
    let config = Folder::new().config(&file("abn-amro", ""));
    let registration = config.registrations.values().next().expect("one");
    assert!(matches!(registration.client_auth, ClientAuth::TlsClientAuth));
    assert!(registration.identity.is_some());
}

#[test]
fn abn_amro_tells_a_bad_token_from_a_bad_api_key() {
    for profile in ["abn-amro", "abn-amro-sandbox"] {
        let behaviour = behaviour(profile, "");
        let says =
            |code| any_matches(&behaviour.token_rejected, 401, &format!(r#"{{"errors":[{{"code":"{code}"}}]}}"#));
        for code in ["ERR_2002_002", "ERR_2100_001", "ERR_1002_002", "ERR_2003_001"] {
            assert!(says(code), "{code}");
        }
        for code in ["ERR_2005_001", "ERR_2005_002", "ERR_1002_003", "ERR_2001_001"] {
            assert!(!says(code), "{code}");
        }
        assert_eq!(behaviour.rotation, Rotation::Rotates);
    }
}

#[test]
fn norsk_gjeld_tells_a_bad_token_from_a_dead_consent() {
    for profile in ["norsk-gjeld", "norsk-gjeld-preprod"] {
        let behaviour = behaviour(profile, "");
        let token = r#"{"error":"Invalid access token","trace_id":"1"}"#;
        assert!(any_matches(&behaviour.token_rejected, 403, token));
        assert!(!any_matches(&behaviour.consent_dead, 403, token));
        for error in ["invalid consent", "no valid consent"] {
            let consent = format!(r#"{{"error":"{error}"}}"#);
            assert!(any_matches(&behaviour.consent_dead, 403, &consent));
            assert!(!any_matches(&behaviour.token_rejected, 403, &consent));
        }
        assert_eq!(behaviour.rotation, Rotation::Never);
    }
}

#[test]
fn berlin_group_codes_are_read_in_both_error_shapes() {
    let behaviour = behaviour("berlin-group", own_addresses("berlin-group"));
    for (code, rejected, dead) in
        [("TOKEN_EXPIRED", true, false), ("CONSENT_EXPIRED", false, true), ("CERTIFICATE_BLOCKED", false, false)]
    {
        for body in [format!(r#"{{"tppMessages":[{{"code":"{code}"}}]}}"#), format!(r#"{{"code":"{code}"}}"#)] {
            assert_eq!(any_matches(&behaviour.token_rejected, 401, &body), rejected, "{body}");
            assert_eq!(any_matches(&behaviour.consent_dead, 401, &body), dead, "{body}");
        }
    }
}

#[test]
fn uk_open_banking_rejects_a_token_with_an_empty_401() {
    let behaviour = behaviour("uk-open-banking", own_addresses("uk-open-banking"));
    assert!(any_matches(&behaviour.token_rejected, 401, ""));
    assert!(!any_matches(&behaviour.token_rejected, 403, ""));
}

/// A method, a path, and what a consent has to cover for them.
type Needed = (&'static str, &'static str, &'static str);

#[test]
fn each_bank_s_calls_need_what_it_documents() {
    let documented: [(&str, &[Needed]); 2] = [
        (
            "abn-amro",
            &[
                ("GET", "/v1/accounts/NL12/details", "psd2:account:details:read"),
                ("GET", "/v1/accounts/NL12/balances", "psd2:account:balance:read"),
                ("GET", "/v1/accounts/NL12/transactions", "psd2:account:transaction:read"),
                ("GET", "/v1/accounts/NL12/funds", "psd2:account:funds:read"),
                ("GET", "/v1/consentinfo", ""),
                ("POST", "/v1/payments", ""),
                ("PUT", "/v1/payments/1", "psd2:payment:sepa:write"),
                ("PUT", "/v1/payments/xborder/1", "psd2:payment:xborder:write"),
                ("GET", "/v1/payments/1", "psd2:payment:sepa:read"),
                ("GET", "/v1/payments/xborder/1", ""),
            ],
        ),
        (
            "norsk-gjeld",
            &[
                ("GET", "/v1/debt", "debt.unsecured.presentation, or debt.unsecured.processing"),
                ("GET", "/v1/debt/c1/status", ""),
                ("PUT", "/v1/consent/agreement", ""),
            ],
        ),
    ];
    for (profile, rows) in documented {
        for profile in profiles::ALL.iter().filter(|(name, _)| name.starts_with(profile)) {
            let config = Folder::new().config(&file(profile.0, ""));
            let rules = &config.proxy.apis.first().expect("one").scope_rules;
            for (method, path, needs) in rows {
                let method = Method::from_bytes(method.as_bytes()).expect("a method");
                let uri: Uri = path.parse().expect("a path");
                let checked = CheckedPath::check(&uri, 100).expect("acceptable");
                let rest = PathPrefix::parse("/").expect("all").strip(&checked).expect("under it");
                let rule = rules
                    .iter()
                    .find(|rule| rule.matcher.allows(&method) && rule.matcher.pattern().fits_under("", rest));
                let told = rule.map(|rule| rule.needs.to_string()).unwrap_or_default();
                assert_eq!(told, *needs, "{} {path}", profile.0);
            }
        }
    }
}

#[test]
fn each_bank_s_calls_without_the_customer_are_counted_where_it_documents_a_number() {
    let counted = |profile: &str, path: &str| {
        let config = Folder::new().config(&file(profile, own_addresses(profile)));
        let uri: Uri = path.parse().expect("a path");
        let checked = CheckedPath::check(&uri, 100).expect("acceptable");
        let rest = PathPrefix::parse("/").expect("all").strip(&checked).expect("under it");
        let quotas = &config.proxy.apis.first().expect("one").quotas;
        let rule = quotas.iter().find(|rule| {
            rule.matcher.allows(&Method::GET)
                && !rule.matcher.allows(&Method::POST)
                && rule.matcher.pattern().fits_under("/psd2", rest)
        });
        rule.map(|rule| (rule.quota.calls, rule.quota.per, rule.quota.day_begins))
    };
    let four = Some((4, Per::Path, None));
    for (path, quota) in [
        ("/v1/accounts", four),
        ("/xs2a/v1/accounts/1/transactions", four),
        ("/v1/card-accounts/1/balances", four),
        ("/v1/consents/1", None),
        ("/v1/payments/sepa-credit-transfers/1", None),
    ] {
        assert_eq!(counted("berlin-group", path), quota, "{path}");
    }
    for (profile, _) in profiles::ALL.iter().filter(|(profile, _)| *profile != "berlin-group") {
        assert_eq!(counted(profile, "/v1/accounts/1/balances"), None, "{profile}");
    }
    let psu = |profile| behaviour(profile, own_addresses(profile)).psu_headers;
    assert_eq!(psu("berlin-group"), ["psu-ip-address"]);
    assert_eq!(psu("uk-open-banking"), ["x-fapi-customer-ip-address"]);
    assert_eq!(psu("abn-amro"), ["psu-ip-address", "x-fapi-customer-ip-address"]);
}

#[test]
fn abn_amro_is_asked_in_its_own_way() {
    for (profile, host) in [("abn-amro", "auth.connect.abnamro.com"), ("abn-amro-sandbox", "auth-sandbox.abnamro.com")]
    {
        let asking = asking(profile).expect("it has an authorization endpoint");
        let authorization = &asking.authorization;
        assert_eq!(authorization.endpoint.to_string(), format!("https://{host}/as/authorization.oauth2"));
        let parameter = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(authorization.parameters, [parameter("bank", "NLAA01"), parameter("flow", "code")]);
        assert_eq!((authorization.pkce, &authorization.issuer), (Pkce::Allowed, &None));
        let both = Scope::parse("psd2:account:balance:read psd2:payment:sepa:write").expect("a scope");
        assert!(asking.rules.check(&both).is_err());
        assert_eq!(asking.consent_life, Some(Duration::from_secs(90 * 86_400)));
        assert!(asking.denied_by.iter().any(|error| error == "server_error"), "that is how a customer's no looks");
    }
}

#[test]
fn norsk_gjeld_is_asked_for_exactly_one_scope() {
    for (profile, infix) in [("norsk-gjeld", ""), ("norsk-gjeld-preprod", "-preprod")] {
        let asking = asking(profile).expect("it has an authorization endpoint");
        let authorization = &asking.authorization;
        assert_eq!(authorization.endpoint.to_string(), format!("https://access{infix}.norskgjeld.no/oauth2/auth"));
        assert_eq!(authorization.issuer, Some(format!("https://access{infix}.norskgjeld.no/")));
        let scope = |text| Scope::parse(text).expect("a scope");
        assert!(asking.rules.check(&scope("debt.unsecured.processing.28")).is_ok());
        assert!(asking.rules.check(&scope("debt.unsecured.processing debt.unsecured.presentation")).is_err());
        assert_eq!(asking.rules.life(&scope("debt.unsecured.processing.28")), Some(Duration::from_secs(28 * 86_400)));
        assert!(!asking.denied_by.iter().any(|error| error == "server_error"));
    }
}

#[test]
fn a_profile_without_an_address_starts_nothing_until_the_operator_gives_one() {
    assert_eq!(asking("berlin-group"), None);
}

#[test]
fn each_bank_is_asked_about_consents_as_it_documents() {
    let call = |call: &BankCall| {
        let token = match &call.token {
            CallToken::Consent => "its own token".to_owned(),
            CallToken::Client(grant) => grant.audience.clone().unwrap_or_default(),
        };
        format!("{} {:?} with {token}", call.method, call.path)
    };
    for (profile, _) in profiles::ALL {
        let config = Folder::new().config(&file(profile, own_addresses(profile)));
        let desk = config.desks.values().next();
        let revoke = desk.and_then(|desk| desk.revoke.as_ref()).map(call);
        let info = desk.and_then(|desk| desk.info.as_ref()).map(|info| call(&info.call));
        let host = profile.strip_prefix("norsk-gjeld").map(|infix| format!("https://api{infix}.norskgjeld.no/v1/debt"));
        let expected = match (host, profile.starts_with("abn-amro")) {
            (Some(audience), _) => (
                Some(format!("DELETE /v1/debt/{{bank_consent_id}} with {audience}")),
                Some(format!("GET /v1/debt/{{bank_consent_id}}/status with {audience}")),
            ),
            (None, true) => (None, Some("GET /v1/consentinfo with its own token".to_owned())),
            (None, false) => (None, None),
        };
        assert_eq!((revoke, info), expected, "{profile}");
    }
}

#[test]
fn a_feed_is_read_where_the_operator_says_so_and_as_the_bank_documents() {
    for (profile, _) in profiles::ALL {
        let feed_of = |more: &str| {
            let config = Folder::new().config(&file(profile, more));
            config.desks.into_values().next().and_then(|desk| desk.feed)
        };
        assert_eq!(feed_of(own_addresses(profile)), None, "{profile}");
        let Some(infix) = profile.strip_prefix("norsk-gjeld") else { continue };
        let feed = feed_of("feed: {read: true}").expect("it is read");
        let audience = format!("https://api{infix}.norskgjeld.no/feed/v1/consent");
        assert_eq!(feed.token.audience, Some(audience));
        assert_eq!(feed.token.scope, Scope::parse("client.access.consent.events"));
        assert_eq!((format!("{:?}", feed.path).as_str(), feed.from.as_str()), ("/feed/v1/consent", "fromSequenceNr"));
        assert_eq!((feed.every, feed.kept), (Duration::from_secs(30), Duration::from_secs(7 * 86_400)));
        assert_eq!(feed_of("feed: {read: true, every: 5s}").expect("it is read").every, Duration::from_secs(5));
    }
}

#[test]
fn of_several_apis_the_first_is_asked_about_consents_unless_another_is_named() {
    let two = |more: &str| {
        let second = "  first: {path: /first, provider: bank, upstream: \"https://first.bank.example/v1\"}\n";
        file("norsk-gjeld", more).replace("apis: {api: {", "apis:\n  api: {").replace("\"}}\n", "\"}\n") + second
    };
    let host = |config: &Config| config.desks.values().next().expect("a desk").base.authority().to_string();
    let (config, warnings) = Folder::new().load(&two("")).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(host(&config), "api.bank.example");
    assert!(warnings.iter().any(|warning| warning.to_string().contains("it is asked about consents at api")));
    let (config, warnings) = Folder::new().load(&two("consent_api: first")).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!((host(&config).as_str(), warnings.len()), ("first.bank.example", 0));
    let faults = Folder::new().load(&two("consent_api: third")).expect_err("refused").to_string();
    assert!(faults.contains("no api of this provider is called \"third\""), "{faults}");
}
