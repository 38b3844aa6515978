//! What an import is given: a JSON object, turned at once into types that cannot be printed.
//!
//! Every fault is found in one go and told by the member's name, never by its value.

use std::time::Duration;

use zeroize::Zeroizing;

use super::members::{Fault, Member, Members};
use crate::words::clock::{BootInstant, Clock, WallTime};
use crate::words::ids::ProviderId;
use crate::words::secrets::{AccessToken, RefreshToken};
use crate::words::token_set::Scope;

/// A token set that was granted elsewhere.
#[derive(Debug)]
pub struct ImportRequest {
    pub(super) provider: ProviderId,
    pub(super) access: AccessToken,
    pub(super) refresh: Option<RefreshToken>,
    pub(super) life: Duration,
    pub(super) expires_at: BootInstant,
    pub(super) scope: Option<Scope>,
    pub(super) bank_consent_id: Option<String>,
    pub(super) consent_expires_at: Option<WallTime>,
}

/// When a request began to arrive. Lives count from there, so that a slow upload lengthens none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// By the clock that counts suspended time.
    pub boot: BootInstant,
    /// By the calendar.
    pub wall: WallTime,
}

impl Received {
    /// At this moment.
    pub fn now(clock: &impl Clock) -> Self {
        Self { boot: clock.boot(), wall: clock.wall() }
    }
}

/// Why a text is no import, or no request to start a consent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not JSON (RFC 8259).
    #[error("the body is not JSON from line {line}, column {column} on")]
    NotJson {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// JSON of another kind.
    #[error("the body is not a JSON object")]
    NotAnObject,
    /// An object with these faults; of very many, the first.
    #[error("the body has {} at fault", names(.0))]
    Faults(Vec<Fault>),
}

const MEMBERS: [&str; 8] = [
    "provider",
    "access_token",
    "refresh_token",
    "expires_in",
    "expires_at",
    "scope",
    "bank_consent_id",
    "consent_expires_at",
];
/// Bytes of a token.
const LONGEST_TOKEN: usize = 16 * 1024;
/// Bytes of a scope.
pub(super) const LONGEST_SCOPE: usize = 4 * 1024;
/// Bytes of anything else.
pub(super) const LONGEST_NAME: usize = 256;
/// Ten years: longer lives are milliseconds or dates that were taken for seconds.
const LONGEST_LIFE: Duration = Duration::from_secs(3_650 * 24 * 3_600);

impl ImportRequest {
    /// Reads the members `provider`, `access_token`, `refresh_token` (optional), exactly one of `expires_in` (seconds,
    /// zero allowed) and `expires_at` (RFC 3339), and the optional `scope`, `bank_consent_id` and `consent_expires_at`
    /// (RFC 3339, in the future). An optional member may be null; any other member is a fault.
    pub fn parse(json: &[u8], received: Received) -> Result<Self, RequestError> {
        let mut members = Members::read(json, &MEMBERS)?;
        let provider = members.required("provider", LONGEST_NAME, provider);
        let access = members.required("access_token", LONGEST_TOKEN, access_token);
        let refresh = members.optional("refresh_token", LONGEST_TOKEN, refresh_token);
        let expiry = expiry(&mut members, received);
        let scope = members.optional("scope", LONGEST_SCOPE, scope);
        let bank_consent_id = members.optional("bank_consent_id", LONGEST_NAME, |mut text| {
            let plain = !text.chars().any(char::is_control);
            if plain { Ok(std::mem::take(&mut *text)) } else { Err("it holds a control character") }
        });
        let consent_expires_at = members.optional("consent_expires_at", LONGEST_NAME, |text| {
            let end = rfc_3339(&text)?;
            if end > received.wall { Ok(end) } else { Err("it is in the past") }
        });
        match (provider, access, expiry) {
            (Some(provider), Some(access), Some((expires_at, life))) if members.faults.is_empty() => Ok(Self {
                provider,
                access,
                refresh,
                life,
                expires_at,
                scope: scope.filter(|scope| !scope.as_str().is_empty()),
                bank_consent_id,
                consent_expires_at,
            }),
            _ => Err(RequestError::Faults(members.faults)),
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a reader of members takes the text over")]
pub(super) fn provider(text: Zeroizing<String>) -> Result<ProviderId, &'static str> {
    ProviderId::parse(&text).ok_or("it is not a provider's name: a-z 0-9 - _, beginning with a letter")
}

#[expect(clippy::needless_pass_by_value, reason = "a reader of members takes the text over")]
pub(super) fn scope(text: Zeroizing<String>) -> Result<Scope, &'static str> {
    Scope::parse(&text).ok_or("it holds a character that no scope has (RFC 6749, section 3.3)")
}

fn access_token(mut text: Zeroizing<String>) -> Result<AccessToken, &'static str> {
    // A space would pass for RFC 6749 but never in an Authorization header (RFC 6750 §2.1). Mostly it is "Bearer x".
    let spaced = text.contains(' ');
    let token = AccessToken::new(std::mem::take(&mut *text));
    match token.to_bearer() {
        Ok(_) if !spaced => Ok(token),
        Ok(_) | Err(_) => Err("it holds a character that an Authorization header cannot carry in a token"),
    }
}

fn refresh_token(mut text: Zeroizing<String>) -> Result<RefreshToken, &'static str> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        Ok(RefreshToken::new(std::mem::take(&mut *text)))
    } else {
        Err("it holds a character that no refresh token has (RFC 6749, appendix A.17)")
    }
}

/// When the access token expires, and how long it lives from its arrival.
fn expiry(members: &mut Members, received: Received) -> Option<(BootInstant, Duration)> {
    let given = |member: Option<&Member>| !matches!(member, None | Some(Member::Null));
    let life = match (given(members.found.get("expires_in")), given(members.found.get("expires_at"))) {
        (true, false) => match members.found.remove("expires_in") {
            Some(Member::Whole(seconds)) => Ok(Duration::from_secs(seconds)),
            Some(Member::Text(_) | Member::Null | Member::Other) | None => {
                Err(("expires_in", "it has to be a whole number of seconds, not negative"))
            }
        },
        (false, true) => {
            let at = members.optional("expires_at", LONGEST_NAME, |text| rfc_3339(&text))?;
            Ok(at.checked_since(received.wall).unwrap_or_default())
        }
        (true, true) => Err(("expires_at", "it is given beside expires_in; one of the two is wanted")),
        (false, false) => Err(("expires_in", "it is missing, and so is expires_at; one of the two is wanted")),
    };
    match life {
        Ok(life) if life > LONGEST_LIFE => {
            members.fault("expires_in or expires_at", "it is more than ten years away");
            None
        }
        Ok(life) => Some((received.boot.plus(life), life)),
        Err((member, what)) => {
            members.fault(member, what);
            None
        }
    }
}

/// A date and time with an offset, in RFC 3339's own form. Before 1970 is 1970.
pub(super) fn rfc_3339(text: &str) -> Result<WallTime, &'static str> {
    let bytes = text.as_bytes();
    let offset = bytes.len().checked_sub("00".len() + 1).and_then(|colon| bytes.get(colon));
    let zone = text.ends_with(['Z', 'z']) || offset == Some(&b':');
    let long = bytes.len() >= "2026-01-01T00:00:00Z".len();
    let shaped = long && zone && matches!(bytes.get(10), Some(b'T' | b't' | b' '));
    let time = shaped.then(|| text.parse::<jiff::Timestamp>().ok()).flatten();
    let time = time.ok_or("it is not a date and time of RFC 3339, such as 2026-01-31T12:00:00Z")?;
    Ok(WallTime::from_millis(u64::try_from(time.as_millisecond()).unwrap_or(0)))
}

fn names(faults: &[Fault]) -> String {
    faults.iter().map(|fault| fault.member.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::members::MOST_FAULTS;
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const RECEIVED: Received =
        Received { boot: BootInstant::from_millis(50_000), wall: WallTime::from_millis(1_760_000_000_000) };

    fn parse(json: &Value) -> Result<ImportRequest, RequestError> {
        ImportRequest::parse(json.to_string().as_bytes(), RECEIVED)
    }

    fn minimal() -> Value {
        json!({"provider": "bank", "access_token": "CANARY-access", "expires_in": 3600})
    }

    fn with(changes: &Value) -> Value {
        let mut request = minimal();
        for (name, value) in changes.as_object().unwrap() {
            request[name] = value.clone();
        }
        request
    }

    /// Name and words of the faults of a request; none of them, nor the error's text, may hold a canary.
    fn faults(json: &Value) -> Vec<(String, &'static str)> {
        let error = parse(json).expect_err(&json.to_string());
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{error:?}");
        match error {
            RequestError::Faults(faults) => faults.into_iter().map(|fault| (fault.member, fault.what)).collect(),
            RequestError::NotJson { .. } | RequestError::NotAnObject => panic!("{error}"),
        }
    }

    #[test]
    fn a_full_request_is_read_whole() {
        let request = parse(&json!({
            "provider": "bank", "access_token": "CANARY-a", "refresh_token": "CANARY-r",
            "expires_at": "2025-10-09T09:53:20Z", "scope": "a  b", "bank_consent_id": "b-1",
            "consent_expires_at": "2026-01-01T01:00:00+01:00",
        }))
        .unwrap();
        assert_eq!(request.provider.as_str(), "bank");
        assert_eq!(request.access.expose(), "CANARY-a");
        assert_eq!(request.refresh.as_ref().unwrap().expose(), "CANARY-r");
        assert_eq!(request.life, Duration::from_secs(3_600));
        assert_eq!(request.expires_at.since(RECEIVED.boot), request.life);
        assert_eq!(request.scope.as_ref().unwrap().as_str(), "a b");
        assert_eq!(request.bank_consent_id.as_deref(), Some("b-1"));
        assert_eq!(request.consent_expires_at.unwrap().to_string(), "2026-01-01T00:00:00Z");
        assert!(!format!("{request:?}").contains("CANARY"));
    }

    #[test]
    fn what_is_optional_may_be_absent_or_null() {
        let nulls = json!({"refresh_token": null, "scope": null, "bank_consent_id": null, "consent_expires_at": null,
                           "expires_at": null});
        for request in [minimal(), with(&nulls), with(&json!({"scope": "  "}))] {
            let request = parse(&request).unwrap();
            assert!(request.refresh.is_none() && request.scope.is_none() && request.bank_consent_id.is_none());
        }
    }

    #[test]
    fn an_expiry_that_has_passed_leaves_no_life() {
        for expiry in [
            json!({"expires_in": 0}),
            json!({"expires_in": null, "expires_at": "2025-10-09T08:53:19.999Z"}),
            json!({"expires_in": null, "expires_at": "1955-11-05T06:00:00-08:00"}),
        ] {
            assert_eq!(parse(&with(&expiry)).unwrap().life, Duration::ZERO, "{expiry}");
        }
    }

    #[test]
    fn every_fault_is_told_at_once_by_its_members_name() {
        let all = json!({
            "provider": "CANARY Bank", "access_token": "CANARY\nx", "refresh_token": ["CANARY"], "expires_in": "CANARY",
            "scope": "CANARY\"", "bank_consent_id": 7, "consent_expires_at": "CANARY", "token_type": "CANARY",
        });
        let mut members: Vec<_> = faults(&all).into_iter().map(|(member, _)| member).collect();
        members.sort();
        let mut wanted: Vec<_> = all.as_object().unwrap().keys().cloned().collect();
        wanted.sort();
        assert_eq!(members, wanted);
    }

    #[test]
    fn each_fault_has_its_words() {
        let long = "x".repeat(LONGEST_TOKEN + 1);
        let rows = [
            (json!({"provider": null}), "provider", "missing"),
            (json!({"access_token": ""}), "access_token", "empty"),
            (json!({"access_token": long.as_str()}), "access_token", "too long"),
            (json!({"access_token": "Bearer CANARY"}), "access_token", "Authorization"),
            (json!({"access_token": "CANARY\r\nX: y"}), "access_token", "Authorization"),
            (json!({"access_token": "CANARYé"}), "access_token", "Authorization"),
            (json!({"access_token": {"CANARY": ["CANARY"]}}), "access_token", "string"),
            (json!({"refresh_token": long.as_str()}), "refresh_token", "too long"),
            (json!({"refresh_token": "CANARY\0"}), "refresh_token", "character"),
            (json!({"refresh_token": ""}), "refresh_token", "empty"),
            (json!({"expires_in": -1}), "expires_in", "whole number"),
            (json!({"expires_in": 3599.5}), "expires_in", "whole number"),
            (json!({"expires_in": "3600"}), "expires_in", "whole number"),
            (json!({"expires_in": null}), "expires_in", "missing"),
            (json!({"expires_at": "2030-01-01T00:00:00Z"}), "expires_at", "beside"),
            (json!({"expires_in": 1_760_000_000}), "expires_in or expires_at", "ten years"),
            (
                json!({"expires_in": null, "expires_at": "2099-01-01T00:00:00Z"}),
                "expires_in or expires_at",
                "ten years",
            ),
            (json!({"expires_in": null, "expires_at": 1_760_000_000}), "expires_at", "string"),
            (json!({"expires_in": null, "expires_at": "2026-01-01"}), "expires_at", "RFC 3339"),
            (json!({"expires_in": null, "expires_at": "2026-01-01T00:00:00"}), "expires_at", "RFC 3339"),
            (json!({"expires_in": null, "expires_at": "2026-13-01T00:00:00Z"}), "expires_at", "RFC 3339"),
            (json!({"consent_expires_at": "2020-01-01T00:00:00Z"}), "consent_expires_at", "past"),
            (json!({"bank_consent_id": "CANARY\u{7f}"}), "bank_consent_id", "control"),
            (json!({"accessToken": "CANARY"}), "accessToken", "no such member"),
            (json!({"CANARY.7f3b": ""}), "(a name that is not shown)", "no such member"),
        ];
        for (changes, member, words) in rows {
            let found = faults(&with(&changes));
            assert_eq!(found.len(), 1, "{changes}: {found:?}");
            assert!(found[0].0 == member && found[0].1.contains(words), "{changes}: {found:?}");
        }
    }

    #[test]
    fn a_member_given_twice_is_a_fault_even_with_the_same_value() {
        let text = r#"{"provider":"bank","provider":"bank","access_token":"CANARY","expires_in":1}"#;
        let error = ImportRequest::parse(text.as_bytes(), RECEIVED).unwrap_err();
        let fault = Fault { member: "provider".into(), what: "it is given twice" };
        assert_eq!(error, RequestError::Faults(vec![fault]));
    }

    #[test]
    fn what_is_not_an_object_is_told_without_its_contents() {
        for text in ["", "{", "{\"access_token\": CANARY}", "{} CANARY", "{\"a\":\"\u{1}CANARY\"}"] {
            let error = ImportRequest::parse(text.as_bytes(), RECEIVED).unwrap_err();
            assert!(matches!(error, RequestError::NotJson { .. }), "{text}: {error:?}");
            assert!(!error.to_string().contains("CANARY"));
        }
        for text in ["[\"CANARY\"]", "\"CANARY\"", "7", "null"] {
            assert_eq!(ImportRequest::parse(text.as_bytes(), RECEIVED).unwrap_err(), RequestError::NotAnObject);
        }
        let deep = format!("{{\"scope\":{}", "[".repeat(60_000));
        assert!(matches!(ImportRequest::parse(deep.as_bytes(), RECEIVED).unwrap_err(), RequestError::NotJson { .. }));
    }

    proptest! {
        #[test]
        fn no_text_is_repeated_by_its_fault(token in "CANARY[ -~é\\n]{1,40}", at in "\\PC{0,40}") {
            let request = json!({"provider": token, "access_token": [token], "refresh_token": format!("{token}\0"),
                                 "expires_at": format!("CANARY{at}"), (format!("{token}7")): token});
            faults(&request);
        }

        #[test]
        fn whatever_comes_is_taken_or_refused(text in "[{}\\[\\]\",:a-z0-9_\\\\ -]{0,80}|\\PC{0,80}", date in "[0-9TtZz:. +-]{15,32}") {
            let _ = ImportRequest::parse(text.as_bytes(), RECEIVED);
            let _ = parse(&with(&json!({"expires_in": null, "expires_at": date})));
        }
    }

    #[test]
    fn a_flood_of_faults_is_cut_short() {
        let flood: serde_json::Map<_, _> = (0..5_000_u32).map(|n| (format!("m{n}"), json!(0))).collect();
        assert_eq!(faults(&Value::Object(flood)).len(), MOST_FAULTS);
    }
}
