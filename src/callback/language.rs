//! Which language a page is in.

use http::{HeaderMap, header};

/// The languages that pages are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    English,
    Dutch,
    Norwegian,
}

impl Language {
    /// The one that the browser would rather have (RFC 9110 §12.5.4); English where it asks for none of them.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(header::ACCEPT_LANGUAGE).iter().filter_map(|line| line.to_str().ok());
        let mut best = (0, Self::English);
        for range in lines.flat_map(|line| line.split(',')).take(MOST) {
            let (tag, parameter) = range.split_once(';').unwrap_or((range, ""));
            let primary = tag.trim().split('-').next().unwrap_or_default();
            let weight = weight(parameter);
            if let Some(language) = Self::named(primary)
                && weight > best.0
            {
                best = (weight, language);
            }
        }
        best.1
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
        let is = |known: &[&str]| known.iter().any(|known| primary.eq_ignore_ascii_case(known));
        if is(&["en"]) {
            Some(Self::English)
        } else if is(&["nl"]) {
            Some(Self::Dutch)
        } else if is(&["nb", "no", "nn"]) {
            Some(Self::Norwegian)
        } else {
            None
        }
    }
}

/// Ranges that are looked at.
const MOST: usize = 32;

/// `q=0.8` in thousandths; a thousand where there is none or it cannot be read.
fn weight(parameter: &str) -> u32 {
    let Some(value) = parameter.trim().strip_prefix("q=") else { return 1_000 };
    match value.trim().split_once('.') {
        None if value.trim() == "0" => 0,
        Some(("0", digits)) if digits.len() <= 3 => format!("{digits:0<3}").parse().unwrap_or(1_000),
        None | Some(_) => 1_000,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(line: &'static str) -> Language {
        let headers = [(header::ACCEPT_LANGUAGE, HeaderValue::from_static(line))].into_iter().collect();
        Language::of(&headers)
    }

    #[test]
    fn the_browsers_first_choice_among_ours_is_taken() {
        for (line, expected) in [
            ("nl-NL,nl;q=0.9,en;q=0.8", Language::Dutch),
            ("fr, nl;q=0.5, en;q=0.7", Language::English),
            ("nb-NO", Language::Norwegian),
            ("NN;q=0.3, de", Language::Norwegian),
            ("no", Language::Norwegian),
            ("en;q=0, nl;q=0.001", Language::Dutch),
            ("nl;q=0", Language::English),
            ("fr", Language::English),
            ("*", Language::English),
            (";;;,=,q", Language::English),
        ] {
            assert_eq!(of(line), expected, "{line}");
        }
        assert_eq!(Language::of(&HeaderMap::new()), Language::English);
    }
}
