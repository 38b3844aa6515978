//! What the bank does not have and tests of proxies need: `/v1/echo`, `/v1/bytes` and `/v1/chunks`.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::super::answers::{Answer, Broken, Form, Payload, json};
use super::super::paced::Paced;
use super::errors::{ApiError, PARAMETER_INVALID};
use crate::words::ids::hex;

/// Tells what arrived. The token is shown as the hexadecimal SHA-256 of the `Authorization` value.
pub(super) async fn describe(head: &Parts, mut body: Incoming) -> Result<Answer, ApiError> {
    let mut length = 0_u64;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| PARAMETER_INVALID)?;
        length += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    let header = |(name, value): (&HeaderName, &HeaderValue)| -> Value {
        let shown = if name == AUTHORIZATION {
            hex(digest(&SHA256, value.as_bytes()).as_ref())
        } else {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        };
        json!([name.as_str(), shown])
    };
    let described = json!({
        "method": head.method.as_str(),
        "target": head.uri.path_and_query().map_or("", |target| target.as_str()),
        "headers": head.headers.iter().map(header).collect::<Vec<_>>(),
        "body_length": length,
    });
    Ok(json(StatusCode::OK, &described))
}

/// Sends the request's own body back as it comes.
pub(super) fn send_back(head: &Parts, body: Incoming) -> Answer {
    let mut answer = Response::new(Payload::Stream(body.map_err(|_| Broken).boxed_unsync()));
    if let Some(media_type) = head.headers.get(CONTENT_TYPE) {
        answer.headers_mut().insert(CONTENT_TYPE, media_type.clone());
    }
    answer
}

const MOST_BYTES: u64 = 1 << 40;

/// `?n=` bytes under their Content-Length.
pub(super) fn bytes(query: &Form) -> Result<Answer, ApiError> {
    let length = number(query, "n", 0, MOST_BYTES)?;
    let mut answer = stream(Paced::filler(length, usize::MAX, None));
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    Ok(answer)
}

/// `?n=` pieces of `size=` bytes, `pause_ms=` apart, of no announced length.
pub(super) fn chunks(query: &Form) -> Result<Answer, ApiError> {
    let count = number(query, "n", 10, 1 << 20)?;
    let size = number(query, "size", 1_024, 64 * 1_024)?;
    let pause = number(query, "pause_ms", 0, 60_000)?;
    let pause = (pause > 0).then(|| Duration::from_millis(pause));
    let piece = usize::try_from(size).map_err(|_| PARAMETER_INVALID)?;
    Ok(stream(Paced::filler(count * size, piece, pause)))
}

fn number(query: &Form, name: &str, absent: u64, most: u64) -> Result<u64, ApiError> {
    let Some(text) = query.get(name) else { return Ok(absent) };
    text.parse().ok().filter(|found| *found <= most).ok_or(PARAMETER_INVALID)
}

fn stream(body: Paced) -> Answer {
    let mut answer = Response::new(Payload::Stream(body.boxed_unsync()));
    let media_type = HeaderValue::from_static("application/octet-stream");
    answer.headers_mut().insert(CONTENT_TYPE, media_type);
    answer
}
