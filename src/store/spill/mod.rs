//! The copy that bridges a store that is away.
//!
//! Between the bank's answer and the store's acknowledgement the newest refresh token on earth is in our memory alone.
//! A spill puts it, sealed, on this machine's disk: a file is written, synced, renamed, and its directory synced, before
//! it counts. What is written is the whole record, so that it can be put back even if the store has forgotten all of it.
//! One process owns a directory; nobody else may replay or remove what it wrote.
//!
//! [`entry`] is what a spill holds and which steps of the store it stands for; `format` is how it is written.
//! `high_water` is the one other thing that is kept here: how far the store is known to have come.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::simulation::{self, DiskStep};
use crate::words::ids::{hex, random};

pub mod entry;
mod format;
mod high_water;

pub use entry::{SpillContent, SpillEntry, SpilledTokens};
pub use high_water::HighWater;

/// More files than this mean that something is badly wrong, and a disk is about to fill.
const MOST_FILES: usize = 100_000;
const LOCK_FILE: &str = "lock";
const ENDING: &str = "spill";
const UNFINISHED: &str = "partial";
const PROBE: &str = "probe";

/// A directory of spills, owned by this process while it lives.
#[derive(Clone, Debug)]
pub struct SpillDirectory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    files: AtomicUsize,
    most: usize,
    high_water: Option<HighWater>,
    /// Its lock is released when the last clone is dropped.
    _lock: File,
}

/// Names one spill in its directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpillHandle(String);

/// A spill that was found, or why it cannot be understood.
pub type Spilled = (SpillHandle, Result<SpillEntry, SpillError>);

/// Why a spill could not be written, read or removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpillError {
    /// Another process owns the directory.
    #[error("the spill directory {0} is in use by another process")]
    InUse(PathBuf),
    /// The operating system said no.
    #[error("the spill directory cannot {doing}: {kind}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What it said.
        kind: io::ErrorKind,
    },
    /// Too many spills are waiting already.
    #[error("the spill directory holds {0} files, which is as many as it may")]
    Full(usize),
    /// The file is not a spill of a known format. It stays where it is.
    #[error("the spill cannot be read: {0}")]
    Unreadable(&'static str),
}

impl SpillDirectory {
    /// Opens or creates the directory, for this user alone, and takes it over until the last clone is dropped.
    pub fn open(path: &Path) -> Result<Self, SpillError> {
        Self::open_bounded(path, MOST_FILES)
    }

    fn open_bounded(path: &Path, most: usize) -> Result<Self, SpillError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("be created"))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join(LOCK_FILE))
            .map_err(failed("hold a lock file"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SpillError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed("be locked")(error)),
        }
        finish_partial_files(path)?;
        let files = spill_files(path)?.len();
        let high_water = HighWater::read(path);
        let (path, files) = (path.to_owned(), AtomicUsize::new(files));
        Ok(Self(Arc::new(Inner { path, files, most, high_water, _lock: lock })))
    }

    /// Writes a spill. When this answers, the spill survives the process and the machine.
    ///
    /// The work goes on if the caller stops waiting.
    pub async fn write(&self, entry: SpillEntry) -> Result<SpillHandle, SpillError> {
        let inner = Arc::clone(&self.0);
        blocking("be written", move || inner.write(&entry)).await
    }

    /// Whether a spill could be written at this moment: writes and syncs a small file, and removes it.
    pub async fn check(&self) -> Result<(), SpillError> {
        let inner = Arc::clone(&self.0);
        blocking("be written", move || inner.check()).await
    }

    /// Removes a spill that the store has durably acknowledged. One that is gone already is fine.
    pub async fn remove(&self, handle: SpillHandle) -> Result<(), SpillError> {
        let inner = Arc::clone(&self.0);
        blocking("be cleared", move || inner.remove(&handle)).await
    }

    /// Everything that is waiting, in no order. Files that cannot be understood are named and left where they are.
    pub async fn load(&self) -> Result<Vec<Spilled>, SpillError> {
        let inner = Arc::clone(&self.0);
        blocking("be read", move || inner.load()).await
    }

    /// How many spills are waiting.
    pub fn len(&self) -> usize {
        self.0.files.load(Ordering::Relaxed)
    }

    /// Whether none is waiting.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Inner {
    fn write(&self, entry: &SpillEntry) -> Result<SpillHandle, SpillError> {
        let text = format::to_json(entry).ok_or(SpillError::Unreadable("it has no JSON form"))?;
        let taken = self.files.fetch_add(1, Ordering::Relaxed);
        let written = if taken < self.most { self.write_file(&text) } else { Err(SpillError::Full(taken)) };
        if written.is_err() {
            self.count_one_less();
        }
        written
    }

    /// Never below nothing: a file whose directory could not be synced is there though its writing failed.
    fn count_one_less(&self) {
        let less = |files: usize| Some(files.saturating_sub(1));
        let _ = self.files.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    fn write_file(&self, text: &[u8]) -> Result<SpillHandle, SpillError> {
        let finished = format!("{}.{ENDING}", hex(&random()));
        self.put(&finished, text)?;
        Ok(SpillHandle(finished))
    }

    /// Writes a file whole, in the place of one that has its name.
    fn put(&self, finished: &str, text: &[u8]) -> Result<(), SpillError> {
        let unfinished = self.path.join(format!("{}.{UNFINISHED}", hex(&random())));
        let write = || {
            let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&unfinished)?;
            file.write_all(text)?;
            simulation::disk(DiskStep::Written(&unfinished))?;
            file.sync_all()?;
            simulation::disk(DiskStep::Synced(&unfinished))?;
            let named = self.path.join(finished);
            fs::rename(&unfinished, &named)?;
            simulation::disk(DiskStep::Renamed(&unfinished, &named))?;
            sync_directory(&self.path)
        };
        write().map_err(|error| {
            // A half-written file helps nobody; if this fails too, the next start clears it.
            let _ = fs::remove_file(&unfinished);
            failed("be written")(error)
        })
    }

    fn check(&self) -> Result<(), SpillError> {
        let probe = self.path.join(format!("{}.{PROBE}", hex(&random())));
        let write = || {
            let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&probe)?;
            file.write_all(&[0; 8 * 1024])?;
            file.sync_all()
        };
        let written = write().map_err(failed("be written"));
        let removed = fs::remove_file(&probe).map_err(failed("be cleared"));
        written.and(removed)
    }

    fn remove(&self, handle: &SpillHandle) -> Result<(), SpillError> {
        let path = self.path.join(&handle.0);
        match fs::remove_file(&path).and_then(|()| simulation::disk(DiskStep::Removed(&path))) {
            Ok(()) => {
                self.count_one_less();
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("be cleared")(error)),
        }
    }

    fn load(&self) -> Result<Vec<Spilled>, SpillError> {
        let read = |name: String| {
            let entry = fs::read(self.path.join(&name))
                .map_err(failed("be read"))
                .and_then(|text| format::from_json(&text).map_err(SpillError::Unreadable));
            (SpillHandle(name), entry)
        };
        Ok(spill_files(&self.path)?.into_iter().map(read).collect())
    }
}

/// The names of all finished spills.
fn spill_files(path: &Path) -> Result<Vec<String>, SpillError> {
    Ok(file_names(path)?.into_iter().filter(|name| ending(name) == Some(ENDING)).collect())
}

/// Clears up after a writer that died. A file that is whole only lacks its name: its writer died between the sync and
/// the rename. One that is not whole never counted.
fn finish_partial_files(path: &Path) -> Result<(), SpillError> {
    for name in file_names(path)?.into_iter().filter(|name| ending(name) == Some(UNFINISHED)) {
        let file = path.join(&name);
        let text = fs::read(&file).map_err(failed("be read"))?;
        if format::from_json(&text).is_ok() {
            // Its writer may have died before the sync, and the machine may be next.
            File::open(&file).and_then(|file| file.sync_all()).map_err(failed("be written"))?;
            fs::rename(&file, file.with_extension(ENDING)).map_err(failed("be written"))?;
        } else {
            fs::remove_file(&file).map_err(failed("be cleared"))?;
        }
    }
    sync_directory(path).map_err(failed("be written"))
}

fn file_names(path: &Path) -> Result<Vec<String>, SpillError> {
    let files = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(failed("be read"))?;
    Ok(files.into_iter().filter_map(|file| file.file_name().into_string().ok()).collect())
}

fn ending(name: &str) -> Option<&str> {
    name.rsplit_once('.').map(|(_, ending)| ending)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    simulation::disk(DiskStep::DirectorySynced(path))
}

fn failed(doing: &'static str) -> impl Fn(io::Error) -> SpillError {
    move |error| SpillError::Io { doing, kind: error.kind() }
}

async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, SpillError> + Send + 'static,
) -> Result<T, SpillError> {
    if let Some(host) = simulation::current() {
        let done = work();
        tokio::time::sleep(host.disk_took()).await;
        return done;
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or(Err(SpillError::Io { doing, kind: io::ErrorKind::Other }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use entry::tests::{salvage, tokens};

    fn directory() -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("spill");
        (home, path)
    }

    async fn entries(spills: &SpillDirectory) -> Vec<SpillEntry> {
        spills.load().await.unwrap().into_iter().map(|(_, entry)| entry.unwrap()).collect()
    }

    #[tokio::test]
    async fn a_spill_survives_its_process() {
        let (_home, path) = directory();
        let (first, second) = (tokens(), salvage());
        {
            let spills = SpillDirectory::open(&path).unwrap();
            spills.write(first.clone()).await.unwrap();
            spills.write(second.clone()).await.unwrap();
        }
        let spills = SpillDirectory::open(&path).unwrap();
        let found = entries(&spills).await;
        assert_eq!((found.len(), spills.len()), (2, 2));
        assert!(found.contains(&first) && found.contains(&second));
    }

    #[tokio::test]
    async fn a_removed_spill_is_gone_and_may_be_removed_again() {
        let (_home, path) = directory();
        let spills = SpillDirectory::open(&path).unwrap();
        let handle = spills.write(tokens()).await.unwrap();
        spills.remove(handle.clone()).await.unwrap();
        spills.remove(handle).await.unwrap();
        assert!(spills.is_empty() && entries(&spills).await.is_empty());
    }

    #[test]
    fn a_directory_has_one_owner() {
        let (_home, path) = directory();
        let owner = SpillDirectory::open(&path).unwrap();
        assert_eq!(SpillDirectory::open(&path).unwrap_err(), SpillError::InUse(path.clone()));
        drop(owner);
        assert!(SpillDirectory::open(&path).is_ok());
    }

    #[tokio::test]
    async fn files_and_directory_are_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_home, path) = directory();
        let spills = SpillDirectory::open(&path).unwrap();
        let handle = spills.write(tokens()).await.unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join(handle.0))), (0o700, 0o600));
    }

    #[tokio::test]
    async fn an_unreadable_spill_is_named_and_kept() {
        let (_home, path) = directory();
        let spills = SpillDirectory::open(&path).unwrap();
        fs::write(path.join("0.spill"), b"{\"v\":99}").unwrap();
        spills.write(tokens()).await.unwrap();
        let found = spills.load().await.unwrap();
        assert_eq!(found.iter().filter(|(_, entry)| entry.is_err()).count(), 1);
        assert_eq!(found.iter().filter(|(_, entry)| entry.is_ok()).count(), 1);
        assert!(path.join("0.spill").exists());
    }

    #[tokio::test]
    async fn what_a_dead_writer_left_is_finished_or_cleared() {
        let (_home, path) = directory();
        fs::create_dir(&path).unwrap();
        fs::write(path.join("1.partial"), format::to_json(&tokens()).unwrap()).unwrap();
        fs::write(path.join("2.partial"), b"{\"v\":1,\"key\"").unwrap();
        let spills = SpillDirectory::open(&path).unwrap();
        assert_eq!(entries(&spills).await.len(), 1);
        assert!(path.join("1.spill").exists() && !path.join("2.partial").exists());
    }

    #[tokio::test]
    async fn a_full_directory_refuses_and_takes_again_when_cleared() {
        let (_home, path) = directory();
        let spills = SpillDirectory::open_bounded(&path, 1).unwrap();
        let handle = spills.write(tokens()).await.unwrap();
        assert_eq!(spills.write(tokens()).await.unwrap_err(), SpillError::Full(1));
        spills.remove(handle).await.unwrap();
        assert!(spills.write(tokens()).await.is_ok());
    }

    #[tokio::test]
    async fn a_directory_that_vanished_is_an_error_and_not_a_panic() {
        let (_home, path) = directory();
        let spills = SpillDirectory::open(&path).unwrap();
        fs::remove_dir_all(&path).unwrap();
        assert!(matches!(spills.write(tokens()).await, Err(SpillError::Io { .. })));
        assert!(spills.is_empty());
    }
}
