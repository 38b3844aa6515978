//! A token proxy as one writes it on a Friday: a lock of two seconds that nobody renews, no note of what is being sent, the
//! refresh inside the call that needs it, and a consent that is forgotten when the bank says no. It works until something
//! happens. The suite has to find that out.

use std::time::Duration;

use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// What it was started with.
struct Naive {
    store: redis::Client,
    token_endpoint: String,
    api: String,
}

/// Runs until it is killed: `PORT REDIS_URL TOKEN_ENDPOINT API`.
pub(crate) async fn run(arguments: &[String]) {
    let [port, redis, token_endpoint, api] = arguments else { panic!("naive: four arguments are needed") };
    let naive: &'static Naive = Box::leak(Box::new(Naive {
        store: redis::Client::open(redis.as_str()).unwrap(),
        token_endpoint: token_endpoint.clone(),
        api: api.clone(),
    }));
    let listener = TcpListener::bind(("127.0.0.1", port.parse::<u16>().unwrap())).await.unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(naive.serve(stream));
    }
}

impl Naive {
    async fn serve(&self, mut stream: TcpStream) {
        let mut read = Vec::new();
        while let Some((head, body)) = next_message(&mut stream, &mut read).await {
            let answered = {
                let mut more = [0; 1];
                tokio::select! {
                    answered = self.answer(&head, &body) => answered,
                    // Whoever asked has gone, so why go on?
                    _ = stream.peek(&mut more) => return,
                }
            };
            let (status, body) = answered.unwrap_or_else(|| (503, String::new()));
            let length = body.len();
            let answer = format!("HTTP/1.1 {status} So\r\nContent-Length: {length}\r\n\r\n{body}");
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    async fn answer(&self, head: &str, body: &str) -> Option<(u16, String)> {
        let target = head.split(' ').nth(1)?;
        let mut store = self.store.get_multiplexed_async_connection().await.ok()?;
        if let Some(consent) = target.strip_prefix("/seed/") {
            let [access, refresh, seconds] = body.split(' ').collect::<Vec<_>>().try_into().ok()?;
            keep(&mut store, consent, access, refresh, seconds.parse().ok()?).await?;
            return Some((200, String::new()));
        }
        let consent = header(head, "x-consent")?;
        let token = self.token(&mut store, consent).await?;
        let request = format!("GET {target} HTTP/1.1\r\nHost: bank\r\nAuthorization: Bearer {token}\r\n\r\n");
        exchange(&self.api, "", &request).await
    }

    async fn token(&self, store: &mut MultiplexedConnection, consent: &str) -> Option<String> {
        let lock = format!("lock:{consent}");
        loop {
            if let Some(access) = store.get(format!("access:{consent}")).await.ok()? {
                return Some(access);
            }
            let set = redis::cmd("SET").arg(&lock).arg("me").arg("NX").arg("PX").arg(2_000).to_owned();
            let locked: Option<String> = set.query_async(store).await.ok()?;
            if locked.is_some() {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        let access: Option<String> = store.get(format!("access:{consent}")).await.ok()?;
        if access.is_some() {
            let () = store.del(&lock).await.ok()?;
            return access;
        }
        let refresh: String = store.get(format!("refresh:{consent}")).await.ok()?;
        let form = format!("grant_type=refresh_token&client_id=naive&refresh_token={refresh}");
        let head = "Host: bank\r\nContent-Type: application/x-www-form-urlencoded\r\n";
        let request = format!("POST /token HTTP/1.1\r\n{head}Content-Length: {}\r\n\r\n{form}", form.len());
        let (status, answer) = exchange(&self.token_endpoint, "/token", &request).await?;
        if status == 400 {
            let () = store.del(format!("refresh:{consent}")).await.ok()?;
        }
        let answer: Value = serde_json::from_str(&answer).ok()?;
        let access = answer["access_token"].as_str()?;
        let refresh = answer["refresh_token"].as_str().unwrap_or(&refresh);
        keep(store, consent, access, refresh, answer["expires_in"].as_u64()?).await?;
        let () = store.del(&lock).await.ok()?;
        Some(access.to_owned())
    }
}

async fn keep(
    store: &mut MultiplexedConnection,
    consent: &str,
    access: &str,
    refresh: &str,
    seconds: u64,
) -> Option<()> {
    let () = store.set_ex(format!("access:{consent}"), access, seconds.max(1)).await.ok()?;
    store.set(format!("refresh:{consent}"), refresh).await.ok()
}

/// One request over a connection of its own, to the address of `base` without what follows it.
async fn exchange(base: &str, follows: &str, request: &str) -> Option<(u16, String)> {
    let (authority, path) = base.strip_prefix("http://")?.split_once('/').unwrap_or((base, ""));
    let request =
        if follows.is_empty() { request.replacen("GET ", &format!("GET /{path}"), 1) } else { request.into() };
    let mut stream = TcpStream::connect(authority).await.ok()?;
    stream.write_all(request.as_bytes()).await.ok()?;
    let (head, body) = next_message(&mut stream, &mut Vec::new()).await?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body))
}

/// The head and body of the next message on a stream.
async fn next_message(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<(String, String)> {
    loop {
        let text = String::from_utf8_lossy(read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = header(head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            if body.len() >= length {
                let message = (head.to_owned(), body[..length].to_owned());
                read.drain(..head.len() + 4 + length);
                return Some(message);
            }
        }
        let mut chunk = vec![0; 16_384];
        let Ok(length @ 1..) = stream.read(&mut chunk).await else { return None };
        read.extend_from_slice(&chunk[..length]);
    }
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let line = head.lines().find(|line| line.split(':').next().is_some_and(|it| it.eq_ignore_ascii_case(name)))?;
    Some(line.split_once(':')?.1.trim())
}
