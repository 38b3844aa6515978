//! A valid access token for a consent or a client.

pub mod settings;
