//! What the operator wrote.
mod fault;
mod locate;
mod shape;
mod tree;
pub mod value;
pub use fault::{Fault, Faults, Place, Warning, YamlPath};
