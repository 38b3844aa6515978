//! Where a simulation may take the machine's place: chance, sockets, the disk, and when a process runs at all.
//!
//! A task that runs [`within`] a [`Host`] gets its random numbers and its connections from that host, tells it what
//! becomes of spill files, and is polled only while the host lets its process run; so is every task that it starts. What
//! is simulated is then the program itself. Only builds with debug assertions have this; in others every function here
//! does nothing, and no host can be given.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

/// A connection of whatever kind.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection in the making.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// A machine with one process of the program on it.
pub trait Host: Send + Sync + 'static {
    /// Whether a task of the process may run. `waker` wakes it when that changes; `task` names it.
    fn admit(&self, task: u64, waker: &Waker) -> Admission;

    /// A task has ended.
    fn ended(&self, task: u64);

    /// A number that no other task of this host has.
    fn next_task(&self) -> u64;

    /// Sixteen random bytes.
    fn random(&self) -> [u8; 16];

    /// Connects to a server of the simulation.
    fn dial(&self, server: &str, port: u16) -> Dialing;

    /// A step on the disk has been taken. An error is what the machine says instead of having done it.
    fn disk(&self, step: DiskStep<'_>) -> io::Result<()>;

    /// How long the steps took that were told since it was asked last.
    fn disk_took(&self) -> Duration;
}

/// Whether a task may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Run,
    /// The process stands still.
    Wait,
    /// The process is dead: the task is dropped.
    Drop,
}

/// What was done on the disk.
#[derive(Clone, Copy, Debug)]
pub enum DiskStep<'a> {
    /// A new file was written and not synced.
    Written(&'a Path),
    /// What was written to a file was synced.
    Synced(&'a Path),
    /// A file was given another name.
    Renamed(&'a Path, &'a Path),
    /// A directory was synced.
    DirectorySynced(&'a Path),
    /// A file was removed.
    Removed(&'a Path),
}

#[cfg(debug_assertions)]
pub use hosted::within;
#[cfg(debug_assertions)]
pub(crate) use hosted::{current, task};

/// The host of the task that is running.
#[cfg(not(debug_assertions))]
pub(crate) const fn current() -> Option<Arc<dyn Host>> {
    None
}

/// A task that the running task starts.
#[cfg(not(debug_assertions))]
pub(crate) fn task<F: Future>(work: F) -> impl Future<Output = F::Output> {
    work
}

/// Tells the host, if there is one, of a step on the disk.
pub(crate) fn disk(step: DiskStep<'_>) -> io::Result<()> {
    current().map_or(Ok(()), |host| host.disk(step))
}

#[cfg(debug_assertions)]
mod hosted {
    use std::cell::RefCell;
    use std::task::{Context, Poll};

    use super::{Admission, Arc, Future, Host, Pin};

    thread_local! {
        static HOST: RefCell<Option<Arc<dyn Host>>> = const { RefCell::new(None) };
    }

    /// The host of the task that is running.
    pub(crate) fn current() -> Option<Arc<dyn Host>> {
        HOST.with_borrow(Clone::clone)
    }

    /// A task that the running task starts.
    pub(crate) fn task<F: Future>(work: F) -> impl Future<Output = F::Output> {
        Task::new(current(), work)
    }

    /// `work` as a task of a process on `host`. Should the process die, it never ends.
    pub fn within<F: Future>(host: Arc<dyn Host>, work: F) -> impl Future<Output = F::Output> {
        Task::new(Some(host), work)
    }

    struct Task<F> {
        host: Option<(Arc<dyn Host>, u64)>,
        work: Option<Pin<Box<F>>>,
    }

    impl<F> Task<F> {
        fn new(host: Option<Arc<dyn Host>>, work: F) -> Self {
            let host = host.map(|host| {
                let task = host.next_task();
                (host, task)
            });
            Self { host, work: Some(Box::pin(work)) }
        }
    }

    impl<F: Future> Future for Task<F> {
        type Output = F::Output;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
            let Self { host, work } = &mut *self;
            let Some(running) = work else { return Poll::Pending };
            let Some((host, task)) = host else { return running.as_mut().poll(cx) };
            match host.admit(*task, cx.waker()) {
                Admission::Run => {}
                Admission::Wait => return Poll::Pending,
                Admission::Drop => {
                    *work = None;
                    return Poll::Pending;
                }
            }
            let before = HOST.replace(Some(Arc::clone(host)));
            let polled = running.as_mut().poll(cx);
            HOST.set(before);
            if polled.is_ready() {
                host.ended(*task);
                *work = None;
            }
            polled
        }
    }
}
