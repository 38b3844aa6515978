//! What has become of a consent, in plain words: what happened, who acts, and what that person should do.
//!
//! Pure functions over what is stored, so that every state and every class of failure has a sentence, and a test that
//! reads it.

use std::time::Duration;

use serde::Serialize;

use crate::store::{Event, EventKind, RecordState, Snapshot};
use crate::words::failure::FailureClass;
use crate::words::said::{BankRequestId, Said};

/// What a person is told of a consent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    /// What there is, and how it came to be so.
    pub summary: String,
    /// Who has to act.
    pub who_acts: Who,
    /// What that person should do.
    #[serde(rename = "do")]
    pub advice: String,
}

/// Who has to act on a consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    /// Nobody: it works, or it goes on by itself.
    Nobody,
    /// The app: it sends the customer to the bank.
    App,
    /// The operator of this installation.
    Operator,
}

/// Tells of a record and its past. `quarantine` is how long nobody sends after an unknown outcome.
pub fn tell(record: &Snapshot, events: &[Event], quarantine: Duration) -> Told {
    let (says, who_acts, advice) = match record.state {
        RecordState::Pending => (
            "The customer has not come back from the bank yet.".to_owned(),
            Who::Nobody,
            "Wait for the customer.".to_owned(),
        ),
        RecordState::Active => usable(record, events),
        RecordState::Leased => (leased(record), Who::Nobody, GOES_ON.to_owned()),
        RecordState::Armed => (armed(record), Who::Nobody, GOES_ON.to_owned()),
        RecordState::Uncertain => uncertain(record, events, quarantine),
        RecordState::ReauthorizationRequired => suspended(record, events),
        RecordState::Denied => (
            "The customer refused the consent at the bank.".to_owned(),
            Who::App,
            "Ask the customer again, or do without.".to_owned(),
        ),
        RecordState::Revoked => (ended("The consent was revoked", record), Who::App, START_ANEW.to_owned()),
        RecordState::Expired => (ended("The consent's own time is over", record), Who::App, START_ANEW.to_owned()),
    };
    Told { summary: says, who_acts, advice }
}

const GOES_ON: &str = "Nothing; look again in a few seconds.";
const START_ANEW: &str = "Start a new consent.";
const NOT_REVOKED: &str =
    "Ask for it again; `consentry consent revoke --only-here` ends it here whatever the bank says.";

fn usable(record: &Snapshot, events: &[Event]) -> (String, Who, String) {
    let token = access_token(record);
    if record.failures == 0 {
        if let Some(last) = events.last().filter(|event| event.kind == EventKind::NotRevoked) {
            let why = format!("{}{}", says(last.why.as_deref()), said(&last.said));
            let summary = format!("The consent was to be revoked, and is not: {why}. It is still usable. {token}");
            return (summary, Who::Operator, NOT_REVOKED.to_owned());
        }
        let revived = events.last().is_some_and(|event| event.kind == EventKind::Revived);
        let revived = if revived { " A person revived it, and the next call tries the refresh token." } else { "" };
        return (format!("The consent is usable. {token}{revived}"), Who::Nobody, "Nothing.".to_owned());
    }
    let class = record.why.as_deref();
    let times = if record.failures == 1 { "refresh" } else { "refreshes in a row" };
    let next = if record.backoff.is_zero() {
        "The next call tries again.".to_owned()
    } else {
        format!("Nobody tries again for {}.", span(record.backoff))
    };
    let summary =
        format!("The last {} {times} failed: {}{}. {token} {next}", record.failures, says(class), answer(events));
    let (who, advice) = advice(class);
    (summary, who, advice.to_owned())
}

fn leased(record: &Snapshot) -> String {
    let holder = holder(record);
    let token = access_token(record);
    if record.lease_left.is_zero() {
        format!("{holder} was to refresh it, sent nothing, and let its time pass. The next call takes over. {token}")
    } else {
        let left = span(record.lease_left);
        format!("{holder} is about to refresh it, and has sent nothing yet; its lease lasts {left} more. {token}")
    }
}

fn armed(record: &Snapshot) -> String {
    let (holder, token) = (holder(record), access_token(record));
    let probe =
        if record.sends > 1 { " This is the one probe after a refresh whose outcome was not known." } else { "" };
    if record.lease_left.is_zero() {
        format!(
            "{holder} has sent a refresh, or was about to, and has not been heard of since. The next call starts the \
             quarantine, after which the bank is asked once more.{probe} {token}"
        )
    } else {
        let left = span(record.lease_left);
        format!("{holder} is refreshing it at this moment; its lease lasts {left} more.{probe} {token}")
    }
}

fn uncertain(record: &Snapshot, events: &[Event], quarantine: Duration) -> (String, Who, String) {
    let how = match events.iter().rev().find(|event| is_doubt(event.kind)) {
        Some(event) if event.kind == EventKind::HolderLost => {
            let who = event.attempt.as_ref().map_or("its sender", |attempt| attempt.as_str());
            format!("{who} was not heard of again")
        }
        Some(event) => format!("{}{}", says(event.why.as_deref()), said(&event.said)),
        None => says(record.why.as_deref()).to_owned(),
    };
    let token = access_token(record);
    let left = quarantine.saturating_sub(record.uncertain_for.unwrap_or_default());
    let next = if !record.lease_left.is_zero() {
        format!("{} may ask the bank once more at this moment.", holder(record))
    } else if !left.is_zero() {
        format!("Nobody sends for {} more; then the bank is asked once more.", span(left))
    } else if !record.remaining.is_zero() {
        "The bank is asked once more when the access token has expired.".to_owned()
    } else if !record.backoff.is_zero() {
        format!("The bank is asked once more in {}.", span(record.backoff))
    } else {
        "The next call asks the bank once more.".to_owned()
    };
    let summary = format!("A refresh was sent and nobody knows whether the bank processed it: {how}. {token} {next}");
    let advice = match events.iter().rev().find_map(|event| event.said.request_id.as_ref()) {
        Some(id) => format!(
            "Nothing has to be done. Whoever wants to know before the bank is asked once more asks the bank what became \
             of its request {}.",
            id.as_str()
        ),
        None => "Nothing has to be done. If many consents are like this, look at the bank's token endpoint.".to_owned(),
    };
    (summary, Who::Nobody, advice)
}

const fn is_doubt(kind: EventKind) -> bool {
    match kind {
        EventKind::HolderLost | EventKind::Uncertain => true,
        EventKind::Asked
        | EventKind::NotGranted
        | EventKind::Seeded
        | EventKind::Replaced
        | EventKind::Armed
        | EventKind::ProbeGranted
        | EventKind::Resumed
        | EventKind::Committed
        | EventKind::Superseded
        | EventKind::Failed
        | EventKind::Suspended
        | EventKind::Overtaken
        | EventKind::Restored
        | EventKind::Reasserted
        | EventKind::Revived
        | EventKind::NotRevoked
        | EventKind::Ended => false,
    }
}

fn suspended(record: &Snapshot, events: &[Event]) -> (String, Who, String) {
    let class = record.why.as_deref();
    let summary = format!("The consent can no longer be renewed: {}{}.", says(class), answer(events));
    let (who, advice) = match class.and_then(FailureClass::parse) {
        Some(_) => advice(class),
        None => (Who::App, SEND_THE_CUSTOMER),
    };
    let revive = if record.refresh.is_some() {
        " The refused refresh token is kept: where the bank says that the consent is alive, `consentry consent revive` has \
         it tried once more."
    } else {
        ""
    };
    let replaced = if record.replaced.is_some() {
        " The refresh token of the grant that was replaced last is kept as well: `consentry consent revive --replaced`."
    } else {
        ""
    };
    (summary, who, format!("{advice}{revive}{replaced}"))
}

fn ended(how: &str, record: &Snapshot) -> String {
    match record.why.as_deref().and_then(FailureClass::parse) {
        Some(class) => format!("{how}: {}.", class.says()),
        None => format!("{how}."),
    }
}

/// What the last answer of the bank was that stands beside a failure, in brackets.
fn answer(events: &[Event]) -> String {
    let failed = |event: &&Event| matches!(event.kind, EventKind::Failed | EventKind::Suspended | EventKind::Uncertain);
    events.iter().rev().find(failed).map(|event| said(&event.said)).unwrap_or_default()
}

/// ` (HTTP 503, request abc)`, or nothing.
fn said(said: &Said) -> String {
    let id = said.request_id.as_ref().map(BankRequestId::as_str);
    match (said.status, id) {
        (Some(status), Some(id)) => format!(" (HTTP {status}, the bank's request id {id})"),
        (Some(status), None) => format!(" (HTTP {status})"),
        (None, _) => String::new(),
    }
}

fn says(class: Option<&str>) -> &str {
    match class.map(|word| (word, FailureClass::parse(word))) {
        Some((_, Some(class))) => class.says(),
        Some((word, None)) => word,
        None => "no reason was written down",
    }
}

fn holder(record: &Snapshot) -> &str {
    record.holder.as_ref().map_or("Somebody", |holder| holder.as_str())
}

fn access_token(record: &Snapshot) -> String {
    if record.access.is_none() {
        "It holds no access token.".to_owned()
    } else if record.remaining.is_zero() {
        "Its access token has expired.".to_owned()
    } else {
        format!("Its access token is used for {} more.", span(record.remaining))
    }
}

const SEND_THE_CUSTOMER: &str = "Send the customer to the bank to consent again.";

/// Who acts on a class of failure, and how.
fn advice(class: Option<&str>) -> (Who, &'static str) {
    use FailureClass as Class;
    let wait = (Who::Nobody, "Nothing; it is tried again by itself. If it lasts, look at the bank's token endpoint.");
    let Some(class) = class.and_then(FailureClass::parse) else { return wait };
    match class {
        Class::Unreachable
        | Class::NotSent
        | Class::Queued
        | Class::NoPermit
        | Class::BreakerOpen
        | Class::Settling
        | Class::Alternate
        | Class::RateLimited
        | Class::InvalidRequest
        | Class::ServerError
        | Class::UnexpectedStatus
        | Class::UnexpectedAnswer
        | Class::NotHttp
        | Class::ConnectionLost
        | Class::FenceLost
        | Class::NoAnswer => wait,
        Class::TlsRefused => (Who::Operator, "Check our client certificate, and the authority that issued the bank's."),
        Class::CertificateRefused => {
            (Who::Operator, "Check our client certificate: its end, and whether the bank knows it.")
        }
        Class::ProviderFrozen => (Who::Operator, "Thaw the provider once what it was frozen for is settled."),
        Class::RefusedOnce => (
            Who::Operator,
            "Check our registration at the bank, and ask the bank. Each of the consents is tried once more after the next success.",
        ),
        Class::RequestImpossible => (Who::Operator, "Check the settings of the provider's token endpoint."),
        Class::SpillUnavailable => {
            (Who::Operator, "Make the spill directory writable: its disk, its owner, its mount.")
        }
        Class::NotDurable => {
            (Who::Operator, "Bring the Redis replicas back; `consentry store doctor` says which are there.")
        }
        Class::Unreadable => (Who::Operator, "Bring back the seal key that this record was sealed with."),
        Class::NoRefreshToken => (Who::App, SEND_THE_CUSTOMER),
        Class::UseDpopNonce => (Who::Operator, "Ask the bank for a registration without DPoP."),
        Class::InvalidClient | Class::UnauthorizedClient | Class::UnsupportedGrantType => {
            (Who::Operator, "Check the client id, its secret or certificate, and what the bank lets this client do.")
        }
        Class::InvalidScope => {
            (Who::Operator, "Check `send_scope_on_refresh` of the provider, and the scopes it registered.")
        }
        Class::Redirect => (Who::Operator, "Correct the address of the provider's token endpoint."),
        Class::TruncatedAnswer | Class::OversizedAnswer | Class::UnreadableAnswer | Class::EmptyAccessToken => (
            Who::Operator,
            "What the bank sent is kept, sealed, in the spill directory; keep those files and ask the bank.",
        ),
        Class::RevokedOrExpired | Class::LostReply | Class::LateSend | Class::DoubleSend | Class::StoreForgot => {
            (Who::App, SEND_THE_CUSTOMER)
        }
        Class::TokenRejected => (Who::Operator, "Check what the bank lets our client do at its API about consents."),
        Class::BankSaysEnded
        | Class::RevokedOnRequest
        | Class::RevokedHereOnly
        | Class::RevokedBeforeGrant
        | Class::RevokedInDoubt => (Who::App, START_ANEW),
    }
}

/// An event in plain words, without its time.
pub fn describe(event: &Event) -> String {
    let who = event.attempt.as_ref().map_or("somebody", |attempt| attempt.as_str());
    let why = event.why.as_deref();
    let generation = event.version.generation;
    let mut text = match event.kind {
        EventKind::Asked => format!("a customer was asked for the grant {who}"),
        EventKind::NotGranted => format!("{who} brought no grant: {}", not_granted(why)),
        EventKind::Seeded => "a token set was stored as a new grant".to_owned(),
        EventKind::Replaced => "a new grant took the place of another".to_owned(),
        EventKind::Armed if why == Some("probe") => format!("{who} wrote down that it asks the bank once more"),
        EventKind::Armed => format!("{who} wrote down that it spends the refresh token"),
        EventKind::ProbeGranted => format!("{who} may ask the bank once more"),
        EventKind::HolderLost => format!("{who} has not been heard of since its lease ran out; quarantine"),
        EventKind::Resumed => format!("{who} is back and still waits for the bank"),
        EventKind::Committed => {
            let how = match why {
                Some("late") => ", after its lease had run out",
                Some("rolled_back") => ", which brought back what the store had forgotten",
                Some(_) | None => "",
            };
            format!("{who} stored generation {generation}{how}")
        }
        EventKind::Superseded => {
            let how = match why {
                Some("kept_as_alt") => "its refresh token is set aside for the day the other is refused",
                Some("other_grant") => "the consent had been granted anew, and it was dropped",
                Some("ended") => "the consent had ended, and it was dropped",
                Some("older") | None => "it was dropped",
                Some(other) => other,
            };
            format!("{who} brought a token set after a newer one: {how}")
        }
        EventKind::Failed => format!("{who} got nothing: {}", says(why)),
        EventKind::Uncertain => format!("{who} does not know what became of its refresh: {}", says(why)),
        EventKind::Suspended => format!("{who} found that the consent can no longer be renewed: {}", says(why)),
        EventKind::Overtaken => {
            format!("{who} reported too late, when somebody else had the right to refresh: {}", says(why))
        }
        EventKind::Restored => {
            let how = if why == Some("forgotten") { "the record" } else { "newer generations" };
            format!("{who} brought back generation {generation}: the store had forgotten {how}")
        }
        EventKind::Reasserted if why == Some("held") => {
            format!("{who} told the store, which had forgotten it, that it is spending the refresh token")
        }
        EventKind::Reasserted => format!("{who} told the store that the refresh token may have been spent"),
        EventKind::Revived if why == Some("replaced") => {
            format!("{who} had the refresh token of the replaced grant tried again, at a person's word")
        }
        EventKind::Revived => format!("{who} had the kept refresh token tried again, at a person's word"),
        EventKind::NotRevoked => format!("{who} was to revoke it, and the bank did not: {}", says(why)),
        EventKind::Ended => format!("the consent ended: {}", says(why)),
    };
    text.push_str(&said(&event.said));
    if event.said.late {
        text.push_str("; the request left after the right to send it was over");
    }
    if let Some(until) = event.until {
        text.push_str("; until ");
        text.push_str(&until.to_string());
    }
    text
}

/// Why an attempt brought no grant.
fn not_granted(why: Option<&str>) -> String {
    match why {
        Some("overtaken") => "the consent was granted anew, or ended, while the code was exchanged".to_owned(),
        Some("unsealable") => "the tokens could not be sealed".to_owned(),
        Some("unreadable") => "the attempt does not open with the seal keys at hand".to_owned(),
        Some(word) => match FailureClass::parse(word) {
            Some(class) => class.says().to_owned(),
            None => format!("the bank said {word}"),
        },
        None => "no reason was written down".to_owned(),
    }
}

/// A duration as people say it: `40 s`, `3 min 20 s`, `2 h 5 min`, `3 days`. Never nothing: what is left is left.
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    let pair = |whole: u64, unit: &str, rest: u64, small: &str| match rest {
        0 => format!("{whole} {unit}"),
        rest => format!("{whole} {unit} {rest} {small}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => pair(seconds / 60, "min", seconds % 60, "s"),
        3_600..172_800 => pair(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests;
