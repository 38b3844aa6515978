//! The outermost layer: what the layers below turn away is answered, too.
//!
//! It is also where a call's future is boxed, once, so that an idle connection does not carry the room for a call.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::body::Incoming;
use tower::{BoxError, Layer, Service};

use super::access_log::Call;
use super::body::ResponseBody;
use super::respond::{Refusal, refuse};
use crate::words::metrics::Metrics;

/// Wraps a service in [`Answered`].
#[derive(Clone, Debug)]
pub(super) struct AnswerOverload(pub(super) Arc<Metrics>);

impl<S> Layer<S> for AnswerOverload {
    type Service = Answered<S>;

    fn layer(&self, inner: S) -> Answered<S> {
        Answered { inner, metrics: Arc::clone(&self.0) }
    }
}

/// A service that answers where the one inside it has no place.
#[derive(Clone, Debug)]
pub(super) struct Answered<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S> Service<Request<Incoming>> for Answered<S>
where
    S: Service<Request<Incoming>, Response = Response<ResponseBody>, Error = BoxError, Future: Send + 'static>,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx).map(|_| Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let (method, version) = (request.method().clone(), request.version());
        let metrics = Arc::clone(&self.metrics);
        let answering = self.inner.call(request);
        Box::pin(async move {
            // The handler does not fail, so an error is the word of the layer that found no place.
            Ok(match answering.await {
                Ok(response) => response,
                Err(_) => refuse(Call::begin(&metrics, method), Refusal::Overloaded, version),
            })
        })
    }
}
