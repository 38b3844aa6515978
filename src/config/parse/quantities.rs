//! Counts, times and sizes within their bounds. A fault leaves the default, so that reading goes on.

use std::time::Duration;

use crate::config::fault::At;
use crate::config::raw::{RawDuration, RawSize};
use crate::config::value;

/// A whole number between `least` and `most`.
pub(super) fn count(value: Option<u64>, at: &At<'_>, default: usize, least: usize, most: usize) -> usize {
    let Some(value) = value else { return default };
    match usize::try_from(value) {
        Ok(value) if (least..=most).contains(&value) => value,
        Ok(_) | Err(_) => {
            at.fault(format_args!("it has to be between {least} and {most}"));
            default
        }
    }
}

/// A time between `least` and `most`, which are written as in the file.
pub(super) fn duration(
    value: Option<&RawDuration>,
    at: &At<'_>,
    default: Duration,
    least: &str,
    most: &str,
) -> Duration {
    let Some(RawDuration(text)) = value else { return default };
    let Some(time) = at.take(value::duration(text)) else { return default };
    let fits =
        value::duration(least).is_ok_and(|least| time >= least) && value::duration(most).is_ok_and(|most| time <= most);
    if fits {
        time
    } else {
        at.fault(format_args!("it has to be between {least} and {most}"));
        default
    }
}

/// A size between `least` and `most`, which are written as in the file.
pub(super) fn size(value: Option<&RawSize>, at: &At<'_>, least: &str, most: &str) -> Option<u64> {
    let RawSize(text) = value?;
    let size = at.take(value::size(text))?;
    let fits = value::size(least).is_ok_and(|least| size >= least) && value::size(most).is_ok_and(|most| size <= most);
    if !fits {
        at.fault(format_args!("it has to be between {least} and {most}"));
        return None;
    }
    Some(size)
}
