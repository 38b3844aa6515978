//! Which language a page is in.

use http::HeaderMap;

use crate::http::accept_language::preferred;

/// The languages that pages are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    English,
    Dutch,
    Norwegian,
}

impl Language {
    /// The one that the browser would rather have; English where it asks for none of them.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        preferred(headers, Self::named).unwrap_or(Self::English)
    }

    /// The tag for `lang` and `Content-Language`.
    pub(super) const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Dutch => "nl",
            Self::Norwegian => "nb",
        }
    }

    fn named(primary: &str) -> Option<Self> {
        match primary {
            "en" => Some(Self::English),
            "nl" => Some(Self::Dutch),
            "nb" | "no" | "nn" => Some(Self::Norwegian),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};

    use super::*;

    #[test]
    fn norwegian_has_three_names_and_whoever_asks_for_none_of_ours_reads_english() {
        for (line, expected) in [
            ("nl-NL,nl;q=0.9,en;q=0.8", Language::Dutch),
            ("nb-NO", Language::Norwegian),
            ("nn", Language::Norwegian),
            ("no", Language::Norwegian),
            ("en-GB", Language::English),
            ("fr", Language::English),
            ("nl;q=0", Language::English),
        ] {
            let headers = [(header::ACCEPT_LANGUAGE, HeaderValue::from_static(line))].into_iter().collect();
            assert_eq!(Language::of(&headers), expected, "{line}");
        }
        assert_eq!(Language::of(&HeaderMap::new()), Language::English);
    }
}
