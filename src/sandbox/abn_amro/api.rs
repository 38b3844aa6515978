//! `/v1/consentinfo` and `/v1/accounts/{iban}/…`.
//!
//! The order of the checks: the resource, the API key, the token, its scope, the account.

use std::time::Duration;

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::json;

use super::super::answers::{Answer, Broken, Form, Wire, answer, bearer, covers, json, on_the_wire, uuid};
use super::super::faults::{Occasion, Target};
use super::super::world::{World, lock};
use super::data::{account, amount, transactions};
use super::echo::{bytes, chunks, describe, send_back};
use super::errors::{
    ACCOUNT_FORBIDDEN, ACCOUNT_TOO_LONG, AMOUNT_BLANK, AMOUNT_INVALID, API_KEY_INVALID, API_KEY_MISSING,
    AUTHORIZATION_MALFORMED, ApiError, CURRENCY_INVALID, IBAN_INVALID, NOT_FOUND, SCOPE_INSUFFICIENT, TOKEN_INVALID,
    TOKEN_MISSING,
};
use super::ledger::Presented;
use crate::words::clock::{Clock, WallTime};

const API_KEY: HeaderName = HeaderName::from_static("api-key");
const TRACE_ID: HeaderName = HeaderName::from_static("trace-id");

/// Answers one request of the API listener.
pub(in crate::sandbox) async fn serve<C: Clock>(
    world: &World<C>,
    request: Request<Incoming>,
) -> Result<Response<Wire>, Broken> {
    let (head, body) = request.into_parts();
    let fault = {
        let mut ledger = lock(&world.abn_amro);
        ledger.counters.api_calls += 1;
        let token = bearer(&head.headers).ok().flatten().unwrap_or_default();
        world.strike(&Occasion { consent: ledger.consent_of_access(token), ..Occasion::at(Target::AbnApi) })
    };
    let Some(fault) = fault else { return Ok(on_the_wire(process(world, &head, body).await)) };
    if let Some(instead) = fault.before().await? {
        return Ok(on_the_wire(instead));
    }
    fault.after(process(world, &head, body).await).await
}

async fn process<C: Clock>(world: &World<C>, head: &Parts, body: Incoming) -> Answer {
    let trace_id = uuid();
    let answered = match decide(world, head) {
        Ok(Decided::Answer(answer)) => Ok(answer),
        Ok(Decided::Describe) => describe(head, body).await,
        Ok(Decided::SendBack) => Ok(send_back(head, body)),
        Err(error) => Err(error),
    };
    let mut answer = answered.unwrap_or_else(|error| error.answer(&trace_id));
    if let Ok(value) = HeaderValue::from_str(&trace_id) {
        answer.headers_mut().insert(TRACE_ID, value);
    }
    answer
}

/// What an allowed request gets.
enum Decided {
    Answer(Answer),
    /// A description of the request.
    Describe,
    /// The request's own body.
    SendBack,
}

/// The resources, as far as their paths tell.
enum Resource<'p> {
    ConsentInfo,
    Account { iban: &'p str, view: AccountView },
    Echo,
    Bytes,
    Chunks,
}

#[derive(Clone, Copy)]
enum AccountView {
    Details,
    Balances,
    Transactions,
    Funds,
}

impl AccountView {
    const fn scope(self) -> &'static str {
        match self {
            Self::Details => "psd2:account:details:read",
            Self::Balances => "psd2:account:balance:read",
            Self::Transactions => "psd2:account:transaction:read",
            Self::Funds => "psd2:account:funds:read",
        }
    }
}

fn resource<'p>(method: &Method, path: &'p str) -> Option<Resource<'p>> {
    let steps: Vec<&str> = path.strip_prefix("/v1/")?.split('/').collect();
    let reading = *method == Method::GET || *method == Method::HEAD;
    match steps.as_slice() {
        ["echo"] => Some(Resource::Echo),
        _ if !reading => None,
        ["consentinfo"] => Some(Resource::ConsentInfo),
        ["bytes"] => Some(Resource::Bytes),
        ["chunks"] => Some(Resource::Chunks),
        ["accounts", iban, view] => {
            let view = match *view {
                "details" => AccountView::Details,
                "balances" => AccountView::Balances,
                "transactions" => AccountView::Transactions,
                "funds" => AccountView::Funds,
                _ => return None,
            };
            Some(Resource::Account { iban, view })
        }
        _ => None,
    }
}

fn decide<C: Clock>(world: &World<C>, head: &Parts) -> Result<Decided, ApiError> {
    let resource = resource(&head.method, head.uri.path()).ok_or(NOT_FOUND)?;
    let key = head.headers.get(API_KEY).ok_or(API_KEY_MISSING)?;
    if key.as_bytes() != world.settings.api_key.as_bytes() {
        return Err(API_KEY_INVALID);
    }
    let token = bearer(&head.headers).map_err(|_| AUTHORIZATION_MALFORMED)?;
    let token = token.ok_or(TOKEN_MISSING)?;
    let ledger = lock(&world.abn_amro);
    let presented = ledger.presented(world.clock.boot(), token).ok_or(TOKEN_INVALID)?;
    let query = Form::parse(head.uri.query().unwrap_or_default().as_bytes());
    let answer = match resource {
        Resource::ConsentInfo => consent_info(&presented, world.clock.wall()),
        Resource::Account { iban, view } => {
            if !covers(presented.scope, view.scope()) {
                return Err(SCOPE_INSUFFICIENT);
            }
            check_iban(iban)?;
            if presented.iban != Some(iban) {
                return Err(ACCOUNT_FORBIDDEN);
            }
            drop(ledger);
            account_answer(iban, view, world.clock.wall(), &query)?
        }
        Resource::Echo if head.method != Method::POST => return Ok(Decided::Describe),
        Resource::Echo if head.uri.query() == Some("describe") => return Ok(Decided::Describe),
        Resource::Echo => return Ok(Decided::SendBack),
        Resource::Bytes => bytes(&query)?,
        Resource::Chunks => chunks(&query)?,
    };
    Ok(Decided::Answer(answer))
}

fn check_iban(iban: &str) -> Result<(), ApiError> {
    const LONGEST: usize = 34;
    if !iban.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()) || iban.is_empty() {
        return Err(IBAN_INVALID);
    }
    if iban.len() > LONGEST { Err(ACCOUNT_TOO_LONG) } else { Ok(()) }
}

fn consent_info(presented: &Presented<'_>, now: WallTime) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Info<'p> {
        iban: Option<&'p str>,
        transaction_id: Option<&'p str>,
        valid: u64,
        scopes: &'p str,
        consent_status: &'static str,
        consent_expires_in: String,
    }
    let info = Info {
        iban: presented.iban,
        transaction_id: presented.transaction_id,
        valid: now.plus(presented.left).as_millis() / 1_000,
        scopes: presented.scope,
        consent_status: "FULLY_SIGNED",
        consent_expires_in: in_words(presented.consent_left),
    };
    json(StatusCode::OK, &info)
}

/// `2 days, 2 hours, 2 minutes, and 2 seconds`.
fn in_words(left: Duration) -> String {
    let seconds = left.as_secs();
    format!(
        "{} days, {} hours, {} minutes, and {} seconds",
        seconds / 86_400,
        seconds / 3_600 % 24,
        seconds / 60 % 60,
        seconds % 60
    )
}

fn account_answer(iban: &str, view: AccountView, now: WallTime, query: &Form) -> Result<Answer, ApiError> {
    let account = account(iban);
    let body = match view {
        AccountView::Details => json!({
            "accountNumber": iban,
            "currency": account.currency,
            "accountHolderName": account.holder,
        }),
        AccountView::Balances => json!({
            "accountNumber": iban,
            "balanceType": "BOOKBALANCE",
            "amount": amount(account.balance_cents),
            "currency": account.currency,
        }),
        AccountView::Funds => {
            let text = query.get("amount").ok_or(AMOUNT_BLANK)?;
            let cents = cents(text).ok_or(AMOUNT_INVALID)?;
            let currency = query.get("currency").unwrap_or(account.currency);
            if currency.len() != 3 || !currency.bytes().all(|b| b.is_ascii_uppercase()) {
                return Err(CURRENCY_INVALID);
            }
            json!({
                "accountNumber": iban,
                "amount": amount(cents),
                "currency": account.currency,
                "available": currency == account.currency && cents <= account.balance_cents,
            })
        }
        AccountView::Transactions => {
            let page = transactions(iban, today(now), query)?;
            if page.transactions.is_empty() {
                return Ok(answer(StatusCode::OK, "application/json", ""));
            }
            return Ok(json(StatusCode::OK, &page));
        }
    };
    Ok(json(StatusCode::OK, &body))
}

fn today(now: WallTime) -> jiff::civil::Date {
    let milliseconds = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(milliseconds).unwrap_or_default().to_zoned(TimeZone::UTC).date()
}

/// A positive amount with at most two decimals, in cents.
fn cents(text: &str) -> Option<i64> {
    let (units, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(units) || !digits(decimals) || decimals.len() > 2 {
        return None;
    }
    format!("{units}{decimals:0<2}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_to_the_cent() {
        for (text, value) in [("123.45", Some(12_345)), ("7", Some(700)), ("7.5", Some(750)), ("0.05", Some(5))] {
            assert_eq!(cents(text), value, "{text}");
        }
        for bad in ["", "-1", "1.234", "1,2", ".5", "1.", "99999999999999999999"] {
            assert_eq!(cents(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_span_is_told_in_the_banks_words() {
        let span = Duration::from_secs(2 * 86_400 + 2 * 3_600 + 2 * 60 + 2);
        assert_eq!(in_words(span), "2 days, 2 hours, 2 minutes, and 2 seconds");
    }
}
