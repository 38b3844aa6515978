//! What has to hold of every input, however odd: one function for each kind, which panics if it does not.
//!
//! The fuzz targets beside this folder call these functions, and so does `tests/properties.rs`, which replays the kept
//! inputs of `fuzz/corpus` and makes up more.

mod heads;
mod paths;
mod returns;
mod stored;
mod trip;

/// A property of any bytes.
pub(crate) type Property = fn(&[u8]);

/// Every property, by the name of its target and of its folder of kept inputs.
pub(crate) const ALL: [(&str, Property); 8] = [
    ("request_head", heads::request_head),
    ("path", paths::path),
    ("round_trip", trip::round_trip),
    ("token_answer", stored::token_answer),
    ("record", stored::record),
    ("envelope", stored::envelope),
    ("configuration", stored::configuration),
    ("callback_query", returns::callback_query),
];
