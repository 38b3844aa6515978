//! The configuration's files, looked at while the program runs.
//!
//! A file is changed by an editor in place, by a link that is swapped (a Kubernetes volume), or one after the other. What
//! is read is taken over once two looks have found the same, so that a file which is just being written is not. Files
//! whose content is renewed by itself (`renewal`) call for no reload.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use super::difference::{Change, differences};
use super::fault::Collector;
use super::parse::read_bounded;
use super::tree::{self, Node};
use super::{Config, Faults, Warning, folder_of, read};

/// The files of the configuration that is in use.
#[derive(Debug)]
pub struct Files {
    path: PathBuf,
    /// What the file held at the start.
    first: Node,
    /// What it held that was taken over last.
    in_use: Node,
    /// What it refers to, without what is renewed by itself.
    others: Vec<PathBuf>,
    /// The content of all of them when they were last taken over or refused.
    settled: Content,
    /// The content when they were last looked at.
    looked: Content,
}

/// What files held: a number for each, `None` where one cannot be read. It tells one content from another, and nothing more.
type Content = BTreeMap<PathBuf, Option<u64>>;

/// A configuration that may take the place of the one in use.
#[derive(Debug)]
pub struct Reloaded {
    /// All of it.
    pub config: Config,
    /// What deserves a second look.
    pub warnings: Vec<Warning>,
    /// What is different from what was taken over last.
    pub changes: Vec<Change>,
    /// Whether anything is different from the start that only another start takes over.
    pub waits: bool,
    /// What was read, for [`Files::take_over`].
    pub files: FilesRead,
}

/// What was read for a configuration.
#[derive(Debug)]
pub struct FilesRead {
    tree: Node,
    others: Vec<PathBuf>,
    content: Content,
}

impl Files {
    /// Reads the configuration at `path`, as [`Config::load`] does, and its files with it.
    pub fn load(path: &Path, env: impl Fn(&str) -> Option<String>) -> Result<(Self, Config, Vec<Warning>), Faults> {
        let mut files = Self {
            path: path.to_owned(),
            first: Node::Null,
            in_use: Node::Null,
            others: Vec::new(),
            settled: Content::new(),
            looked: Content::new(),
        };
        let Reloaded { config, warnings, files: read, .. } = files.reload(env)?;
        files.first.clone_from(&read.tree);
        files.take_over(read);
        Ok((files, config, warnings))
    }

    /// Whether they hold something else than what was last taken over or refused, and the same as a look before.
    pub fn have_changed(&mut self) -> bool {
        let now = content(&self.path, &self.others);
        let stands = now == self.looked;
        self.looked = now;
        stands && self.looked != self.settled
    }

    /// Reads all of it again. Whatever comes of it, the files call for no other reload until they change once more.
    pub fn reload(&mut self, env: impl Fn(&str) -> Option<String>) -> Result<Reloaded, Faults> {
        // Before anything is read: what changes after that is not in what is read, and has to be seen as a change.
        self.settled = content(&self.path, &self.others);
        let text = read(&self.path)?;
        let (config, warnings) = Config::parse(&text, folder_of(&self.path), &env)?;
        let tree = tree::read(&text, &Collector::default())?;
        let changes = differences(&self.in_use, &tree);
        let waits = differences(&self.first, &tree).iter().any(|change| !change.is_taken_over());
        let others = others(&config);
        let mut content = content(&self.path, &others);
        for (path, held) in &mut content {
            *held = self.settled.get(path).copied().unwrap_or(*held);
        }
        let files = FilesRead { tree, others, content };
        Ok(Reloaded { config, warnings, changes, waits, files })
    }

    /// From now on this is what is in use.
    pub fn take_over(&mut self, read: FilesRead) {
        self.looked.clone_from(&read.content);
        (self.in_use, self.others, self.settled) = (read.tree, read.others, read.content);
    }
}

fn others(config: &Config) -> Vec<PathBuf> {
    let renewed: BTreeSet<&Path> = config.renewals.iter().flat_map(|renewal| renewal.files()).collect();
    config.files.iter().filter(|file| !renewed.contains(file.as_path())).cloned().collect()
}

fn content(path: &Path, others: &[PathBuf]) -> Content {
    let number = |bytes: &[u8]| {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        hasher.finish()
    };
    let configuration = read(path).ok().map(|text| number(text.as_bytes()));
    let secret = |file: &PathBuf| (file.clone(), read_bounded(file).ok().map(|(bytes, _)| number(&bytes)));
    std::iter::once((path.to_owned(), configuration)).chain(others.iter().map(secret)).collect()
}

#[cfg(all(test, feature = "sandbox"))]
mod tests {
    use std::fs;

    use super::*;

    const TEXT: &str = "store: {embedded: {path: c.redb}, seal: {keys: [{id: a, key: {file: seal.key}}]}}\n\
        providers: {bank: {token_endpoint: 'https://bank.example/token', client_id: us, client_auth: {method: none}}}\n\
        apis: {debt: {path: /debt, upstream: 'https://api.example', provider: bank, set_headers: {API-Key: {file: api.key}},\n\
        \x20             routes: [{match: '/**'}]}}\n";

    struct House {
        home: tempfile::TempDir,
        files: Files,
    }

    impl House {
        fn new() -> Self {
            let home = tempfile::tempdir().expect("a directory");
            fs::write(home.path().join("seal.key"), "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=").expect("writes");
            fs::write(home.path().join("api.key"), "one").expect("writes");
            let path = home.path().join("consentry.yaml");
            fs::write(&path, TEXT).expect("writes");
            let (files, ..) = Files::load(&path, |_| None).unwrap_or_else(|faults| panic!("{faults}"));
            Self { home, files }
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.home.path().join(name), text).expect("writes");
        }
    }

    #[test]
    fn what_has_changed_is_seen_once_it_stands_still() {
        let mut house = House::new();
        assert!(!house.files.have_changed());
        house.write("consentry.yaml", &TEXT.replace("/debt", "/debts"));
        assert!(!house.files.have_changed(), "it may be half written");
        house.write("consentry.yaml", &TEXT.replace("/debt", "/loans"));
        assert!(!house.files.have_changed(), "so it was");
        assert!(house.files.have_changed());
        let reloaded = house.files.reload(|_| None).expect("good");
        let changes: Vec<_> = reloaded.changes.iter().map(ToString::to_string).collect();
        assert_eq!(changes, ["apis.debt.path: /debt is /loans now"]);
        house.files.take_over(reloaded.files);
        assert!(!house.files.have_changed());
        assert!(house.files.reload(|_| None).expect("good").changes.is_empty());
    }

    #[test]
    fn what_waits_for_the_next_start_waits_until_then_or_until_it_is_as_it_was() {
        let mut house = House::new();
        let with = |more: &str| format!("{TEXT}{more}");
        for (more, changes, waits) in [
            ("proxy: {http2: true}\n", 1, true),
            ("proxy: {http2: true, token_wait: 3s}\n", 1, true),
            ("proxy: {token_wait: 3s}\n", 1, false),
        ] {
            house.write("consentry.yaml", &with(more));
            let reloaded = house.files.reload(|_| None).expect("good");
            assert_eq!((reloaded.changes.len(), reloaded.waits), (changes, waits), "{more}");
            house.files.take_over(reloaded.files);
        }
    }

    #[test]
    fn what_changes_while_it_is_taken_over_is_seen_afterwards() {
        let mut house = House::new();
        house.write("consentry.yaml", &TEXT.replace("/debt", "/loans"));
        let reloaded = house.files.reload(|_| None).expect("good");
        house.write("consentry.yaml", &TEXT.replace("/debt", "/konto"));
        house.write("api.key", "two");
        house.files.take_over(reloaded.files);
        assert!(!house.files.have_changed() && house.files.have_changed());
        let reloaded = house.files.reload(|_| None).expect("good");
        assert_eq!(reloaded.changes[0].to_string(), "apis.debt.path: /loans is /konto now");
    }

    #[test]
    fn a_secret_of_an_api_that_has_changed_is_seen() {
        let mut house = House::new();
        house.write("api.key", "two");
        assert!(!house.files.have_changed());
        assert!(house.files.have_changed());
        let reloaded = house.files.reload(|_| None).expect("good");
        assert!(reloaded.changes.is_empty(), "what is in a secret's file is told nobody");
        house.files.take_over(reloaded.files);
        assert!(!house.files.have_changed());
    }

    #[test]
    fn what_cannot_be_used_is_told_once_and_is_not_what_the_next_is_compared_with() {
        let mut house = House::new();
        house.write("consentry.yaml", &TEXT.replace("match", "mtach"));
        assert!(!house.files.have_changed());
        assert!(house.files.have_changed());
        let faults = house.files.reload(|_| None).expect_err("a key that is not known").to_string();
        assert!(faults.contains("apis.debt.routes[0].mtach"), "{faults}");
        assert!(!house.files.have_changed());
        fs::remove_file(house.home.path().join("consentry.yaml")).expect("there");
        assert!(!house.files.have_changed() && house.files.have_changed());
        assert!(house.files.reload(|_| None).expect_err("gone").to_string().contains("cannot be read"));
        house.write("consentry.yaml", TEXT);
        assert!(!house.files.have_changed() && house.files.have_changed());
        assert!(house.files.reload(|_| None).expect("as before").changes.is_empty());
    }
}
