//! Pure rules over headers, targets and media types. No I/O.
pub mod pattern;
pub mod prefix;
pub mod route;
pub mod segment;
pub mod target;
