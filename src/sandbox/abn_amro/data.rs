//! Accounts and their transactions, made up from the IBAN and the date, the same at every call of a day.

use jiff::ToSpan as _;
use jiff::civil::Date;
use serde::Serialize;
use serde_json::{Number, Value};

use super::super::answers::Form;
use super::errors::{
    ApiError, FROM_AFTER_TO, FROM_IN_FUTURE, FROM_INVALID, FROM_TOO_OLD, PARAMETER_INVALID, TO_IN_FUTURE, TO_INVALID,
};

/// Transactions on a page.
const PAGE: usize = 50;
/// All transactions lie within so many days.
const SPAN_DAYS: usize = 24;
const HISTORY_MONTHS: i32 = 18;

/// An account.
pub(super) struct Account {
    pub(super) currency: &'static str,
    pub(super) holder: &'static str,
    pub(super) balance_cents: i64,
    transactions: usize,
}

/// The account behind an IBAN. The two of the bank's documents have as many transactions as those say.
pub(super) fn account(iban: &str) -> Account {
    match iban {
        super::DEFAULT_IBAN => Account { currency: "USD", holder: "E.P.G. Doe", balance_cents: -302, transactions: 88 },
        "NL62ABNA9999841479" => {
            Account { currency: "EUR", holder: "Petstore Commercial B.V.", balance_cents: 1_250_075, transactions: 310 }
        }
        _ => Account { currency: "EUR", holder: "A. Customer", balance_cents: 100_050, transactions: 12 },
    }
}

/// An amount as the bank writes it: whole numbers without a decimal point.
pub(super) fn amount(cents: i64) -> Value {
    if cents % 100 == 0 {
        return Value::from(cents / 100);
    }
    #[expect(clippy::cast_precision_loss, reason = "the amounts here are far below 2^53 cents")]
    let units = cents as f64 / 100.0;
    Number::from_f64(units).map_or(Value::Null, Value::Number)
}

/// A test user of the consent application, and the accounts to choose from.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct User {
    /// What the form calls it.
    pub(super) name: &'static str,
    pub(super) accounts: &'static [&'static str],
}

/// Everybody who can log on. No password is asked for.
pub(super) const USERS: [User; 3] = [
    User { name: "doe", accounts: &[super::DEFAULT_IBAN] },
    User { name: "petstore", accounts: &["NL62ABNA9999841479"] },
    User { name: "customer", accounts: &["NL02ABNA0123456789", "NL91ABNA0417164300"] },
];

impl User {
    /// The name that the bank knows the user by.
    pub(super) fn holder(&self) -> &'static str {
        self.accounts.first().map_or("", |iban| account(iban).holder)
    }
}

/// A page of transactions, newest first.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    pub(super) transactions: Vec<Transaction>,
    account_number: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_page_key: Option<String>,
}

/// One movement of an account.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Transaction {
    mutation_code: &'static str,
    description_lines: [String; 2],
    /// `YYYY-MM-DD`.
    pub(super) book_date: String,
    balance_after_mutation: Value,
    counter_party_account_number: &'static str,
    counter_party_name: &'static str,
    amount: Value,
    currency: &'static str,
    #[serde(rename = "transactionId")]
    pub(super) id: String,
    status: &'static str,
}

/// The page that the query asks for, by dates or by the key of the page before.
pub(super) fn transactions(iban: &str, today: Date, query: &Form) -> Result<Page, ApiError> {
    let wanted = match query.get("nextPageKey") {
        Some(key) => Wanted::from_key(key)?,
        None => Wanted::from_dates(today, query)?,
    };
    let account = account(iban);
    let mut page = Page { transactions: Vec::new(), account_number: iban.to_owned(), next_page_key: None };
    let mut balance = account.balance_cents;
    for number in 0..account.transactions {
        let cents = movement(number);
        let days_ago = i32::try_from(number * SPAN_DAYS / account.transactions).unwrap_or(0);
        let book_date = today.saturating_sub(days_ago.days());
        let fits = number >= wanted.first && book_date >= wanted.from && wanted.to.is_none_or(|to| book_date <= to);
        if fits && page.transactions.len() == PAGE {
            page.next_page_key = Some(Wanted { first: number, ..wanted }.key());
            break;
        }
        if fits {
            page.transactions.push(transaction(number, book_date, balance, cents, &account));
        }
        balance -= cents;
    }
    Ok(page)
}

/// What the `number`th newest transaction moved, in cents.
fn movement(number: usize) -> i64 {
    let step = i64::try_from(number).unwrap_or(0);
    (step * 7_919 + 1_300) % 20_000 - 9_500
}

fn transaction(number: usize, book_date: Date, balance: i64, cents: i64, account: &Account) -> Transaction {
    Transaction {
        mutation_code: if cents < 0 { "333" } else { "432" },
        description_lines: [format!("Order {number}"), "for the petstore".to_owned()],
        book_date: book_date.to_string(),
        balance_after_mutation: amount(balance),
        counter_party_account_number: "NL55INGB9999300517",
        counter_party_name: "Petstore supplies",
        amount: amount(cents),
        currency: account.currency,
        id: format!("TRXID{:05}", account.transactions - number),
        status: "EXECUTED",
    }
}

/// Which transactions to show.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    /// The number of the newest one.
    first: usize,
    from: Date,
    to: Option<Date>,
}

impl Wanted {
    fn from_dates(today: Date, query: &Form) -> Result<Self, ApiError> {
        let read = |name, invalid| {
            let text = query.get(name).map(|text| parse_date(text).ok_or(invalid));
            text.transpose()
        };
        let from = read("bookDateFrom", FROM_INVALID)?;
        let to = read("bookDateTo", TO_INVALID)?;
        let oldest = today.saturating_sub(HISTORY_MONTHS.months());
        match (from, to) {
            (Some(from), _) if from > today => Err(FROM_IN_FUTURE),
            (_, Some(to)) if to > today => Err(TO_IN_FUTURE),
            (Some(from), Some(to)) if from > to => Err(FROM_AFTER_TO),
            (Some(from), _) if from < oldest => Err(FROM_TOO_OLD),
            (from, to) => Ok(Self { first: 0, from: from.unwrap_or(oldest), to }),
        }
    }

    /// Reads a key of the form the bank's keys have, in which the date is the oldest wanted and the microseconds are
    /// the next transaction's number.
    fn from_key(key: &str) -> Result<Self, ApiError> {
        let (date, number) = key.split_once(KEY_TIME).ok_or(PARAMETER_INVALID)?;
        let digits = number.len() == 6 && number.bytes().all(|b| b.is_ascii_digit());
        let first = number.parse().ok().filter(|_| digits).ok_or(PARAMETER_INVALID)?;
        let from = parse_date(date).ok_or(PARAMETER_INVALID)?;
        Ok(Self { first, from, to: None })
    }

    fn key(self) -> String {
        format!("{}{KEY_TIME}{:06}", self.from, self.first)
    }
}

const KEY_TIME: &str = "T11:50:27.";

/// `YYYY-MM-DD` and no other form.
fn parse_date(text: &str) -> Option<Date> {
    text.parse().ok().filter(|date: &Date| date.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    const TODAY: Date = date(2026, 11, 22);

    fn ask(iban: &str, query: &str) -> Result<Page, ApiError> {
        transactions(iban, TODAY, &Form::parse(query.as_bytes()))
    }

    #[test]
    fn pages_of_fifty_show_every_transaction_once_newest_first() {
        for (iban, count) in [("NL62ABNA9999841479", 310), ("NL12ABNA9999876523", 88)] {
            let mut seen: Vec<(String, String)> = Vec::new();
            let mut query = String::new();
            loop {
                let page = ask(iban, &query).expect("a page");
                let found = page.transactions.iter();
                seen.extend(found.map(|found| (found.book_date.clone(), found.id.clone())));
                let Some(key) = page.next_page_key else { break };
                assert_eq!(page.transactions.len(), PAGE);
                query = format!("nextPageKey={key}");
            }
            assert_eq!(seen.len(), count);
            assert!(seen.is_sorted_by(|newer, older| newer.0 >= older.0));
            let day = |at: usize| parse_date(&seen[at].0).expect("a date");
            let days = (day(0) - day(count - 1)).get_days();
            assert!(days < 24, "{days}");
            seen.sort_by(|a, b| a.1.cmp(&b.1));
            seen.dedup_by(|a, b| a.1 == b.1);
            assert_eq!(seen.len(), count);
        }
    }

    #[test]
    fn dates_bound_the_pages() {
        let page = ask("NL12ABNA9999876523", "bookDateFrom=2026-11-20&bookDateTo=2026-11-21");
        let page = page.expect("a page");
        assert!(!page.transactions.is_empty());
        let inside = ["2026-11-20", "2026-11-21"];
        assert!(page.transactions.iter().all(|found| inside.contains(&found.book_date.as_str())));
        let old = ask("NL12ABNA9999876523", "bookDateTo=2026-01-01").expect("a page");
        assert!(old.transactions.is_empty());
    }

    #[test]
    fn each_wrong_date_has_its_own_error() {
        for (query, error) in [
            ("bookDateFrom=22-11-2026", FROM_INVALID),
            ("bookDateTo=20261122", TO_INVALID),
            ("bookDateFrom=2026-11-21&bookDateTo=2026-11-20", FROM_AFTER_TO),
            ("bookDateTo=2026-11-23", TO_IN_FUTURE),
            ("bookDateFrom=2026-11-23", FROM_IN_FUTURE),
            ("bookDateFrom=2025-05-21", FROM_TOO_OLD),
            ("nextPageKey=2026-11-23", PARAMETER_INVALID),
            ("nextPageKey=2026-11-23T11:50:27.+00001", PARAMETER_INVALID),
        ] {
            assert_eq!(ask("NL12ABNA9999876523", query).expect_err(query), error);
        }
    }

    #[test]
    fn amounts_are_written_as_the_bank_writes_them() {
        assert_eq!(amount(-302).to_string(), "-3.02");
        assert_eq!(amount(500_000).to_string(), "5000");
    }
}
