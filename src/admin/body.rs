//! Reads the body of a request whole, within bounds, into memory that is cleared when it is dropped.

use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout, timeout_at};
use zeroize::Zeroizing;

use super::problem::Refusal;
use crate::words::problem::ProblemType;

/// How much is read, and how long that may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyLimits {
    pub(super) bytes: usize,
    /// Between two pieces.
    pub(super) idle: Duration,
    pub(super) whole: Duration,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self { bytes: 64 * 1024, idle: Duration::from_secs(10), whole: Duration::from_secs(15) }
    }
}

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the body did not arrive in time")]
    TooSlow,
    #[error("the body broke off or is not framed as HTTP says")]
    Broken,
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        let kind = match error {
            BodyError::TooLarge(_) => ProblemType::RequestTooLarge,
            BodyError::TooSlow => ProblemType::RequestTimeout,
            BodyError::Broken => ProblemType::BadRequest,
        };
        Self::new(kind, error.to_string())
    }
}

/// Reads all of it. A body that says in advance that it is too large is not read at all.
pub(super) async fn read<B>(mut body: B, limits: BodyLimits) -> Result<Zeroizing<Vec<u8>>, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let too_large = BodyError::TooLarge(limits.bytes);
    let announced = body.size_hint();
    if announced.lower() > limits.bytes as u64 {
        return Err(too_large);
    }
    let exact = announced.upper().and_then(|upper| usize::try_from(upper).ok());
    // Growing would leave copies behind that nobody clears.
    let mut whole = Zeroizing::new(Vec::with_capacity(exact.unwrap_or(limits.bytes).min(limits.bytes)));
    let until = Instant::now() + limits.whole;
    loop {
        let next = timeout_at(until, timeout(limits.idle, body.frame())).await;
        let frame = match next.map(Result::ok).ok().flatten().ok_or(BodyError::TooSlow)? {
            None => return Ok(whole),
            Some(frame) => frame.map_err(|_| BodyError::Broken)?,
        };
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > limits.bytes {
            return Err(too_large);
        }
        whole.extend_from_slice(data.chunk());
    }
}
