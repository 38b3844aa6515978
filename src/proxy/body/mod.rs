//! Bodies on their way through, both ways.
//!
//! hyper bounds neither how long a body may stand still nor how large it may become, so both bodies are wrapped:
//! [`request`] is what the bank gets, [`response`] what the app gets. What matters most is how they end: a body that
//! fails yields an error, which makes hyper cut the connection. It never yields its end, which the other side would take
//! for the whole.

mod request;
mod response;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderName;
use http_body::Frame;
use tokio::time::{Instant, Sleep, sleep};

pub(super) use request::RequestBody;
pub use response::ResponseBody;
pub(super) use response::{Rest, peek};

use crate::http::forwarding::allowed_trailers;

/// Why a body did not reach its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// It has more bytes than the limit.
    #[error("the body is larger than allowed")]
    TooLarge,
    /// Nothing came for too long.
    #[error("the body stood still for too long")]
    Idle,
    /// Its sender broke it off, or its framing is invalid.
    #[error("the body broke off")]
    Broken,
}

/// Measures how long nothing came. The timer is made when there is first something to wait for, and set again only when
/// there is again: a body that is there costs no timer.
#[derive(Debug)]
struct Idle {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    stirred: bool,
}

impl Idle {
    const fn new(limit: Duration) -> Self {
        Self { limit, timer: None, stirred: false }
    }

    fn stir(&mut self) {
        self.stirred = true;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        if std::mem::take(&mut self.stirred) {
            timer.as_mut().reset(Instant::now() + limit);
        }
        timer.as_mut().poll(cx)
    }
}

/// The trailers that pass: those by which a receiver checks what it was streamed (RFC 9530 §2, §3, and the obsolete
/// `Digest`). No other trailer has a meaning that is safe to merge (RFC 9110 §6.5.1).
static TRAILERS: [HeaderName; 3] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
];

/// The frame, unless it holds nothing but trailers that end here.
fn passing(frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
    match frame.into_trailers() {
        Ok(trailers) => {
            let kept = allowed_trailers(trailers, &TRAILERS);
            (!kept.is_empty()).then(|| Frame::trailers(kept))
        }
        Err(frame) => Some(frame),
    }
}

fn length(bytes: Option<&Bytes>) -> u64 {
    bytes.map_or(0, |bytes| bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};
    use tokio::time::timeout;

    #[test]
    fn trailers_that_are_not_allowed_make_no_frame() {
        let mut trailers = HeaderMap::new();
        trailers.insert("authorization", HeaderValue::from_static("x"));
        assert!(passing(Frame::trailers(trailers.clone())).is_none());
        trailers.insert("content-digest", HeaderValue::from_static("x"));
        let kept = passing(Frame::trailers(trailers)).and_then(|frame| frame.into_trailers().ok());
        assert_eq!(kept.map(|kept| kept.len()), Some(1));
    }

    #[tokio::test]
    async fn idleness_is_counted_from_the_last_stir() {
        let mut idle = Idle::new(Duration::from_millis(20));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut deadline = |idle: &mut Idle| {
            assert!(idle.poll(&mut cx).is_pending());
            idle.timer.as_ref().map(|timer| timer.deadline()).expect("it waits")
        };
        let mut long = Idle::new(Duration::from_secs(1_000));
        let first = deadline(&mut long);
        assert_eq!(deadline(&mut long), first, "waiting goes on");
        sleep(Duration::from_millis(2)).await;
        long.stir();
        assert!(deadline(&mut long) > first);
        timeout(Duration::from_secs(10), std::future::poll_fn(|cx| idle.poll(cx))).await.expect("it ends");
    }
}
