//! Which consent a call is for.
//!
//! An app names it in one header, or in the path where the bank's API has it there; where both are present they must
//! agree. A route may have a fixed consent, for development, and then what the app names is not looked at.

use http::HeaderName;
use http::header::HeaderMap;

use crate::words::ids::{ConsentId, ConsentIdError};
use crate::words::problem::ProblemType;

/// Why it is not known which consent a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unidentified {
    /// Named nowhere.
    #[error("the request names no consent")]
    Missing,
    /// The header is there more than once.
    #[error("the request has more than one header that names the consent")]
    HeaderTwice,
    /// The header's value is no consent id.
    #[error("the consent id in the header is not usable: {0}")]
    Header(ConsentIdError),
    /// The path's segment is no consent id.
    #[error("the consent id in the path is not usable: {0}")]
    Path(ConsentIdError),
    /// Header and path differ.
    #[error("the consent ids in header and path differ")]
    Contradiction,
}

impl Unidentified {
    /// The problem an app is told.
    pub(super) const fn problem(self) -> ProblemType {
        match self {
            Self::Missing => ProblemType::ConsentIdMissing,
            Self::HeaderTwice | Self::Header(_) | Self::Path(_) | Self::Contradiction => ProblemType::ConsentIdInvalid,
        }
    }
}

/// The consent that a request names. `segment` is the path's, decoded once; `fixed` the route's own.
pub(super) fn identify(
    header: &HeaderName,
    headers: &HeaderMap,
    segment: Option<&str>,
    fixed: Option<&ConsentId>,
) -> Result<Option<ConsentId>, Unidentified> {
    if let Some(fixed) = fixed {
        return Ok(Some(fixed.clone()));
    }
    let mut lines = headers.get_all(header).iter();
    let line = lines.next();
    if lines.next().is_some() {
        return Err(Unidentified::HeaderTwice);
    }
    let named = match line {
        Some(line) => {
            let text = line.to_str().map_err(|_| Unidentified::Header(ConsentIdError::Character))?;
            Some(ConsentId::parse(text).map_err(Unidentified::Header)?)
        }
        None => None,
    };
    let Some(segment) = segment else { return Ok(named) };
    match named {
        Some(named) if named.as_str() == segment => Ok(Some(named)),
        Some(_) => match ConsentId::parse(segment) {
            Ok(_) => Err(Unidentified::Contradiction),
            Err(error) => Err(Unidentified::Path(error)),
        },
        None => ConsentId::parse(segment).map(Some).map_err(Unidentified::Path),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_in_result, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn found(lines: &[&str], segment: Option<&str>, fixed: Option<&str>) -> Result<Option<String>, Unidentified> {
        let header = HeaderName::from_static("consent-id");
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&header, HeaderValue::from_str(line).expect("a value"));
        }
        let fixed = fixed.map(|id| ConsentId::parse(id).expect("valid"));
        identify(&header, &headers, segment, fixed.as_ref()).map(|id| id.map(|id| id.as_str().to_owned()))
    }

    #[test]
    fn header_or_path_names_the_consent() {
        assert_eq!(found(&["c1"], None, None), Ok(Some("c1".into())));
        assert_eq!(found(&[], Some("c1"), None), Ok(Some("c1".into())));
        assert_eq!(found(&["c1"], Some("c1"), None), Ok(Some("c1".into())));
        assert_eq!(found(&[], None, None), Ok(None));
    }

    #[test]
    fn a_fixed_consent_is_used_whatever_the_app_names() {
        assert_eq!(found(&["c1", "c2"], Some("c3"), Some("mine")), Ok(Some("mine".into())));
    }

    #[test]
    fn doubt_is_refused() {
        let character = ConsentIdError::Character;
        assert_eq!(found(&["c1", "c1"], None, None), Err(Unidentified::HeaderTwice));
        assert_eq!(found(&["c1, c1"], None, None), Err(Unidentified::Header(character)));
        assert_eq!(found(&["c1"], Some("c2"), None), Err(Unidentified::Contradiction));
        assert_eq!(found(&["c1"], Some("C1"), None), Err(Unidentified::Contradiction));
        assert_eq!(found(&[""], None, None), Err(Unidentified::Header(ConsentIdError::Empty)));
        assert_eq!(found(&["c%31"], None, None), Err(Unidentified::Header(character)));
        assert_eq!(found(&["c1"], Some("a b"), None), Err(Unidentified::Path(character)));
        assert_eq!(found(&[], Some(&"x".repeat(129)), None), Err(Unidentified::Path(ConsentIdError::TooLong)));
    }
}
