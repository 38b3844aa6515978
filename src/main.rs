//! The `consentry` program: parse the command line, dispatch.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// A call takes and gives back some twenty pieces of memory, two of them of several kilobytes, which the system's own
/// allocator is slow with.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    consentry::cli::main()
}
