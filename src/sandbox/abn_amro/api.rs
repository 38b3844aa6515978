//! `/v1/consentinfo`, `/v1/accounts/{iban}/…`, and for tests of proxies `/v1/echo`, `/v1/bytes` and `/v1/chunks`.
//!
//! The order of the checks: the resource, the API key, the token, its scope, the account.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::{Value, json};

use super::super::answers::{
    Answer, Broken, Form, Payload, Wire, answer, bearer, covers, json, on_the_wire, uuid,
};
use super::super::faults::Target;
use super::super::paced::Paced;
use super::super::world::{World, lock};
use super::data::{account, amount, transactions};
use super::errors::{
    ACCOUNT_FORBIDDEN, ACCOUNT_TOO_LONG, AMOUNT_BLANK, AMOUNT_INVALID, API_KEY_INVALID,
    API_KEY_MISSING, AUTHORIZATION_MALFORMED, ApiError, CURRENCY_INVALID, IBAN_INVALID, NOT_FOUND,
    PARAMETER_INVALID, SCOPE_INSUFFICIENT, TOKEN_INVALID, TOKEN_MISSING,
};
use super::ledger::Presented;
use crate::words::clock::{Clock, WallTime};
use crate::words::ids::hex;

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
        lock(&world.faults).strike(Target::AbnApi, ledger.consent_of_access(token))
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
        transaction_id: None,
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

fn account_answer(
    iban: &str,
    view: AccountView,
    now: WallTime,
    query: &Form,
) -> Result<Answer, ApiError> {
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

/// Tells what arrived. The token is shown as the hexadecimal SHA-256 of the `Authorization` value.
async fn describe(head: &Parts, mut body: Incoming) -> Result<Answer, ApiError> {
    let mut length = 0_u64;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| PARAMETER_INVALID)?;
        length += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    let header = |(name, value): (&HeaderName, &HeaderValue)| -> Value {
        let shown = if name == AUTHORIZATION {
            hex(digest(&SHA256, value.as_bytes()).as_ref())
        } else {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        };
        json!([name.as_str(), shown])
    };
    let described = json!({
        "method": head.method.as_str(),
        "target": head.uri.path_and_query().map_or("", |target| target.as_str()),
        "headers": head.headers.iter().map(header).collect::<Vec<_>>(),
        "body_length": length,
    });
    Ok(json(StatusCode::OK, &described))
}

fn send_back(head: &Parts, body: Incoming) -> Answer {
    let mut answer = Response::new(Payload::Stream(body.map_err(|_| Broken).boxed_unsync()));
    if let Some(media_type) = head.headers.get(CONTENT_TYPE) {
        answer.headers_mut().insert(CONTENT_TYPE, media_type.clone());
    }
    answer
}

const MOST_BYTES: u64 = 1 << 40;

/// `?n=` bytes under their Content-Length.
fn bytes(query: &Form) -> Result<Answer, ApiError> {
    let length = number(query, "n", 0, MOST_BYTES)?;
    let mut answer = stream(Paced::filler(length, usize::MAX, None));
    answer.headers_mut().insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
    Ok(answer)
}

/// `?n=` pieces of `size=` bytes, `pause_ms=` apart, of no announced length.
fn chunks(query: &Form) -> Result<Answer, ApiError> {
    let count = number(query, "n", 10, 1 << 20)?;
    let size = number(query, "size", 1_024, 64 * 1_024)?;
    let pause = number(query, "pause_ms", 0, 60_000)?;
    let pause = (pause > 0).then(|| Duration::from_millis(pause));
    let piece = usize::try_from(size).map_err(|_| PARAMETER_INVALID)?;
    Ok(stream(Paced::filler(count * size, piece, pause)))
}

fn number(query: &Form, name: &str, absent: u64, most: u64) -> Result<u64, ApiError> {
    let Some(text) = query.get(name) else { return Ok(absent) };
    text.parse().ok().filter(|found| *found <= most).ok_or(PARAMETER_INVALID)
}

fn stream(body: Paced) -> Answer {
    let mut answer = Response::new(Payload::Stream(body.boxed_unsync()));
    let media_type = HeaderValue::from_static("application/octet-stream");
    answer.headers_mut().insert(CONTENT_TYPE, media_type);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_to_the_cent() {
        for (text, value) in
            [("123.45", Some(12_345)), ("7", Some(700)), ("7.5", Some(750)), ("0.05", Some(5))]
        {
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
