//! The debt of the two synthetic persons. Everybody else has none.

use serde_json::{Value, json};

use super::register::Consent;

/// The persons of the service's own documents.
pub(super) const WITH_DEBT: [&str; 2] = ["14842249091", "29868099311"];

/// The answer to a lookup; amounts are NOK × 100, rates per cent × 100. So many creditors more did not answer.
pub(super) fn debt(consent: &Consent, creditors_missing: u8) -> Value {
    let mut loans = if consent.nin == WITH_DEBT[0] {
        vec![loan(
            "EXAMPLE LENDER",
            &json!({
                "type": "chargeCard",
                "timestamp": "2022-11-03T00:00:00Z",
                "coBorrower": 2,
                "interestBearingBalance": 6_069_400,
                "nonInterestBearingBalance": 641_000,
            }),
        )]
    } else if consent.nin == WITH_DEBT[1] {
        vec![
            loan(
                "EXAMPLE BANK",
                &json!({
                    "type": "creditFacility",
                    "timestamp": "2023-02-14T00:00:00Z",
                    "coBorrower": 0,
                    "creditLimit": 5_000_000,
                    "interestBearingBalance": 1_230_000,
                    "nonInterestBearingBalance": 45_600,
                    "nominalInterestRate": 1_990,
                    "installmentCharges": 4_500,
                    "installmentChargePeriod": "MONTHLY",
                }),
            ),
            loan(
                "EXAMPLE LENDER",
                &json!({
                    "type": "repaymentLoan",
                    "timestamp": "2023-05-01T00:00:00Z",
                    "coBorrower": 1,
                    "originalBalance": 20_000_000,
                    "balance": 15_500_000,
                    "terms": 60,
                    "nominalInterestRate": 1_020,
                    "installmentCharges": 3_000,
                    "installmentChargePeriod": "MONTHLY",
                }),
            ),
        ]
    } else {
        Vec::new()
    };
    let answered = loans.len();
    loans.extend((1..=creditors_missing).map(|number| loan(&format!("SILENT LENDER {number}"), &Value::Null)));
    json!({
        "ssn": consent.nin,
        "numberOfCreditorsAnswered": answered,
        "loans": loans,
        // The lower-case c is the service's own.
        "numberOfcreditorsMissing": creditors_missing,
        "consent": {
            "exp": consent.expires_at.as_millis() / 1_000,
            "id": consent.id,
            "scope": consent.scope,
        },
    })
}

fn loan(creditor: &str, loan: &Value) -> Value {
    json!({ "creditorName": creditor, "loan": loan })
}
