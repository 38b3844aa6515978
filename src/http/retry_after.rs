//! `Retry-After` (RFC 9110 §10.2.3): how long somebody asks us to wait.

use std::time::Duration;

use http::header::{self, HeaderMap};
use jiff::fmt::strtime;
use jiff::tz::TimeZone;

use crate::words::clock::WallTime;

/// The wait that a response asks for, at most `cap`; `None` if it asks for none or cannot be understood. A date in the
/// past asks for no wait at all: zero. Of several lines the first counts.
pub fn retry_after(headers: &HeaderMap, now: WallTime, cap: Duration) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim_ascii();
    parse(text, now).map(|wait| wait.min(cap))
}

fn parse(text: &str, now: WallTime) -> Option<Duration> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit are a long time, and the caller's cap is shorter.
        return Some(text.parse().map_or(Duration::MAX, Duration::from_secs));
    }
    let until = parse_http_date(text)?;
    Some(until.checked_since(now).unwrap_or(Duration::ZERO))
}

/// Reads an HTTP-date in any of its three forms (RFC 9110 §5.6.7); `None` for dates before 1970.
pub fn parse_http_date(text: &str) -> Option<WallTime> {
    FORMS.iter().find_map(|form| {
        let parsed = strtime::parse(form, text).ok()?;
        let zoned = parsed.to_datetime().ok()?.to_zoned(TimeZone::UTC).ok()?;
        u64::try_from(zoned.timestamp().as_millisecond()).ok().map(WallTime::from_millis)
    })
}

/// IMF-fixdate, then the obsolete forms of RFC 850 and of C's `asctime()`.
const FORMS: [&str; 3] = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const NOV_6: WallTime = WallTime::from_millis(784_111_777_000);

    fn wait(value: &str, now: WallTime) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_str(value).expect("a value"));
        retry_after(&headers, now, Duration::from_secs(3_600)).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_are_taken_as_they_are_up_to_the_cap() {
        for (value, wanted) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("3601", Some(3_600)),
            ("99999999999999999999999", Some(3_600)),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
            ("120, 60", None),
        ] {
            assert_eq!(wait(value, NOV_6), wanted, "{value:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), NOV_6, Duration::MAX), None);
    }

    #[test]
    fn a_date_is_counted_from_now_in_all_three_forms() {
        let earlier = WallTime::from_millis(NOV_6.as_millis() - 90_000);
        for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(wait(date, earlier), Some(90), "{date}");
            assert_eq!(wait(date, WallTime::from_millis(u64::MAX)), Some(0), "{date}");
            assert_eq!(wait(date, WallTime::from_millis(0)), Some(3_600), "{date}");
        }
    }

    #[test]
    fn what_is_no_http_date_asks_for_nothing() {
        for bad in [
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 +0100",
            "Sun, 06 Nov 1994 08:49:37 GMT x",
            "1994-11-06T08:49:37Z",
        ] {
            assert_eq!(wait(bad, NOV_6), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_value_makes_the_parser_panic_or_pass_the_cap(value in "[ -~]{0,40}") {
            prop_assert!(wait(&value, NOV_6).is_none_or(|seconds| seconds <= 3_600));
        }
    }
}
