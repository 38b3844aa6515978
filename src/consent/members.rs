//! Reads a JSON object member by member, so that every fault of it can be told at once and no value ever is.
//!
//! Secrets go from the parser into memory that is cleared when it is dropped. A name that does not look like one is not
//! repeated: it could be a token that was pasted into the wrong place.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

use super::request::RequestError;

/// What is wrong with one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its name, as far as it may be shown.
    pub member: String,
    /// What is wrong with it.
    pub what: &'static str,
}

/// More faults than this are not told.
pub(super) const MOST_FAULTS: usize = 32;

/// The members of an object, each at most once; unknown and doubled ones are faults already.
pub(super) struct Members {
    pub(super) found: BTreeMap<&'static str, Member>,
    pub(super) faults: Vec<Fault>,
}

/// A member's value, as far as any member can have it.
pub(super) enum Member {
    Text(Zeroizing<String>),
    Whole(u64),
    Null,
    Other,
}

impl Members {
    /// Reads an object that has no members but these.
    pub(super) fn read(json: &[u8], names: &'static [&'static str]) -> Result<Self, RequestError> {
        use serde_json::error::Category;
        let mut reader = serde_json::Deserializer::from_slice(json);
        let members = Names(names).deserialize(&mut reader).and_then(|members| reader.end().map(|()| members));
        members.map_err(|error| match error.classify() {
            Category::Data => RequestError::NotAnObject,
            Category::Io | Category::Syntax | Category::Eof => {
                RequestError::NotJson { line: error.line(), column: error.column() }
            }
        })
    }

    pub(super) fn fault(&mut self, member: impl Into<String>, what: &'static str) {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(Fault { member: member.into(), what });
        }
    }

    pub(super) fn required<T>(
        &mut self,
        name: &'static str,
        longest: usize,
        read: impl FnOnce(Zeroizing<String>) -> Result<T, &'static str>,
    ) -> Option<T> {
        if matches!(self.found.get(name), None | Some(Member::Null)) {
            self.fault(name, "it is missing");
            return None;
        }
        self.optional(name, longest, read)
    }

    pub(super) fn optional<T>(
        &mut self,
        name: &'static str,
        longest: usize,
        read: impl FnOnce(Zeroizing<String>) -> Result<T, &'static str>,
    ) -> Option<T> {
        let read = match self.found.remove(name)? {
            Member::Text(text) if text.is_empty() => Err("it is empty"),
            Member::Text(text) if text.len() > longest => Err("it is too long"),
            Member::Text(text) => read(text),
            Member::Null => return None,
            Member::Whole(_) | Member::Other => Err("it has to be a string"),
        };
        read.map_err(|what| self.fault(name, what)).ok()
    }
}

/// The members that an object may have.
struct Names(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Names {
    type Value = Members;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Members, D::Error> {
        struct Object(&'static [&'static str]);
        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Members { found: BTreeMap::new(), faults: Vec::new() };
                while let Some(name) = map.next_key::<String>()? {
                    let value = map.next_value::<Member>()?;
                    match self.0.iter().copied().find(|known| *known == name) {
                        None => members.fault(presentable(name), "there is no such member"),
                        Some(known) if members.found.contains_key(known) => members.fault(known, "it is given twice"),
                        Some(known) => {
                            members.found.insert(known, value);
                        }
                    }
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object(self.0))
    }
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Member;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_str<E>(self, text: &str) -> Result<Member, E> {
                Ok(Member::Text(Zeroizing::new(text.to_owned())))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Member, E> {
                Ok(Member::Whole(number))
            }

            fn visit_unit<E>(self) -> Result<Member, E> {
                Ok(Member::Null)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Member, E> {
                Ok(Member::Other)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Member, E> {
                Ok(Member::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Member, E> {
                Ok(Member::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Member, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Member::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Member, A::Error> {
                while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Member::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// A name that looks like one of a member, or words in its place.
fn presentable(name: String) -> String {
    let looks = (1..=32).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if looks { name } else { "(a name that is not shown)".to_owned() }
}
