//! One history: replicas, a store, two banks and apps, for some minutes with faults and some without.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use consentry::simulation::within;
use consentry::token::timing::Timing;
use tokio::time::{Instant, sleep, timeout};

use crate::bank::{Bank, Standing};
use crate::chance::Chance;
use crate::disk::Disk;
use crate::families::Family;
use crate::faults;
use crate::machine::{Machine, MachineClock, Servers};
use crate::network::{Line, Route};
use crate::redis::Redis;
use crate::replica::{PROVIDERS, Replica, Settings, call, home, import};
use crate::trace::{Event, Pid, Trace, What};

/// A protocol that is broken on purpose, or not at all.
#[derive(Clone, Copy)]
pub(crate) struct Protocol {
    pub(crate) timing: Timing,
    pub(crate) spill: bool,
    /// Whether syncing a file or a directory does anything.
    pub(crate) syncs: bool,
    pub(crate) edit: fn(&str) -> String,
}

impl Protocol {
    pub(crate) const SHIPPING: Self = Self { timing: Timing::STANDARD, spill: true, syncs: true, edit: str::to_owned };
}

pub(crate) struct World {
    pub(crate) family: Family,
    pub(crate) trace: Arc<Trace>,
    pub(crate) redis: Arc<Redis>,
    pub(crate) banks: Vec<Arc<Bank>>,
    pub(crate) replicas: Vec<Arc<Replica>>,
    faults: AtomicU64,
    calls: AtomicU64,
}

/// By replica and consent, what the last call got: the consent and the serial number in the token, or why there is none.
type Answers = BTreeMap<(usize, usize), Result<(usize, u64), String>>;

/// A history and how things stood at its end.
pub(crate) struct History {
    pub(crate) events: Vec<Event>,
    pub(crate) standings: Vec<Standing>,
    /// What each replica's last call for each consent got.
    pub(crate) last: Answers,
    pub(crate) faults: u64,
    pub(crate) calls: u64,
}

/// How long after the last fault every consent that is not lost must be served again: a lease and a quarantine, the life
/// of an access token that is waited out, a back-off, and the time to do it all.
const RECOVERY: Duration = Duration::from_secs(200);

struct Wiring {
    redis: Arc<Redis>,
    banks: Vec<Arc<Bank>>,
}

impl Servers for Wiring {
    fn accept(&self, server: &str, from: Pid, line: Line) -> io::Result<()> {
        if server == "redis" {
            let node = self.redis.reached_by(from.replica).ok_or(io::ErrorKind::ConnectionRefused)?;
            tokio::spawn(Arc::clone(&self.redis).serve(node, line, from));
            return Ok(());
        }
        let bank = self.banks.iter().find(|bank| bank.name == server).ok_or(io::ErrorKind::NotFound)?;
        tokio::spawn(Arc::clone(bank).serve(line, from));
        Ok(())
    }
}

/// Runs the history of `seed`, on a runtime of its own whose clock jumps whenever nobody has anything to do.
pub(crate) fn run(seed: u64, family: Family, protocol: Protocol) -> History {
    let home = tempfile::Builder::new().prefix("consentry-simulation").tempdir_in(memory()).expect("a directory");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(live(seed, family, protocol, home.path()))
}

/// A file system in memory where there is one, because a real sync of a real disk says nothing here.
fn memory() -> &'static Path {
    static MEMORY: OnceLock<std::path::PathBuf> = OnceLock::new();
    MEMORY.get_or_init(|| {
        let shared = Path::new("/dev/shm");
        if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() }
    })
}

async fn live(seed: u64, family: Family, protocol: Protocol, directory: &Path) -> History {
    let chance = Chance::new(seed);
    let trace = Arc::new(Trace::new());
    let required = family.required;
    let shape = (family.store_replicas, usize::try_from(required).expect("few"));
    let redis = Redis::new(family.fsync, shape, protocol.edit, chance.fork(1), Arc::clone(&trace));
    let bank = |(number, name): (u64, &&str)| {
        Bank::new(number, (*name).to_owned(), family.manners, chance.fork(10 + number), Arc::clone(&trace))
    };
    let banks: Vec<_> = (0..).zip(&PROVIDERS).map(bank).collect();
    let wiring = Wiring { redis: Arc::clone(&redis), banks: banks.clone() };
    let servers: Arc<dyn Servers> = Arc::new(wiring);
    let settings = Settings { timing: protocol.timing, spill: protocol.spill, replicas_required: required };
    let replica = |number: usize| {
        let own = chance.fork(100 + number as u64);
        let directory = directory.join(format!("r{number}"));
        std::fs::create_dir_all(&directory).expect("a directory");
        let machine = Machine {
            replica: number,
            disk: Mutex::new(Disk::new(directory.clone(), protocol.syncs)),
            directory,
            clock: MachineClock::new(),
            routes: BTreeMap::from([("store", Route::new(own.fork(1))), ("bank", Route::new(own.fork(2)))]),
        };
        Replica::new(Arc::new(machine), settings, Arc::clone(&servers), Arc::clone(&trace), own)
    };
    let replicas: Vec<_> = (0..family.replicas).map(replica).collect();
    let (faults, calls) = (AtomicU64::new(0), AtomicU64::new(0));
    let world = Arc::new(World { family, trace, redis, banks, replicas, faults, calls });
    world.begin().await;
    let raging = tokio::spawn(faults::rage(Arc::clone(&world), chance.fork(2)));
    let calling = tokio::spawn(Arc::clone(&world).call_at_random(chance.fork(3)));
    sleep(family.lasts).await;
    raging.abort();
    calling.abort();
    world.calm_down().await;
    let last = world.demand().await;
    let standing = |consent| world.bank_of(consent).standing(consent).expect("it was granted");
    History {
        standings: (0..family.consents).map(standing).collect(),
        last,
        faults: world.faults.load(Ordering::Relaxed),
        calls: world.calls.load(Ordering::Relaxed),
        events: world.trace.take(),
    }
}

impl World {
    fn bank_of(&self, consent: usize) -> &Arc<Bank> {
        self.banks.iter().find(|bank| bank.name == home(consent)).expect("both are there")
    }

    pub(crate) fn count_fault(&self) {
        self.faults.fetch_add(1, Ordering::Relaxed);
    }

    /// Starts the replicas and brings in the consents.
    async fn begin(&self) {
        self.replicas.iter().for_each(Replica::start);
        sleep(Duration::from_secs(1)).await;
        let (process, tokens) = self.replicas[0].running().expect("nothing has happened yet");
        for consent in 0..self.family.consents {
            let (refresh, access) = self.bank_of(consent).grant(consent);
            let (tokens, life) = (tokens.clone(), self.family.manners.life);
            within(process.clone(), async move { import(&tokens, consent, &refresh, &access, life).await }).await;
        }
    }

    /// Apps call for consents, now and then at the wrong bank.
    async fn call_at_random(self: Arc<Self>, mut chance: Chance) {
        loop {
            sleep(chance.millis(20..1_400)).await;
            let (consent, replica) = (chance.below(self.family.consents), chance.below(self.replicas.len()));
            let wait = chance.millis(500..20_000);
            let wrong = chance.happens(30);
            let at = if wrong { home(consent + 1) } else { home(consent) };
            let Some((process, tokens)) = self.replicas[replica].running() else { continue };
            let world = Arc::clone(&self);
            tokio::spawn(within(process.clone(), async move {
                let outcome = call(&tokens, consent, at, wait).await;
                world.judge_call(process.pid, consent, wrong, &outcome);
            }));
        }
    }

    /// What an app holds in its hands must be its own consent's, from its own bank, and alive.
    fn judge_call(&self, by: Pid, consent: usize, wrong: bool, outcome: &Result<(usize, u64), String>) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match outcome {
            Ok((of, serial)) => {
                if *of != consent || wrong {
                    self.trace.add(What::Broken(format!(
                        "{by:?} serves a token of consent {of} for {consent}, wrong bank: {wrong}"
                    )));
                }
                let Some(left) = self.bank_of(*of).life_left(*of, *serial) else {
                    let text = format!("{by:?} serves token {serial} of consent {of}, which was never issued");
                    return self.trace.add(What::Broken(text));
                };
                self.trace.add(What::Served { by, consent, serial: *serial, left });
            }
            Err(why) => self.trace.add(What::Denied { by, consent, why: why.clone() }),
        }
    }

    /// Ends every fault and lets everything start again.
    async fn calm_down(self: &Arc<Self>) {
        faults::end(self);
        // What was under way ends by itself: processes that are down or stand still, a store on its way back.
        sleep(Duration::from_secs(25)).await;
        while !self.redis.is_primary_up() {
            sleep(Duration::from_secs(1)).await;
        }
        self.redis.rejoin();
        for replica in &self.replicas {
            if let Some(process) = replica.process() {
                process.set_stopped(false);
            }
        }
    }

    /// Calls for every consent on every replica until all is well or the time for recovery is over, and says what the
    /// last calls got.
    async fn demand(self: &Arc<Self>) -> Answers {
        let until = Instant::now() + RECOVERY;
        let mut last = BTreeMap::new();
        let newest = |consent| self.bank_of(consent).standing(consent).expect("it was granted");
        let before: Vec<_> = (0..self.family.consents).map(newest).collect();
        // All is well when a consent was refreshed since and is served, or is lost and everybody says so.
        let well = |last: &Answers| {
            last.iter().all(|((_, consent), outcome)| match outcome {
                Ok(_) => newest(*consent).newest > before[*consent].newest,
                Err(why) => !newest(*consent).alive && why == "ReauthorizationRequired",
            })
        };
        while Instant::now() < until && (last.is_empty() || !well(&last)) {
            for (number, replica) in self.replicas.iter().enumerate() {
                for consent in 0..self.family.consents {
                    let Some((process, tokens)) = replica.running() else {
                        last.insert((number, consent), Err("the replica does not run".to_owned()));
                        continue;
                    };
                    let (world, pid) = (Arc::clone(self), process.pid);
                    let asking = tokio::spawn(within(process, async move {
                        let outcome = call(&tokens, consent, home(consent), Duration::from_secs(10)).await;
                        world.judge_call(pid, consent, false, &outcome);
                        outcome
                    }));
                    let outcome = timeout(Duration::from_secs(30), asking).await;
                    let outcome =
                        outcome.map_or_else(|_| Err("no answer at all".to_owned()), |done| done.expect("no panic"));
                    last.insert((number, consent), outcome);
                }
            }
            sleep(Duration::from_secs(8)).await;
        }
        last
    }
}
