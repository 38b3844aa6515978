//! A replica's machine: what its process may do, when it runs, what time it has, and what its disk keeps.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Duration;

use consentry::simulation::{Admission, Dialing, DiskStep, Host, Stream};
use consentry::words::clock::{BootInstant, Clock, WallTime};
use tokio::time::{Instant, sleep};

use crate::chance::Chance;
use crate::disk::Disk;
use crate::network::{Line, Route};
use crate::trace::{Pid, Trace, What};

/// Noon of some day.
pub(crate) const NOON: u64 = 1_763_812_800_000;

/// What outlives the processes of one replica.
pub(crate) struct Machine {
    pub(crate) replica: usize,
    pub(crate) directory: PathBuf,
    pub(crate) disk: Mutex<Disk>,
    pub(crate) clock: MachineClock,
    /// The ways to the servers, by name.
    pub(crate) routes: BTreeMap<&'static str, Arc<Route>>,
}

/// Takes connections to a server of this name.
pub(crate) trait Servers: Send + Sync {
    fn accept(&self, server: &str, from: Pid, line: Line) -> io::Result<()>;
}

/// The clocks of a machine. The calendar may be wrong.
#[derive(Clone)]
pub(crate) struct MachineClock {
    start: Instant,
    off_by: Arc<AtomicI64>,
}

impl MachineClock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), off_by: Arc::default() }
    }

    pub(crate) fn set_off_by(&self, milliseconds: i64) {
        self.off_by.store(milliseconds, Ordering::Relaxed);
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).expect("a short history")
    }
}

impl Clock for MachineClock {
    fn boot(&self) -> BootInstant {
        BootInstant::from_millis(1_000_000 + self.elapsed())
    }

    fn wall(&self) -> WallTime {
        WallTime::from_millis((NOON + self.elapsed()).saturating_add_signed(self.off_by.load(Ordering::Relaxed)))
    }
}

/// One life of a replica's process.
pub(crate) struct Process {
    pub(crate) pid: Pid,
    machine: Arc<Machine>,
    servers: Arc<dyn Servers>,
    trace: Arc<Trace>,
    chance: Mutex<Chance>,
    tasks: AtomicU64,
    gate: Mutex<Gate>,
}

#[derive(Default)]
struct Gate {
    stopped: bool,
    dead: bool,
    wakers: BTreeMap<u64, Waker>,
}

impl Process {
    pub(crate) fn new(
        pid: Pid,
        machine: Arc<Machine>,
        servers: Arc<dyn Servers>,
        trace: Arc<Trace>,
        chance: Chance,
    ) -> Arc<Self> {
        trace.add(What::Started { pid });
        let (chance, tasks) = (Mutex::new(chance), AtomicU64::new(0));
        Arc::new(Self { pid, machine, servers, trace, chance, tasks, gate: Mutex::default() })
    }

    /// Ends the process between two instructions. With `power` the machine loses what it had not synced.
    pub(crate) fn kill(&self, power: bool) {
        self.change(|gate| gate.dead = true);
        let mut chance = self.chance.lock().expect("one thread");
        let (spills, gone) = self.machine.disk.lock().expect("one thread").crash(&mut chance, power);
        for attempt in gone {
            self.trace.add(What::Broken(format!("the spill of {attempt} counted, and a crash took it")));
        }
        self.trace.add(What::Killed { pid: self.pid, power, spills });
    }

    pub(crate) fn set_stopped(&self, stopped: bool) {
        self.trace.add(if stopped { What::Stopped { pid: self.pid } } else { What::Continued { pid: self.pid } });
        self.change(|gate| gate.stopped = stopped);
    }

    fn change(&self, change: impl FnOnce(&mut Gate)) {
        let mut gate = self.gate.lock().expect("one thread");
        change(&mut gate);
        let wakers = std::mem::take(&mut gate.wakers);
        drop(gate);
        wakers.into_values().for_each(Waker::wake);
    }
}

impl Host for Process {
    fn admit(&self, task: u64, waker: &Waker) -> Admission {
        let mut gate = self.gate.lock().expect("one thread");
        if gate.dead {
            return Admission::Drop;
        }
        gate.wakers.insert(task, waker.clone());
        if gate.stopped { Admission::Wait } else { Admission::Run }
    }

    fn ended(&self, task: u64) {
        self.gate.lock().expect("one thread").wakers.remove(&task);
    }

    fn next_task(&self) -> u64 {
        self.tasks.fetch_add(1, Ordering::Relaxed)
    }

    fn random(&self) -> [u8; 16] {
        let mut chance = self.chance.lock().expect("one thread");
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&chance.next().to_le_bytes());
        bytes[8..].copy_from_slice(&chance.next().to_le_bytes());
        bytes
    }

    fn dial(&self, server: &str, _port: u16) -> Dialing {
        let name = server.split('.').next().unwrap_or_default().to_owned();
        let kind = if name.starts_with("redis") { "store" } else { "bank" };
        let Some(route) = self.machine.routes.get(kind).cloned() else {
            return Box::pin(async { Err(io::ErrorKind::NotFound.into()) });
        };
        let (servers, pid) = (Arc::clone(&self.servers), self.pid);
        Box::pin(async move {
            let Some(latency) = route.knock() else { return Err(io::ErrorKind::ConnectionRefused.into()) };
            sleep(latency).await;
            while route.is_cut() {
                // The first packet is repeated until somebody answers or gives up.
                sleep(Duration::from_millis(200)).await;
            }
            let (ours, theirs) = route.connect();
            servers.accept(&name, pid, theirs)?;
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
    }

    fn disk(&self, step: DiskStep<'_>) -> io::Result<()> {
        let mut chance = locked(&self.chance);
        let mut disk = locked(&self.machine.disk);
        disk.step(step, &mut chance)?;
        if let DiskStep::DirectorySynced(_) = step {
            for attempt in disk.newly_kept() {
                self.trace.add(What::Spilled { pid: self.pid, attempt });
            }
        }
        Ok(())
    }

    fn disk_took(&self) -> Duration {
        let mut chance = self.chance.lock().expect("one thread");
        self.machine.disk.lock().expect("one thread").took(&mut chance)
    }
}

/// There is one thread, so nobody else holds it.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("one thread")
}
