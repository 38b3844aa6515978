//! map to come
pub mod http;
pub mod net;
pub mod oauth;
pub mod store;
pub mod words;
pub mod config;
