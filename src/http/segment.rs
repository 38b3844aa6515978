//! One piece of a path between slashes: what may stand in it, and how it is compared.
//!
//! Almost every segment holds no escape, so nothing is copied unless a `%` is there.

use std::borrow::Cow;
use std::fmt;

use super::target::TargetError;

/// A segment of a checked path, as sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Segment<'p>(&'p str);

impl<'p> Segment<'p> {
    /// The bytes as sent.
    pub const fn raw(self) -> &'p str {
        self.0
    }

    /// The segment, percent-decoded once.
    pub fn decoded(self) -> Cow<'p, str> {
        if !self.0.contains('%') {
            return Cow::Borrowed(self.0);
        }
        match decode(self.0.as_bytes(), Undecodable::Keep).map(String::from_utf8) {
            Ok(Ok(text)) => Cow::Owned(text),
            // Segments of a checked path decode; any other is compared as it was sent.
            Ok(Err(_)) | Err(_) => Cow::Borrowed(self.0),
        }
    }

    /// Whether the segment, decoded once, is `literal`.
    pub fn is(self, literal: &str) -> bool {
        self.0 == literal || (self.0.contains('%') && self.decoded() == literal)
    }
}

impl fmt::Debug for Segment<'_> {
    /// A segment may be a consent id or an account number: only its size is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Segment({} bytes)", self.0.len())
    }
}

/// The segments of a path, first to last. The empty path and `/` have none; `/a/` has
/// two, the last one empty.
#[derive(Clone)]
pub struct Segments<'p>(Option<&'p str>);

impl<'p> Segments<'p> {
    /// Those of `path`, which is empty or begins with `/`.
    pub(super) fn of(path: &'p str) -> Self {
        let inner = path.strip_prefix('/').unwrap_or(path);
        Self((!inner.is_empty()).then_some(inner))
    }
}

impl<'p> Iterator for Segments<'p> {
    type Item = Segment<'p>;

    fn next(&mut self) -> Option<Segment<'p>> {
        let rest = self.0?;
        let (segment, after) = match rest.split_once('/') {
            Some((segment, after)) => (segment, Some(after)),
            None => (rest, None),
        };
        self.0 = after;
        Some(Segment(segment))
    }
}

impl fmt::Debug for Segments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Segments({} left)", self.clone().count())
    }
}

/// Checks one segment; `last` allows path parameters, which no server then mistakes for structure.
pub(super) fn check(segment: &str, last: bool) -> Result<(), TargetError> {
    let mut escapes = false;
    for byte in segment.bytes() {
        match byte {
            0x80.. => return Err(TargetError::NotAscii),
            ..=b' ' | 0x7f => return Err(TargetError::Control),
            b'\\' => return Err(TargetError::Backslash),
            b';' if !last => return Err(TargetError::Parameter),
            b'%' => escapes = true,
            _ => {}
        }
    }
    if escapes { check_escapes(segment.as_bytes()) } else { check_dots(segment.as_bytes()) }
}

fn check_escapes(segment: &[u8]) -> Result<(), TargetError> {
    let once = decode(segment, Undecodable::Refuse)?;
    check_decoded(&once)?;
    if !once.contains(&b'%') {
        return Ok(());
    }
    let twice = decode(&once, Undecodable::Keep)?;
    check_decoded(&twice)?;
    if decode(&twice, Undecodable::Keep)? == twice { Ok(()) } else { Err(TargetError::EncodedTooOften) }
}

fn check_decoded(decoded: &[u8]) -> Result<(), TargetError> {
    for byte in decoded {
        match byte {
            0..=0x1f | 0x7f => return Err(TargetError::Control),
            b'/' => return Err(TargetError::EncodedSlash),
            b'\\' => return Err(TargetError::Backslash),
            _ => {}
        }
    }
    std::str::from_utf8(decoded).map_err(|_| TargetError::NotUtf8)?;
    check_dots(decoded)
}

/// Servers that cut `;parameters` off before they resolve dots see a dot segment in `..;x`.
fn check_dots(segment: &[u8]) -> Result<(), TargetError> {
    match segment {
        [b'.'] | [b'.', b'.'] | [b'.', b';', ..] | [b'.', b'.', b';', ..] => Err(TargetError::DotSegment),
        _ => Ok(()),
    }
}

#[derive(Clone, Copy)]
enum Undecodable {
    Keep,
    Refuse,
}

fn decode(text: &[u8], undecodable: Undecodable) -> Result<Vec<u8>, TargetError> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let escape = match after {
            [high, low, ..] => hex_digit(*high).zip(hex_digit(*low)),
            _ => None,
        };
        match (escape, undecodable) {
            (Some((high, low)), _) => {
                decoded.push(high << 4 | low);
                rest = after.get(2..).unwrap_or_default();
            }
            (None, Undecodable::Keep) => decoded.push(byte),
            (None, Undecodable::Refuse) => return Err(TargetError::BadEscape),
        }
    }
    Ok(decoded)
}

const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_what_stands_between_the_slashes() {
        let rows: &[(&str, &[&str])] =
            &[("", &[]), ("/", &[]), ("/a", &["a"]), ("/a/", &["a", ""]), ("/a/b%20c", &["a", "b%20c"])];
        for (path, wanted) in rows {
            let raw: Vec<_> = Segments::of(path).map(Segment::raw).collect();
            assert_eq!(&raw, wanted, "{path}");
        }
    }

    #[test]
    fn a_segment_is_compared_decoded_once_and_no_more() {
        assert!(Segment("accounts").is("accounts"));
        assert!(Segment("acc%6funts").is("accounts"));
        assert!(Segment("a%3Ab").is("a:b"));
        assert!(Segment("a%2541").is("a%41"));
        assert!(!Segment("a%2541").is("aA"));
        assert!(!Segment("Accounts").is("accounts"));
    }

    #[test]
    fn only_a_segment_with_escapes_is_copied() {
        assert!(matches!(Segment("plain").decoded(), Cow::Borrowed("plain")));
        assert_eq!(Segment("caf%C3%A9").decoded(), "café");
    }
}
