//! map to come
pub mod http;
pub mod net;
pub mod words;
