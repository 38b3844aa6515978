//! Threads that serve connections, each on a runtime of its own.
//!
//! A call that is read, forwarded and answered on one thread wakes no other. Whatever must outlive the serving of
//! connections, such as a refresh, runs on the runtime that the process was started on.

use std::cell::Cell;
use std::future::Future;
use std::io;

use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// The most threads there can be.
pub const MOST: usize = 64;

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(0) };
}

/// The number of the serving thread this is called on; 0 on every thread that is none.
pub fn current() -> usize {
    NUMBER.get()
}

/// Runs `serve`, once on each of `count` threads (at least one, at most [`MOST`]), and resolves when all of them are
/// through. Dropping the future leaves the threads running.
pub async fn run<F, S>(count: usize, serve: S) -> io::Result<()>
where
    F: Future<Output = ()>,
    S: FnOnce() -> F + Clone + Send + 'static,
{
    let mut threads = Vec::new();
    for number in 0..count.clamp(1, MOST) {
        let (serve, (through, ended)) = (serve.clone(), oneshot::channel::<()>());
        let runtime = Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name(format!("serving-{number}")).spawn(move || {
            NUMBER.set(number);
            runtime.block_on(serve());
            drop(through);
        })?;
        threads.push(ended);
    }
    // What it holds, such as a listener, ends with the threads: nobody is to wait at a socket that nothing accepts from.
    drop(serve);
    for ended in threads {
        // The sender is dropped, by the end or by a panic; nothing is ever sent.
        let _ended = ended.await;
    }
    Ok(())
}
