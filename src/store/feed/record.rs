//! A feed's record and a name's as the fields of a hash: what is checked when they are read.

use crate::store::contract::MOST_NAMED;
use crate::store::record::{BadField, MOST};
use crate::words::ids::{AttemptId, ConsentId, Fence};

/// The layout of the fields.
const SCHEMA: &[u8] = b"1";

/// How far a feed was read. Each field's documentation begins with its stored name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedRecord {
    /// `own`: who reads, or did last.
    pub reader: Option<AttemptId>,
    /// `fence`: how many readers there have been.
    pub fence: Fence,
    /// `until`: until when nobody else may read, in milliseconds of the store's clock.
    pub until: u64,
    /// `pos`: the next number that is to be read.
    pub position: Option<u64>,
    /// `at`: when it was last moved.
    pub moved_at: Option<u64>,
}

/// What consents are called here that a bank calls by one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameRecord {
    /// `cids`: the consents' ids, the last noted last.
    pub consents: Vec<ConsentId>,
    /// `exp`: until when it is kept.
    pub until: u64,
}

impl FeedRecord {
    /// Reads the fields of a stored hash; none: a new record. Fields it does not know are passed over.
    pub fn from_fields(fields: &[(Vec<u8>, Vec<u8>)]) -> Result<Self, BadField> {
        let Some(text) = reader(fields)? else { return Ok(Self::default()) };
        Ok(Self {
            reader: text("own")?.map(AttemptId::from_stored),
            fence: number(text("fence")?, "fence")?.unwrap_or_default(),
            until: number(text("until")?, "until")?.unwrap_or_default(),
            position: number(text("pos")?, "pos")?,
            moved_at: number(text("at")?, "at")?,
        })
    }

    /// The fields to store.
    pub fn to_fields(&self) -> Vec<(&'static str, Vec<u8>)> {
        let mut fields = vec![
            ("v", SCHEMA.to_vec()),
            ("fence", self.fence.to_string().into_bytes()),
            ("until", self.until.to_string().into_bytes()),
        ];
        fields.extend(self.reader.as_ref().map(|reader| ("own", reader.as_str().as_bytes().to_vec())));
        fields.extend(self.position.map(|position| ("pos", position.to_string().into_bytes())));
        fields.extend(self.moved_at.map(|at| ("at", at.to_string().into_bytes())));
        fields
    }
}

impl NameRecord {
    /// Reads the fields of a stored hash; none: nothing is called so.
    pub fn from_fields(fields: &[(Vec<u8>, Vec<u8>)]) -> Result<Self, BadField> {
        let Some(text) = reader(fields)? else { return Ok(Self::default()) };
        let ids = text("cids")?.unwrap_or_default().split(' ').filter(|id| !id.is_empty());
        let consents = ids.map(|id| ConsentId::parse(id).map_err(|_| BadField("cids"))).collect::<Result<_, _>>()?;
        Ok(Self { consents, until: number(text("exp")?, "exp")?.unwrap_or_default() })
    }

    /// The fields to store.
    pub fn to_fields(&self) -> Vec<(&'static str, Vec<u8>)> {
        let ids: Vec<&str> = self.consents.iter().map(ConsentId::as_str).collect();
        vec![("v", SCHEMA.to_vec()), ("cids", ids.join(" ").into_bytes()), ("exp", self.until.to_string().into_bytes())]
    }

    /// Notes one more consent, the last of them, and forgets the oldest of too many.
    pub fn note(&mut self, consent: &ConsentId, until: u64) {
        self.consents.retain(|known| known != consent);
        self.consents.push(consent.clone());
        let oldest = self.consents.len().saturating_sub(MOST_NAMED);
        self.consents.drain(..oldest);
        self.until = until;
    }
}

/// What reads a field of a stored hash as text; `None`: there is no hash.
type Reader<'a> = Box<dyn Fn(&'static str) -> Result<Option<&'a str>, BadField> + 'a>;

fn reader(fields: &[(Vec<u8>, Vec<u8>)]) -> Result<Option<Reader<'_>>, BadField> {
    let bytes =
        |name: &str| fields.iter().find(|(field, _)| field == name.as_bytes()).map(|(_, value)| value.as_slice());
    if fields.is_empty() {
        return Ok(None);
    }
    if bytes("v") != Some(SCHEMA) {
        return Err(BadField("v"));
    }
    Ok(Some(Box::new(move |name| {
        bytes(name).map(|value| std::str::from_utf8(value).map_err(|_| BadField(name))).transpose()
    })))
}

fn number(text: Option<&str>, name: &'static str) -> Result<Option<u64>, BadField> {
    let Some(text) = text else { return Ok(None) };
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten().filter(|number| *number <= MOST);
    number.map(Some).ok_or(BadField(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(fields: Vec<(&'static str, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
        fields.into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value)).collect()
    }

    #[test]
    fn records_read_back_what_they_wrote() {
        let bare = FeedRecord { fence: 1, until: 5, ..FeedRecord::default() };
        let full =
            FeedRecord { reader: Some(AttemptId::new("r", 1)), position: Some(7), moved_at: Some(3), ..bare.clone() };
        for record in [bare, full] {
            assert_eq!(FeedRecord::from_fields(&stored(record.to_fields())), Ok(record));
        }
        let mut name = NameRecord::default();
        for n in 0..=MOST_NAMED {
            name.note(&ConsentId::parse(&format!("c-{n}")).expect("valid"), 9);
        }
        assert_eq!((name.consents.len(), name.consents[0].as_str()), (MOST_NAMED, "c-1"));
        assert_eq!(NameRecord::from_fields(&stored(name.to_fields())), Ok(name));
    }

    #[test]
    fn a_field_that_cannot_be_understood_is_named() {
        for (name, value) in [("v", "2"), ("fence", "-1"), ("until", "x"), ("pos", "9999999999999999"), ("at", "")] {
            let mut fields = stored(FeedRecord::default().to_fields());
            fields.retain(|(field, _)| field != name.as_bytes());
            fields.push((name.into(), value.into()));
            assert_eq!(FeedRecord::from_fields(&fields), Err(BadField(name)));
        }
    }
}
