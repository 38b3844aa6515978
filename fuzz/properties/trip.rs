//! Parse, forward, parse again: what the bank reads is what was let through, one message for each, with the same method,
//! target, headers and body.

use std::convert::Infallible;
use std::future::Future as _;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use consentry::http::prefix::PathPrefix;
use consentry::http::target::CheckedPath;
use consentry::http::upstream_uri::UpstreamBase;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, join, sink};

use super::heads::{assert_clean, clean, guard};

/// One whole message.
struct Message {
    method: Method,
    target: Uri,
    headers: HeaderMap,
    body: Bytes,
    /// Whether its length was told before it came.
    sized: bool,
}

/// Whatever comes on a connection, each message in it that passes is forwarded as exactly one.
pub(super) fn round_trip(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        for message in parse(data).await {
            let wire = forward(&message).await;
            let Some((target, headers, wire)) = wire else { continue };
            let mut again = parse(&wire).await;
            let shown = String::from_utf8_lossy(&wire).into_owned();
            assert_eq!(again.len(), 1, "{shown}");
            let again = again.remove(0);
            assert_eq!(again.method, message.method, "{shown}");
            assert_eq!(again.body, message.body, "{shown}");
            assert_eq!(again.target.path_and_query(), target.path_and_query(), "{shown}");
            assert_eq!(again.headers[header::HOST], "bank.example", "{shown}");
            let own = [header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
            for name in again.headers.keys().chain(headers.keys()).filter(|name| !own.contains(name)) {
                let (there, here) = (again.headers.get_all(name), headers.get_all(name));
                assert!(there.iter().eq(here.iter()), "{name} differs: {shown}");
            }
            let framings = own[1..].iter().map(|name| again.headers.get_all(name).iter().count()).sum::<usize>();
            assert!(framings <= 1, "{shown}");
        }
    });
}

/// The messages that hyper's server reads, as far as it reads on.
async fn parse(data: &[u8]) -> Vec<Message> {
    let messages = Arc::<Mutex<Vec<Message>>>::default();
    let writing = Arc::clone(&messages);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let into = Arc::clone(&writing);
        async move {
            let (head, body) = request.into_parts();
            let sized = body.size_hint().exact().is_some();
            let status = match body.collect().await {
                Ok(body) => {
                    let (method, target, headers) = (head.method, head.uri, head.headers);
                    let body = body.to_bytes();
                    into.lock().expect("no panic").push(Message { method, target, headers, body, sized });
                    StatusCode::OK
                }
                Err(_) => StatusCode::BAD_REQUEST,
            };
            let mut response = Response::new(Empty::<Bytes>::new());
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        }
    });
    let io = TokioIo::new(join(io::Cursor::new(data.to_vec()), sink()));
    let mut server = hyper::server::conn::http1::Builder::new();
    server.header_read_timeout(None).max_headers(100).half_close(true);
    drop(server.serve_connection(io, service).await);
    let mut messages = messages.lock().expect("no panic");
    std::mem::take(&mut *messages)
}

/// What goes to the bank: its target, its headers, and the bytes. `None` for a message that is refused.
async fn forward(message: &Message) -> Option<(Uri, HeaderMap, Vec<u8>)> {
    let mut request = Request::new(());
    *request.method_mut() = message.method.clone();
    *request.uri_mut() = message.target.clone();
    *request.headers_mut() = message.headers.clone();
    guard().check(&request).ok()?;
    let path = CheckedPath::check(&message.target, 8_192).ok()?;
    let rest = PathPrefix::parse("/").expect("a prefix").strip(&path)?;
    let target = UpstreamBase::parse("http://bank.example/base").expect("a base").join(rest).ok()?;
    let mut headers = clean(&message.headers)?;
    assert_clean(&headers, &message.headers);

    let body = Whole { bytes: Some(message.body.clone()), sized: message.sized };
    let mut request = Request::new(body);
    *request.method_mut() = message.method.clone();
    // As the proxy does: hyper sends no body with these methods unless it is told to.
    if matches!(message.method, Method::GET | Method::HEAD) && !message.sized {
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    *request.headers_mut() = headers.clone();
    request.headers_mut().insert(header::HOST, HeaderValue::from_static("bank.example"));
    *request.uri_mut() = Uri::from(target.clone());
    headers.remove(header::TRANSFER_ENCODING);

    let wire = Wire::default();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(wire.clone())).await.expect("no bytes are needed");
    let (mut answer, mut connection) = (pin!(sender.send_request(request)), pin!(connection));
    // Nothing has to be waited for: the body is there, and the wire takes everything.
    std::future::poll_fn(|cx| {
        for _ in 0..16 {
            let _ = answer.as_mut().poll(cx);
            let _ = connection.as_mut().poll(cx);
        }
        Poll::Ready(())
    })
    .await;
    let written = wire.0.lock().expect("no panic").clone();
    Some((target.into(), headers, written))
}

/// A body that is there, with or without its length told.
struct Whole {
    bytes: Option<Bytes>,
    sized: bool,
}

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.bytes.take().filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.sized && self.bytes.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        let length = self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        if self.sized { SizeHint::with_exact(length) } else { SizeHint::default() }
    }
}

/// Keeps what is written, and has nothing to say.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<Vec<u8>>>);

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
