//! Named places where a test may stop the program, end it, or make it stand still.
//!
//! Only builds with debug assertions have them. `CONSENTRY_FAILPOINTS` names places, separated by commas, each with what
//! happens there: `after-arm` or `after-arm=stop` keeps every flight that comes there for ever; `after-arm=kill` ends the
//! process as `kill -9` does; `after-arm=freeze` stops it as `kill -STOP` does, the first time, and the flight goes on
//! when the process does. The places stand between any two steps that last:
//!
//! | place | what has happened by then |
//! | --- | --- |
//! | `after-begin` | the lease is granted |
//! | `after-connect` | the bank is connected to, and nothing is sent |
//! | `after-arm` | the intent is durable, the guard has looked at the clock, and nothing is sent |
//! | `after-reply` | the bank's answer is in memory |
//! | `after-spill` | the answer is on disk, synced |
//! | `before-commit` | a COMMIT, or the SEED of a new grant, is about to go to the store, at a replay too |
//! | `after-commit` | spill and COMMIT are done, and the spill is still there |
//! | `after-claim` | a customer's attempt is claimed durably, and its code is not sent |
//! | `after-feed` | the ends that a page of a bank's feed tells of are applied, and the position is where it was |

/// Does here what this place is named for. In a release build, nothing at all.
#[cfg(debug_assertions)]
pub(super) async fn point(name: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    static NAMED: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
        let names = std::env::var("CONSENTRY_FAILPOINTS").unwrap_or_default();
        let point = |named: &str| {
            let (name, action) = named.trim().split_once('=').unwrap_or((named.trim(), "stop"));
            (name.to_owned(), action.to_owned())
        };
        names.split(',').map(point).collect()
    });
    static FROZEN: AtomicBool = AtomicBool::new(false);

    let Some((_, action)) = NAMED.iter().find(|(named, _)| named == name) else { return };
    match action.as_str() {
        "kill" => {
            tracing::warn!(name, "Killed at a failpoint.");
            let _ = kill_process(getpid(), Signal::KILL);
        }
        "freeze" if FROZEN.swap(true, Ordering::AcqRel) => return,
        "freeze" => {
            tracing::warn!(name, "Frozen at a failpoint.");
            let _ = kill_process(getpid(), Signal::STOP);
            // The signal may stop another thread first.
            std::thread::sleep(std::time::Duration::from_millis(100));
            return;
        }
        _ => tracing::warn!(name, "Stopped at a failpoint."),
    }
    std::future::pending::<()>().await;
}

#[cfg(not(debug_assertions))]
#[expect(clippy::unused_async, reason = "the same shape as the build that has failpoints")]
pub(super) async fn point(_name: &str) {}
