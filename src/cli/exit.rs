//! How a command ends: 0, 64 for a wrong command line, 78 for a wrong configuration, 69 for something that is not
//! available, 1 for everything else (the words of `sysexits.h`).

use std::process::ExitCode;

use super::out;

/// Why a command did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The command line makes no sense.
    Usage(String),
    /// The configuration is wrong; the text names every place.
    Config(String),
    /// Something that is needed is not there or does not answer.
    Unavailable(String),
    /// Anything else.
    Other(String),
}

/// Says why, and gives the exit code.
pub(super) fn failed(failure: &Failure) -> ExitCode {
    let (text, code) = match failure {
        Failure::Usage(text) => (text, 64),
        Failure::Config(text) => (text, 78),
        Failure::Unavailable(text) => (text, 69),
        Failure::Other(text) => (text, 1),
    };
    out::complain(text);
    ExitCode::from(code)
}

/// Help and version are answers; everything else is a wrong command line.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    // Nothing can be done about a terminal that does not take the text.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(64) } else { ExitCode::SUCCESS }
}
