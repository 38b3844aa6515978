//! Bodies pass in flat memory, both ways, and the app's own credentials never arrive.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use crate::support::bank::Bank;
use crate::support::client::request;
use crate::support::sidecar::Replica;

const GIB: u64 = 1024 * 1024 * 1024;
const LIMIT_KIB: u64 = 48 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_gibibyte_each_way_leaves_memory_flat() {
    let bank = Bank::start().await;
    let replica = Replica::embedded(&bank);
    let sidecar = replica.start().await;
    sidecar.import("c-1", &bank.grant(7_200).await).await;

    let client = Client::builder(TokioExecutor::new()).build_http();
    let down = Request::get(sidecar.url(&format!("/accounts/v1/bytes?n={GIB}")))
        .header("consent-id", "c-1")
        .body(http_body_util::Empty::<Bytes>::new())
        .unwrap();
    let response = client.request(down).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let (received, most) = drain(response.into_body(), || sidecar.program.resident_kib()).await;
    assert_eq!(received, GIB);
    assert!(most < LIMIT_KIB, "{most} KiB while receiving");

    let body = Made { left: GIB, chunk: Bytes::from(vec![7; 64 * 1024]) };
    let client = Client::builder(TokioExecutor::new()).build_http();
    let up = Request::post(sidecar.url("/accounts/v1/echo")).header("consent-id", "c-1").body(body).unwrap();
    let response = client.request(up).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let (received, most) = drain(response.into_body(), || sidecar.program.resident_kib()).await;
    assert_eq!(received, GIB, "all of it came back");
    assert!(most < LIMIT_KIB, "{most} KiB while sending and receiving");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_app_sends_as_credentials_never_arrives() {
    let bank = Bank::start().await;
    let replica = Replica::embedded(&bank);
    let sidecar = replica.start().await;
    let granted = bank.grant(7_200).await;
    sidecar.import("c-1", &granted).await;
    let headers = [
        ("consent-id", "c-1"),
        ("authorization", "Bearer CANARY-of-the-app"),
        ("api-key", "CANARY-of-the-app"),
        ("cookie", "session=CANARY-of-the-app"),
        ("proxy-authorization", "Basic CANARY-of-the-app"),
        ("x-forwarded-for", "CANARY-of-the-app"),
        ("connection", "authorization, x-hop"),
        ("x-hop", "CANARY-of-the-app"),
        ("psu-ip-address", "192.0.2.1"),
    ];
    let described =
        sidecar.app.send(request(Method::GET, &sidecar.url("/accounts/v1/echo"), &headers, Bytes::new())).await;
    assert_eq!(described.status, StatusCode::OK, "the token was injected after stripping: {described:?}");
    let text = String::from_utf8(described.body.to_vec()).unwrap().to_lowercase();
    assert!(!text.contains("canary"), "{text}");
    assert!(!text.contains("consent-id"), "{text}");
    assert!(text.contains("192.0.2.1"), "{text}");
    let sent = digest(&SHA256, format!("Bearer {}", granted.access).as_bytes());
    let expected = consentry::words::ids::hex(sent.as_ref());
    assert!(text.contains(&expected), "the consent's own token arrived: {text}");
}

/// A body that is made as it is sent.
struct Made {
    left: u64,
    chunk: Bytes,
}

impl Body for Made {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= self.chunk.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(self.chunk.clone()))))
    }
}

/// How many bytes a body has, and the most that `measure` said meanwhile.
async fn drain(mut body: hyper::body::Incoming, measure: impl Fn() -> u64) -> (u64, u64) {
    let (mut received, mut most, mut frames) = (0, 0, 0_u64);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.unwrap().into_data() {
            received += data.len() as u64;
        }
        if frames % 256 == 0 {
            most = most.max(measure());
        }
        frames += 1;
    }
    (received, most)
}
