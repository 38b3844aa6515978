//! The listeners for operators: health and administration.

pub mod settings;
