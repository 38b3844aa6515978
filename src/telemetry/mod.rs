//! What the process tells of itself, and what it keeps from telling.
//!
//! [`registry()`] makes the metrics, [`logs`] sets up the log, [`mod@panic`] and [`hardening`] see to it that neither a
//! panic's message nor a core file holds what the log is careful to leave out. All of it happens once, when a process
//! starts: first `hardening`, then `panic`, then `logs`.

pub mod hardening;
pub mod logs;
pub mod panic;

mod registry;

pub use registry::registry;
