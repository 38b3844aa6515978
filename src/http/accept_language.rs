//! Which of our languages a browser would rather have (RFC 9110 §12.5.4).

use http::{HeaderMap, header};

/// The first choice among the languages that `offered` knows by a primary subtag in lower case (`nl` for `nl-BE`). `None`
/// where nothing is asked for, or none of them: what is understood by `*` is the page's to say.
pub fn preferred<T>(headers: &HeaderMap, offered: impl Fn(&str) -> Option<T>) -> Option<T> {
    let lines = headers.get_all(header::ACCEPT_LANGUAGE).iter().filter_map(|line| line.to_str().ok());
    let mut best = (0, None);
    for range in lines.flat_map(|line| line.split(',')).take(MOST) {
        let (tag, parameter) = range.split_once(';').unwrap_or((range, ""));
        let primary = tag.trim().split('-').next().unwrap_or_default().to_ascii_lowercase();
        let weight = weight(parameter);
        if weight > best.0
            && let Some(language) = offered(&primary)
        {
            best = (weight, Some(language));
        }
    }
    best.1
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

    fn of(line: &'static str) -> Option<&'static str> {
        let headers = [(header::ACCEPT_LANGUAGE, HeaderValue::from_static(line))].into_iter().collect();
        preferred(&headers, |tag| ["en", "nl", "nb"].into_iter().find(|known| *known == tag))
    }

    #[test]
    fn the_browsers_first_choice_among_ours_is_taken() {
        for (line, expected) in [
            ("nl-NL,nl;q=0.9,en;q=0.8", Some("nl")),
            ("fr, nl;q=0.5, en;q=0.7", Some("en")),
            ("NB-no", Some("nb")),
            ("NB;q=0.3, de", Some("nb")),
            ("en;q=0, nl;q=0.001", Some("nl")),
            ("nl;q=0", None),
            ("fr", None),
            ("*", None),
            (";;;,=,q", None),
            ("", None),
        ] {
            assert_eq!(of(line), expected, "{line}");
        }
        assert_eq!(preferred(&HeaderMap::new(), |_| Some(())), None);
    }
}
