//! What is wrong with a configuration: where, in one sentence.
//!
//! A start that fails for one typo after another wastes a deploy each time, so every stage records its faults here and
//! goes on with what is left. [`At`] is the cursor with which the parsing stages say where they are; places in the file
//! are found at the end, for the faults that need them.

use std::cell::RefCell;
use std::fmt;

use super::locate::{self, Target};

/// Where in the YAML: `providers.abn-amro.client_auth.secret`, `apis.debt.routes[1].match`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct YamlPath(Vec<Step>);

/// One step of a [`YamlPath`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// A place in the file, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The character within the line.
    pub column: usize,
}

/// Something that makes the configuration unusable. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key it is about, or the one in which something is missing.
    pub path: YamlPath,
    /// What is wrong, lower-case, without a full stop.
    pub sentence: String,
    /// Where that is, if it is in the file at all.
    pub place: Option<Place>,
}

/// Something that works and deserves a second look. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(pub Fault);

/// Everything that is wrong with a configuration, in the order of the file. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    faults: Vec<Fault>,
    /// How many more there were than are kept.
    left_out: usize,
}

impl Faults {
    /// A single fault about the file as a whole.
    pub(super) fn of_file(sentence: impl Into<String>, place: Option<Place>) -> Self {
        let fault = Fault { path: YamlPath::default(), sentence: sentence.into(), place };
        Self { faults: vec![fault], left_out: 0 }
    }

    /// The faults, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.faults.iter()
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl std::error::Error for Faults {}

impl fmt::Display for Faults {
    /// One fault a line, and their count in the last line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.faults {
            writeln!(f, "{fault}")?;
        }
        match self.faults.len() + self.left_out {
            1 => f.write_str("1 fault"),
            count if self.left_out > 0 => write!(f, "{count} faults, of which the first {MOST} are shown"),
            count => write!(f, "{count} faults"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.sentence)?;
        match self.place {
            Some(place) => write!(f, " (line {}, column {})", place.line, place.column),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl YamlPath {
    pub(super) fn key(mut self, key: &str) -> Self {
        self.0.push(Step::Key(key.to_owned()));
        self
    }

    pub(super) fn index(mut self, index: usize) -> Self {
        self.0.push(Step::Index(index));
        self
    }

    pub(super) fn from_steps(steps: Vec<Step>) -> Self {
        Self(steps)
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }

    fn is_at_or_below(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl fmt::Display for YamlPath {
    /// The whole file is `file`; a key that would be misread is in quotes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("file");
        }
        for (nth, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) => {
                    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
                    let dot = if nth == 0 { "" } else { "." };
                    if !key.is_empty() && key.chars().all(plain) {
                        write!(f, "{dot}{key}")?;
                    } else {
                        write!(f, "{dot}{key:?}")?;
                    }
                }
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// More faults than this help nobody, and each costs a pass over the file to place.
pub(super) const MOST: usize = 100;

/// A fault was recorded, and there is nothing to go on with. For values that may also be rightly absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Faulted;

/// Gathers faults and warnings of all stages.
#[derive(Debug, Default)]
pub(super) struct Collector {
    faults: RefCell<Vec<(Fault, Target)>>,
    warnings: RefCell<Vec<(Fault, Target)>>,
    /// Paths whose value was taken out because of its shape: what follows from its absence is no news.
    removed: RefCell<Vec<YamlPath>>,
}

impl Collector {
    /// The cursor at the top of the file.
    pub(super) fn top(&self) -> At<'_> {
        At { collector: self, path: YamlPath::default() }
    }

    /// Records a fault about the key at `path`, of which the `nth` occurrence (from 0) is meant.
    pub(super) fn key_fault(&self, path: YamlPath, nth: usize, sentence: String) {
        self.faults.borrow_mut().push((Fault { path, sentence, place: None }, Target::Key { nth }));
    }

    /// Records that the value at `path` has the wrong shape and is treated as absent from here on.
    pub(super) fn shape_fault(&self, path: &YamlPath, sentence: String) {
        if !self.removed.borrow().contains(path) {
            self.removed.borrow_mut().push(path.clone());
            let fault = Fault { path: path.clone(), sentence, place: None };
            self.faults.borrow_mut().push((fault, Target::Value));
        }
    }

    pub(super) fn count(&self) -> usize {
        self.faults.borrow().len()
    }

    /// Places what was gathered in `text`. `Err` if there is a fault.
    pub(super) fn finish(self, text: &str) -> Result<Vec<Warning>, Faults> {
        let faults = self.faults.into_inner();
        let left_out = faults.len().saturating_sub(MOST);
        let faults = placed(faults, text);
        if faults.is_empty() {
            Ok(placed(self.warnings.into_inner(), text).into_iter().map(Warning).collect())
        } else {
            Err(Faults { faults, left_out })
        }
    }
}

fn placed(found: Vec<(Fault, Target)>, text: &str) -> Vec<Fault> {
    let mut placed: Vec<Fault> = found
        .into_iter()
        .take(MOST)
        .map(|(fault, target)| Fault { place: locate::place(text, &fault.path, target), ..fault })
        .collect();
    // Stable, so that two faults of one place stay in the order in which they were found.
    placed.sort_by_key(|fault| fault.place);
    placed
}

/// A cursor: where in the YAML the parser is, and where to report.
#[derive(Clone, Debug)]
pub(super) struct At<'c> {
    collector: &'c Collector,
    path: YamlPath,
}

impl At<'_> {
    pub(super) fn key(&self, key: &str) -> Self {
        Self { collector: self.collector, path: self.path.clone().key(key) }
    }

    pub(super) fn index(&self, index: usize) -> Self {
        Self { collector: self.collector, path: self.path.clone().index(index) }
    }

    /// Records a fault here, unless the value here, or one around it, was already reported as misshapen.
    pub(super) fn fault(&self, sentence: impl fmt::Display) {
        let known = self.collector.removed.borrow().iter().any(|removed| self.path.is_at_or_below(removed));
        if !known {
            let fault = Fault { path: self.path.clone(), sentence: sentence.to_string(), place: None };
            self.collector.faults.borrow_mut().push((fault, Target::Value));
        }
    }

    /// Records a warning here.
    pub(super) fn warn(&self, sentence: impl fmt::Display) {
        let warning = Fault { path: self.path.clone(), sentence: sentence.to_string(), place: None };
        self.collector.warnings.borrow_mut().push((warning, Target::Value));
    }

    /// The value of `result`, or `None` and its error as a fault here.
    pub(super) fn take<T, E: fmt::Display>(&self, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.fault(error)).ok()
    }

    /// The value, or `None` and a fault that says that it is needed.
    pub(super) fn need<T>(&self, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.fault("it is needed and not there");
        }
        value
    }

    pub(super) fn path(&self) -> &YamlPath {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_like_the_file() {
        let path = YamlPath::default().key("apis").key("debt").key("routes").index(1).key("match");
        assert_eq!(path.to_string(), "apis.debt.routes[1].match");
        assert_eq!(YamlPath::default().key("a.b").key("c").to_string(), "\"a.b\".c");
        assert_eq!(YamlPath::default().to_string(), "file");
    }

    #[test]
    fn faults_come_in_the_order_of_the_file_with_a_count() {
        let collector = Collector::default();
        collector.top().key("b").fault("is wrong");
        collector.top().key("a").fault("is wrong, too");
        let faults = collector.finish("a: 1\nb: 2\n").expect_err("two faults");
        let expected = "a: is wrong, too (line 1, column 4)\nb: is wrong (line 2, column 4)\n2 faults";
        assert_eq!(faults.to_string(), expected);
    }

    #[test]
    fn what_follows_from_a_misshapen_value_is_not_repeated() {
        let collector = Collector::default();
        let path = YamlPath::default().key("a");
        collector.shape_fault(&path, "expected text".to_owned());
        collector.top().key("a").fault("it is needed and not there");
        collector.top().key("a").key("b").fault("it is needed and not there");
        assert_eq!(collector.count(), 1);
    }

    #[test]
    fn of_very_many_faults_the_first_are_shown_and_all_are_counted() {
        let collector = Collector::default();
        for nth in 0..=MOST {
            collector.top().index(nth).fault("is wrong");
        }
        let faults = collector.finish("[]").expect_err("faults").to_string();
        assert_eq!(faults.lines().count(), MOST + 1);
        assert!(faults.ends_with("\n101 faults, of which the first 100 are shown"), "{faults}");
    }
}
