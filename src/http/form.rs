//! Names and values as browsers write them: `application/x-www-form-urlencoded` (RFC 6749 appendix B), in queries.

use zeroize::Zeroizing;

/// The pairs of a query, not decoded, in order. A pair without `=` has an empty value.
pub fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Decodes a name or a value; `None` for escapes that are none, and for what is no text then. What is decoded may be a
/// secret, so it is cleared when it is dropped.
pub fn decode(text: &str) -> Option<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            other => other,
        });
    }
    std::str::from_utf8(&bytes).ok().map(|text| Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_and_what_is_none_is_refused() {
        for (text, means) in [("", ""), ("a+b%20c", "a b c"), ("%C3%A6%26%3d%25", "æ&=%"), ("2026:01", "2026:01")] {
            assert_eq!(decode(text).as_deref().map(String::as_str), Some(means), "{text}");
        }
        for odd in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(decode(odd), None, "{odd}");
        }
    }

    #[test]
    fn pairs_are_taken_apart_at_their_first_sign_of_equality() {
        assert_eq!(pairs("a=b=c&d&&=e").collect::<Vec<_>>(), [("a", "b=c"), ("d", ""), ("", "e")]);
        assert_eq!(pairs("").count(), 0);
    }
}
