//! Keeps this process' memory, which holds tokens, from core files and from other processes of the same user.

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};

/// A measure that the operating system refused. The process runs on without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the process could not be kept from {from}: {why}")]
pub struct Refused {
    /// What it is exposed to.
    pub from: &'static str,
    /// What the operating system said.
    pub why: Errno,
}

/// Forbids core files and, on Linux, that processes without privileges attach to this one or read its memory
/// (`PR_SET_DUMPABLE`). Whatever could not be done is told, to be logged as a warning.
pub fn apply() -> Vec<Refused> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let cores = setrlimit(Resource::Core, none).map_err(|why| Refused { from: "writing core files", why });
    [cores, forbid_attaching()].into_iter().filter_map(Result::err).collect()
}

#[cfg(target_os = "linux")]
fn forbid_attaching() -> Result<(), Refused> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|why| Refused { from: "being attached to", why })
}

#[cfg(not(target_os = "linux"))]
fn forbid_attaching() -> Result<(), Refused> {
    Ok(())
}
