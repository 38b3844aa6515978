//! A body that takes its time, goes on for long, or breaks off; memory stays flat whatever its length.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::Sleep;

use super::answers::Broken;

/// A body in pieces.
pub(super) struct Paced {
    rest: Rest,
    piece: usize,
    pause: Option<Duration>,
    pausing: Option<Pin<Box<Sleep>>>,
    /// Whether the body ends in an error, which closes the connection.
    breaks: bool,
}

enum Rest {
    Bytes(Bytes),
    Filler(u64),
}

const FILLER: &[u8] = &[b'.'; 64 * 1024];

impl Paced {
    /// These bytes, with a pause before every piece but the first.
    pub(super) fn slow(bytes: Bytes, piece: usize, pause: Duration) -> Self {
        Self { rest: Rest::Bytes(bytes), piece, pause: Some(pause), pausing: None, breaks: false }
    }

    /// These bytes, then the end of the connection.
    pub(super) fn broken_off(bytes: Bytes) -> Self {
        // The pause lets what came before reach the wire; an error at once would overtake it.
        const FLUSH: Duration = Duration::from_millis(20);
        let piece = bytes.len().max(1);
        Self { rest: Rest::Bytes(bytes), piece, pause: Some(FLUSH), pausing: None, breaks: true }
    }

    /// So many bytes of filler.
    pub(super) fn filler(length: u64, piece: usize, pause: Option<Duration>) -> Self {
        let piece = piece.clamp(1, FILLER.len());
        Self { rest: Rest::Filler(length), piece, pause, pausing: None, breaks: false }
    }

    fn next_piece(&mut self) -> Option<Bytes> {
        match &mut self.rest {
            Rest::Bytes(bytes) => {
                let length = self.piece.max(1).min(bytes.len());
                (length > 0).then(|| bytes.split_to(length))
            }
            Rest::Filler(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(self.piece);
                *left -= length as u64;
                FILLER.get(..length).filter(|piece| !piece.is_empty()).map(Bytes::from_static)
            }
        }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(pausing) = self.pausing.as_mut() {
            std::task::ready!(pausing.as_mut().poll(cx));
            self.pausing = None;
        }
        if let Some(piece) = self.next_piece() {
            self.pausing = self.pause.map(|pause| Box::pin(tokio::time::sleep(pause)));
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        Poll::Ready(self.breaks.then_some(Err(Broken)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn every_byte_comes_and_no_other() {
        let bytes = Bytes::from_static(b"0123456789");
        let slow = Paced::slow(bytes.clone(), 3, Duration::from_millis(1));
        assert_eq!(slow.collect().await.expect("whole").to_bytes(), bytes);
        let filler = Paced::filler(200_000, 70_000, None).collect().await.expect("whole");
        assert_eq!(filler.to_bytes().len(), 200_000);
        assert_eq!(Paced::filler(0, 1, None).collect().await.expect("whole").to_bytes(), "");
    }

    #[tokio::test]
    async fn a_broken_body_gives_its_bytes_first() {
        let mut body = Paced::broken_off(Bytes::from_static(b"half"));
        let first = body.frame().await.expect("a frame").expect("fine");
        assert_eq!(first.into_data().expect("data"), "half");
        assert!(matches!(body.frame().await, Some(Err(Broken))));
    }
}
