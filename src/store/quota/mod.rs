//! What is counted of a consent as a store keeps it, and the decisions on it as pure functions.
//!
//! The embedded store runs `steps`; the Redis store runs the same decisions as Lua scripts, in `redis/lua/quota`. One test
//! suite holds the two together. `now` is the store's clock in milliseconds.

mod record;
pub mod steps;

pub use record::QuotaRecord;
