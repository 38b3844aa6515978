//! Values with units, and addresses: "30s", "64KiB", URLs.

use std::net::IpAddr;
use std::time::Duration;

use http::Uri;

/// Why a text is not the value that a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a number with one of the units of time.
    #[error("it is not a duration: a whole number and one of ms, s, m, h, d, as in 30s")]
    Duration,
    /// Not a number with one of the units of size.
    #[error("it is not a size: a whole number and one of B, KiB, MiB, GiB, as in 64KiB")]
    Size,
    /// Larger than can be counted.
    #[error("it is larger than can be counted")]
    TooLarge,
    /// Not an absolute URL.
    #[error("it is not an absolute URL")]
    Url,
    /// The scheme is neither.
    #[error("it has to begin with https://")]
    Scheme,
    /// Clear text to another machine.
    #[error("it has to begin with https://; http:// is for this machine alone (localhost, 127.0.0.1, [::1])")]
    ClearText,
    /// `user:password@`.
    #[error("it holds a user name or password; those go under client_auth")]
    UserInfo,
    /// `#…`, which is never sent.
    #[error("it holds a fragment, which is never sent")]
    Fragment,
}

/// Reads a whole number with a unit: `250ms`, `30s`, `5m`, `2h`, `90d`.
pub fn duration(text: &str) -> Result<Duration, ValueError> {
    let (number, unit) = number_and_unit(text).ok_or(ValueError::Duration)?;
    let seconds_each = match unit {
        "ms" => return Ok(Duration::from_millis(number?)),
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err(ValueError::Duration),
    };
    number?.checked_mul(seconds_each).map(Duration::from_secs).ok_or(ValueError::TooLarge)
}

/// Reads a number of bytes with a binary unit: `512B`, `64KiB`, `1MiB`, `2GiB`.
pub fn size(text: &str) -> Result<u64, ValueError> {
    let (number, unit) = number_and_unit(text).ok_or(ValueError::Size)?;
    let bytes_each = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(ValueError::Size),
    };
    number?.checked_mul(bytes_each).ok_or(ValueError::TooLarge)
}

/// Reads the URL of an endpoint that secrets are sent to: `https`, or `http` on this machine, with neither user
/// information nor a fragment. A query is kept (RFC 6749 §3.2).
pub fn endpoint(text: &str) -> Result<Uri, ValueError> {
    if text.contains('#') {
        return Err(ValueError::Fragment); // http::Uri would drop it without a word.
    }
    let uri: Uri = text.parse().map_err(|_| ValueError::Url)?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(ValueError::Url) };
    if authority.as_str().contains('@') {
        return Err(ValueError::UserInfo);
    }
    if authority.host().is_empty() {
        return Err(ValueError::Url);
    }
    match scheme {
        "https" => Ok(uri),
        "http" if is_this_machine(authority.host()) => Ok(uri),
        "http" => Err(ValueError::ClearText),
        _ => Err(ValueError::Scheme),
    }
}

/// Whether a URL's host can only be this machine.
pub fn is_this_machine(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Splits digits from what follows them. The number is apart because it may be too large while the form is right.
fn number_and_unit(text: &str) -> Option<(Result<u64, ValueError>, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    (!number.is_empty()).then(|| (number.parse().map_err(|_| ValueError::TooLarge), unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_whole_number_and_one_unit() {
        let cases = [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000), ("90d", 7_776_000_000)];
        for (text, millis) in cases {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "30", "s", "1.5s", "-1s", "30 s", "1h30m", "30S", "30sec", "+1s", "٣s"] {
            assert_eq!(duration(text), Err(ValueError::Duration), "{text:?}");
        }
        for text in ["18446744073709551616s", "18446744073709551615d"] {
            assert_eq!(duration(text), Err(ValueError::TooLarge), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_binary() {
        let cases = [("0B", 0), ("512B", 512), ("64KiB", 65_536), ("1MiB", 1_048_576), ("2GiB", 2_147_483_648)];
        for (text, bytes) in cases {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "64", "64kb", "64KB", "1.5MiB", "-1B", "KiB"] {
            assert_eq!(size(text), Err(ValueError::Size), "{text:?}");
        }
        assert_eq!(size("18446744073709551615KiB"), Err(ValueError::TooLarge));
    }

    #[test]
    fn endpoints_are_https_except_on_this_machine() {
        for text in [
            "https://bank.example/token",
            "https://bank.example:8443/token?a=b",
            "http://localhost:1/t",
            "http://[::1]/t",
        ] {
            assert_eq!(endpoint(text).map(|uri| uri.to_string()).as_deref(), Ok(text));
        }
        let cases = [
            ("http://bank.example/token", ValueError::ClearText),
            ("http://127.0.0.1.example/token", ValueError::ClearText),
            ("http://localhost.example/token", ValueError::ClearText),
            ("ftp://bank.example/token", ValueError::Scheme),
            ("/token", ValueError::Url),
            ("bank.example", ValueError::Url),
            ("", ValueError::Url),
            ("https://user:pass@bank.example/", ValueError::UserInfo),
            ("https://bank.example/token#top", ValueError::Fragment),
        ];
        for (text, error) in cases {
            assert_eq!(endpoint(text), Err(error), "{text}");
        }
    }
}
