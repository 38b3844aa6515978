//! Browsers that come and go, before the embedded store and a bank that says what it is told to.

mod house;

use std::time::Duration;

use http::{Method, Request, StatusCode, header};
use serde_json::json;

use crate::consent::{StartError, StartRequest, show, start};
use crate::oauth::{NotSent, Push, TokenOutcome};
use crate::store::spill::SpillContent;
use crate::token::TokenError;
use crate::words::clock::WallTime;
use crate::words::failure::FailureClass;
use crate::words::said::Said;
use crate::words::secrets::RequestUri;
use crate::words::token_set::Scope;
use house::{DONE, House, NOW, back_path, challenge, id, location, pair, parameter, text, tokens};

#[tokio::test]
async fn a_customer_who_consents_ends_at_the_app_and_the_consent_serves() {
    let house = House::new();
    let started = house.start("c-1", Some(DONE)).await;
    assert_eq!((started.state, house.state("c-1").await), ("pending", "pending"));
    let asked = house.token("c-1").await;
    assert_eq!(asked.expect_err("not yet"), TokenError::Pending);

    let (to, cookie) = house.leave(&started).await;
    assert!(to.starts_with("https://bank.example/authorize?response_type=code&client_id=us&"), "{to}");
    assert!(cookie.starts_with("__Host-consentry-"), "{cookie}");
    for part in ["; Path=/", "; HttpOnly", "; SameSite=Lax", "; Secure", "; Max-Age=600"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    house.bank.next(tokens("one"));
    let back = house.back(&to, "code=the-code", &cookie).await;
    assert_eq!(
        (back.status(), location(&back).as_str()),
        (StatusCode::SEE_OTHER, "https://app.example/done?from=bank&consent_id=c-1&status=granted")
    );
    assert_eq!(back.headers()[header::REFERRER_POLICY], "no-referrer");
    let (code, redirect_uri, verifier) = house.bank.exchanges().remove(0);
    assert_eq!((code.as_str(), redirect_uri.as_str()), ("the-code", "https://us.example/callback"));
    assert_eq!(parameter(&to, "code_challenge"), challenge(&verifier.expect("PKCE")));

    let view = house.view("c-1").await;
    assert_eq!((view.state, view.generation, view.scope.as_ref().map(Scope::as_str)), ("active", 1, Some("accounts")));
    assert_eq!(view.consent_expires_at, Some(WallTime::from_millis(NOW + 90 * 86_400_000)));
    assert_eq!(house.token("c-1").await.expect("it serves"), "Bearer access-one");
    assert_eq!(house.counted("started"), 1);
    assert_eq!(house.counted("granted"), 1);
}

#[tokio::test]
async fn without_a_return_address_the_customer_sees_a_page_in_a_language_of_theirs() {
    let house = House::new();
    let started = house.start("c-1", None).await;
    let (to, cookie) = house.leave(&started).await;
    house.bank.next(tokens("one"));
    let request = House::request(&back_path(&to, "code=x"), &[("cookie", &pair(&cookie)), ("accept-language", "nl")]);
    let back = house.callback.answer(&request).await;
    assert_eq!((back.status(), &back.headers()[header::CONTENT_LANGUAGE]), (StatusCode::OK, &"nl".parse().unwrap()));
    assert!(text(back).await.contains("U hebt toestemming gegeven"));
}

#[tokio::test]
async fn a_callback_that_is_repeated_says_the_same_and_sends_nothing() {
    let house = House::new();
    let started = house.start("c-1", Some(DONE)).await;
    let (to, cookie) = house.leave(&started).await;
    house.bank.next(tokens("one"));
    for query in ["code=x", "code=x", "code=another", "error=access_denied"] {
        let back = house.back(&to, query, &cookie).await;
        assert!(location(&back).ends_with("status=granted"), "{query}");
    }
    assert_eq!(house.bank.exchanges().len(), 1);
    let again = house.get(&started.start_url, &[("cookie", &pair(&cookie))]).await;
    assert_eq!(again.status(), StatusCode::OK);
    assert!(text(again).await.contains("You have been at your bank already"));
    assert_eq!(house.state("c-1").await, "active");
}

#[tokio::test]
async fn of_two_callbacks_at_once_one_exchanges_and_both_learn_how_it_ended() {
    let house = House::new();
    let started = house.start("c-1", Some(DONE)).await;
    let (to, cookie) = house.leave(&started).await;
    house.bank.hold();
    house.bank.next(tokens("one"));
    let first = house.back(&to, "code=x", &cookie);
    let second = async {
        house.bank.until_asked(1).await;
        let waiting = house.back(&to, "code=x", &cookie).await;
        house.bank.let_go();
        waiting
    };
    let (first, second) = tokio::join!(first, second);
    assert!(location(&first).ends_with("status=granted"));
    assert_eq!((second.status(), &second.headers()["refresh"]), (StatusCode::ACCEPTED, &"2".parse().unwrap()));
    assert!(location(&house.back(&to, "code=x", &cookie).await).ends_with("status=granted"));
    assert_eq!(house.bank.exchanges().len(), 1);
}

#[tokio::test]
async fn a_browser_that_goes_away_does_not_end_the_exchange() {
    let house = House::new();
    let started = house.start("c-1", Some(DONE)).await;
    let (to, cookie) = house.leave(&started).await;
    house.bank.hold();
    house.bank.next(tokens("one"));
    {
        let mut gone = std::pin::pin!(house.back(&to, "code=x", &cookie));
        tokio::select! {
            _ = &mut gone => panic!("the bank has not answered"),
            () = house.bank.until_asked(1) => {}
        }
    }
    house.bank.let_go();
    house.tokens.settled().await;
    assert_eq!(house.state("c-1").await, "active");
}

#[tokio::test]
async fn another_browser_can_neither_open_nor_finish_what_one_began() {
    let house = House::new();
    let started = house.start("c-1", Some(DONE)).await;
    let (to, cookie) = house.leave(&started).await;
    let other = house.get(&started.start_url, &[]).await;
    assert_eq!(other.status(), StatusCode::FORBIDDEN);
    assert!(!other.headers().contains_key(header::SET_COOKIE));
    let again = house.get(&started.start_url, &[("cookie", &pair(&cookie))]).await;
    assert_eq!(location(&again), to, "the same browser may come again");

    let another = house.start("c-2", Some(DONE)).await;
    let (_, foreign) = house.leave(&another).await;
    let name = cookie.split('=').next().unwrap();
    let forged = format!("{name}={}", pair(&foreign).split_once('=').unwrap().1);
    for presented in ["", pair(&foreign).as_str(), forged.as_str()] {
        let back = house.get(&back_path(&to, "code=x"), &[("cookie", presented)]).await;
        assert_eq!(back.status(), StatusCode::FORBIDDEN, "{presented}");
        assert!(text(back).await.contains("another browser"));
    }
    assert!(house.bank.exchanges().is_empty());
    assert_eq!((house.state("c-1").await, house.counted("foreign")), ("pending", 3));
    house.bank.next(tokens("one"));
    assert!(location(&house.back(&to, "code=x", &cookie).await).ends_with("status=granted"), "and the first still may");
}

#[tokio::test]
async fn forged_expired_and_malformed_callbacks_change_nothing() {
    let house = House::new();
    let started = house.start("c-1", Some(DONE)).await;
    let (to, cookie) = house.leave(&started).await;
    let cookie = pair(&cookie);
    for (query, status) in [
        ("code=x&state=made-up".to_owned(), StatusCode::NOT_FOUND),
        ("code=x".to_owned(), StatusCode::BAD_REQUEST),
        (format!("state={}", parameter(&to, "state")), StatusCode::BAD_REQUEST),
        (format!("code=x&error=y&state={}", parameter(&to, "state")), StatusCode::BAD_REQUEST),
        (
            format!("code=x&iss=https%3A%2F%2Felsewhere.example&state={}", parameter(&to, "state")),
            StatusCode::BAD_REQUEST,
        ),
        (String::new(), StatusCode::BAD_REQUEST),
    ] {
        let answer = house.get(&format!("https://us.example/callback?{query}"), &[("cookie", &cookie)]).await;
        assert_eq!(answer.status(), status, "{query}");
        assert!(!text(answer).await.contains("made-up"), "nothing of a request is repeated");
    }
    for path in ["/start/made-up", "/start/%2e", "/start/", "/start", "/", "/callback/x", "/admin"] {
        let answer = house.get(&format!("https://us.example{path}"), &[]).await;
        assert!(answer.status().is_client_error(), "{path}");
    }
    assert_eq!((house.state("c-1").await, house.counted("wrong_issuer")), ("pending", 1));
    house.clock.advance(Duration::from_secs(601));
    let late = house.back(&to, "code=x", &cookie).await;
    assert_eq!(late.status(), StatusCode::NOT_FOUND);
    assert!(text(late).await.contains("no longer valid"));
    assert!(house.bank.exchanges().is_empty());
    house.clock.advance(Duration::from_secs(1_000));
    assert!(show(&house.tokens, &house.clock, &id("c-1")).await.is_err(), "an abandoned attempt leaves nothing");
}

#[tokio::test]
async fn the_banks_own_name_is_accepted_where_it_is_the_one_that_is_known() {
    let house = House::new();
    let started = house.start("c-1", Some(DONE)).await;
    let (to, cookie) = house.leave(&started).await;
    house.bank.next(tokens("one"));
    let back = house.back(&to, "code=x&iss=https%3A%2F%2Fbank.example%2F", &cookie).await;
    assert!(location(&back).ends_with("status=granted"));
}

#[tokio::test]
async fn a_customer_who_refuses_is_told_so_and_a_new_consent_is_denied() {
    for error in ["access_denied", "consent_denied", "login_cancelled"] {
        let house = House::new();
        let started = house.start("c-1", None).await;
        let (to, cookie) = house.leave(&started).await;
        let back = house.back(&to, &format!("error={error}&error_description=%3Cscript%3E"), &cookie).await;
        assert_eq!(back.status(), StatusCode::OK);
        let html = text(back).await;
        assert!(html.contains("You did not give your consent") && !html.contains("script"), "{html}");
        assert_eq!((house.state("c-1").await, house.counted("denied")), ("denied", 1));
        assert_eq!(house.last_event("c-1").await, ("ended".to_owned(), Some(error.to_owned())));
        assert_eq!(house.token("c-1").await.expect_err("denied"), TokenError::Denied);
        // The customer may think better of it.
        let started = house.start("c-1", None).await;
        assert_eq!(started.state, "pending");
        let (to, cookie) = house.leave(&started).await;
        house.bank.next(tokens("one"));
        house.back(&to, "code=x", &cookie).await;
        assert_eq!(house.state("c-1").await, "active");
    }
}

#[tokio::test]
async fn every_other_error_is_a_failure_that_is_written_down() {
    for (error, why) in [
        ("server_error", "server_error"),
        ("invalid_scopes", "invalid_scopes"),
        ("temporarily_unavailable", "temporarily_unavailable"),
        ("granted", "other_error"),
        ("denied", "other_error"),
        ("%3Cb%3E", "other_error"),
        ("", "other_error"),
    ] {
        let house = House::new();
        let started = house.start("c-1", Some(DONE)).await;
        let (to, cookie) = house.leave(&started).await;
        let back = house.back(&to, &format!("error={error}"), &cookie).await;
        assert!(location(&back).ends_with("consent_id=c-1&status=failed"), "{error}");
        assert_eq!((house.state("c-1").await, house.counted("failed")), ("pending", 1), "{error}");
        assert_eq!(house.last_event("c-1").await, ("not_granted".to_owned(), Some(why.to_owned())));
    }
}

#[tokio::test]
async fn a_consent_in_use_stays_so_until_a_new_grant_takes_its_place() {
    let house = House::new();
    house.grant("c-1", "one").await;
    let before = house.view("c-1").await;
    let started = house.start("c-1", Some(DONE)).await;
    assert_eq!(started.state, "active");
    let (to, cookie) = house.leave(&started).await;
    assert!(location(&house.back(&to, "error=access_denied", &cookie).await).ends_with("status=denied"));
    assert_eq!(house.view("c-1").await.version(), before.version());
    assert_eq!(house.last_event("c-1").await, ("not_granted".to_owned(), Some("access_denied".to_owned())));

    for outcome in [
        TokenOutcome::InvalidGrant,
        TokenOutcome::Unknown { why: "server_error" },
        TokenOutcome::Misconfigured { why: "invalid_client" },
        TokenOutcome::NotProcessed { why: "rate_limited", retry_after: None },
        TokenOutcome::NotSent(NotSent::Unreachable("it broke".to_owned())),
    ] {
        let what = format!("{outcome:?}");
        let started = house.start("c-1", Some(DONE)).await;
        let (to, cookie) = house.leave(&started).await;
        house.bank.next(outcome);
        for _ in 0..2 {
            assert!(location(&house.back(&to, "code=x", &cookie).await).ends_with("status=failed"), "{what}");
        }
        assert_eq!(house.view("c-1").await.version(), before.version(), "{what}");
        assert_eq!(house.token("c-1").await.expect("it serves"), "Bearer access-one");
    }
    assert_eq!(house.bank.exchanges().len(), 1 + 5, "each code is sent once");

    house.clock.advance(Duration::from_millis(1));
    house.grant("c-1", "two").await;
    let after = house.view("c-1").await;
    assert_ne!(after.grant, before.grant);
    assert_eq!(after.generation, 1);
}

#[tokio::test]
async fn a_yes_that_cannot_be_read_is_kept_for_a_person_and_the_customer_starts_again() {
    let house = House::new();
    let started = house.start("c-1", Some(DONE)).await;
    let (to, cookie) = house.leave(&started).await;
    house.bank.next(TokenOutcome::Unreadable { why: "unreadable_answer", body: b"<html>".to_vec().into() });
    assert!(location(&house.back(&to, "code=x", &cookie).await).ends_with("status=failed"));
    let kept = house.spill.load().await.expect("readable");
    assert!(matches!(&kept[..], [(_, Ok(entry))] if matches!(entry.content, SpillContent::Salvage(_))), "{kept:?}");
    assert_eq!(house.state("c-1").await, "pending");
}

#[tokio::test]
async fn while_the_bank_cannot_be_reached_the_code_waits_for_a_reload() {
    let house = House::new();
    let started = house.start("c-1", Some(DONE)).await;
    let (to, cookie) = house.leave(&started).await;
    house.bank.shut();
    let back = house.back(&to, "code=x", &cookie).await;
    assert_eq!(back.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(back.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(house.counted("bank_unavailable"), 1);
    house.bank.next(tokens("one"));
    assert!(location(&house.back(&to, "code=x", &cookie).await).ends_with("status=granted"));
}

#[tokio::test]
async fn where_requests_are_pushed_the_browser_carries_a_name_for_one_and_each_visit_pushes_anew() {
    let house = House::new();
    let started = house.start("c-1", Some(DONE)).await;
    house.bank.next_push(Push::Taken(RequestUri::new("urn:one")));
    let (to, cookie) = house.leave(&started).await;
    assert_eq!(to, "https://bank.example/authorize?client_id=us&request_uri=urn%3Aone");
    house.bank.next_push(Push::Taken(RequestUri::new("urn:two")));
    let again = house.get(&started.start_url, &[("cookie", &pair(&cookie))]).await;
    assert_eq!(location(&again), "https://bank.example/authorize?client_id=us&request_uri=urn%3Atwo");
    let pushed = house.bank.pushed();
    assert_eq!(pushed[0], pushed[1]);
    let pushed = format!("?{}", pushed[0]);
    house.bank.next(tokens("one"));
    assert!(location(&house.back(&pushed, "code=x", &cookie).await).ends_with("status=granted"));
    let (_, redirect_uri, verifier) = house.bank.exchanges().remove(0);
    assert_eq!(
        (redirect_uri.as_str(), parameter(&pushed, "scope").as_str()),
        ("https://us.example/callback", "accounts")
    );
    assert_eq!(parameter(&pushed, "code_challenge"), challenge(&verifier.expect("PKCE")));
}

#[tokio::test]
async fn a_bank_that_does_not_take_a_pushed_request_costs_a_reload_or_a_word_to_the_operator_and_nothing_else() {
    let house = House::new();
    house.grant("c-1", "one").await;
    let before = house.view("c-1").await;
    let started = house.start("c-1", Some(DONE)).await;
    house.bank.next_push(Push::Away { why: FailureClass::Unreachable });
    let first = house.get(&started.start_url, &[]).await;
    assert_eq!((first.status(), house.counted("bank_unavailable")), (StatusCode::SERVICE_UNAVAILABLE, 1));
    let cookie = pair(first.headers()[header::SET_COOKIE].to_str().unwrap());
    house.bank.next_push(Push::Taken(RequestUri::new("urn:one")));
    let again = house.get(&started.start_url, &[("cookie", &cookie)]).await;
    assert!(location(&again).ends_with("request_uri=urn%3Aone"), "a reload of the same browser goes on");

    let another = house.start("c-1", Some(DONE)).await;
    house.bank.next_push(Push::Refused { why: FailureClass::InvalidClient, said: Said::default() });
    let refused = house.get(&another.start_url, &[]).await;
    assert_eq!(refused.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(house.counted("request_refused"), 1);
    assert_eq!(house.last_event("c-1").await, ("not_granted".to_owned(), Some("invalid_client".to_owned())));
    assert_eq!(house.view("c-1").await.version(), before.version());
    assert_eq!(house.token("c-1").await.expect("it serves"), "Bearer access-one");
}

#[tokio::test]
async fn two_attempts_at_one_consent_do_not_undo_each_other() {
    let house = House::new();
    let (one, two) = (house.start("c-1", Some(DONE)).await, house.start("c-1", Some(DONE)).await);
    let ((to_one, cookie_one), (to_two, cookie_two)) = (house.leave(&one).await, house.leave(&two).await);
    let both = format!("{}; {}", pair(&cookie_one), pair(&cookie_two));
    house.bank.next(tokens("two"));
    assert!(location(&house.back(&to_two, "code=x", &both).await).ends_with("status=granted"));
    assert!(location(&house.back(&to_one, "error=access_denied", &both).await).ends_with("status=denied"));
    assert_eq!(house.state("c-1").await, "active", "who refused the one did not take the other back");
}

#[tokio::test]
async fn what_the_bank_does_not_take_or_the_operator_did_not_allow_is_not_started() {
    let house = House::new();
    let asked = |json: serde_json::Value| {
        let request = StartRequest::parse(json.to_string().as_bytes()).expect("well-formed");
        let house = &house;
        async move { start(&house.tokens, &house.asking, &house.clock, request).await }
    };
    let error = asked(json!({"provider": "nobody"})).await.expect_err("unknown");
    assert_eq!(error, StartError::UnknownProvider);
    assert_eq!(asked(json!({"provider": "silent"})).await.expect_err("no endpoint"), StartError::NotOffered);
    let error = asked(json!({"provider": "bank", "scope": "accounts payments"})).await.expect_err("both");
    assert!(matches!(error, StartError::Scope(_)), "{error}");
    for url in ["https://app.example/done", "https://evil.example/", "https://app.example/done?from=bank&x"] {
        let error = asked(json!({"provider": "bank", "return_url": url})).await.expect_err(url);
        assert_eq!(error, StartError::ReturnUrl, "{url}");
    }
    let new = asked(json!({"provider": "bank"})).await.expect("an id of its own");
    assert_eq!(new.consent_id.as_str().len(), 32);
    house.grant("c-1", "one").await;
    let elsewhere = asked(json!({"provider": "other", "consent_id": "c-1"})).await.expect_err("in use");
    assert!(matches!(elsewhere, StartError::Elsewhere { .. }), "{elsewhere}");
}

#[tokio::test]
async fn what_is_no_visit_of_a_browser_is_refused() {
    let house = House::new();
    let started = house.start("c-1", None).await;
    let path = started.start_url.strip_prefix("https://us.example").unwrap();
    let mut rows: Vec<(Request<()>, StatusCode)> = Vec::new();
    for method in [Method::HEAD, Method::POST, Method::OPTIONS] {
        let request = Request::builder().method(method).uri(path).header("host", "us.example").body(()).unwrap();
        rows.push((request, StatusCode::METHOD_NOT_ALLOWED));
    }
    let with = |headers: &[(&str, &str)]| {
        let request = Request::builder().uri(path);
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(()).unwrap()
    };
    rows.push((with(&[("host", "evil.example")]), StatusCode::BAD_REQUEST));
    rows.push((with(&[]), StatusCode::BAD_REQUEST));
    let prefetch = [("host", "us.example"), ("sec-fetch-site", "none"), ("sec-purpose", "prefetch")];
    rows.push((with(&prefetch), StatusCode::BAD_REQUEST));
    let long = format!("/start/{}", "x".repeat(9_000));
    rows.push((Request::builder().uri(long).header("host", "us.example").body(()).unwrap(), StatusCode::URI_TOO_LONG));
    for (request, status) in rows {
        let answer = house.callback.answer(&request).await;
        assert_eq!(answer.status(), status, "{request:?}");
        assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
    }
    for host in ["us.example", "us.example:443", "us.example:8090", "inside.example"] {
        let answer = house.callback.answer(&House::request("https://us.example/nowhere", &[("host", host)])).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{host}");
    }
    house.leave(&started).await;
}
