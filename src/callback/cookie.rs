//! The cookie that ties an attempt to the browser that began it (RFC 6265).
//!
//! Each attempt has its own, so that two of them in one browser do not undo each other. Over TLS its name begins with
//! `__Host-`, by which a browser takes it from this very host alone. It is `Lax`, because the bank's redirect is a
//! navigation from another site, and that has to carry it.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};

use crate::words::ids::StateDigest;
use crate::words::secrets::BrowserKey;

/// What an attempt's cookie is called.
pub(super) fn name(state: &StateDigest, secure: bool) -> String {
    let digest = state.to_string();
    let short = digest.get(..16).unwrap_or_default();
    if secure { format!("__Host-consentry-{short}") } else { format!("consentry-{short}") }
}

/// The value of a cookie. `None` if it is not there, is there twice, or is nothing that was ever given out.
pub(super) fn find(headers: &HeaderMap, name: &str) -> Option<BrowserKey> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(found, _)| *found == name).map(|(_, value)| value);
    let value = values.next().filter(|value| is_key(value))?;
    values.next().is_none().then(|| BrowserKey::new(value))
}

/// The line that sets it, for so long.
pub(super) fn set(name: &str, key: &BrowserKey, secure: bool, life: Duration) -> Option<HeaderValue> {
    let secure = if secure { "; Secure" } else { "" };
    let (key, seconds) = (key.expose(), life.as_secs());
    let text = format!("{name}={key}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// 32 bytes in base64url.
fn is_key(value: &str) -> bool {
    value.len() == 43 && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ";

    fn headers(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (header::COOKIE, HeaderValue::from_str(line).unwrap())).collect()
    }

    #[test]
    fn a_cookie_is_found_among_others_by_its_whole_name() {
        let state = StateDigest::of("s");
        let name = name(&state, true);
        assert!(name.starts_with("__Host-consentry-") && name.len() == 33, "{name}");
        let found = |lines: &[String]| {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            find(&headers(&lines), &name).map(|key| key.expose().to_owned())
        };
        assert_eq!(found(&[format!("a=b; {name}={KEY};c=d")]).as_deref(), Some(KEY));
        assert_eq!(found(&["a=b".to_owned(), format!("{name}={KEY}")]).as_deref(), Some(KEY));
        for wrong in [
            format!("x{name}={KEY}"),
            format!("{name}={KEY}x"),
            format!("{name}=\"{KEY}\""),
            format!("{name}="),
            format!("{name}={KEY}; {name}={KEY}"),
            String::new(),
        ] {
            assert_eq!(found(std::slice::from_ref(&wrong)), None, "{wrong}");
        }
        assert_ne!(name, super::name(&StateDigest::of("t"), true), "each attempt has its own");
    }

    #[test]
    fn a_cookie_is_short_lived_and_out_of_reach_of_scripts() {
        let line = set("n", &BrowserKey::new(KEY), true, Duration::from_secs(600)).unwrap();
        assert!(line.is_sensitive());
        assert_eq!(line, format!("n={KEY}; Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure").as_str());
        let plain = set("n", &BrowserKey::new(KEY), false, Duration::from_secs(600)).unwrap();
        assert!(!plain.to_str().unwrap().contains("Secure"));
    }
}
