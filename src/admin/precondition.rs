//! Which version a request means to replace.

use http::{HeaderMap, HeaderName, header};

use crate::words::ids::Version;

/// Why the preconditions of a request (RFC 9110 §13.1) are not understood. They are never passed over: what they guard
/// cannot be had twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PreconditionError {
    #[error("If-Match: * would replace whatever is there; the version has to be named, \"{{grant}}.{{generation}}\"")]
    Any,
    #[error("If-Match names more than one version; a consent has one")]
    Several,
    #[error("If-Match names its version without quotes; it has to be \"{{grant}}.{{generation}}\", quotes included")]
    Unquoted,
    #[error("If-Match holds a weak tag (W/); versions are compared exactly")]
    Weak,
    #[error("If-Match does not name a version; it has to be \"{{grant}}.{{generation}}\", as an ETag gave it")]
    NoVersion,
    #[error("If-None-Match is understood only as *, and not beside If-Match")]
    IfNoneMatch,
}

/// The version that `If-Match` names. `None`: there must be no consent yet, which `If-None-Match: *` says, too.
pub(super) fn expected(headers: &HeaderMap) -> Result<Option<Version>, PreconditionError> {
    let tag = only(headers, &header::IF_MATCH).map_err(|Several| PreconditionError::Several)?;
    match only(headers, &header::IF_NONE_MATCH) {
        Ok(None) => {}
        Ok(Some(b"*")) if tag.is_none() => return Ok(None),
        Ok(Some(_)) | Err(Several) => return Err(PreconditionError::IfNoneMatch),
    }
    tag.map(version).transpose()
}

fn version(tag: &[u8]) -> Result<Version, PreconditionError> {
    let tag = tag.trim_ascii();
    if tag == b"*" {
        return Err(PreconditionError::Any);
    }
    if tag.contains(&b',') {
        return Err(PreconditionError::Several);
    }
    if tag.starts_with(b"W/") {
        return Err(PreconditionError::Weak);
    }
    let quoted = tag.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let text = std::str::from_utf8(quoted.ok_or(PreconditionError::Unquoted)?);
    let text = text.map_err(|_| PreconditionError::NoVersion)?;
    // Tags are compared byte by byte (RFC 9110 §8.8.3.2), so another spelling of the same version is another tag.
    Version::parse(text).filter(|version| version.to_string() == text).ok_or(PreconditionError::NoVersion)
}

struct Several;

fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h [u8]>, Several> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (line, None) => Ok(line.map(http::HeaderValue::as_bytes)),
        (_, Some(_)) => Err(Several),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::words::ids::GrantId;

    fn read(lines: &[(HeaderName, &str)]) -> Result<Option<Version>, PreconditionError> {
        let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).unwrap();
        expected(&lines.iter().map(|(name, text)| (name.clone(), value(text))).collect())
    }

    fn version() -> Version {
        Version { grant: GrantId::parse("0123456789abcdef0123456789abcdef").unwrap(), generation: 7 }
    }

    #[test]
    fn a_quoted_version_is_what_is_expected() {
        let tag = format!("\"{}\"", version());
        assert_eq!(read(&[(header::IF_MATCH, &tag)]), Ok(Some(version())));
        assert_eq!(read(&[(header::IF_MATCH, &format!(" {tag} "))]), Ok(Some(version())));
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[(header::IF_NONE_MATCH, "*")]), Ok(None));
    }

    #[test]
    fn every_other_form_is_refused_with_its_own_sentence() {
        use PreconditionError as E;
        let bare = version().to_string();
        let rows = [
            ("*".to_owned(), E::Any),
            (bare.clone(), E::Unquoted),
            (format!("\"{bare}"), E::Unquoted),
            (String::new(), E::Unquoted),
            ("\"".to_owned(), E::Unquoted),
            (format!("W/\"{bare}\""), E::Weak),
            (format!("\"{bare}\", \"{bare}\""), E::Several),
            ("\"\"".to_owned(), E::NoVersion),
            ("\"*\"".to_owned(), E::NoVersion),
            (format!("\"{}\"", bare.to_uppercase()), E::NoVersion),
            (format!("\"{}.07\"", version().grant), E::NoVersion),
            (format!("\"{}.99999999999999999999999\"", version().grant), E::NoVersion),
            ("\"é\"".to_owned(), E::NoVersion),
        ];
        for (tag, wanted) in rows {
            assert_eq!(read(&[(header::IF_MATCH, &tag)]), Err(wanted), "{tag}");
        }
        let tag = format!("\"{bare}\"");
        assert_eq!(read(&[(header::IF_MATCH, &tag), (header::IF_MATCH, &tag)]), Err(E::Several));
        assert_eq!(read(&[(header::IF_MATCH, &tag), (header::IF_NONE_MATCH, "*")]), Err(E::IfNoneMatch));
        assert_eq!(read(&[(header::IF_NONE_MATCH, &tag)]), Err(E::IfNoneMatch));
        assert!(E::Unquoted.to_string().contains("\"{grant}.{generation}\""));
    }
}
