//! How far the store had come when this process last heard of it, kept beside the spills.
//!
//! A store that is put back from an old backup brings back refresh tokens that were spent since, and it cannot know. The
//! machine that this process runs on does not come back with it, so what stands here is held against what the store says
//! of itself.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Inner, SpillDirectory, SpillError, blocking};
use crate::store::contract::StoreAge;
use crate::words::clock::WallTime;

const NAME: &str = "high-water";
const FORMAT: u32 = 1;

/// How far the store is known to have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HighWater {
    /// The most steps that it was ever known to have taken, and the newest beat that it had when it was last heard of.
    pub age: StoreAge,
    /// The incarnations of its servers that were looked at already. What each was like when it came up is old news.
    pub incarnations: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    v: u32,
    steps: u64,
    newest_beat_ms: u64,
    incarnations: Vec<String>,
}

impl HighWater {
    /// What a process wrote in its spill directory. What cannot be read or understood is said, and counts as nothing: it is
    /// worth a check of the store, and not that nobody gets a token.
    pub fn read(directory: &Path) -> Option<Self> {
        let text = match fs::read(directory.join(NAME)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(kind = %error.kind(), "How far the token store had come cannot be read.");
                return None;
            }
        };
        let written = serde_json::from_slice::<Written>(&text).ok().filter(|written| written.v == FORMAT);
        if written.is_none() {
            tracing::warn!("How far the token store had come is not to be understood.");
        }
        written.map(|Written { v: _, steps, newest_beat_ms, incarnations }| {
            let age = StoreAge { steps, newest_beat: WallTime::from_millis(newest_beat_ms) };
            Self { age, incarnations }
        })
    }
}

impl SpillDirectory {
    /// What stood here of the store when the directory was opened; `None`, nothing that can be understood.
    pub fn high_water(&self) -> Option<&HighWater> {
        self.0.high_water.as_ref()
    }

    /// Writes it down in place of what stood here. After an error that stands still, whole.
    pub async fn keep_high_water(&self, mark: HighWater) -> Result<(), SpillError> {
        let inner = Arc::clone(&self.0);
        blocking("be written", move || inner.keep_high_water(mark)).await
    }
}

impl Inner {
    fn keep_high_water(&self, mark: HighWater) -> Result<(), SpillError> {
        let HighWater { age: StoreAge { steps, newest_beat }, incarnations } = mark;
        let written = Written { v: FORMAT, steps, newest_beat_ms: newest_beat.as_millis(), incarnations };
        let text = serde_json::to_vec_pretty(&written).map_err(|_| SpillError::Unreadable("it has no JSON form"))?;
        self.put(NAME, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn age(steps: u64, newest_beat: u64) -> StoreAge {
        StoreAge { steps, newest_beat: WallTime::from_millis(newest_beat) }
    }

    fn mark(steps: u64, newest_beat: u64) -> HighWater {
        HighWater { age: age(steps, newest_beat), incarnations: vec!["a-b".into()] }
    }

    #[tokio::test]
    async fn what_is_known_of_the_store_survives_its_process_and_is_no_spill() {
        let home = tempfile::tempdir().unwrap();
        let spills = SpillDirectory::open(home.path()).unwrap();
        assert_eq!(spills.high_water(), None);
        spills.keep_high_water(mark(7, 8)).await.unwrap();
        spills.keep_high_water(mark(9, 10)).await.unwrap();
        drop(spills);
        let spills = SpillDirectory::open(home.path()).unwrap();
        assert_eq!(spills.high_water(), Some(&mark(9, 10)));
        assert!(spills.is_empty() && spills.load().await.unwrap().is_empty());
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2, "it and the lock");
    }

    #[tokio::test]
    async fn what_cannot_be_understood_counts_as_nothing_and_is_written_over() {
        let home = tempfile::tempdir().unwrap();
        for odd in ["", "{", "{\"v\":2,\"steps\":1,\"newest_beat_ms\":1,\"incarnations\":[]}", "{\"v\":1,\"steps\":-1}"]
        {
            fs::write(home.path().join(NAME), odd).unwrap();
            let spills = SpillDirectory::open(home.path()).unwrap();
            assert_eq!(spills.high_water(), None, "{odd}");
            spills.keep_high_water(mark(1, 2)).await.unwrap();
            drop(spills);
            assert_eq!(HighWater::read(home.path()), Some(mark(1, 2)));
        }
    }
}
