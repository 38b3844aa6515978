//! What a disk keeps when its machine loses power, or its process is killed half-way.
//!
//! The program's files are real files in a directory of the replica's own. The program tells of every step it takes
//! (written, synced, renamed, directory synced, removed), and those steps are thought of as spread over the time that the
//! simulation then lets pass. A crash in that time takes back the later ones; a loss of power takes back, besides, what
//! was not synced, or not: of each file's unsynced content a part may be there, and of each unsynced name either state.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use consentry::simulation::DiskStep;
use tokio::time::Instant;

use crate::chance::Chance;

/// A replica's disk.
#[derive(Debug)]
pub(crate) struct Disk {
    directory: PathBuf,
    /// Whether it does as it is told when it is told to sync.
    syncs: bool,
    state: State,
    /// The states before each step that is still under way, with the time by which all of its sequence is done.
    under_way: Vec<(Option<Instant>, State)>,
    next_file: u64,
    kept: BTreeSet<String>,
    /// How often a step fails, per mille.
    pub(crate) failing: u64,
}

#[derive(Clone, Debug, Default)]
struct State {
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    written: BTreeMap<u64, Vec<u8>>,
    synced: BTreeMap<u64, Vec<u8>>,
}

impl Disk {
    pub(crate) fn new(directory: PathBuf, syncs: bool) -> Self {
        let (state, kept) = (State::default(), BTreeSet::new());
        Self { directory, syncs, state, under_way: Vec::new(), next_file: 0, kept, failing: 0 }
    }

    /// Takes note of a step, or refuses it.
    pub(crate) fn step(&mut self, step: DiskStep<'_>, chance: &mut Chance) -> io::Result<()> {
        self.under_way.retain(|(done, _)| done.is_none_or(|done| done > Instant::now()));
        self.under_way.push((None, self.state.clone()));
        let state = &mut self.state;
        match step {
            DiskStep::Written(path) => {
                if chance.happens(self.failing) {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                self.next_file += 1;
                state.names.insert(name(path), self.next_file);
                state.written.insert(self.next_file, fs::read(path)?);
            }
            DiskStep::Synced(_) | DiskStep::DirectorySynced(_) if !self.syncs => {}
            DiskStep::Synced(path) => {
                if let Some(file) = state.names.get(&name(path)) {
                    let content = state.written.get(file).cloned().unwrap_or_default();
                    state.synced.insert(*file, content);
                }
            }
            DiskStep::Renamed(from, to) => {
                if let Some(file) = state.names.remove(&name(from)) {
                    state.names.insert(name(to), file);
                }
            }
            DiskStep::DirectorySynced(_) => {
                // A start finishes what a dead writer left, without telling: what is there counts from here on.
                self.notice_strangers()?;
                self.state.durable_names = self.state.names.clone();
            }
            DiskStep::Removed(path) => {
                state.names.remove(&name(path));
            }
        }
        Ok(())
    }

    fn notice_strangers(&mut self) -> io::Result<()> {
        let present = files(&self.directory)?;
        self.state.names.retain(|name, _| present.contains_key(name));
        for (name, content) in present {
            if !self.state.names.contains_key(&name) {
                self.next_file += 1;
                self.state.names.insert(name, self.next_file);
                self.state.written.insert(self.next_file, content.clone());
                self.state.synced.insert(self.next_file, content);
            }
        }
        Ok(())
    }

    /// The attempts whose spills have come to be kept since this was asked last.
    pub(crate) fn newly_kept(&mut self) -> Vec<String> {
        let now = attempts(&self.state.durable_names, &self.state.synced);
        let new = now.difference(&self.kept).cloned().collect();
        self.kept = now;
        new
    }

    /// How long the steps told since the last call take. They are done when that time has passed.
    pub(crate) fn took(&mut self, chance: &mut Chance) -> Duration {
        let slow = chance.happens(20);
        let took = if slow { chance.millis(20..800) } else { chance.micros(200..6_000) };
        let done = Instant::now() + took;
        self.under_way.iter_mut().filter(|(until, _)| until.is_none()).for_each(|(until, _)| *until = Some(done));
        took
    }

    /// The process dies now. Says of which attempts the spills are left, and which spills that counted are not.
    pub(crate) fn crash(&mut self, chance: &mut Chance, power: bool) -> (Vec<String>, Vec<String>) {
        self.under_way.retain(|(done, _)| done.is_none_or(|done| done > Instant::now()));
        let whole = self.under_way.first().map_or(&self.state, |(_, state)| state);
        let counted = attempts(&whole.names, &whole.written);
        let removed_since = |attempt: &&String| attempts(&self.state.names, &self.state.written).contains(*attempt);
        let counted: Vec<_> = counted.iter().filter(removed_since).cloned().collect();
        let cut = chance.below(self.under_way.len() + 1);
        if let Some((_, state)) = self.under_way.drain(..).nth(cut) {
            self.state = state;
        }
        if power {
            self.lose_power(chance);
        }
        let left: BTreeMap<_, _> = self
            .state
            .names
            .iter()
            .map(|(name, file)| (name.clone(), self.state.written.get(file).cloned().unwrap_or_default()))
            .collect();
        write_back(&self.directory, &left).expect("the simulation's own directory is writable");
        self.kept = attempts(&self.state.names, &self.state.written);
        let gone = counted.into_iter().filter(|attempt| !self.kept.contains(attempt)).collect();
        (self.kept.iter().cloned().collect(), gone)
    }

    fn lose_power(&mut self, chance: &mut Chance) {
        let state = &mut self.state;
        let mut names = BTreeMap::new();
        let either: BTreeSet<_> = state.names.keys().chain(state.durable_names.keys()).cloned().collect();
        for name in either {
            let (new, old) = (state.names.get(&name), state.durable_names.get(&name));
            let left = if new == old || chance.happens(500) { new } else { old };
            if let Some(file) = left {
                names.insert(name, *file);
            }
        }
        for file in names.values() {
            if !state.synced.contains_key(file) {
                let content = state.written.get(file).cloned().unwrap_or_default();
                let part = match chance.below(3) {
                    0 => 0,
                    1 => content.len(),
                    _ => chance.below(content.len()),
                };
                state.synced.insert(*file, content[..part].to_vec());
            }
        }
        state.names = names.clone();
        state.durable_names = names;
        state.written = state.synced.clone();
    }
}

/// The attempts whose token sets are in whole spills of these names.
fn attempts(names: &BTreeMap<String, u64>, contents: &BTreeMap<u64, Vec<u8>>) -> BTreeSet<String> {
    let attempt = |file: &u64| {
        let json: serde_json::Value = serde_json::from_slice(contents.get(file)?).ok()?;
        json.get("tokens")?;
        Some(json.get("attempt")?.as_str()?.to_owned())
    };
    names.values().filter_map(attempt).collect()
}

fn name(path: &Path) -> String {
    path.file_name().and_then(|name| name.to_str()).expect("the program's own names").to_owned()
}

const LOCK: &str = "lock";

fn files(directory: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if name(&path) != LOCK {
            found.insert(name(&path), fs::read(&path)?);
        }
    }
    Ok(found)
}

fn write_back(directory: &Path, left: &BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    for (name, content) in files(directory)? {
        if left.get(&name) != Some(&content) {
            fs::remove_file(directory.join(&name))?;
        }
    }
    for (name, content) in left {
        fs::write(directory.join(name), content)?;
    }
    Ok(())
}
