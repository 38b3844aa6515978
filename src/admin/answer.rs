//! Answers as JSON, which nobody between us and the caller may keep.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde::Serialize;

use super::problem::Refusal;
use crate::words::problem::ProblemType;

/// `view` as an answer.
pub(super) fn json(status: StatusCode, view: &impl Serialize) -> Result<Response<Full<Bytes>>, Refusal> {
    let json = serde_json::to_vec(view).map_err(|_| {
        // Strings and numbers always have a JSON form.
        Refusal::new(ProblemType::ConsentUnreadable, "the answer has no JSON form")
    })?;
    let mut response = Response::new(Full::from(json));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
