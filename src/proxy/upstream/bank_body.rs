//! The body of a bank's answer, which holds the connection it comes on until it is through.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::pool::{Alone, Pool};

/// The body of a bank's answer. Dropped before its end, it takes its connection over HTTP/1.1 with it.
#[derive(Debug)]
pub(in crate::proxy) struct BankBody {
    incoming: Incoming,
    line: Option<Borrowed>,
}

/// A connection, and the rack it goes back to.
#[derive(Debug)]
pub(super) struct Borrowed {
    pub(super) line: Alone,
    pub(super) pool: Arc<Pool>,
    pub(super) rack: usize,
}

impl BankBody {
    pub(super) fn new(incoming: Incoming, line: Option<Borrowed>) -> Self {
        let mut body = Self { incoming, line };
        if body.incoming.is_end_stream() {
            body.give_back();
        }
        body
    }

    fn give_back(&mut self) {
        if let Some(Borrowed { line, pool, rack }) = self.line.take() {
            pool.put_back(line, rack);
        }
    }
}

impl Body for BankBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Err(_))) => self.line = None,
            // Those who send a body on may ask for its end without asking for another frame.
            Poll::Ready(None) => self.give_back(),
            Poll::Ready(Some(Ok(_))) if self.incoming.is_end_stream() => self.give_back(),
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
