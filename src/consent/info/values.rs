//! Values as banks write them: words, dates and spans of time, each in more than one form.

use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::consent::request::rfc_3339;
use crate::words::clock::WallTime;

/// A text, a number or a truth value as a word.
pub(super) fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Words in one text, or in a list of them.
pub(super) fn words(value: &Value) -> Option<String> {
    match value {
        Value::Array(items) => Some(items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            value.as_str().map(str::to_owned)
        }
    }
}

/// Seconds since 1970, RFC 3339, or a day, which lasts to its end. Ten thousand years are enough.
pub(super) fn date(value: &Value) -> Option<WallTime> {
    const LAST_SECOND: u64 = 253_402_300_799;
    let of_seconds =
        |seconds: u64| (seconds <= LAST_SECOND).then(|| WallTime::from_millis(seconds.saturating_mul(1_000)));
    match value {
        Value::Number(number) => number.as_u64().and_then(of_seconds),
        Value::String(text) => {
            let text = text.trim();
            let of_day = || {
                let day = text.parse::<Date>().ok().filter(|_| text.len() == "2026-01-31".len())?;
                let end = day.tomorrow().ok()?.to_zoned(TimeZone::UTC).ok()?;
                u64::try_from(end.timestamp().as_second()).ok().and_then(of_seconds)
            };
            let of_digits = || text.parse().ok().and_then(of_seconds);
            of_digits().or_else(of_day).or_else(|| rfc_3339(text).ok())
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Seconds, or words: `2 days, 2 hours, 2 minutes, and 2 seconds`.
pub(super) fn span(value: &Value) -> Option<Duration> {
    const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);
    let text = match value {
        Value::Number(number) => return number.as_u64().map(Duration::from_secs).filter(|span| *span <= LONGEST),
        Value::String(text) => text,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds)).filter(|span| *span <= LONGEST);
    }
    let parts: Vec<&str> = text.split([' ', ',']).filter(|part| !part.is_empty() && *part != "and").collect();
    let mut whole = Duration::ZERO;
    for pair in parts.chunks(2) {
        let [count, unit] = pair else { return None };
        let seconds = match unit.strip_suffix('s').unwrap_or(unit) {
            "day" => 86_400,
            "hour" => 3_600,
            "minute" => 60,
            "second" => 1,
            _ => return None,
        };
        let part = count.parse::<u64>().ok()?.checked_mul(seconds)?;
        whole = whole.checked_add(Duration::from_secs(part))?;
    }
    (!parts.is_empty() && whole <= LONGEST).then_some(whole)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_date_is_seconds_a_text_of_them_rfc_3339_or_a_day_to_its_end() {
        let second = |value: Value| date(&value).map(|date| date.as_millis() / 1_000);
        assert_eq!(second(json!(1_525_691_979)), Some(1_525_691_979));
        assert_eq!(second(json!("1525691979")), Some(1_525_691_979));
        assert_eq!(second(json!("2018-05-07T11:19:39Z")), Some(1_525_691_979));
        assert_eq!(second(json!("2018-05-07")), Some(1_525_737_600), "the day counts in full");
        for none in [json!(null), json!(-5), json!("soon"), json!([1]), json!(u64::MAX), json!("2018-13-07"), json!("")]
        {
            assert_eq!(second(none.clone()), None, "{none}");
        }
    }

    #[test]
    fn a_span_is_seconds_or_the_banks_words() {
        let seconds = |value: Value| span(&value).map(|span| span.as_secs());
        assert_eq!(seconds(json!(90)), Some(90));
        assert_eq!(seconds(json!("90")), Some(90));
        let all = 2 * 86_400 + 2 * 3_600 + 2 * 60 + 2;
        assert_eq!(seconds(json!("2 days, 2 hours, 2 minutes, and 2 seconds")), Some(all));
        assert_eq!(seconds(json!("1 day")), Some(86_400));
        for none in [json!(""), json!("2"), json!("two days"), json!("2 moons"), json!("2 days 3"), json!({})] {
            let two_seconds = none == json!("2");
            assert_eq!(seconds(none.clone()), two_seconds.then_some(2), "{none}");
        }
        assert_eq!(seconds(json!(u64::MAX)), None);
        assert_eq!(seconds(json!("99999999999999999999 days")), None);
    }
}
