//! What befalls the world, drawn from the seed.
//!
//! A fault that takes a replica away (killed, cut off, standing still) lasts at most 15 seconds, and the same replica has
//! 45 seconds of peace after it: that a process with an answer is not away for as long as lease and quarantine is an
//! assumption of the protocol. The long stops break it on purpose.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::bank::Manners;
use crate::chance::Chance;
use crate::network::Rates;
use crate::replica::Replica;
use crate::trace::What;
use crate::world::World;

const LONGEST_AWAY: u64 = 15_000;
const PEACE: Duration = Duration::from_secs(45);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    Power,
    Stop,
    LongStop,
    CutFromStore,
    CutFromBanks,
    ResetStore,
    ResetBanks,
    Calendar,
    DiskFull,
    StoreRestart,
    StoreFailover,
    StoreLink,
    BankClosed,
}

/// Lets faults happen until it is dropped.
pub(crate) async fn rage(world: Arc<World>, mut chance: Chance) {
    let faults = world.family.faults;
    let rates = Rates::all(faults.network);
    world.replicas.iter().flat_map(|replica| replica.machine.routes.values()).for_each(|route| route.set_rates(rates));
    let possible: Vec<_> = [
        (faults.kills, Fault::Kill),
        (faults.power, Fault::Power),
        (faults.stops, Fault::Stop),
        (faults.long_stops, Fault::LongStop),
        (faults.cuts, Fault::CutFromStore),
        (faults.cuts, Fault::CutFromBanks),
        (faults.network > 0, Fault::ResetStore),
        (faults.network > 0, Fault::ResetBanks),
        (faults.calendars, Fault::Calendar),
        (faults.disks, Fault::DiskFull),
        (faults.restarts, Fault::StoreRestart),
        (faults.failovers, Fault::StoreFailover),
        (world.family.store_replicas > 0, Fault::StoreLink),
        (faults.outages, Fault::BankClosed),
    ]
    .into_iter()
    .filter_map(|(possible, fault)| possible.then_some(fault))
    .collect();
    if possible.is_empty() {
        return std::future::pending().await;
    }
    let mut at_peace_from = vec![Instant::now(); world.replicas.len()];
    let mut store_at_peace_from = Instant::now();
    loop {
        sleep(chance.millis(300..7_000)).await;
        let fault = possible[chance.below(possible.len())];
        let which = chance.below(world.replicas.len());
        let replica = &world.replicas[which];
        let away =
            Duration::from_millis(1 + chance.among(0..LONGEST_AWAY) * chance.among(0..LONGEST_AWAY) / LONGEST_AWAY);
        let takes_away = match fault {
            Fault::Kill | Fault::Power | Fault::Stop | Fault::LongStop | Fault::CutFromStore | Fault::CutFromBanks => {
                true
            }
            Fault::ResetStore
            | Fault::ResetBanks
            | Fault::Calendar
            | Fault::DiskFull
            | Fault::StoreRestart
            | Fault::StoreFailover
            | Fault::StoreLink
            | Fault::BankClosed => false,
        };
        if takes_away && at_peace_from[which] > Instant::now() {
            continue;
        }
        let of_store = matches!(fault, Fault::StoreRestart | Fault::StoreFailover | Fault::StoreLink);
        if of_store && store_at_peace_from > Instant::now() {
            continue;
        }
        let ends = befall(&world, fault, replica, away, &mut chance);
        if takes_away {
            at_peace_from[which] = ends + PEACE;
        }
        if of_store {
            store_at_peace_from = ends + Duration::from_secs(25);
        }
    }
}

/// Lets a fault happen, and says when it is over.
fn befall(world: &Arc<World>, fault: Fault, replica: &Arc<Replica>, away: Duration, chance: &mut Chance) -> Instant {
    let now = Instant::now();
    let later = |after: Duration, work: Box<dyn FnOnce() + Send>| {
        tokio::spawn(async move {
            sleep(after).await;
            work();
        });
        now + after
    };
    world.count_fault();
    match fault {
        Fault::Kill | Fault::Power => {
            tokio::spawn(Arc::clone(replica).bounce(fault == Fault::Power, away));
            now + away
        }
        Fault::Stop | Fault::LongStop => {
            let away = if fault == Fault::LongStop { chance.millis(20_000..150_000) } else { away };
            let Some(process) = replica.process() else { return now };
            process.set_stopped(true);
            later(away, Box::new(move || process.set_stopped(false)))
        }
        Fault::CutFromStore | Fault::CutFromBanks => {
            let from = if fault == Fault::CutFromStore { "store" } else { "bank" };
            let (route, world) = (Arc::clone(&replica.machine.routes[from]), Arc::clone(world));
            let replica = replica.machine.replica;
            world.trace.add(What::Cut { replica, from });
            route.set_cut(true);
            later(
                away,
                Box::new(move || {
                    world.trace.add(What::Healed { replica, from });
                    route.set_cut(false);
                }),
            )
        }
        Fault::ResetStore | Fault::ResetBanks => {
            let from = if fault == Fault::ResetStore { "store" } else { "bank" };
            world.trace.add(What::Machine(format!("r{}: connections to the {from} break", replica.machine.replica)));
            replica.machine.routes[from].reset_all();
            now
        }
        Fault::Calendar => {
            let off_by = [-3_600_000, 0, 3_600_000][chance.below(3)];
            world.trace.add(What::Machine(format!("r{}: calendar off by {off_by} ms", replica.machine.replica)));
            replica.machine.clock.set_off_by(off_by);
            now
        }
        Fault::DiskFull => {
            world.trace.add(What::DiskFull { replica: replica.machine.replica });
            replica.machine.disk.lock().expect("one thread").failing = 800;
            let replica = Arc::clone(replica);
            later(away * 3, Box::new(move || replica.machine.disk.lock().expect("one thread").failing = 0))
        }
        Fault::StoreRestart => {
            world.redis.crash_primary();
            let world = Arc::clone(world);
            // Nobody reaches it meanwhile, so it may take longer than any lease.
            later(away * 4, Box::new(move || world.redis.restart_primary()))
        }
        Fault::StoreFailover => fail_over(world, away, chance),
        Fault::StoreLink => {
            let which = chance.below(world.family.store_replicas);
            world.redis.set_linked(which, false);
            let world = Arc::clone(world);
            later(away, Box::new(move || world.redis.set_linked(which, true)))
        }
        Fault::BankClosed => {
            let bank = Arc::clone(&world.banks[chance.below(world.banks.len())]);
            world.trace.add(What::Machine(format!("{} is closed", bank.name)));
            bank.set_closed(true);
            later(away * 8, Box::new(move || bank.set_closed(false)))
        }
    }
}

/// A primary dies and a replica takes its place some seconds later, or it is replaced behind its back.
fn fail_over(world: &Arc<World>, away: Duration, chance: &mut Chance) -> Instant {
    let misled = chance.happens(400).then(|| chance.below(world.replicas.len()));
    let wrongly = world.family.faults.wrongly && chance.happens(700);
    let election = chance.millis(500..8_000);
    let world = Arc::clone(world);
    if misled.is_none() {
        world.redis.crash_primary();
    }
    tokio::spawn(async move {
        sleep(election).await;
        world.redis.fail_over(wrongly, misled);
        sleep(away).await;
        world.redis.rejoin();
    });
    Instant::now() + election + away
}

/// Ends every fault, for good.
pub(crate) fn end(world: &Arc<World>) {
    world.trace.add(What::Calm);
    for replica in &world.replicas {
        for route in replica.machine.routes.values() {
            route.set_rates(Rates::default());
            route.set_cut(false);
        }
        replica.machine.clock.set_off_by(0);
        replica.machine.disk.lock().expect("one thread").failing = 0;
    }
    for bank in &world.banks {
        bank.set_closed(false);
        bank.set_manners(Manners { grace: world.family.manners.grace, ..Manners::good(world.family.manners.life) });
    }
}
