//! Lists the keys that the raw structs read, by asking them.
//!
//! A derived struct names its fields when it is deserialized. This deserializer gives every struct all of its keys, and
//! every list and map one element, and writes down where it has been.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::value::{Error, StrDeserializer};
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer as _, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use crate::config::raw::RawConfig;

/// Every key, with `*` for a name that the operator chooses. Where a secret comes from is not followed further.
pub(super) fn all() -> BTreeSet<String> {
    let keys = RefCell::default();
    RawConfig::deserialize(Lister { path: String::new(), keys: &keys }).expect("the structs take what they ask for");
    keys.into_inner()
}

struct Lister<'k> {
    path: String,
    keys: &'k RefCell<BTreeSet<String>>,
}

impl Lister<'_> {
    fn below(&self, key: &str) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        Self { path: format!("{}{dot}{key}", self.path), keys: self.keys }
    }
}

impl<'de> Deserializer<'de> for Lister<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str("text")
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(true)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u64(1)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(One(Some(self)))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Fields { lister: self, keys: ["*"].iter(), current: "*" })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let fields = if name == "RawSource" { &[] } else { fields };
        visitor.visit_map(Fields { lister: self, keys: fields.iter(), current: "" })
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct enum identifier ignored_any
    }
}

struct One<'k>(Option<Lister<'k>>);

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.take().map(|lister| seed.deserialize(lister)).transpose()
    }
}

struct Fields<'k> {
    lister: Lister<'k>,
    keys: std::slice::Iter<'static, &'static str>,
    current: &'static str,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(key) = self.keys.next() else { return Ok(None) };
        self.current = key;
        let key: StrDeserializer<'_, Error> = (*key).into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let below = self.lister.below(self.current);
        if self.current != "*" {
            below.keys.borrow_mut().insert(below.path.clone());
        }
        seed.deserialize(below)
    }
}

#[test]
fn keys_are_listed_to_the_last() {
    let keys = all();
    for key in ["proxy.limits.max_body_size", "providers.*.token_rejected.any_of", "apis.*.routes.needs", "replica"] {
        assert!(keys.contains(key), "{key} is not in {keys:#?}");
    }
    assert!(keys.contains("apis.*.set_headers"));
    assert!(!keys.iter().any(|key| key.contains(".env")));
}
