//! One server: its data, what of it is on its disk, and what its replicas have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::lua::{Data, Entry, Script};
use super::resp::Reply;
use crate::trace::Stored;

/// What a server is to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Primary,
    Replica,
    /// A primary that does not know yet that another was promoted.
    Stale,
}

/// What one step did to one key.
#[derive(Clone, Debug)]
pub(crate) struct Effect {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Entry>,
    pub(crate) acknowledged: bool,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) role: Role,
    pub(crate) up: bool,
    /// Whether replication reaches it.
    pub(crate) linked: bool,
    pub(crate) data: Data,
    /// The effects after `base`, which is what it began with.
    pub(crate) log: Vec<Effect>,
    pub(crate) base: u64,
    disk: Data,
    pub(crate) synced: u64,
    /// What was loaded, by the digest it is called by.
    pub(crate) scripts: BTreeMap<String, Arc<Script>>,
    pub(crate) subscribers: Vec<(Vec<u8>, mpsc::UnboundedSender<Reply>)>,
    /// Changes when the process does.
    pub(crate) run: watch::Sender<u64>,
    pub(crate) history: u64,
    /// How far its clock is off, in microseconds.
    pub(crate) skew: i64,
}

/// A key of which a server came back with less.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) key: Vec<u8>,
    pub(crate) had: Option<Entry>,
    pub(crate) has: Option<Entry>,
    pub(crate) acknowledged: bool,
}

impl Node {
    pub(crate) fn new(role: Role, skew: i64) -> Self {
        Self {
            role,
            up: true,
            linked: true,
            data: Data::new(),
            log: Vec::new(),
            base: 0,
            disk: Data::new(),
            synced: 0,
            scripts: BTreeMap::new(),
            subscribers: Vec::new(),
            run: watch::Sender::new(0),
            history: 0,
            skew,
        }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.base + self.log.len() as u64
    }

    /// Takes note of what a step did to a key.
    pub(crate) fn record(&mut self, key: Vec<u8>) {
        let value = self.data.get(&key).cloned();
        self.log.push(Effect { key, value, acknowledged: false });
    }

    pub(crate) fn effects_after(&self, offset: u64) -> &[Effect] {
        let from = usize::try_from(offset.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.log.get(from..).unwrap_or_default()
    }

    pub(crate) fn acknowledge(&mut self, offset: u64) {
        let Some(index) = offset.checked_sub(self.base + 1) else { return };
        if let Some(effect) = self.log.get_mut(usize::try_from(index).unwrap_or(usize::MAX)) {
            effect.acknowledged = true;
        }
    }

    /// What replication brought.
    pub(crate) fn apply(&mut self, effects: &[Effect]) {
        for effect in effects {
            put(&mut self.data, effect);
            self.log.push(effect.clone());
        }
    }

    pub(crate) fn sync_to(&mut self, offset: u64) {
        if offset > self.synced {
            let until = usize::try_from(offset - self.base).unwrap_or(usize::MAX).min(self.log.len());
            let from = usize::try_from(self.synced.saturating_sub(self.base)).unwrap_or_default();
            self.log[from..until].iter().for_each(|effect| put(&mut self.disk, effect));
            self.synced = offset;
        }
    }

    /// The process dies; every connection breaks.
    pub(crate) fn crash(&mut self) {
        self.up = false;
        self.subscribers.clear();
        self.scripts.clear();
        self.run.send_modify(|run| *run += 1);
    }

    /// The process starts with what is on the disk. Says what is gone.
    pub(crate) fn start_from_disk(&mut self) -> Vec<Lost> {
        let lost = self.lost_against(self.synced, &self.disk.clone());
        let (disk, synced) = (self.disk.clone(), self.synced);
        self.become_copy(disk, synced);
        self.up = true;
        lost
    }

    /// What this server held and `other`, which has everything up to `offset`, does not.
    pub(crate) fn lost_against(&self, offset: u64, other: &Data) -> Vec<Lost> {
        let effects = self.effects_after(offset);
        let keys: BTreeSet<_> = effects.iter().map(|effect| effect.key.clone()).collect();
        let lost = |key: Vec<u8>| Lost {
            had: self.data.get(&key).cloned(),
            has: other.get(&key).cloned(),
            acknowledged: effects.iter().any(|effect| effect.key == key && effect.acknowledged),
            key,
        };
        keys.into_iter().map(lost).collect()
    }

    pub(crate) fn become_copy(&mut self, data: Data, offset: u64) {
        self.disk.clone_from(&data);
        self.data = data;
        self.log.clear();
        self.base = offset;
        self.synced = offset;
    }
}

fn put(data: &mut Data, effect: &Effect) {
    match &effect.value {
        Some(value) => data.insert(effect.key.clone(), value.clone()),
        None => data.remove(&effect.key),
    };
}

/// The consent that a key belongs to.
pub(crate) fn consent_of(key: &[u8]) -> Option<usize> {
    let key = std::str::from_utf8(key).ok()?;
    key.strip_prefix("consentry:c:{c")?.strip_suffix('}')?.parse().ok()
}

/// What the oracle wants to know of a record.
pub(crate) fn stored(entry: &Entry) -> Stored {
    let Entry::Hash(hash) = entry else { return Stored::default() };
    let text = |field: &str| hash.get(field.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned());
    let number = |field: &str| text(field).and_then(|text| text.parse().ok()).unwrap_or_default();
    Stored {
        generation: number("gen"),
        state: text("st").unwrap_or_default(),
        sends: number("it_n"),
        intent: text("it_id"),
        committed_by: text("lc"),
    }
}
