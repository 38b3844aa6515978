//! Redis.

pub mod settings;

pub use settings::{AddressError, ClientIdentity, RedisAddress, RedisSettings};
