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
use tokio::time::{Instant, Sleep, sleep_until};

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
    /// The whole of the call took too long.
    #[error("the request took too long as a whole")]
    Overdue,
    /// Its sender broke it off, or its framing is invalid.
    #[error("the body broke off")]
    Broken,
}

/// How long a body may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// How long it may stand still.
    pub(super) idle: Duration,
    /// When it has to be through.
    pub(super) until: Instant,
}

/// Measures how long nothing came. The timer is made when there is first something to wait for, and set again only when
/// there is again: a body that is there costs no timer.
#[derive(Debug)]
struct Idle {
    patience: Patience,
    timer: Option<Pin<Box<Sleep>>>,
    stirred: u32,
    waits: bool,
}

/// After so many pieces that were there without waiting it is looked at the clock.
const LOOK: u32 = 64;

impl Idle {
    const fn new(patience: Patience) -> Self {
        Self { patience, timer: None, stirred: 0, waits: false }
    }

    /// Something came. Fails when the whole takes too long.
    fn stir(&mut self) -> Result<(), BodyFault> {
        self.stirred = self.stirred.wrapping_add(1);
        self.waits = false;
        if self.stirred.is_multiple_of(LOOK) && Instant::now() >= self.patience.until {
            return Err(BodyFault::Overdue);
        }
        Ok(())
    }

    /// Nothing came yet. Ready when that was so for too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<BodyFault> {
        let Patience { idle, until } = self.patience;
        let end = || until.min(Instant::now() + idle);
        let timer = match &mut self.timer {
            Some(timer) => {
                if !self.waits {
                    timer.as_mut().reset(end());
                }
                timer
            }
            none => none.insert(Box::pin(sleep_until(end()))),
        };
        self.waits = true;
        let fault = if timer.deadline() >= until { BodyFault::Overdue } else { BodyFault::Idle };
        timer.as_mut().poll(cx).map(|()| fault)
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

    fn idle(idle: Duration, whole: Duration) -> Idle {
        Idle::new(Patience { idle, until: Instant::now() + whole })
    }

    #[tokio::test(start_paused = true)]
    async fn idleness_is_counted_from_the_last_stir() {
        let mut idle = idle(Duration::from_secs(20), Duration::from_secs(1_000));
        let from = Instant::now();
        for _ in 0..3 {
            let waiting = std::future::poll_fn(|cx| idle.poll(cx));
            assert!(timeout(Duration::from_secs(15), waiting).await.is_err(), "waiting goes on");
            idle.stir().expect("in time");
        }
        assert_eq!(std::future::poll_fn(|cx| idle.poll(cx)).await, BodyFault::Idle);
        assert_eq!(from.elapsed().as_secs(), 65);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_moves_all_the_time_has_to_end_at_last() {
        let mut waits = idle(Duration::from_secs(20), Duration::from_secs(100));
        let from = Instant::now();
        let fault = loop {
            let waiting = std::future::poll_fn(|cx| waits.poll(cx));
            match timeout(Duration::from_secs(15), waiting).await {
                Ok(fault) => break fault,
                Err(_) => waits.stir().expect("looked at rarely"),
            }
        };
        assert_eq!((fault, from.elapsed().as_secs()), (BodyFault::Overdue, 100));
        let mut never_waits = idle(Duration::from_secs(20), Duration::ZERO);
        let stirs = (1..1_000).find(|_| never_waits.stir() == Err(BodyFault::Overdue));
        assert_eq!(stirs, Some(LOOK));
    }
}
