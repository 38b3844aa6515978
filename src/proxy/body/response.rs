//! The body of a response to the app: ours, or the bank's as it comes, after what was read of it to judge the answer.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};

use super::{BodyFault, Idle, Patience, length, passing};
use crate::proxy::access_log::Underway;
use crate::proxy::upstream::BankBody;

/// The body of a response to the app.
#[derive(Debug)]
pub struct ResponseBody(Source);

#[derive(Debug)]
enum Source {
    Ours(Option<Bytes>),
    Bank(FromBank),
}

#[derive(Debug)]
struct FromBank {
    front: Option<Bytes>,
    rest: Rest,
    idle: Idle,
    _underway: Underway,
}

/// What is still to come of a bank's body.
#[derive(Debug)]
pub(in crate::proxy) enum Rest {
    /// This.
    Coming(BankBody),
    /// Nothing: all of it was read.
    Ended,
    /// Nothing, though it was not all.
    Broken,
}

impl ResponseBody {
    /// A body of our own.
    pub(in crate::proxy) fn ours(bytes: Bytes) -> Self {
        Self(Source::Ours(Some(bytes)))
    }

    /// A bank's body: what was read of it, and what is still to come. The call counts as under way until it is dropped.
    pub(in crate::proxy) fn bank(front: Option<Bytes>, rest: Rest, patience: Patience, underway: Underway) -> Self {
        Self(Source::Bank(FromBank { front, rest, idle: Idle::new(patience), _underway: underway }))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        match &mut self.get_mut().0 {
            Source::Ours(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Bank(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Ours(bytes) => bytes.is_none(),
            Source::Bank(FromBank { front: Some(_), .. }) => false,
            Source::Bank(body) => match &body.rest {
                Rest::Coming(incoming) => incoming.is_end_stream(),
                Rest::Ended => true,
                Rest::Broken => false,
            },
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Ours(bytes) => SizeHint::with_exact(length(bytes.as_ref())),
            Source::Bank(body) => {
                let front = length(body.front.as_ref());
                let rest = match &body.rest {
                    Rest::Coming(incoming) => incoming.size_hint(),
                    Rest::Ended => SizeHint::with_exact(0),
                    Rest::Broken => SizeHint::new(),
                };
                let mut hint = SizeHint::new();
                hint.set_lower(front.saturating_add(rest.lower()));
                if let Some(upper) = rest.upper() {
                    hint.set_upper(front.saturating_add(upper));
                }
                hint
            }
        }
    }
}

impl FromBank {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        if let Some(front) = self.front.take() {
            return Poll::Ready(Some(Ok(Frame::data(front))));
        }
        loop {
            let incoming = match &mut self.rest {
                Rest::Coming(incoming) => incoming,
                Rest::Ended => return Poll::Ready(None),
                Rest::Broken => return Poll::Ready(Some(Err(BodyFault::Broken))),
            };
            let frame = match Pin::new(incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(Some(Err(_))) => {
                    self.rest = Rest::Broken;
                    continue;
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return self.idle.poll(cx).map(|fault| Some(Err(fault))),
            };
            if let Err(fault) = self.idle.stir() {
                return Poll::Ready(Some(Err(fault)));
            }
            if let Some(frame) = passing(frame) {
                return Poll::Ready(Some(Ok(frame)));
            }
        }
    }
}

/// Reads the beginning of a bank's body, at most a little more than `limit` bytes of it, without waiting longer than
/// `at_most`. Gives what was read, and whether that is all of it.
pub(in crate::proxy) async fn peek(rest: &mut Rest, limit: usize, at_most: Duration) -> (Option<Bytes>, bool) {
    let until = Instant::now() + at_most;
    let mut front = Front::default();
    let ended = loop {
        let Rest::Coming(body) = rest else { break None };
        match timeout_at(until, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    front.push(data);
                }
                if front.len() > limit {
                    break None;
                }
            }
            Ok(Some(Err(_))) => break Some(Rest::Broken),
            Ok(None) => break Some(Rest::Ended),
            Err(_) => break None,
        }
    };
    if let Some(ended) = ended {
        *rest = ended;
    }
    (front.into_bytes(), matches!(rest, Rest::Ended))
}

/// Bytes in one piece; a body that came in one piece is not copied.
#[derive(Default)]
struct Front {
    first: Option<Bytes>,
    all: BytesMut,
}

impl Front {
    fn push(&mut self, data: Bytes) {
        match self.first.take() {
            None if self.all.is_empty() => self.first = Some(data),
            first => {
                self.all.extend_from_slice(&first.unwrap_or_default());
                self.all.extend_from_slice(&data);
            }
        }
    }

    fn len(&self) -> usize {
        self.first.as_ref().map_or(self.all.len(), Bytes::len)
    }

    fn into_bytes(self) -> Option<Bytes> {
        self.first.or_else(|| (!self.all.is_empty()).then(|| self.all.freeze())).filter(|bytes| !bytes.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_front_is_in_one_piece_and_in_order() {
        let mut front = Front::default();
        for piece in ["a", "", "bc", "d"] {
            front.push(Bytes::from_static(piece.as_bytes()));
        }
        assert_eq!(front.len(), 4);
        assert_eq!(front.into_bytes().as_deref(), Some(&b"abcd"[..]));
        assert_eq!(Front::default().into_bytes(), None);
    }

    #[tokio::test]
    async fn a_body_that_broke_off_while_it_was_read_ends_in_an_error() {
        let mut rest = Rest::Broken;
        assert_eq!(peek(&mut rest, 10, Duration::ZERO).await, (None, false));
        let gauge = prometheus_client::metrics::gauge::Gauge::default();
        let front = Some(Bytes::from_static(b"ab"));
        let patience = Patience { idle: Duration::from_secs(1), until: Instant::now() + Duration::from_secs(9) };
        let body = ResponseBody::bank(front, rest, patience, Underway::begin(&gauge));
        assert_eq!(gauge.get(), 1);
        assert!(!body.is_end_stream());
        assert_eq!(body.collect().await.err(), Some(BodyFault::Broken));
        assert_eq!(gauge.get(), 0);
    }
}
