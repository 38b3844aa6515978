//! Bodies on their way through, both ways.
//!
//! hyper bounds neither how long a body may stand still nor how large it may become, so both bodies are wrapped. What
//! matters most is how they end: a body that fails yields an error, which makes hyper cut the connection. It never
//! yields its end, which the other side would take for the whole.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderName;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::access_log::Underway;
use crate::http::forwarding::allowed_trailers;

/// The trailers that pass: those by which a receiver checks what it was streamed (RFC 9530 §2, §3, and the obsolete
/// `Digest`). No other trailer has a meaning that is safe to merge (RFC 9110 §6.5.1).
static TRAILERS: [HeaderName; 3] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
];

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

/// The body of a request to the bank.
#[derive(Debug)]
pub(super) enum RequestBody {
    /// None.
    Empty,
    /// In memory, whole. Taken when it is sent.
    Kept(Option<Bytes>),
    /// As it comes from the app.
    Streamed(Streamed),
}

impl RequestBody {
    /// Reads a body of known length into memory, so that it can be sent twice.
    pub(super) async fn keep(body: Incoming, limit: Duration) -> Result<Self, BodyFault> {
        match timeout(limit, body.collect()).await {
            Ok(Ok(whole)) => Ok(Self::Kept(Some(whole.to_bytes()))),
            Ok(Err(_)) => Err(BodyFault::Broken),
            Err(_) => Err(BodyFault::Idle),
        }
    }

    /// Passes a body on as it comes, at most `limit` bytes of it.
    pub(super) fn stream(body: Incoming, limit: Option<u64>, idle: Duration) -> Self {
        let watch = Arc::default();
        Self::Streamed(Streamed { body, left: limit.unwrap_or(u64::MAX), idle: Idle::new(idle), watch })
    }

    /// The same body once more; `None` for one that is streamed.
    pub(super) fn again(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Kept(bytes) => Some(Self::Kept(bytes.clone())),
            Self::Streamed(_) => None,
        }
    }

    /// Whether there is none.
    pub(super) const fn is_none(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// What can be seen of a streamed body after it was handed over.
    pub(super) fn watch(&self) -> Option<Arc<Watch>> {
        match self {
            Self::Streamed(streamed) => Some(Arc::clone(&streamed.watch)),
            Self::Empty | Self::Kept(_) => None,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Kept(bytes) => Poll::Ready(bytes.take().filter(|b| !b.is_empty()).map(|b| Ok(Frame::data(b)))),
            Self::Streamed(streamed) => streamed.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Kept(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Streamed(streamed) => streamed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Kept(bytes) => SizeHint::with_exact(length(bytes.as_ref())),
            Self::Streamed(streamed) => streamed.body.size_hint(),
        }
    }
}

/// A request's body as it comes from the app.
#[derive(Debug)]
pub(super) struct Streamed {
    body: Incoming,
    left: u64,
    idle: Idle,
    watch: Arc<Watch>,
}

impl Streamed {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        loop {
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(Some(Err(_))) => return self.fail(BodyFault::Broken),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending if self.idle.poll(cx).is_ready() => return self.fail(BodyFault::Idle),
                Poll::Pending => return Poll::Pending,
            };
            self.idle.stir();
            self.watch.frames.fetch_add(1, Ordering::Relaxed);
            let Some(frame) = passing(frame) else { continue };
            let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            match self.left.checked_sub(bytes) {
                Some(left) => self.left = left,
                None => return self.fail(BodyFault::TooLarge),
            }
            return Poll::Ready(Some(Ok(frame)));
        }
    }

    fn fail(&self, fault: BodyFault) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        self.watch.fail(fault);
        Poll::Ready(Some(Err(fault)))
    }
}

/// What can be seen of a streamed body from outside: whether it moves, and why it failed.
#[derive(Debug, Default)]
pub(super) struct Watch {
    frames: AtomicU32,
    fault: AtomicU8,
}

impl Watch {
    /// A number that changes while the body moves.
    pub(super) fn frames(&self) -> u32 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Why it failed, if it did.
    pub(super) fn fault(&self) -> Option<BodyFault> {
        let fault = self.fault.load(Ordering::Acquire);
        FAULTS.into_iter().find(|known| code(*known) == fault)
    }

    fn fail(&self, fault: BodyFault) {
        self.fault.store(code(fault), Ordering::Release);
    }
}

const FAULTS: [BodyFault; 3] = [BodyFault::TooLarge, BodyFault::Idle, BodyFault::Broken];

const fn code(fault: BodyFault) -> u8 {
    match fault {
        BodyFault::TooLarge => 1,
        BodyFault::Idle => 2,
        BodyFault::Broken => 3,
    }
}

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
pub(super) enum Rest {
    /// This.
    Coming(Incoming),
    /// Nothing: all of it was read.
    Ended,
    /// Nothing, though it was not all.
    Broken,
}

impl ResponseBody {
    /// A body of our own.
    pub(super) fn ours(bytes: Bytes) -> Self {
        Self(Source::Ours(Some(bytes)))
    }

    /// A bank's body: what was read of it, and what is still to come. The call counts as under way until it is dropped.
    pub(super) fn bank(front: Option<Bytes>, rest: Rest, idle: Duration, underway: Underway) -> Self {
        Self(Source::Bank(FromBank { front, rest, idle: Idle::new(idle), _underway: underway }))
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
                Poll::Pending if self.idle.poll(cx).is_ready() => return Poll::Ready(Some(Err(BodyFault::Idle))),
                Poll::Pending => return Poll::Pending,
            };
            self.idle.stir();
            if let Some(frame) = passing(frame) {
                return Poll::Ready(Some(Ok(frame)));
            }
        }
    }
}

/// Reads the beginning of a bank's body, at most a little more than `limit` bytes of it, without waiting longer than
/// `at_most`. Gives what was read, and whether that is all of it.
pub(super) async fn peek(rest: &mut Rest, limit: usize, at_most: Duration) -> (Option<Bytes>, bool) {
    let until = Instant::now() + at_most;
    let mut front = Front::default();
    let ended = loop {
        let Rest::Coming(body) = rest else { break None };
        match tokio::time::timeout_at(until, body.frame()).await {
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
    use http::HeaderMap;
    use http::HeaderValue;

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

    #[test]
    fn a_watch_tells_the_fault_it_was_told() {
        for fault in FAULTS {
            let watch = Watch::default();
            assert_eq!(watch.fault(), None);
            watch.fail(fault);
            assert_eq!(watch.fault(), Some(fault));
        }
    }

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

    #[tokio::test]
    async fn a_body_that_broke_off_while_it_was_read_ends_in_an_error() {
        let mut rest = Rest::Broken;
        assert_eq!(peek(&mut rest, 10, Duration::ZERO).await, (None, false));
        let gauge = prometheus_client::metrics::gauge::Gauge::default();
        let front = Some(Bytes::from_static(b"ab"));
        let body = ResponseBody::bank(front, rest, Duration::from_secs(1), Underway::begin(&gauge));
        assert_eq!(gauge.get(), 1);
        assert!(!body.is_end_stream());
        assert_eq!(body.collect().await.err(), Some(BodyFault::Broken));
        assert_eq!(gauge.get(), 0);
    }
}
