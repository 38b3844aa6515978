//! ABN AMRO's error envelope, and the errors that are imitated.

use http::StatusCode;
use serde_json::json;

use super::super::answers::{Answer, json};

/// An error of the APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    category: &'static str,
    message: &'static str,
}

impl ApiError {
    /// The error in its envelope.
    pub(super) fn answer(self, trace_id: &str) -> Answer {
        let error = json!({
            "code": self.code,
            "message": self.message,
            "reference": "https://developer.abnamro.com/get-started",
            "traceId": trace_id,
            "status": self.status.as_u16(),
            "category": self.category,
        });
        json(self.status, &json!({ "errors": [error] }))
    }
}

const fn error(status: StatusCode, code: &'static str, category: &'static str, message: &'static str) -> ApiError {
    ApiError { status, code, category, message }
}

const fn bad(code: &'static str, message: &'static str) -> ApiError {
    error(StatusCode::BAD_REQUEST, code, "BAD_REQUEST", message)
}

pub(super) const AUTHORIZATION_MALFORMED: ApiError =
    error(StatusCode::BAD_REQUEST, "ERR_1001_001", "INCORRECT_HEADER", "Malformed or incorrect Authorization header");
pub(super) const TOKEN_MISSING: ApiError =
    error(StatusCode::BAD_REQUEST, "ERR_1002_002", "MISSING_HEADER", "Access token missing");
pub(super) const API_KEY_MISSING: ApiError =
    error(StatusCode::BAD_REQUEST, "ERR_1002_003", "MISSING_HEADER", "API Key Header missing");
pub(super) const TOKEN_INVALID: ApiError = error(
    StatusCode::UNAUTHORIZED,
    "ERR_2002_002",
    "INVALID_ACCESS_TOKEN",
    "The presented access token is not valid or expired",
);
pub(super) const API_KEY_INVALID: ApiError =
    error(StatusCode::UNAUTHORIZED, "ERR_2005_001", "INVALID_API_KEY", "Invalid API key");
pub(super) const SCOPE_INSUFFICIENT: ApiError =
    error(StatusCode::FORBIDDEN, "ERR_3002_003", "INSUFFICIENT_SCOPE", "Insufficient scope of the token");
pub(super) const ACCOUNT_FORBIDDEN: ApiError = error(
    StatusCode::FORBIDDEN,
    "MESSAGE_RST560_0016",
    "FORBIDDEN",
    "No access to account. Please contact the account holder for details",
);
pub(super) const NOT_FOUND: ApiError = error(
    StatusCode::NOT_FOUND,
    "ERR_4001_001",
    "NOT_FOUND",
    "The requested resource was not found, or a disallowed method was used",
);
pub(super) const PARAMETER_INVALID: ApiError = bad("ERR_1100_004", "One of the input paramater is invalid");
pub(super) const IBAN_INVALID: ApiError = bad("MESSAGE_RST560_0007", "The IBAN is invalid");
pub(super) const TO_INVALID: ApiError = bad("MESSAGE_RST560_0008", "The to-date is invalid");
pub(super) const FROM_INVALID: ApiError = bad("MESSAGE_RST560_0009", "The from-date is invalid");
pub(super) const ACCOUNT_TOO_LONG: ApiError = bad("MESSAGE_RST560_0010", "The account number is too long");
pub(super) const FROM_AFTER_TO: ApiError = bad("MESSAGE_RST560_0011", "The from-date is after the to-date");
pub(super) const TO_IN_FUTURE: ApiError = bad("MESSAGE_RST560_0012", "The to-date is in the future");
pub(super) const FROM_IN_FUTURE: ApiError = bad("MESSAGE_RST560_0013", "The from-date is in the future");
pub(super) const AMOUNT_INVALID: ApiError = bad("MESSAGE_RST560_0014", "The amount is invalid");
pub(super) const CURRENCY_INVALID: ApiError = bad("MESSAGE_RST560_0015", "The currency is invalid");
pub(super) const AMOUNT_BLANK: ApiError = bad("MESSAGE_RST560_0018", "The amount is blank");
pub(super) const FROM_TOO_OLD: ApiError = bad("MESSAGE_BAI560_0029", "The from-date is more than 18 months ago");
