//! What a token costs that is not in memory, and what a refresh costs everybody else.
//!
//! The program itself before a real Redis, and a bank in this process that answers at once, but for refreshes, which take
//! 300 ms. First: ten thousand consents that no process has in memory, asked for by a thousand callers at once, and then
//! again. Second: calls at a steady rate, each measured from when it was due, with and without one in a hundred whose token
//! has expired. Run with `cargo bench --bench misses`.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on should stop where it is")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

// The program, a Redis, imitated banks for their certificates.
#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod support;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use support::bank::Bank;
use support::client::App;
use support::redis::RedisServer;
use support::sidecar::{Replica, Sidecar};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};

/// How much is done: a lot when it is measured, little when it is only asked whether it runs.
struct Size {
    consents: usize,
    callers: usize,
    calls: usize,
}

/// Calls a second in the second part, of which one in a hundred meets an expired token.
const RATE: usize = 1_500;
const REFRESH: Duration = Duration::from_millis(300);

#[tokio::main]
async fn main() {
    let measured = std::env::args().any(|argument| argument == "--bench");
    let size = if measured {
        Size { consents: 10_000, callers: 1_000, calls: 100_000 }
    } else {
        Size { consents: 200, callers: 20, calls: 300 }
    };
    let (bank, redis, url) = (Bank::start().await, RedisServer::start().await, serve().await);
    let quiet = "level: \"info,consentry::access=off\"";
    let replica = || Replica::with_redis(&bank, &redis).before(&bank, &url).change("level: info", quiet);

    let (first, second) = (replica(), replica());
    let importer = Arc::new(first.start().await);
    import(&importer, "cold", size.consents, 3_600).await;
    import(&importer, "late", size.calls / 100, 0).await;
    drop(importer);

    let proxy = Arc::new(second.start().await);
    let before = commands(&redis);
    let cold = all_at_once(&proxy, &size).await;
    let asked = commands(&redis) - before;
    let warm = all_at_once(&proxy, &size).await;
    println!("{} consents, {} callers at once | whole | p50 | p99 | slowest", size.consents, size.callers);
    println!("in the store alone, {:.2} commands a call | {cold}", ratio(asked, size.consents));
    println!("in memory | {warm}");

    println!("{} calls, {RATE} a second | whole | p50 | p99 | slowest", size.calls);
    println!("none expired | {}", steadily(&proxy, &size, false).await);
    println!(
        "the others, while one in a hundred waits for a refresh of {REFRESH:?} | {}",
        steadily(&proxy, &size, true).await
    );
}

/// The bank of this process: the address of its one listener.
async fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
        }
    });
    url
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = if request.uri().path() == "/token" {
        sleep(REFRESH).await;
        json!({ "access_token": "an-access-token", "refresh_token": "its-successor", "token_type": "Bearer", "expires_in": 3_600 })
    } else {
        json!({ "balances": [] })
    };
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    Ok(response)
}

async fn import(sidecar: &Arc<Sidecar>, kind: &'static str, count: usize, life: u64) {
    let mut importing = JoinSet::new();
    for worker in 0..16 {
        let sidecar = Arc::clone(sidecar);
        importing.spawn(async move {
            for number in (worker..count).step_by(16) {
                let tokens = json!({
                    "provider": "abn-amro", "access_token": format!("{kind}-access-token-{number}"),
                    "refresh_token": format!("{kind}-refresh-token-{number}"), "expires_in": life,
                });
                let answer = sidecar.put_tokens(&format!("{kind}-{number}"), None, &tokens).await;
                assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
            }
        });
    }
    importing.join_all().await;
}

/// Each consent once, by so many callers who do not wait for each other.
async fn all_at_once(sidecar: &Arc<Sidecar>, size: &Size) -> Figures {
    let begun = Instant::now();
    let mut calling = JoinSet::new();
    for caller in 0..size.callers {
        let (sidecar, consents, callers) = (Arc::clone(sidecar), size.consents, size.callers);
        calling.spawn(async move {
            let mut took = Vec::new();
            for number in (caller..consents).step_by(callers) {
                let begun = Instant::now();
                call(&sidecar.app, &sidecar.balances_url(), &format!("cold-{number}")).await;
                took.push(begun.elapsed());
            }
            took
        });
    }
    let took = calling.join_all().await.into_iter().flatten().collect();
    Figures::new(begun.elapsed(), took)
}

/// Calls that are due at a steady rate. Of those that meet an expired token the time is not counted.
async fn steadily(sidecar: &Arc<Sidecar>, size: &Size, some_expired: bool) -> Figures {
    let begun = Instant::now();
    let (mut tick, mut calling) = (interval(Duration::from_millis(1)), JoinSet::new());
    let mut number = 0;
    while number < size.calls {
        tick.tick().await;
        while number < size.calls && begun.elapsed() >= due(number) {
            let late = some_expired && number % 100 == 0;
            let consent =
                if late { format!("late-{}", number / 100) } else { format!("cold-{}", number % size.consents) };
            let (app, url, at) = (sidecar.app.clone(), sidecar.balances_url(), begun + due(number));
            calling.spawn(async move {
                call(&app, &url, &consent).await;
                (!late).then(|| at.elapsed())
            });
            number += 1;
        }
    }
    let took = calling.join_all().await.into_iter().flatten().collect();
    Figures::new(begun.elapsed(), took)
}

#[expect(clippy::cast_precision_loss, reason = "few enough")]
fn due(number: usize) -> Duration {
    Duration::from_secs_f64(number as f64 / RATE as f64)
}

async fn call(app: &App, url: &str, consent: &str) {
    let answer = app.get(url, &[("consent-id", consent)]).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
}

/// Commands that the store has carried out.
fn commands(redis: &RedisServer) -> u64 {
    let info = redis.cli(&["INFO", "stats"]);
    let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:")).unwrap();
    line.trim().parse().unwrap()
}

#[expect(clippy::cast_precision_loss, reason = "few enough")]
fn ratio(count: u64, of: usize) -> f64 {
    count as f64 / of as f64
}

/// How long it all took, and each.
struct Figures {
    whole: Duration,
    took: Vec<Duration>,
}

impl Figures {
    fn new(whole: Duration, mut took: Vec<Duration>) -> Self {
        took.sort_unstable();
        Self { whole, took }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |hundredths: usize| self.took[(self.took.len() * hundredths / 100).min(self.took.len() - 1)];
        write!(f, "{:.2?} | {:.2?} | {:.2?} | {:.2?}", self.whole, at(50), at(99), at(100))
    }
}
