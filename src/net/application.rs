//! What a listener serves: any service of hyper that always has an answer.
//!
//! Calls are served by a type of their own, which is quick. Every other listener has time, and its service stands behind a
//! pointer.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;

/// What [`serve`](super::serve::serve) asks of a service, under one name: any cloneable service of hyper from requests to responses, such as
/// [`hyper::service::service_fn`] makes. An error of the service closes the connection without an answer; one that always
/// answers has [`std::convert::Infallible`] there. Implemented for all that fit.
pub trait Application:
    Service<
        Request<Incoming>,
        Response = Response<Self::Body>,
        Error: Into<Box<dyn Error + Send + Sync>>,
        Future: Send + 'static,
    > + Clone
    + Send
    + 'static
{
    /// The body of its responses.
    type Body: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static;
}

impl<S, B> Application for S
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    type Body = B;
}

/// The same service behind a pointer. Services of one body are then of one type, so that what serves a connection is compiled once
/// for all of them: for listeners that have time for it.
pub fn unhurried<S: Application + Sync>(service: S) -> Unhurried<S::Body, S::Error> {
    Unhurried(Arc::new(move |request| Box::pin(service.call(request))))
}

/// What [`unhurried`] makes.
pub struct Unhurried<B, E>(Arc<dyn Fn(Request<Incoming>) -> Answering<B, E> + Send + Sync>);

type Answering<B, E> = Pin<Box<dyn Future<Output = Result<Response<B>, E>> + Send>>;

impl<B, E> Service<Request<Incoming>> for Unhurried<B, E> {
    type Response = Response<B>;
    type Error = E;
    type Future = Answering<B, E>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        (self.0)(request)
    }
}

impl<B, E> Clone for Unhurried<B, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B, E> fmt::Debug for Unhurried<B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unhurried").finish_non_exhaustive()
    }
}
