//! The two places a command writes to.

use std::io::{self, Write as _};

/// A line of the result. A reader that has gone away is no failure of ours.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// A part of the result. Whether anybody still reads it.
pub(super) fn write(text: &str) -> bool {
    io::stdout().write_all(text.as_bytes()).is_ok()
}

/// What is told beside the result, as it is.
pub(super) fn remark(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// A line about the result.
pub(super) fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "consentry: {line}");
}

/// A result for programs.
pub(super) fn say_json(value: &serde_json::Value) {
    say(&format!("{value:#}"));
}
