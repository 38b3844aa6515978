//! What the embedded store writes: one table from a record's short name to its fields, and one number.
//!
//! A record is stored as the fields of the hash that Redis would hold, each name and value with its length before it.
//! Beside them stands the time of the last writing, from which a calendar that jumped back is recognised.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::EmbeddedError;
use crate::store::contract::StoreError;
use crate::store::keys;
use crate::store::record::{Record, TOMBSTONE};
use crate::store::steps;
use crate::words::clock::millis;
use crate::words::ids::{TokenKey, Version};

const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");
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
                        shifted.push((name.value().to_owned(), pack(&record)));
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
        let stored = self.load(key)?;
        Ok(understand(key, stored.as_deref())?.filter(|record| !is_past(record, now)))
    }

    fn load(&self, key: &TokenKey) -> Result<Option<Vec<u8>>, FileError> {
        let records = self.database.begin_read()?.open_table(RECORDS)?;
        Ok(records.get(keys::short_name(key).as_str())?.map(|value| value.value().to_vec()))
    }

    /// Runs `step` on the record and writes what became of it, synced. Tells the version if others have to hear of it.
    pub(super) fn change<T>(
        &self,
        key: &TokenKey,
        now: u64,
        step: impl FnOnce(&mut Option<Record>) -> T,
    ) -> Result<(T, Option<Version>), StoreError> {
        let name = keys::short_name(key);
        let stored = self.load(key)?;
        let before = understand(key, stored.as_deref())?;
        let mut slot = before.clone().filter(|record| !is_past(record, now));
        let outcome = step(&mut slot);
        if slot != before {
            self.write(&name, slot.as_ref(), now)?;
        }
        let told = slot.filter(|after| steps::is_told(before.as_ref(), after));
        Ok((outcome, told.map(|after| after.version)))
    }

    fn write(&self, name: &str, record: Option<&Record>, now: u64) -> Result<(), FileError> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut records = transaction.open_table(RECORDS)?;
            match record {
                Some(record) => drop(records.insert(name, pack(record).as_slice())?),
                None => drop(records.remove(name)?),
            }
            let mut numbers = transaction.open_table(NUMBERS)?;
            numbers.insert(WRITTEN_AT, now)?;
        }
        transaction.commit()?;
        Ok(())
    }
}

/// A tombstone that has stood long enough counts as absent, and goes when its name is next written.
fn is_past(record: &Record, now: u64) -> bool {
    record.is_tombstone() && record.ended_at.saturating_add(millis(TOMBSTONE)) <= now
}

fn shift(record: &mut Record, back: u64) {
    record.access_from = 0;
    record.access_until = 0;
    let times = [&mut record.lease_until, &mut record.quarantine_from, &mut record.not_before, &mut record.ended_at];
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

fn pack(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1_024);
    for (name, value) in record.to_fields() {
        for part in [name.as_bytes(), &value] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
    }
    bytes
}

fn unpack(mut bytes: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
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
    /// Puts bytes where a record should be.
    pub(super) fn write_raw(&self, key: &TokenKey, value: &[u8]) {
        let transaction = self.database.begin_write().unwrap();
        transaction.open_table(RECORDS).unwrap().insert(keys::short_name(key).as_str(), value).unwrap();
        transaction.commit().unwrap();
    }

    pub(super) fn read_raw(&self, key: &TokenKey) -> Option<Vec<u8>> {
        self.load(key).ok().flatten()
    }

    pub(super) fn remove_raw(&self, key: &TokenKey) {
        let transaction = self.database.begin_write().unwrap();
        transaction.open_table(RECORDS).unwrap().remove(keys::short_name(key).as_str()).unwrap();
        transaction.commit().unwrap();
    }
}
