//! Finds the line and column of a path.
//!
//! The YAML reader gives no positions with the values it hands out, but it puts one on every error. So a path is found
//! by reading the file again with a reader that walks to the path and raises an error there. Faults are few and files
//! small, and every fault gets its exact place without a second YAML library.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::fault::{Place, Step, YamlPath};

/// What of a path is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Its value; if there is none, the innermost value around it.
    Value,
    /// Its last key, the `nth` of the same name, from 0.
    Key {
        /// Which of them.
        nth: usize,
    },
}

/// Where `path` is in `text`. `None` for the file as a whole and for text that is not YAML.
pub(super) fn place(text: &str, path: &YamlPath, target: Target) -> Option<Place> {
    if path.steps().is_empty() {
        return None;
    }
    let walk = Walk { steps: path.steps(), target };
    let found = walk.deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    found.location().map(|at| Place { line: at.line(), column: at.column() })
}

/// The error that carries the position out.
const HERE: &str = "here";

#[derive(Clone, Copy)]
struct Walk<'p> {
    steps: &'p [Step],
    target: Target,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    // A scalar ends in the error that Visitor gives by default, which is as good a carrier as any.
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HERE)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Step::Key(wanted), rest)) = self.steps.split_first() else { return Err(A::Error::custom(HERE)) };
        let stop_at = match self.target {
            Target::Key { nth } if rest.is_empty() => Some(nth),
            Target::Key { .. } | Target::Value => None,
        };
        let mut seen = 0;
        while let Some(matches) = map.next_key_seed(Key { wanted, stop: stop_at == Some(seen) })? {
            if matches && stop_at.is_none() {
                return map.next_value_seed(Walk { steps: rest, target: self.target });
            }
            seen += usize::from(matches);
            map.next_value::<IgnoredAny>()?;
        }
        Err(A::Error::custom(HERE))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some((Step::Index(wanted), rest)) = self.steps.split_first() else { return Err(A::Error::custom(HERE)) };
        for _ in 0..*wanted {
            if list.next_element::<IgnoredAny>()?.is_none() {
                return Err(A::Error::custom(HERE));
            }
        }
        list.next_element_seed(Walk { steps: rest, target: self.target })?;
        Err(A::Error::custom(HERE))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(A::Error::custom(HERE))
    }
}

/// Compares a key; raises the error at the one that is looked for.
struct Key<'p> {
    wanted: &'p str,
    stop: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<bool, E> {
        match key == self.wanted {
            true if self.stop => Err(E::custom(HERE)),
            matches => Ok(matches),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
a:
  b: {c: 1, d: [x, {e: 2}]}
  same: 1
  same: 2
anchor: &one
  deep: text
alias: *one
";

    fn at(path: &YamlPath, target: Target) -> Option<(usize, usize)> {
        place(FILE, path, target).map(|place| (place.line, place.column))
    }

    fn path() -> YamlPath {
        YamlPath::default()
    }

    #[test]
    fn a_value_is_found_where_it_begins() {
        assert_eq!(at(&path().key("a"), Target::Value), Some((2, 3)));
        assert_eq!(at(&path().key("a").key("b").key("c"), Target::Value), Some((2, 10)));
        assert_eq!(at(&path().key("a").key("b").key("d").index(1), Target::Value), Some((2, 20)));
        assert_eq!(at(&path().key("a").key("b").key("d").index(1).key("e"), Target::Value), Some((2, 24)));
    }

    #[test]
    fn what_is_not_there_is_placed_at_what_is_around_it() {
        assert_eq!(at(&path().key("a").key("b").key("missing"), Target::Value), Some((2, 6)));
        assert_eq!(at(&path().key("a").key("b").key("d").index(9), Target::Value), Some((2, 16)));
        assert_eq!(at(&path().key("none").key("at all"), Target::Value), Some((1, 1)));
        assert_eq!(at(&path(), Target::Value), None);
    }

    #[test]
    fn a_repeated_key_is_found_by_its_number() {
        let same = path().key("a").key("same");
        assert_eq!(at(&same, Target::Key { nth: 0 }), Some((3, 3)));
        assert_eq!(at(&same, Target::Key { nth: 1 }), Some((4, 3)));
    }

    #[test]
    fn below_an_alias_the_place_is_where_the_anchor_is() {
        assert_eq!(at(&path().key("alias").key("deep"), Target::Value), Some((6, 9)));
    }
}
