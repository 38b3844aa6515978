//! From the tree to the raw structs, past every misshapen value.
//!
//! serde stops at the first value of the wrong shape. Here each stop is recorded with its path, the value is taken out
//! of the tree, and the reading starts over, until it goes through. A value taken out counts as absent; the later
//! stages do not complain about it again.

use std::fmt;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, Expected, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::de::{IntoDeserializer as _, value::StrDeserializer};
use serde::forward_to_deserialize_any;

use super::fault::{Collector, MOST, Step, YamlPath};
use super::nearest::nearest;
use super::tree::Node;

/// Reads `tree` into `T`. What has the wrong shape goes to `collector` and is left out.
pub(super) fn shape<T: Default + DeserializeOwned>(tree: &mut Node, collector: &Collector) -> T {
    while collector.count() < MOST {
        match T::deserialize(&*tree) {
            Ok(shaped) => return shaped,
            Err(misfit) => {
                let path = misfit.path();
                match misfit.wrong {
                    Wrong::Unknown(sentence) => collector.key_fault(path.clone(), 0, sentence),
                    Wrong::Shape(sentence) => collector.shape_fault(&path, sentence),
                }
                if !tree.take_out(path.steps()) {
                    break;
                }
            }
        }
    }
    T::default()
}

/// A value that does not fit, and the way to it from the inside out.
#[derive(Debug)]
pub(super) struct Misfit {
    way: Vec<Step>,
    wrong: Wrong,
}

#[derive(Debug)]
enum Wrong {
    /// A key that nobody reads.
    Unknown(String),
    /// A value of the wrong kind.
    Shape(String),
}

impl Misfit {
    fn shape(sentence: String) -> Self {
        Self { way: Vec::new(), wrong: Wrong::Shape(sentence) }
    }

    fn below(mut self, step: Step) -> Self {
        self.way.push(step);
        self
    }

    fn path(&self) -> YamlPath {
        YamlPath::from_steps(self.way.iter().rev().cloned().collect())
    }
}

impl std::error::Error for Misfit {}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.wrong {
            Wrong::Unknown(sentence) | Wrong::Shape(sentence) => f.write_str(sentence),
        }
    }
}

impl serde::de::Error for Misfit {
    fn custom<T: fmt::Display>(sentence: T) -> Self {
        Self::shape(sentence.to_string())
    }

    // The value itself is not shown: where a secret is expected it may be one.
    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Unit | Unexpected::Option => "nothing",
            Unexpected::Bool(_) => "true or false",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a number",
            Unexpected::Float(_) => "a number with a fraction",
            Unexpected::Str(_) => "text",
            Unexpected::Seq => "a list",
            Unexpected::Map => "a mapping",
            _ => "something else",
        };
        let expected = match expected.to_string().as_str() {
            "a string" if found.starts_with("a number") || found == "true or false" => {
                "text (write it in quotes)".to_owned()
            }
            "a string" => "text".to_owned(),
            "a boolean" => "true or false".to_owned(),
            "a sequence" => "a list".to_owned(),
            "a map" => "a mapping".to_owned(),
            "u16" | "u32" | "u64" | "usize" => "a whole number".to_owned(),
            other => other.to_owned(),
        };
        Self::shape(format!("expected {expected}, found {found}"))
    }

    fn invalid_value(_: Unexpected<'_>, _: &dyn Expected) -> Self {
        Self::shape("the number is out of range".to_owned())
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let wrong = Wrong::Unknown(match nearest(field, expected) {
            Some(near) => format!("there is no such key here; did you mean {near}?"),
            None => format!("there is no such key here; the keys are {}", expected.join(", ")),
        });
        Self { way: vec![Step::Key(field.to_owned())], wrong }
    }
}

impl Node {
    /// Takes out the value at `path`. In a list an empty mapping takes its place, so that the others keep their
    /// numbers; if that was tried, the list goes. `false` if nothing could be taken out.
    fn take_out(&mut self, path: &[Step]) -> bool {
        match (self, path) {
            (Self::Map(members), [Step::Key(key)]) => {
                let before = members.len();
                members.retain(|(name, _)| name != key);
                members.len() < before
            }
            (Self::List(items), [Step::Index(index)]) => match items.get_mut(*index) {
                Some(Self::Map(members)) if members.is_empty() => {
                    items.clear();
                    true
                }
                Some(item) => {
                    *item = Self::Map(Vec::new());
                    true
                }
                None => false,
            },
            (Self::Map(members), [Step::Key(key), rest @ ..]) => {
                members.iter_mut().find(|(name, _)| name == key).is_some_and(|(_, value)| value.take_out(rest))
            }
            (Self::List(items), [Step::Index(index), rest @ ..]) => {
                items.get_mut(*index).is_some_and(|item| item.take_out(rest))
            }
            _ => false,
        }
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self {
            Node::Null => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::Unsigned(value) => visitor.visit_u64(*value),
            Node::Signed(value) => visitor.visit_i64(*value),
            Node::Float(value) => visitor.visit_f64(*value),
            Node::Text(value) => visitor.visit_borrowed_str(value),
            Node::List(items) => visitor.visit_seq(Items { items: items.iter(), index: 0 }),
            Node::Map(members) => visitor.visit_map(Members { members: members.iter(), current: None }),
        }
    }

    /// A key without a value counts as absent.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self {
            Node::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Items<'n> {
    items: std::slice::Iter<'n, Node>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Misfit> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        seed.deserialize(item).map(Some).map_err(|misfit| misfit.below(Step::Index(index)))
    }
}

struct Members<'n> {
    members: std::slice::Iter<'n, (String, Node)>,
    current: Option<&'n (String, Node)>,
}

impl<'de> MapAccess<'de> for Members<'de> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        self.current = self.members.next();
        let Some((key, _)) = self.current else { return Ok(None) };
        let key: StrDeserializer<'_, Misfit> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        let Some((key, value)) = self.current else { return Err(Misfit::custom("a value without a key")) };
        seed.deserialize(value).map_err(|misfit| misfit.below(Step::Key(key.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, expecting = "a mapping")]
    struct Sample {
        name: Option<String>,
        count: Option<u64>,
        parts: Option<Vec<Part>>,
        tags: Option<Vec<String>>,
        by_name: Option<BTreeMap<String, Part>>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, expecting = "a mapping")]
    struct Part {
        size: Option<u64>,
    }

    fn read(text: &str) -> (Sample, String) {
        let collector = Collector::default();
        let mut tree = tree::read(text, &collector).expect("YAML");
        let sample = shape(&mut tree, &collector);
        (sample, collector.finish(text).map_or_else(|faults| faults.to_string(), |_| String::new()))
    }

    #[test]
    fn all_misfits_are_found_in_one_go_and_the_rest_is_read() {
        let text = "\
nmae: x
name: 12
count: -1
parts: [{size: 1}, 7, {size: big, sizes: 2}]
tags: [a, {b: c}]
by_name: {x: {size: 1.5}, y: {}}
";
        let (sample, faults) = read(text);
        let expected = "\
nmae: there is no such key here; did you mean name? (line 1, column 1)
name: expected text (write it in quotes), found a number (line 2, column 7)
count: the number is out of range (line 3, column 8)
parts[1]: expected a mapping, found a number (line 4, column 20)
parts[2].size: expected a whole number, found text (line 4, column 30)
parts[2].sizes: there is no such key here; did you mean size? (line 4, column 35)
tags[1]: expected text, found a mapping (line 5, column 11)
by_name.x.size: expected a whole number, found a number with a fraction (line 6, column 21)
8 faults";
        assert_eq!(faults, expected);
        assert_eq!(sample.parts, Some(vec![Part { size: Some(1) }, Part::default(), Part::default()]));
        assert_eq!(sample.by_name.map(|parts| parts.len()), Some(2));
    }

    #[test]
    fn a_key_without_a_value_is_absent() {
        assert_eq!(read("name:\nparts: ~\n"), (Sample::default(), String::new()));
    }

    #[test]
    fn a_file_that_is_no_mapping_is_one_fault() {
        assert_eq!(read("just text").1, "file: expected a mapping, found text\n1 fault");
    }

    #[test]
    fn endless_faults_end() {
        let text = (0..500).map(|n| format!("wrong{n}: 1")).collect::<Vec<_>>().join("\n");
        let (_, faults) = read(&text);
        assert!(faults.lines().count() <= MOST + 1, "{faults}");
    }
}
