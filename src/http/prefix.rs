//! Local path prefixes, and which of them a path belongs to.

use std::fmt;

use super::segment::{Segment, Segments};
use super::target::CheckedPath;

/// Where an API is served: `/accounts`, `/psd2/accounts`, or `/` for everything. Matches whole segments only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPrefix(Box<str>);

/// Why a text is not a path prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// It begins with something else.
    #[error("it does not begin with /")]
    NoSlash,
    /// `//` inside it.
    #[error("it holds an empty segment")]
    EmptySegment,
    /// `.` or `..` as a segment, which no request can carry.
    #[error("it holds the dot segment {0:?}")]
    DotSegment(String),
    /// A character that stands for itself in no path.
    #[error("it holds the character {0:?}; only A-Z a-z 0-9 - . _ ~ : @ ! $ & ' ( ) + , = fit")]
    Character(char),
}

impl PathPrefix {
    /// Reads a prefix as configured; a slash at its end means nothing.
    pub fn parse(text: &str) -> Result<Self, PrefixError> {
        if !text.starts_with('/') {
            return Err(PrefixError::NoSlash);
        }
        let text = text.strip_suffix('/').unwrap_or(text);
        let stands_for_itself = |c: char| c.is_ascii_alphanumeric() || "-._~:@!$&'()+,=/".contains(c);
        if let Some(character) = text.chars().find(|c| !stands_for_itself(*c)) {
            return Err(PrefixError::Character(character));
        }
        for segment in text.split('/').skip(1) {
            match segment {
                "" => return Err(PrefixError::EmptySegment),
                "." | ".." => return Err(PrefixError::DotSegment(segment.to_owned())),
                _ => {}
            }
        }
        Ok(Self(text.into()))
    }

    /// The prefix without a slash at its end: empty for `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows this prefix in `path`; `None` where the path is not under it.
    pub fn strip<'p>(&self, path: &'p CheckedPath) -> Option<Rest<'p>> {
        let mut rest = path.path();
        let mut seen = path.segments();
        for literal in Segments::of(&self.0) {
            let segment = seen.next()?;
            if !segment.is(literal.raw()) {
                return None;
            }
            rest = rest.get(1 + segment.raw().len()..)?;
        }
        Some(Rest { path: rest, query: path.query() })
    }

    fn segments(&self) -> usize {
        Segments::of(&self.0).count()
    }
}

/// What is left of a path once its prefix is taken off: the part that goes upstream, byte for byte.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rest<'p> {
    path: &'p str,
    query: Option<&'p str>,
}

impl<'p> Rest<'p> {
    /// The rest of the path: empty, or beginning with `/`.
    pub const fn path(self) -> &'p str {
        self.path
    }

    /// The query, without its `?`.
    pub const fn query(self) -> Option<&'p str> {
        self.query
    }

    /// The segments of the rest.
    pub fn segments(self) -> Segments<'p> {
        Segments::of(self.path)
    }

    /// The segment at `index`, counted from the end where `from_end` says so.
    pub(super) fn segment(self, index: usize, from_end: bool) -> Option<Segment<'p>> {
        let index = if from_end { self.segments().count().checked_sub(index + 1)? } else { index };
        self.segments().nth(index)
    }
}

impl fmt::Debug for Rest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rest({} bytes)", self.path.len())
    }
}

/// The configured prefixes, each with what it leads to. The longest that fits a path wins.
#[derive(Clone, Debug)]
pub struct PrefixTable<T>(Box<[(PathPrefix, T)]>);

/// Two APIs under one prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the prefix {0:?} is given twice")]
pub struct DuplicatePrefix(pub String);

impl<T> PrefixTable<T> {
    /// Orders the entries so that the first match is the longest.
    pub fn new(mut entries: Vec<(PathPrefix, T)>) -> Result<Self, DuplicatePrefix> {
        entries.sort_by(|(a, _), (b, _)| b.segments().cmp(&a.segments()).then_with(|| a.0.cmp(&b.0)));
        for (one, other) in entries.iter().zip(entries.iter().skip(1)) {
            if one.0 == other.0 {
                return Err(DuplicatePrefix(format!("{}/", one.0.as_str())));
            }
        }
        Ok(Self(entries.into_boxed_slice()))
    }

    /// What the longest prefix of `path` leads to, and the rest of the path.
    pub fn find<'t, 'p>(&'t self, path: &'p CheckedPath) -> Option<(&'t T, Rest<'p>)> {
        self.0.iter().find_map(|(prefix, target)| Some((target, prefix.strip(path)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Uri;

    fn path(target: &'static str) -> CheckedPath {
        CheckedPath::check(&Uri::from_static(target), 8_192).expect("an acceptable path")
    }

    fn prefix(text: &str) -> PathPrefix {
        PathPrefix::parse(text).expect("a prefix")
    }

    #[test]
    fn a_prefix_matches_whole_segments_and_leaves_the_rest_as_sent() {
        let rows = [
            ("/accounts", "/accounts/v1/x%20y?q=%2f", Some("/v1/x%20y")),
            ("/accounts", "/accounts", Some("")),
            ("/accounts", "/accounts?x=1", Some("")),
            ("/accounts", "/accounts/", Some("/")),
            ("/accounts", "/acc%6Funts/v1", Some("/v1")),
            ("/accounts/", "/accounts/v1", Some("/v1")),
            ("/accounts", "/accountsX", None),
            ("/accounts", "/account", None),
            ("/accounts", "/Accounts", None),
            ("/accounts", "/", None),
            ("/psd2/ais", "/psd2/ais/v1", Some("/v1")),
            ("/psd2/ais", "/psd2", None),
            ("/", "/v1/x", Some("/v1/x")),
            ("/", "/", Some("/")),
        ];
        for (local, target, rest) in rows {
            let path = path(target);
            assert_eq!(prefix(local).strip(&path).map(Rest::path), rest, "{local} on {target}");
        }
    }

    #[test]
    fn the_longest_prefix_wins_whatever_the_order() {
        let entries = ["/", "/a", "/a/b", "/ab"].map(|text| (prefix(text), text)).to_vec();
        let table = PrefixTable::new(entries).expect("no duplicates");
        for (target, wanted) in [("/a/b/c", "/a/b"), ("/a/c", "/a"), ("/ab/b", "/ab"), ("/abc", "/"), ("/a/bc", "/a")] {
            assert_eq!(table.find(&path(target)).map(|(t, _)| *t), Some(wanted), "{target}");
        }
    }

    #[test]
    fn a_prefix_given_twice_is_refused() {
        let entries = vec![(prefix("/a"), 1), (prefix("/b"), 2), (prefix("/a/"), 3)];
        assert_eq!(PrefixTable::new(entries).err(), Some(DuplicatePrefix("/a/".into())));
    }

    #[test]
    fn a_prefix_that_no_request_could_match_is_refused() {
        for (text, fault) in [
            ("accounts", PrefixError::NoSlash),
            ("", PrefixError::NoSlash),
            ("/a//b", PrefixError::EmptySegment),
            ("//", PrefixError::EmptySegment),
            ("/a/..", PrefixError::DotSegment("..".into())),
            ("/a b", PrefixError::Character(' ')),
            ("/a%41", PrefixError::Character('%')),
            ("/a?x", PrefixError::Character('?')),
            ("/a/*", PrefixError::Character('*')),
        ] {
            assert_eq!(PathPrefix::parse(text), Err(fault), "{text}");
        }
    }
}
