//! Faults that the control API sets: what goes wrong, for whom, and how often.
//!
//! A request meets at most one rule, the oldest that fits. The bank's state changes before any delay of the answer, as
//! a real bank's does: who hangs up while it waits has been processed all the same.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};

use super::answers::{Answer, Broken, Payload, Wire, answer, on_the_wire};
use super::paced::Paced;
use super::settings::ToldLife;

/// Which endpoint a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Target {
    AbnAuthorize,
    AbnToken,
    AbnRevoke,
    AbnApi,
    NogiAuthorize,
    NogiToken,
    NogiApi,
}

/// A request, as far as rules look at it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Occasion<'r> {
    pub(super) target: Target,
    /// The consent it is about, where that can be told.
    pub(super) consent: Option<&'r str>,
    /// The grant of a token request.
    pub(super) grant_type: Option<&'r str>,
}

impl Occasion<'_> {
    /// A request of which no more is known.
    pub(super) const fn at(target: Target) -> Self {
        Self { target, consent: None, grant_type: None }
    }
}

/// What goes wrong. Several things may go wrong with the same answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "a list of switches, as the control API takes it")]
pub(super) struct Fault {
    /// Wait before anything else.
    pub(super) delay_before_ms: u64,
    /// Close the connection; nothing was processed.
    pub(super) drop_before_processing: bool,
    /// Process, then wait before answering.
    pub(super) delay_ms: u64,
    /// Process, then close the connection without an answer.
    pub(super) drop_after_processing: bool,
    /// Answer with this instead.
    pub(super) status: Option<StatusFault>,
    /// Process, then answer 200 with an HTML page.
    pub(super) html_200: bool,
    /// Send so many bytes of a 200's body under its full Content-Length, then close the connection.
    pub(super) truncate_at: Option<usize>,
    /// Send the body in pieces of 64 bytes with this pause between them.
    pub(super) slow_body_ms_per_chunk: Option<u64>,
    /// Say this in `expires_in`.
    pub(super) expires_in: Option<ToldLife>,
    /// Do not rotate, and leave `refresh_token` out of the answer.
    pub(super) omit_refresh_token: bool,
    /// Do not rotate, and answer with the refresh token that was presented.
    pub(super) same_refresh_token: bool,
    /// Send the customer back from the authorize page with this `error` before a page is shown.
    pub(super) authorize_error: Option<String>,
}

/// An answer in place of the bank's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StatusFault {
    #[serde(with = "status_code")]
    code: StatusCode,
    /// Seconds in `Retry-After`.
    retry_after: Option<u64>,
    #[serde(default)]
    body: String,
    /// Whether the request is processed all the same.
    #[serde(default)]
    process: bool,
}

/// Whom a fault strikes, and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    target: Target,
    /// Only requests of this consent, by the bank's own id.
    consent: Option<String>,
    /// Only token requests of this grant.
    grant_type: Option<String>,
    /// How often it strikes; absent, until it is removed.
    times: Option<u64>,
    fault: Fault,
}

/// The rules in force, oldest first.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Rule>);

/// Rules in force at most.
const MAX_RULES: usize = 10_000;

impl Faults {
    /// Puts a rule in force; `false` if there are too many.
    pub(super) fn add(&mut self, rule: Rule) -> bool {
        let room = self.0.len() < MAX_RULES;
        if room {
            self.0.push(rule);
        }
        room
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn rules(&self) -> &[Rule] {
        &self.0
    }

    /// What goes wrong with this request; counts as one strike of the rule.
    pub(super) fn strike(&mut self, occasion: &Occasion<'_>) -> Option<Fault> {
        let fits = |rule: &Rule| {
            rule.target == occasion.target
                && rule.consent.as_deref().is_none_or(|wanted| occasion.consent == Some(wanted))
                && rule.grant_type.as_deref().is_none_or(|wanted| occasion.grant_type == Some(wanted))
                && rule.times != Some(0)
        };
        let at = self.0.iter().position(fits)?;
        let rule = self.0.get_mut(at)?;
        let fault = rule.fault.clone();
        if let Some(times) = rule.times.as_mut() {
            *times -= 1;
            if *times == 0 {
                self.0.remove(at);
            }
        }
        Some(fault)
    }
}

impl Fault {
    /// What happens before processing: an answer without it, a closed connection, or nothing.
    pub(super) async fn before(&self) -> Result<Option<Answer>, Broken> {
        pause(self.delay_before_ms).await;
        if self.drop_before_processing {
            return Err(Broken);
        }
        Ok(self.status.as_ref().filter(|status| !status.process).map(StatusFault::answer))
    }

    /// What happens to the answer after processing.
    pub(super) async fn after(&self, processed: Answer) -> Result<Response<Wire>, Broken> {
        pause(self.delay_ms).await;
        if self.drop_after_processing {
            return Err(Broken);
        }
        if self.html_200 {
            let page = "<!DOCTYPE html><html><body>We are back soon.</body></html>";
            return Ok(on_the_wire(answer(StatusCode::OK, "text/html; charset=utf-8", page)));
        }
        let answer = match &self.status {
            Some(status) => status.answer(),
            None => processed,
        };
        Ok(self.bitten(answer))
    }

    fn bitten(&self, answer: Answer) -> Response<Wire> {
        let (mut head, payload) = answer.into_parts();
        let bytes = match payload {
            Payload::Stream(_) => return on_the_wire(Response::from_parts(head, payload)),
            Payload::Whole(bytes) => bytes,
        };
        let full_length = HeaderValue::from(bytes.len());
        let body = match (self.truncate_at, self.slow_body_ms_per_chunk) {
            (Some(at), _) if head.status == StatusCode::OK && at < bytes.len() => Paced::broken_off(bytes.slice(..at)),
            (_, Some(milliseconds)) => Paced::slow(bytes, SLOW_PIECE, Duration::from_millis(milliseconds)),
            (_, None) => {
                return on_the_wire(Response::from_parts(head, Payload::Whole(bytes)));
            }
        };
        head.headers.insert(CONTENT_LENGTH, full_length);
        Response::from_parts(head, body.boxed_unsync())
    }
}

const SLOW_PIECE: usize = 64;

impl StatusFault {
    fn answer(&self) -> Answer {
        let mut answer = Response::new(Payload::Whole(Bytes::from(self.body.clone())));
        *answer.status_mut() = self.code;
        let headers = answer.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        let media_type = if self.body.starts_with(['{', '[']) { "application/json" } else { "text/html" };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        answer
    }
}

async fn pause(milliseconds: u64) {
    if milliseconds > 0 {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
}

/// A status code as a number, final ones only.
mod status_code {
    use http::StatusCode;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
    pub(super) fn serialize<S: Serializer>(code: &StatusCode, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u16(code.as_u16())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<StatusCode, D::Error> {
        let code = u16::deserialize(from)?;
        StatusCode::from_u16(code)
            .ok()
            .filter(|code| !code.is_informational())
            .ok_or_else(|| D::Error::custom("a status code from 200 to 999 is needed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rule(json: serde_json::Value) -> Rule {
        serde_json::from_value(json).expect("a rule")
    }

    #[test]
    fn a_rule_strikes_its_target_and_consent_as_often_as_it_says() {
        let mut faults = Faults::default();
        let fault = json!({"delay_ms": 5});
        faults.add(rule(json!({"target": "abn-token", "consent": "c", "times": 2, "fault": fault})));
        let mut strike = |target, consent| faults.strike(&Occasion { consent, ..Occasion::at(target) });
        assert!(strike(Target::AbnApi, Some("c")).is_none());
        assert!(strike(Target::AbnToken, Some("d")).is_none());
        assert!(strike(Target::AbnToken, None).is_none());
        for _ in 0..2 {
            assert_eq!(strike(Target::AbnToken, Some("c")).expect("strikes").delay_ms, 5);
        }
        assert!(strike(Target::AbnToken, Some("c")).is_none());
        assert!(faults.rules().is_empty());
    }

    #[test]
    fn a_rule_for_a_grant_leaves_the_others_alone() {
        let mut faults = Faults::default();
        faults.add(rule(json!({"target": "abn-token", "grant_type": "authorization_code", "fault": {}})));
        let mut strikes = |grant_type| {
            let occasion = Occasion { grant_type, ..Occasion::at(Target::AbnToken) };
            faults.strike(&occasion).is_some()
        };
        assert!(strikes(Some("authorization_code")));
        assert!(!strikes(Some("refresh_token")) && !strikes(None));
    }

    #[test]
    fn a_rule_with_a_word_misspelt_is_refused() {
        for bad in [
            json!({"target": "abn-tokens", "fault": {}}),
            json!({"target": "abn-token", "fault": {"delay": 1}}),
            json!({"target": "abn-token", "fault": {"status": {"code": 99}}}),
            json!({"target": "abn-token", "fault": {"status": {"code": 100}}}),
        ] {
            assert!(serde_json::from_value::<Rule>(bad.clone()).is_err(), "{bad}");
        }
    }
}
