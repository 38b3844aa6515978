//! map to come
pub mod http;
pub mod net;
#[cfg(feature = "sandbox")]
pub mod sandbox;
pub mod words;
