//! Tells HTTP/2 from HTTP/1.1 on a clear-text connection by its first bytes (RFC 9113 §3.4).
//!
//! The caller bounds the wait. The bytes read are put back in front of the stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads until the bytes differ from the preface or are all of it. Gives whether it is HTTP/2, and the whole stream.
pub(super) async fn peek<S: AsyncRead + Unpin>(mut stream: S) -> io::Result<(bool, Rewound<S>)> {
    let mut read = Vec::with_capacity(PREFACE.len());
    loop {
        let differs = !PREFACE.starts_with(&read);
        if differs || read.len() == PREFACE.len() {
            return Ok((!differs, Rewound { first: Bytes::from(read), stream }));
        }
        let left = (PREFACE.len() - read.len()) as u64;
        if (&mut stream).take(left).read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A stream with some bytes put back in front of it.
pub(super) struct Rewound<S> {
    first: Bytes,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let count = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first[..count]);
        self.first.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn peeked(bytes: &'static [u8]) -> (bool, Vec<u8>) {
        let (is_h2, mut stream) = peek(bytes).await.expect("decides");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.expect("reads");
        (is_h2, all)
    }

    #[tokio::test]
    async fn the_first_bytes_decide_and_none_is_lost() {
        let requests: [(&[u8], bool); 4] = [
            (b"GET / HTTP/1.1\r\n\r\n", false),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0", true),
            (b"PRI * HTTP/1.1\r\n\r\n", false),
            (b"PUT /", false),
        ];
        for (bytes, is_h2) in requests {
            assert_eq!(peeked(bytes).await, (is_h2, bytes.to_vec()));
        }
    }

    #[tokio::test]
    async fn a_connection_that_ends_undecided_is_an_error() {
        assert!(peek(&b"PRI * HTT"[..]).await.is_err());
        assert!(peek(&b""[..]).await.is_err());
    }
}
