//! The calls that count, as the fields of a hash: one for each group, in which each call is its time, a bar and its id.

use std::collections::BTreeMap;

use crate::store::record::{BadField, MOST};
use crate::words::ids::{CallId, QuotaGroup};

/// The layout of the fields.
const SCHEMA: &[u8] = b"1";

/// What is counted of one consent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaRecord {
    /// The calls of each group, in the order in which they were counted. Never empty.
    pub(super) groups: BTreeMap<QuotaGroup, Vec<Counted>>,
    /// `exp`: until when the record is kept.
    pub(super) until: u64,
}

/// A call that was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    /// When.
    pub(super) at: u64,
    /// Which.
    pub(super) call: CallId,
}

impl QuotaRecord {
    /// Whether nothing in it counts any more.
    pub const fn is_past(&self, now: u64) -> bool {
        self.until <= now
    }

    /// Reads the fields of a stored hash. Fields and calls that it does not know are passed over.
    pub fn from_fields(fields: &[(Vec<u8>, Vec<u8>)]) -> Result<Self, BadField> {
        if fields.is_empty() {
            return Ok(Self::default());
        }
        let text = |wanted: &str| {
            let found = fields.iter().find(|(name, _)| name == wanted.as_bytes());
            found.and_then(|(_, value)| std::str::from_utf8(value).ok())
        };
        if text("v").map(str::as_bytes) != Some(SCHEMA) {
            return Err(BadField("v"));
        }
        let until = text("exp").and_then(number).ok_or(BadField("exp"))?;
        let groups = fields.iter().filter_map(|(name, value)| {
            let group = QuotaGroup::parse(std::str::from_utf8(name).ok()?)?;
            let calls: Vec<_> = std::str::from_utf8(value).ok()?.split(' ').filter_map(Counted::parse).collect();
            (!calls.is_empty()).then_some((group, calls))
        });
        Ok(Self { groups: groups.collect(), until })
    }

    /// The fields to store.
    pub fn to_fields(&self) -> Vec<(String, Vec<u8>)> {
        let mut fields =
            vec![("v".to_owned(), SCHEMA.to_vec()), ("exp".to_owned(), self.until.to_string().into_bytes())];
        for (group, calls) in &self.groups {
            let words: Vec<_> = calls.iter().map(|counted| format!("{}|{}", counted.at, counted.call)).collect();
            fields.push((group.to_string(), words.join(" ").into_bytes()));
        }
        fields
    }
}

impl Counted {
    fn parse(word: &str) -> Option<Self> {
        let (at, call) = word.split_once('|')?;
        Some(Self { at: number(at)?, call: CallId::parse(call)? })
    }
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|number| *number <= MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(fields: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
        fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn a_record_reads_back_what_it_wrote() {
        let counted = |at, byte| Counted { at, call: CallId::from_random([byte; 16]) };
        let groups =
            [("one", vec![counted(1_000, 1), counted(2_000, 2)]), ("other", vec![counted(1_500, 3)])].into_iter();
        let groups = groups.map(|(name, calls)| (QuotaGroup::of(name), calls)).collect();
        let record = QuotaRecord { groups, until: 9_000 };
        let fields: Vec<_> = record.to_fields().into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
        assert_eq!(QuotaRecord::from_fields(&fields), Ok(record));
    }

    #[test]
    fn what_is_no_call_is_passed_over_and_another_layout_is_named() {
        let group = QuotaGroup::of("one").to_string();
        let call = CallId::from_random([1; 16]);
        let calls = format!("x 5|y {call} -1|{call} 99999999999999999|{call} 7|{call}");
        let record = QuotaRecord::from_fields(&stored(&[("v", "1"), ("exp", "9"), (&group, &calls), ("x", "y")]));
        let seven = Counted { at: 7, call };
        assert_eq!(record.map(|record| record.groups.into_values().collect::<Vec<_>>()), Ok(vec![vec![seven]]));
        assert_eq!(QuotaRecord::from_fields(&stored(&[("v", "2"), ("exp", "9")])), Err(BadField("v")));
        assert_eq!(QuotaRecord::from_fields(&stored(&[("v", "1"), ("exp", "soon")])), Err(BadField("exp")));
    }
}
