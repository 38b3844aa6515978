//! Path patterns of routes: `/v1/accounts/*/balances`, `/v1/debt/{consent_id}/**`.
//!
//! Matching goes over the segments once and, at a dead end, back to the last `**` only, which is enough for this kind of
//! pattern and bounds the work by segments times pieces.

use std::borrow::Cow;
use std::fmt;

use super::prefix::Rest;
use super::segment::{Segment, Segments};

/// A parsed pattern. `*` is one segment that is not empty, `**` any number of segments, none included,
/// `{consent_id}` one segment that names the consent; everything else stands for itself, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    pieces: Box<[Piece]>,
    consent: Option<ConsentPlace>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Box<str>),
    OneSegment,
    ConsentId,
    AnySegments,
}

/// Where the consent id stands. On the side of it that is counted there is no `**`, so the place is fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConsentPlace {
    FromStart(usize),
    FromEnd(usize),
}

/// A path that fits a pattern.
#[derive(Clone, PartialEq, Eq)]
pub struct Match<'p> {
    /// What stood at `{consent_id}`, decoded once and not yet checked; `None` where the pattern has no such piece.
    pub consent_segment: Option<Cow<'p, str>>,
}

/// Why a text is not a path pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It begins with something else.
    #[error("the path pattern does not begin with /")]
    NoSlash,
    /// `//` inside it.
    #[error("the path pattern holds an empty segment at position {0}")]
    EmptySegment(usize),
    /// `.` or `..`, which no request can carry.
    #[error("the path pattern holds the dot segment {0:?}")]
    DotSegment(String),
    /// `*` within a longer segment.
    #[error("in {0:?}, * and ** must stand alone between slashes")]
    PartialWildcard(String),
    /// A brace that is not `{consent_id}` alone between slashes.
    #[error("in {0:?}, the only placeholder is {{consent_id}}, alone between slashes")]
    Placeholder(String),
    /// `{consent_id}` more than once.
    #[error("{{consent_id}} stands in the path pattern more than once")]
    ConsentIdTwice,
    /// `**` before and after `{consent_id}`.
    #[error("** on both sides of {{consent_id}} leaves open which segment is the consent id")]
    Ambiguous,
    /// A character that no path holds unencoded.
    #[error("in {segment:?}, the character {character:?} cannot be matched (write it unencoded)")]
    Character {
        /// The segment it stands in.
        segment: String,
        /// The character.
        character: char,
    },
}

impl PathPattern {
    /// Reads a pattern as configured.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let inner = text.strip_prefix('/').ok_or(PatternError::NoSlash)?;
        let last = inner.matches('/').count();
        let mut pieces = Vec::new();
        if !inner.is_empty() {
            for (position, segment) in inner.split('/').enumerate() {
                if segment.is_empty() && position < last {
                    return Err(PatternError::EmptySegment(position + 1));
                }
                pieces.push(Piece::parse(segment)?);
            }
        }
        let consent = ConsentPlace::of(&pieces)?;
        Ok(Self { pieces: pieces.into_boxed_slice(), consent })
    }

    /// Whether the pattern holds `{consent_id}`.
    pub const fn names_consent(&self) -> bool {
        self.consent.is_some()
    }

    /// Whether the path fits that `rest` has under a base whose own path is `base`.
    pub fn fits_under(&self, base: &str, rest: Rest<'_>) -> bool {
        fits(&self.pieces, Segments::of(base).chain(rest.segments()))
    }

    /// Matches the path behind a prefix.
    pub fn matches<'p>(&self, rest: Rest<'p>) -> Option<Match<'p>> {
        if !fits(&self.pieces, rest.segments()) {
            return None;
        }
        let segment = match self.consent {
            Some(ConsentPlace::FromStart(index)) => Some(rest.segment(index, false)?),
            Some(ConsentPlace::FromEnd(index)) => Some(rest.segment(index, true)?),
            None => None,
        };
        Some(Match { consent_segment: segment.map(Segment::decoded) })
    }
}

impl fmt::Debug for Match<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.consent_segment.is_some();
        f.debug_struct("Match").field("names_consent", &named).finish()
    }
}

fn fits<'p, S: Iterator<Item = Segment<'p>> + Clone>(pieces: &[Piece], mut segments: S) -> bool {
    let mut rest = pieces;
    let mut last_any: Option<(&[Piece], S)> = None;
    loop {
        match rest.split_first() {
            Some((Piece::AnySegments, [])) => return true,
            Some((Piece::AnySegments, after)) => {
                last_any = Some((after, segments.clone()));
                rest = after;
                continue;
            }
            Some((piece, after)) => {
                let mut ahead = segments.clone();
                if ahead.next().is_some_and(|segment| piece.fits(segment)) {
                    (rest, segments) = (after, ahead);
                    continue;
                }
            }
            None if segments.clone().next().is_none() => return true,
            None => {}
        }
        // A dead end: the last `**` takes one segment more.
        let Some((after, from)) = &mut last_any else { return false };
        if from.next().is_none() {
            return false;
        }
        (rest, segments) = (after, from.clone());
    }
}

impl Piece {
    fn parse(segment: &str) -> Result<Self, PatternError> {
        match segment {
            "*" => return Ok(Self::OneSegment),
            "**" => return Ok(Self::AnySegments),
            "{consent_id}" => return Ok(Self::ConsentId),
            "." | ".." => return Err(PatternError::DotSegment(segment.to_owned())),
            _ => {}
        }
        if segment.contains('*') {
            return Err(PatternError::PartialWildcard(segment.to_owned()));
        }
        if segment.contains(['{', '}']) {
            return Err(PatternError::Placeholder(segment.to_owned()));
        }
        let unmatchable = |c: char| c.is_control() || c.is_whitespace() || "%?#\\".contains(c);
        match segment.chars().find(|c| unmatchable(*c)) {
            Some(character) => Err(PatternError::Character { segment: segment.to_owned(), character }),
            None => Ok(Self::Literal(segment.into())),
        }
    }

    fn fits(&self, segment: Segment<'_>) -> bool {
        match self {
            Self::Literal(text) => segment.is(text),
            Self::OneSegment | Self::ConsentId => !segment.raw().is_empty(),
            // Taken apart by the loop above; as a single piece it takes anything.
            Self::AnySegments => true,
        }
    }
}

impl ConsentPlace {
    fn of(pieces: &[Piece]) -> Result<Option<Self>, PatternError> {
        let is_consent = |piece: &Piece| *piece == Piece::ConsentId;
        let Some(index) = pieces.iter().position(is_consent) else { return Ok(None) };
        let (before, from_consent) = pieces.split_at(index);
        let after = from_consent.get(1..).unwrap_or_default();
        if after.iter().any(is_consent) {
            return Err(PatternError::ConsentIdTwice);
        }
        match (before.contains(&Piece::AnySegments), after.contains(&Piece::AnySegments)) {
            (false, _) => Ok(Some(Self::FromStart(index))),
            (true, false) => Ok(Some(Self::FromEnd(after.len()))),
            (true, true) => Err(PatternError::Ambiguous),
        }
    }
}

#[cfg(test)]
mod tests;
