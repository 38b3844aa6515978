//! Calls under a quota: which count, which are refused, and that none counts twice.

use std::time::Duration;

use http::HeaderName;
use tokio::net::TcpListener;

use super::app::{Reply, header, headers};
use super::bank::{Bank, OK, Say};
use super::house::{C1, House, Plan};
use super::shelf::{Counting, Mood};
use crate::consent::{Per, Quota};
use crate::http::route::RouteMatch;
use crate::proxy::settings::QuotaRule;
use crate::proxy::{ApiFault, ProxyError};
use crate::store::RecordState;
use crate::words::metrics::QuotaLabels;
use crate::words::secrets::HeaderSecret;

const REJECTED: Say = Say::Bytes("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
const ACCESS_EXCEEDED: Say = Say::Bytes(
    "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 60\r\nConsentry-Quota-Remaining: 9\r\nContent-Length: 0\r\n\r\n",
);

fn quota(calls: u32) -> Quota {
    let continued_by = vec!["nextPageKey".to_owned()];
    Quota { name: "GET /v1/**".to_owned(), calls, per: Per::Path, day_begins: None, continued_by }
}

/// The routes under `/v1` have a quota of two, those under `/still` one that the bank's rules say.
fn plan(bank: &Bank) -> Plan {
    under_quota(Plan::of(bank))
}

fn under_quota(mut plan: Plan) -> Plan {
    plan.api().routes[0].quota = Some(quota(2));
    let matcher = RouteMatch::parse("GET /base/still/**").expect("a match");
    plan.api().quotas = vec![QuotaRule { matcher, quota: quota(1) }];
    plan
}

fn left(reply: &Reply) -> (u16, Option<&str>) {
    (reply.status(), reply.header("consentry-quota-remaining"))
}

fn counted(house: &House, outcome: &'static str) -> u64 {
    let labels = QuotaLabels { api: "accounts".to_owned(), outcome };
    house.metrics.quota_calls.get_or_create(&labels).get()
}

#[tokio::test]
async fn a_call_without_its_customer_counts_and_the_one_after_the_last_never_reaches_the_bank() {
    let bank = Bank::saying(&[OK]).await;
    let house = plan(&bank).open().await;
    assert_eq!(left(&house.get("/api/v1/x").await), (200, Some("1")));
    assert_eq!(left(&house.get("/api/v1/x?from=1").await), (200, Some("0")));
    let refused = house.get("/api/v1/x").await;
    assert_eq!(left(&refused), (429, Some("0")));
    assert_eq!(refused.problem().as_deref(), Some("quota-exhausted"));
    assert_eq!(refused.header("retry-after"), Some("86400"));
    let json = refused.json();
    assert_eq!((&json["calls"], &json["retry"], &json["who_acts"]), (&2.into(), &"yes".into(), &"caller".into()));
    assert_eq!(json["customer_is_told_of_by"][0], "psu-ip-address");
    assert_eq!(bank.seen().len(), 2);
    assert_eq!(left(&house.get("/api/v1/y").await), (200, Some("1")), "another path has a count of its own");
    assert_eq!(left(&house.ask("GET /api/v1/x", "Consent-ID: theirs\r\n", "").await), (404, None));
    assert_eq!((counted(&house, "counted"), counted(&house, "exhausted")), (3, 1));
}

#[tokio::test]
async fn a_call_with_its_customer_counts_nothing_and_nobody_makes_a_customer_up() {
    let bank = Bank::saying(&[OK]).await;
    let house = plan(&bank).open().await;
    for name in ["PSU-IP-Address", "x-fapi-customer-ip-address"] {
        for _ in 0..3 {
            let reply = house.ask("GET /api/v1/x", &format!("{C1}{name}: 192.0.2.1\r\n"), "").await;
            assert_eq!(left(&reply), (200, None));
        }
    }
    assert_eq!((house.shelf.spends(), counted(&house, "attended")), (0, 6));
    assert!(bank.seen().iter().all(|seen| {
        headers(&seen.head, "psu-ip-address").len() + headers(&seen.head, "x-fapi-customer-ip-address").len() == 1
    }));
    // What the bank does not see says nothing to it.
    for (sent, remaining) in
        [("PSU-IP-Address:\r\n", "1"), ("PSU-IP-Address: 192.0.2.1\r\nConnection: PSU-IP-Address\r\n", "0")]
    {
        let reply = house.ask("GET /api/v1/x", &format!("{C1}{sent}"), "").await;
        assert_eq!(left(&reply), (200, Some(remaining)), "{sent}");
    }
    let last = bank.seen().pop().expect("a call");
    assert!(header(&last.head, "psu-ip-address").is_none_or(str::is_empty));
}

#[tokio::test]
async fn a_further_page_of_what_was_counted_counts_nothing() {
    let bank = Bank::saying(&[OK]).await;
    let house = plan(&bank).open().await;
    for (query, remaining) in [("", Some("1")), ("?nextPageKey=2", None), ("?nextPageKey=3", None), ("?x=1", Some("0"))]
    {
        assert_eq!(left(&house.get(&format!("/api/v1/x{query}")).await), (200, remaining), "{query}");
    }
    assert_eq!(counted(&house, "continued"), 2);
}

#[tokio::test]
async fn what_we_send_again_counts_once() {
    for script in [&[REJECTED, OK][..], &[Say::Close, OK], &[OK]] {
        let bank = Bank::saying(script_of(script)).await;
        let house = plan(&bank).open().await;
        assert_eq!(left(&house.get("/api/v1/x").await), (200, Some("1")));
        assert_eq!((bank.seen().len(), house.shelf.spends()), (script.len(), 1));
    }
}

fn script_of(script: &[Say]) -> &'static [Say] {
    script.to_vec().leak()
}

#[tokio::test]
async fn a_call_that_cannot_reach_the_bank_is_taken_back() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("binds").local_addr().expect("bound");
    let house = under_quota(Plan::at(&format!("http://{nobody}/base"))).open().await;
    for _ in 0..4 {
        let reply = house.get("/api/v1/x").await;
        assert_eq!(reply.problem().as_deref(), Some("upstream-unreachable"));
    }
    assert_eq!((house.shelf.spends(), counted(&house, "refunded")), (4, 4));
}

#[tokio::test]
async fn a_call_whose_answer_was_lost_counts_even_if_the_bank_is_gone_when_it_is_asked_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("the call");
        drop(listener);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            stream.readable().await.expect("readable");
            let _ = stream.try_read_buf(&mut head);
        }
    });
    let house = under_quota(Plan::at(&format!("http://{address}/base"))).open().await;
    let reply = house.get("/api/v1/x").await;
    assert_eq!(reply.problem().as_deref(), Some("upstream-unreachable"));
    assert_eq!(reply.json()["processed"], "unknown", "the bank had the first");
    assert_eq!((counted(&house, "counted"), counted(&house, "refunded")), (1, 0));
}

#[tokio::test]
async fn what_we_refuse_for_another_reason_is_not_counted() {
    let bank = Bank::saying(&[OK]).await;
    let mut plan = plan(&bank);
    plan.limits().max_body_bytes = Some(4);
    let house = plan.open().await;
    house.shelf.put("gone", RecordState::Revoked, Mood::Stays);
    for (line, consent, body) in [
        ("GET /api/v1/x", "gone", ""),
        ("GET /api/v1/x", "never-stored", ""),
        ("GET /api/v1/balances/1", "c 1", ""),
        ("POST /api/v1/x", "c1", "too long"),
        ("PATCH /api/v1/x", "c1", ""),
    ] {
        let reply = house.ask(line, &format!("Consent-ID: {consent}\r\n"), body).await;
        assert!(reply.problem().is_some_and(|problem| problem != "quota-exhausted"), "{line} {consent}");
    }
    assert_eq!((house.shelf.spends(), bank.seen().len()), (0, 0));
}

#[tokio::test]
async fn a_store_that_cannot_count_stops_no_call_and_is_left_alone_for_a_while() {
    for counting in [Counting::Fails, Counting::Hangs] {
        let bank = Bank::saying(&[OK]).await;
        let house = plan(&bank).open().await;
        house.shelf.count(counting);
        for _ in 0..5 {
            assert_eq!(left(&house.get("/api/v1/x").await), (200, None), "{counting:?}");
        }
        assert_eq!(counted(&house, "uncounted"), 5);
        assert!(house.shelf.spends() < 5, "{} times it was asked", house.shelf.spends());
        house.shelf.count(Counting::Works);
        super::within(async { while left(&house.get("/api/v1/x").await).1.is_none() {} }).await;
    }
}

#[tokio::test]
async fn the_bank_s_own_no_is_handed_back_and_only_we_speak_of_our_count() {
    let bank = Bank::saying(&[ACCESS_EXCEEDED]).await;
    let house = plan(&bank).open().await;
    let reply = house.get("/api/v1/x").await;
    assert_eq!((left(&reply), reply.problem()), ((429, Some("1")), None));
    assert_eq!(reply.header("retry-after"), Some("60"));
    assert_eq!(left(&house.ask("GET /api/open/x", "", "").await), (429, None), "without a quota it says nothing");
}

#[tokio::test]
async fn a_route_without_a_quota_asks_nobody_and_a_bank_s_rule_is_for_consents_alone() {
    let bank = Bank::saying(&[OK]).await;
    let house = plan(&bank).open().await;
    for path in ["/api/path/c1/x", "/api/scoped/x", "/api/own/x", "/api/open/x", "/api/fixed/x"] {
        assert_eq!(left(&house.ask(&format!("GET {path}"), C1, "").await), (200, None), "{path}");
    }
    assert_eq!(house.shelf.spends(), 0);
    assert_eq!(left(&house.get("/api/still/x").await), (200, Some("0")));
    assert_eq!(left(&house.get("/api/still/x").await), (429, Some("0")));
    assert_eq!(left(&house.ask("POST /api/still/x", C1, "").await), (200, None), "the rule is for another method");
}

#[tokio::test]
async fn a_proxy_that_would_make_a_customer_up_is_none() {
    let bank = Bank::saying(&[OK]).await;
    let psu = HeaderName::from_static("psu-ip-address");
    let mut setting = Plan::of(&bank);
    setting.api().set_headers.push((psu.clone(), HeaderSecret::new("192.0.2.1")));
    let mut naming = Plan::of(&bank);
    naming.behaviour.request_id_headers.push(psu);
    for plan in [setting, naming] {
        assert!(matches!(plan.fault().await, ProxyError::Api { fault: ApiFault::PsuHeader(_), .. }));
    }
}

#[tokio::test]
async fn a_day_that_begins_at_a_time_ends_at_it() {
    let bank = Bank::saying(&[OK]).await;
    let mut plan = plan(&bank);
    // The shelf's time is 2025-10-09 08:53:20 UTC.
    plan.api().routes[0].quota = Some(Quota { day_begins: Some(Duration::from_secs(22 * 3_600)), ..quota(1) });
    let house = plan.open().await;
    assert_eq!(left(&house.get("/api/v1/x").await), (200, Some("0")));
    assert_eq!(house.get("/api/v1/x").await.header("retry-after"), Some("47200"));
}
