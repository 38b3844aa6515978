//! A request's name, where the app gave it none.

use http::HeaderValue;

use crate::words::ids::write_hex;

/// A random UUID (RFC 9562 §5.4) in its text form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId([u8; 36]);

impl RequestId {
    /// Makes an id of 16 random bytes.
    pub fn from_random(mut random: [u8; 16]) -> Self {
        random[6] = random[6] & 0x0f | 0x40;
        random[8] = random[8] & 0x3f | 0x80;
        let mut text = [b'-'; 36];
        write_hex(&mut text[..8], &random[..4]);
        write_hex(&mut text[9..13], &random[4..6]);
        write_hex(&mut text[14..18], &random[6..8]);
        write_hex(&mut text[19..23], &random[8..10]);
        write_hex(&mut text[24..], &random[10..]);
        Self(text)
    }

    /// The id's text.
    ///
    /// # Panics
    /// Never: the text is made of hexadecimal digits and hyphens.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hexadecimal digits and hyphens are ASCII")
    }

    /// The id as a header's value.
    ///
    /// # Panics
    /// Never: the text is made of hexadecimal digits and hyphens.
    pub fn to_header_value(self) -> HeaderValue {
        HeaderValue::from_bytes(&self.0).expect("hexadecimal digits and hyphens fit a header")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_variant_are_those_of_a_random_uuid() {
        let rows = [
            ([0; 16], "00000000-0000-4000-8000-000000000000"),
            ([0xff; 16], "ffffffff-ffff-4fff-bfff-ffffffffffff"),
            (
                *b"\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef",
                "01234567-89ab-4def-8123-456789abcdef",
            ),
        ];
        for (random, text) in rows {
            let id = RequestId::from_random(random);
            assert_eq!(id.as_str(), text);
            assert_eq!(id.to_header_value(), text);
        }
    }
}
