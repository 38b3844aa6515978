//! What the embedded store writes: one table from a record's short name to its fields, one of the lines of their
//! histories, and one number.
//!
//! A record is stored as the fields of the hash that Redis would hold, each name and value with its length before it.
//! Beside them stands the time of the last writing, from which a calendar that jumped back is recognised.

use std::fs::OpenOptions;
use std::ops::{Bound, Range};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase as _, ReadableTable as _, Table, TableDefinition,
};

use super::EmbeddedError;
use crate::store::attempt::AttemptRecord;
use crate::store::contract::{Event, MOST_EVENTS, RecordState, StoreError};
use crate::store::keys;
use crate::store::provider::ProviderRecord;
use crate::store::record::{Record, TOMBSTONE};
use crate::store::steps;
use crate::words::clock::millis;
use crate::words::ids::{ProviderId, StateDigest, TokenKey, Version};

const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");
/// Lines by the record's short name and their number, which grows.
const EVENTS: TableDefinition<'_, (&str, u64), &str> = TableDefinition::new("events");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
const WRITTEN_AT: &str = "written_at";
const CACHE_BYTES: usize = 16 << 20;

#[derive(Debug)]
pub(super) struct RecordFile {
    database: Database,
}

/// What the file's format or the disk said.
pub(super) struct FileError(pub(super) String);

impl<E: Into<redb::Error>> From<E> for FileError {
    fn from(error: E) -> Self {
        Self(error.into().to_string())
    }
}

impl From<FileError> for StoreError {
    fn from(error: FileError) -> Self {
        Self::Unavailable(format!("the embedded store's file: {}", error.0))
    }
}

/// A record by its name: `None` where its time is over.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) record: Result<Option<Record>, StoreError>,
}

/// What is told of a record's past together with a change.
#[derive(Default)]
pub(super) struct Happened<'a> {
    events: &'a [Event],
    /// Whether the past before it is forgotten.
    anew: bool,
}

impl RecordFile {
    pub(super) fn open(path: &Path) -> Result<Self, EmbeddedError> {
        let unusable = |why: String| EmbeddedError::Unusable { path: path.to_owned(), why };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| unusable(error.kind().to_string()))?;
        let open = |file| Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(FileBackend::new(file)?);
        match open(file) {
            Ok(database) => Ok(Self { database }),
            Err(DatabaseError::DatabaseAlreadyOpen) => Err(EmbeddedError::InUse(path.to_owned())),
            Err(error) => Err(unusable(error.to_string())),
        }
    }

    /// Shifts all records by as much as the calendar jumped back behind the last writing: what was to end in ten
    /// seconds then ends ten seconds from `now`. How much of an access token's life passed meanwhile cannot be known,
    /// so none counts as left.
    pub(super) fn rebase(&self, now: u64) -> Result<(), FileError> {
        let transaction = self.database.begin_write()?;
        {
            let mut records = transaction.open_table(RECORDS)?;
            transaction.open_table(EVENTS)?;
            let mut numbers = transaction.open_table(NUMBERS)?;
            let written_at = numbers.get(WRITTEN_AT)?.map_or(0, |number| number.value());
            let back = written_at.saturating_sub(now);
            let mut shifted = Vec::new();
            if back > 0 {
                for entry in records.iter()? {
                    let (name, value) = entry?;
                    let record = unpack(value.value()).and_then(|fields| Record::from_fields(&fields).ok());
                    if let Some(mut record) = record {
                        shift(&mut record, back);
                        shifted.push((name.value().to_owned(), pack(record.to_fields())));
                    }
                }
            }
            for (name, value) in shifted {
                records.insert(name.as_str(), value.as_slice())?;
            }
            numbers.insert(WRITTEN_AT, now)?;
        }
        transaction.commit()?;
        Ok(())
    }

    pub(super) fn read(&self, key: &TokenKey, now: u64) -> Result<Option<Record>, StoreError> {
        let stored = self.load(&keys::short_name(key))?;
        Ok(understand(key, stored.as_deref())?.filter(|record| !is_past(record, now)))
    }

    pub(super) fn load(&self, name: &str) -> Result<Option<Vec<u8>>, FileError> {
        let records = self.database.begin_read()?.open_table(RECORDS)?;
        Ok(records.get(name)?.map(|value| value.value().to_vec()))
    }

    /// The records of consents after the one of this name, in the order of their names: so many at most, with whether there
    /// may be more.
    pub(super) fn consents_after(&self, after: &str, count: usize, now: u64) -> Result<(Vec<Named>, bool), FileError> {
        let records = self.database.begin_read()?.open_table(RECORDS)?;
        let mut consents = Vec::new();
        let mut is_more = false;
        for entry in records.range::<&str>((Bound::Excluded(after), Bound::Excluded("c;")))?.take(count + 1) {
            let (name, value) = entry?;
            if consents.len() == count {
                is_more = true;
                break;
            }
            consents.push((name.value().to_owned(), value.value().to_vec()));
        }
        let named = consents.into_iter().map(|(name, stored)| {
            let record = match keys::parse_short_name(&name) {
                Some(key) => {
                    understand(&key, Some(&stored)).map(|record| record.filter(|record| !is_past(record, now)))
                }
                None => Ok(None),
            };
            Named { name, record }
        });
        Ok((named.collect(), is_more))
    }

    /// What is told of the record's past, oldest first. A line that cannot be understood is passed over.
    pub(super) fn history(&self, key: &TokenKey, now: u64) -> Result<Vec<Event>, StoreError> {
        let name = keys::short_name(key);
        let record = self.load(&name)?.and_then(|stored| Record::from_fields(&unpack(&stored)?).ok());
        if record.is_some_and(|record| is_past(&record, now)) {
            return Ok(Vec::new());
        }
        Ok(self.lines(&name)?.iter().filter_map(|line| Event::parse(line)).collect())
    }

    fn lines(&self, name: &str) -> Result<Vec<String>, FileError> {
        let events = self.database.begin_read()?.open_table(EVENTS)?;
        let mut lines = Vec::new();
        for entry in events.range((name, 0)..=(name, u64::MAX))? {
            lines.push(entry?.1.value().to_owned());
        }
        Ok(lines)
    }

    /// Runs `step` on the record and writes what became of it, and the events it tells of, synced. Tells the version if
    /// others have to hear of it.
    pub(super) fn change<T>(
        &self,
        key: &TokenKey,
        now: u64,
        step: impl FnOnce(&mut Option<Record>) -> (T, Vec<Event>),
    ) -> Result<(T, Option<Version>), StoreError> {
        let name = keys::short_name(key);
        let stored = self.load(&name)?;
        let before = understand(key, stored.as_deref())?;
        let mut slot = before.clone().filter(|record| !is_past(record, now));
        let (outcome, mut events) = step(&mut slot);
        if matches!(key, TokenKey::Client(_)) {
            events.clear();
        }
        if slot != before || !events.is_empty() {
            let anew = before.as_ref().is_some_and(|record| is_past(record, now));
            let packed = slot.as_ref().map(|record| pack(record.to_fields()));
            let happened = Happened { events: &events, anew };
            self.write(&name, packed.as_deref(), now, &happened, Durability::Immediate)?;
        }
        let told = slot.filter(|after| steps::is_told(before.as_ref(), after));
        Ok((outcome, told.map(|after| after.version)))
    }

    /// Runs `step` on a provider's record and writes what became of it. What a restart may forget is not synced.
    pub(super) fn change_provider<T>(
        &self,
        provider: &ProviderId,
        now: u64,
        step: impl FnOnce(&mut ProviderRecord) -> T,
    ) -> Result<T, StoreError> {
        let name = keys::provider_name(provider);
        let unreadable =
            |what: &str| StoreError::Unreadable(format!("{what} of a provider's record is not what it has to be"));
        let stored = self.load(&name)?.unwrap_or_default();
        let fields = unpack(&stored).ok_or_else(|| unreadable("the framing"))?;
        let before = ProviderRecord::from_fields(&fields).map_err(|bad| unreadable(&format!("the field {}", bad.0)))?;
        let mut record = before.clone();
        let outcome = step(&mut record);
        if record != before {
            let lasting = record.differs_for_good(&before);
            let durability = if lasting { Durability::Immediate } else { Durability::None };
            self.write(&name, Some(&pack(record.to_fields())), now, &Happened::default(), durability)?;
        }
        Ok(outcome)
    }

    /// An attempt, unless its time is over.
    pub(super) fn attempt(&self, state: &StateDigest, now: u64) -> Result<Option<AttemptRecord>, StoreError> {
        let stored = self.load(&keys::attempt_name(state))?;
        Ok(understand_attempt(stored.as_deref())?.filter(|record| !record.is_past(now)))
    }

    /// Runs `step` on an attempt and writes what became of it, synced.
    pub(super) fn change_attempt<T>(
        &self,
        state: &StateDigest,
        now: u64,
        step: impl FnOnce(&mut Option<AttemptRecord>) -> T,
    ) -> Result<T, StoreError> {
        let before = self.attempt(state, now)?;
        let mut slot = before.clone();
        let outcome = step(&mut slot);
        if slot != before {
            let packed = slot.as_ref().map(|record| pack(record.to_fields()));
            let name = keys::attempt_name(state);
            self.write(&name, packed.as_deref(), now, &Happened::default(), Durability::Immediate)?;
        }
        Ok(outcome)
    }

    /// Removes the attempts whose time is over.
    pub(super) fn forget_attempts(&self, now: u64) -> Result<(), FileError> {
        let past = |stored: &[u8]| understand_attempt(Some(stored)).ok().flatten().is_some_and(|it| it.is_past(now));
        self.forget("a:".."a;", now, past)
    }

    /// Removes the records of these names that are past.
    pub(super) fn forget(&self, names: Range<&str>, now: u64, past: impl Fn(&[u8]) -> bool) -> Result<(), FileError> {
        let found = || {
            let records = self.database.begin_read()?.open_table(RECORDS)?;
            let mut found = Vec::new();
            for entry in records.range(names)? {
                let (name, value) = entry?;
                if past(value.value()) {
                    found.push(name.value().to_owned());
                }
            }
            Ok::<_, FileError>(found)
        };
        for name in found()? {
            self.write(&name, None, now, &Happened::default(), Durability::None)?;
        }
        Ok(())
    }

    pub(super) fn write(
        &self,
        name: &str,
        record: Option<&[u8]>,
        now: u64,
        happened: &Happened<'_>,
        durability: Durability,
    ) -> Result<(), FileError> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(durability)?;
        {
            let mut records = transaction.open_table(RECORDS)?;
            match record {
                Some(record) => drop(records.insert(name, record)?),
                None => drop(records.remove(name)?),
            }
            let mut lines = transaction.open_table(EVENTS)?;
            if happened.anew {
                lines.retain_in((name, 0)..=(name, u64::MAX), |_, _| false)?;
            }
            for event in happened.events {
                append(&mut lines, name, event)?;
            }
            let mut numbers = transaction.open_table(NUMBERS)?;
            numbers.insert(WRITTEN_AT, now)?;
        }
        transaction.commit()?;
        Ok(())
    }
}

/// Writes one line more, unless the last one says the same, and forgets the oldest.
fn append(lines: &mut Table<'_, (&str, u64), &str>, name: &str, event: &Event) -> Result<(), FileError> {
    let last = lines.range((name, 0)..=(name, u64::MAX))?.next_back().transpose()?;
    let last = last.map(|(key, line)| (key.value().1, line.value().to_owned()));
    let said = last.as_ref().and_then(|(_, line)| line.split_once(' ')).map(|(_, rest)| rest);
    if said == Some(event.without_time().as_str()) {
        return Ok(());
    }
    let number = last.map_or(0, |(number, _)| number + 1);
    lines.insert((name, number), event.to_line().as_str())?;
    let oldest = (number + 1).saturating_sub(MOST_EVENTS as u64);
    lines.retain_in((name, 0)..(name, oldest), |_, _| false)?;
    Ok(())
}

/// A tombstone that has stood long enough counts as absent, and so does a consent that was pending long enough. It goes
/// when its name is next written.
fn is_past(record: &Record, now: u64) -> bool {
    let forgotten = record.is_tombstone() && record.ended_at.saturating_add(millis(TOMBSTONE)) <= now;
    forgotten || record.state == RecordState::Pending && record.pending_until <= now
}

fn shift(record: &mut Record, back: u64) {
    record.access_from = 0;
    record.access_until = 0;
    let times = [
        &mut record.lease_until,
        &mut record.quarantine_from,
        &mut record.not_before,
        &mut record.ended_at,
        &mut record.pending_until,
    ];
    for time in
        times.into_iter().chain(record.intent.as_mut().map(|intent| &mut intent.at)).chain(&mut record.forced_at)
    {
        *time = time.saturating_sub(back);
    }
}

fn understand(key: &TokenKey, stored: Option<&[u8]>) -> Result<Option<Record>, StoreError> {
    let Some(stored) = stored else { return Ok(None) };
    let unreadable =
        |what: &str| StoreError::Unreadable(format!("{what} of a {} record is not what it has to be", keys::kind(key)));
    let fields = unpack(stored).ok_or_else(|| unreadable("the framing"))?;
    Record::from_fields(&fields).map(Some).map_err(|bad| unreadable(&format!("the field {}", bad.0)))
}

fn understand_attempt(stored: Option<&[u8]>) -> Result<Option<AttemptRecord>, StoreError> {
    let Some(stored) = stored else { return Ok(None) };
    let unreadable = |what: &str| StoreError::Unreadable(format!("{what} of an attempt is not what it has to be"));
    let fields = unpack(stored).ok_or_else(|| unreadable("the framing"))?;
    AttemptRecord::from_fields(&fields).map(Some).map_err(|bad| unreadable(&format!("the field {}", bad.0)))
}

pub(super) fn pack(fields: Vec<(impl AsRef<str>, Vec<u8>)>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1_024);
    for (name, value) in fields {
        for part in [name.as_ref().as_bytes(), &value] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
    }
    bytes
}

/// Names and values.
pub(super) type Fields = Vec<(Vec<u8>, Vec<u8>)>;

pub(super) fn unpack(mut bytes: &[u8]) -> Option<Fields> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        fields.push((take(&mut bytes)?, take(&mut bytes)?));
    }
    Some(fields)
}

fn take(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
    let (part, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    Some(part.to_vec())
}

#[cfg(test)]
impl RecordFile {
    /// Puts bytes where a record should be, and lines where its history should; with `None`, nothing.
    pub(super) fn write_raw(&self, key: &TokenKey, raw: Option<&Raw>) {
        let name = keys::short_name(key);
        let transaction = self.database.begin_write().unwrap();
        {
            let mut records = transaction.open_table(RECORDS).unwrap();
            let mut lines = transaction.open_table(EVENTS).unwrap();
            records.remove(name.as_str()).unwrap();
            lines.retain_in((name.as_str(), 0)..=(name.as_str(), u64::MAX), |_, _| false).unwrap();
            if let Some((record, told)) = raw {
                records.insert(name.as_str(), record.as_slice()).unwrap();
                for (number, line) in (0..).zip(told) {
                    lines.insert((name.as_str(), number), line.as_str()).unwrap();
                }
            }
        }
        transaction.commit().unwrap();
    }

    pub(super) fn read_raw(&self, key: &TokenKey) -> Option<Raw> {
        let name = keys::short_name(key);
        self.load(&name).ok()?.zip(self.lines(&name).ok())
    }
}

/// A record's bytes, and the lines of its history.
#[cfg(test)]
pub(crate) type Raw = (Vec<u8>, Vec<String>);
