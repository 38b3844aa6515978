//! The request path.

pub mod settings;
