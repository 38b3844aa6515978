//! A provider's record: what all replicas share about one authorization server.
//!
//! [`record`] is its fields, [`steps`] are the decisions on them, as pure functions. The embedded store runs these; the
//! Redis store runs the same decisions as the Lua scripts in `redis/lua/provider`. One test suite holds the two together.

pub mod record;
pub mod steps;
#[cfg(test)]
mod tests;

pub use record::ProviderRecord;
