//! map to come
pub mod admin;
pub mod config;
pub mod consent;
pub mod http;
pub mod net;
pub mod oauth;
pub mod profiles;
pub mod proxy;
pub mod store;
pub mod telemetry;
pub mod token;
pub mod words;
