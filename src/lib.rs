//! map to come
pub mod admin;
pub mod config;
pub mod http;
pub mod net;
pub mod oauth;
pub mod profiles;
pub mod proxy;
#[cfg(feature = "sandbox")]
pub mod sandbox;
pub mod store;
pub mod token;
pub mod words;
