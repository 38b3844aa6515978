//! Quotas: how often a consent may be used while its customer is away.

use std::time::Duration;

use super::not_one_of;
use crate::config::fault::At;
use crate::config::raw::{RawQuota, RawQuotaRule};
use crate::consent::{Per, Quota};
use crate::http::route::RouteMatch;
use crate::proxy::settings::QuotaRule;
use crate::store::Spend;

/// What a bank says of its calls. A rule that is at fault is left out.
pub(super) fn rules(raw: &[RawQuotaRule], at: &At<'_>) -> Vec<QuotaRule> {
    raw.iter().enumerate().filter_map(|(nth, raw)| rule(raw, &at.index(nth))).collect()
}

fn rule(raw: &RawQuotaRule, at: &At<'_>) -> Option<QuotaRule> {
    let RawQuotaRule { r#match, calls, per, day_begins, continued_by } = raw.clone();
    let match_at = at.key("match");
    let matcher = match_at.need(r#match.as_deref()).and_then(|text| match_at.take(RouteMatch::parse(text)));
    let quota = quota(&RawQuota { calls, per, day_begins, continued_by }, r#match.unwrap_or_default(), at);
    Some(QuotaRule { matcher: matcher?, quota: quota? })
}

/// The quota of the calls of this name.
pub(super) fn quota(raw: &RawQuota, name: String, at: &At<'_>) -> Option<Quota> {
    let calls_at = at.key("calls");
    let calls = calls_at.need(raw.calls).and_then(|calls| {
        let calls = u32::try_from(calls).ok().filter(|calls| (1..=Spend::MOST_CALLS).contains(calls));
        if calls.is_none() {
            calls_at.fault(format_args!("it has to be between 1 and {}", Spend::MOST_CALLS));
        }
        calls
    });
    let per = match raw.per.as_deref() {
        None | Some("path") => Some(Per::Path),
        Some("consent") => Some(Per::Consent),
        Some(other) => {
            at.key("per").fault(not_one_of(other, &["path", "consent"]));
            None
        }
    };
    let day_at = at.key("day_begins");
    let day_begins = match raw.day_begins.as_deref().map(time_of_day) {
        None => Some(None),
        Some(Some(time)) => Some(Some(time)),
        Some(None) => {
            day_at.fault("it has to be a time of day in UTC, as in \"23:00\"");
            None
        }
    };
    let continued_at = at.key("continued_by");
    let continued_by = raw.continued_by.clone().unwrap_or_default();
    for (nth, name) in continued_by.iter().enumerate() {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic() && !b"&=#".contains(&b)) {
            continued_at.index(nth).fault("it is not the name of a parameter in a query");
        }
    }
    Some(Quota { name, calls: calls?, per: per?, day_begins: day_begins?, continued_by })
}

/// `HH:MM`, after midnight.
fn time_of_day(text: &str) -> Option<Duration> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str, below: u64| {
        let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u64>().ok()).flatten().filter(|number| *number < below)
    };
    Some(Duration::from_secs((number(hours, 24)? * 60 + number(minutes, 60)?) * 60))
}
