//! What every endpoint needs: reading a form or a body within bounds, writing an answer, making up names.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use serde::Serialize;

use crate::words::ids::{hex, random};

/// An answer before it is put on the wire.
pub(super) type Answer = Response<Payload>;

/// The body of an answer: whole, so that a fault can still bite pieces out of it, or streamed.
pub(super) enum Payload {
    Whole(Bytes),
    Stream(Wire),
}

/// The body on the wire.
pub(super) type Wire = UnsyncBoxBody<Bytes, Broken>;

/// A body that breaks off, or a request that is not answered: the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sandbox breaks off here")]
pub(super) struct Broken;

pub(super) fn on_the_wire(answer: Answer) -> Response<Wire> {
    answer.map(|payload| match payload {
        Payload::Whole(bytes) => whole(bytes),
        Payload::Stream(stream) => stream,
    })
}

pub(super) fn whole(bytes: Bytes) -> Wire {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

pub(super) fn answer(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Payload::Whole(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer
}

pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    // Serializing the plain structs and values of this module does not fail.
    answer(status, "application/json", serde_json::to_vec(body).unwrap_or_default())
}

pub(super) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Payload::Whole(Bytes::new()));
    *answer.status_mut() = status;
    answer
}

/// The resource answers to this method alone.
pub(super) fn only(method: &'static str) -> Answer {
    let mut answer = empty(StatusCode::METHOD_NOT_ALLOWED);
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(method));
    answer
}

/// Why a request's body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// More than [`MAX_BODY`] bytes.
    TooLarge,
    /// It broke off or took longer than [`BODY_TIME`].
    Incomplete,
}

const MAX_BODY: usize = 64 * 1024;
const BODY_TIME: Duration = Duration::from_secs(30);

/// Reads a small body whole.
pub(super) async fn read_body(body: hyper::body::Incoming) -> Result<Bytes, Unread> {
    let reading = tokio::time::timeout(BODY_TIME, Limited::new(body, MAX_BODY).collect());
    match reading.await {
        Ok(Ok(read)) => Ok(read.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Unread::TooLarge),
        Ok(Err(_)) | Err(_) => Err(Unread::Incomplete),
    }
}

impl Unread {
    pub(super) fn answer(self) -> Answer {
        match self {
            Self::TooLarge => empty(StatusCode::PAYLOAD_TOO_LARGE),
            Self::Incomplete => empty(StatusCode::BAD_REQUEST),
        }
    }
}

/// The parameters of a form or a query (application/x-www-form-urlencoded).
#[derive(Default)]
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    pub(super) fn parse(text: &[u8]) -> Self {
        const MAX_PARAMETERS: usize = 256;
        let pairs = text.split(|&b| b == b'&').filter(|pair| !pair.is_empty());
        let pair = |pair: &[u8]| {
            let at = pair.iter().position(|&b| b == b'=');
            let (name, value) = at.map_or((pair, &b""[..]), |at| (&pair[..at], &pair[at + 1..]));
            (form_decode(name), form_decode(value))
        };
        Self(pairs.take(MAX_PARAMETERS).map(pair).collect())
    }

    /// The parameters of a body, if its media type says that it is a form.
    pub(super) fn of_body(headers: &HeaderMap, body: &[u8]) -> Self {
        let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = media_type.and_then(|text| text.split(';').next()).unwrap_or_default();
        if essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            Self::parse(body)
        } else {
            Self::default()
        }
    }

    /// A parameter's value; one without a value counts as absent (RFC 6749 §3.1).
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(own, _)| own == name)?;
        Some(found.1.as_str()).filter(|value| !value.is_empty())
    }

    /// The first of these parameters that is there twice, which RFC 6749 §3.2 forbids.
    pub(super) fn repeated<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        let count = |name: &str| self.0.iter().filter(|(own, _)| own == name).count();
        names.iter().copied().find(|name| count(name) > 1)
    }
}

/// Undoes form encoding; a percent sign without two hexadecimal digits stands for itself.
pub(super) fn form_decode(text: &[u8]) -> String {
    let digit = |at: usize| text.get(at).and_then(|&b| char::from(b).to_digit(16));
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let pair = digit(at + 1).zip(digit(at + 2)).filter(|_| byte == b'%');
        let decoded = pair.and_then(|(high, low)| u8::try_from(high << 4 | low).ok());
        bytes.push(decoded.unwrap_or(if byte == b'+' { b' ' } else { byte }));
        at += if decoded.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Form encoding (application/x-www-form-urlencoded): a space becomes `+`, and all but letters, digits and `*-._` a
/// percent sign and two digits.
pub(super) fn form_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => encoded.push('+'),
            b'*' | b'-' | b'.' | b'_' => encoded.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => encoded.push(char::from(byte)),
            _ => {
                encoded.push('%');
                encoded.push_str(&hex(&[byte]).to_ascii_uppercase());
            }
        }
    }
    encoded
}

/// The token of an `Authorization: Bearer` header; `Err` if there is a header of another form.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, MalformedAuthorization> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().map_err(|_| MalformedAuthorization)?;
    match text.split_once(' ') {
        Some((scheme, token))
            if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && values.next().is_none() =>
        {
            Ok(Some(token))
        }
        Some(_) | None => Err(MalformedAuthorization),
    }
}

/// An `Authorization` header that is not one bearer token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MalformedAuthorization;

/// Whether every word of `asked` is among those of `held`.
pub(super) fn covers(held: &str, asked: &str) -> bool {
    asked.split_ascii_whitespace().all(|word| held.split_ascii_whitespace().any(|own| own == word))
}

/// A number in `A-Z a-z 0-9`, at least `width` characters long.
pub(super) fn base62(mut number: u128, width: usize) -> String {
    const DIGITS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = Vec::with_capacity(width);
    while number > 0 || text.len() < width {
        let digit = usize::try_from(number % 62).unwrap_or_default();
        text.push(char::from(DIGITS[digit]));
        number /= 62;
    }
    text.iter().rev().collect()
}

/// Random letters and digits.
pub(super) fn random_text(length: usize) -> String {
    let mut text = String::with_capacity(length + 21);
    while text.len() < length {
        // 119 bits fill 20 digits evenly enough for a name that only has to be unguessable.
        text.push_str(&base62(u128::from_be_bytes(random()) >> 9, 20));
    }
    text.truncate(length);
    text
}

/// A random UUID (RFC 9562 §5.4).
pub(super) fn uuid() -> String {
    let mut bytes = random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex(&bytes);
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_decoded_and_unknown_parameters_do_no_harm() {
        let form = Form::parse(b"scope=a+b%20c&d&empty=&&x=%zz%2&x=2");
        assert_eq!(form.get("scope"), Some("a b c"));
        assert_eq!(form.get("d"), None);
        assert_eq!(form.get("empty"), None);
        assert_eq!(form.get("x"), Some("%zz%2"));
        assert_eq!(form.repeated(&["scope", "x"]), Some("x"));
    }

    #[test]
    fn what_is_encoded_is_decoded_to_the_same() {
        let text = "a b+c&d=é*-._~/\r\n";
        assert_eq!(form_decode(form_encode(text).as_bytes()), text);
        assert_eq!(form_encode("a b/é~"), "a+b%2F%C3%A9%7E");
    }

    #[test]
    fn a_body_of_another_media_type_is_not_a_form() {
        let mut headers = HeaderMap::new();
        assert!(Form::of_body(&headers, b"a=1").get("a").is_none());
        let form = HeaderValue::from_static("application/x-www-form-urlencoded; charset=UTF-8");
        headers.insert(CONTENT_TYPE, form);
        assert_eq!(Form::of_body(&headers, b"a=1").get("a"), Some("1"));
    }

    #[test]
    fn one_bearer_token_is_read_and_anything_else_is_malformed() {
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static(value));
            bearer(&headers).map(|token| token.map(str::to_owned))
        };
        assert_eq!(bearer(&HeaderMap::new()), Ok(None));
        assert_eq!(with("bearer abc"), Ok(Some("abc".to_owned())));
        assert_eq!(with("Basic abc"), Err(MalformedAuthorization));
        assert_eq!(with("Bearer "), Err(MalformedAuthorization));
        assert_eq!(with("abc"), Err(MalformedAuthorization));
    }

    #[test]
    fn made_up_names_have_the_length_asked_for() {
        assert_eq!(base62(0, 3), "AAA");
        assert_eq!(base62(u128::MAX, 22).len(), 22);
        for length in [28, 40, 42] {
            let text = random_text(length);
            assert_eq!(text.len(), length);
            assert!(text.bytes().all(|b| b.is_ascii_alphanumeric()));
        }
        assert_eq!(uuid().len(), 36);
        assert_ne!(uuid(), uuid());
    }
}
