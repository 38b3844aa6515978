//! Which bodies are JSON.

use http::header::{self, HeaderMap};

/// Whether the one `Content-Type` of a message is JSON.
pub fn is_json(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(header::CONTENT_TYPE).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => line.to_str().is_ok_and(is_json_type),
        (None, _) | (Some(_), Some(_)) => false,
    }
}

/// Whether a media type is `application/json` or has the suffix `+json` (RFC 6839 §3.1), whatever its parameters.
pub fn is_json_type(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim_ascii();
    let Some((kind, subtype)) = essence.split_once('/') else { return false };
    if !is_token(kind) || !is_token(subtype) {
        return false;
    }
    let plain = kind.eq_ignore_ascii_case("application") && subtype.eq_ignore_ascii_case("json");
    let suffix = subtype.len().checked_sub("+json".len()).filter(|at| *at > 0);
    plain || suffix.and_then(|at| subtype.get(at..)).is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json"))
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn json_is_told_by_its_type_or_suffix() {
        for (media_type, wanted) in [
            ("application/json", true),
            ("Application/JSON;charset=utf-8", true),
            ("application/json ; charset=\"utf-8\"", true),
            ("application/problem+json", true),
            ("application/vnd.bank.v1+JSON; q=1", true),
            ("image/x+json", true),
            ("application/json5", false),
            ("application/+json", false),
            ("text/json", false),
            ("application/x-json", false),
            ("text/html; x=application/json", false),
            ("application", false),
            ("/json", false),
            ("application/json, text/html", false),
            ("", false),
        ] {
            assert_eq!(is_json_type(media_type), wanted, "{media_type:?}");
        }
    }

    #[test]
    fn a_message_with_no_or_two_content_types_is_not_json() {
        let mut headers = HeaderMap::new();
        assert!(!is_json(&headers));
        headers.append(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        assert!(is_json(&headers));
        headers.append(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        assert!(!is_json(&headers));
    }
}
