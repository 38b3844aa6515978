//! What is told of a panic: where, and nothing of what.
//!
//! A panic's payload can hold anything that somebody formatted into it, and a panic in a request ends the request alone,
//! so it is a line of the log like any other.

use std::io::Write as _;
use std::panic::PanicHookInfo;

/// Replaces the process' panic hook.
pub fn install_hook() {
    std::panic::set_hook(Box::new(report));
}

fn report(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let (file, line) = info.location().map_or(("an unknown place", 0), |at| (at.file(), at.line()));
    if tracing::dispatcher::has_been_set() {
        tracing::error!(location = format_args!("{file}:{line}"), thread, "A thread panicked. This is a defect.");
    } else {
        // Nobody is left to tell if this fails.
        let _ = writeln!(std::io::stderr(), "A thread panicked ({thread}) at {file}:{line}. This is a defect.");
    }
}
