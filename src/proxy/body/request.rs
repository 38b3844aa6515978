//! The body of a request to the bank: none, kept in memory so that it can be sent twice, or as it comes from the app.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::{BodyFault, Idle, Patience, length, passing};

/// The body of a request to the bank.
#[derive(Debug)]
pub(in crate::proxy) enum RequestBody {
    /// None.
    Empty,
    /// In memory, whole. Taken when it is sent.
    Kept(Option<Bytes>),
    /// As it comes from the app.
    Streamed(Streamed),
}

impl RequestBody {
    /// Reads a body of known length into memory, so that it can be sent twice.
    pub(in crate::proxy) async fn keep(body: Incoming, limit: Duration) -> Result<Self, BodyFault> {
        match timeout(limit, body.collect()).await {
            Ok(Ok(whole)) => Ok(Self::Kept(Some(whole.to_bytes()))),
            Ok(Err(_)) => Err(BodyFault::Broken),
            Err(_) => Err(BodyFault::Idle),
        }
    }

    /// Passes a body on as it comes, at most `limit` bytes of it.
    pub(in crate::proxy) fn stream(body: Incoming, limit: Option<u64>, patience: Patience) -> Self {
        let watch = Arc::default();
        Self::Streamed(Streamed { body, left: limit.unwrap_or(u64::MAX), idle: Idle::new(patience), watch })
    }

    /// The same body once more; `None` for one that is streamed.
    pub(in crate::proxy) fn again(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Kept(bytes) => Some(Self::Kept(bytes.clone())),
            Self::Streamed(_) => None,
        }
    }

    /// Whether there is none.
    pub(in crate::proxy) const fn is_none(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// What can be seen of a streamed body after it was handed over.
    pub(in crate::proxy) fn watch(&self) -> Option<Arc<Watch>> {
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
pub(in crate::proxy) struct Streamed {
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
                Poll::Pending => match self.idle.poll(cx) {
                    Poll::Ready(fault) => return self.fail(fault),
                    Poll::Pending => return Poll::Pending,
                },
            };
            if let Err(fault) = self.idle.stir() {
                return self.fail(fault);
            }
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
pub(in crate::proxy) struct Watch {
    frames: AtomicU32,
    fault: AtomicU8,
}

impl Watch {
    /// A number that changes while the body moves.
    pub(in crate::proxy) fn frames(&self) -> u32 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Why it failed, if it did.
    pub(in crate::proxy) fn fault(&self) -> Option<BodyFault> {
        let fault = self.fault.load(Ordering::Acquire);
        FAULTS.into_iter().find(|known| code(*known) == fault)
    }

    fn fail(&self, fault: BodyFault) {
        self.fault.store(code(fault), Ordering::Release);
    }
}

const FAULTS: [BodyFault; 4] = [BodyFault::TooLarge, BodyFault::Idle, BodyFault::Overdue, BodyFault::Broken];

const fn code(fault: BodyFault) -> u8 {
    match fault {
        BodyFault::TooLarge => 1,
        BodyFault::Idle => 2,
        BodyFault::Broken => 3,
        BodyFault::Overdue => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_tells_the_fault_it_was_told() {
        for fault in FAULTS {
            let watch = Watch::default();
            assert_eq!(watch.fault(), None);
            watch.fail(fault);
            assert_eq!(watch.fault(), Some(fault));
        }
    }
}
