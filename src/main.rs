//! The `consentry` program: parse the command line, dispatch.

use std::process::ExitCode;

fn main() -> ExitCode {
    consentry::cli::main()
}
