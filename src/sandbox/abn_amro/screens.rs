//! The pages of the imitated consent application, in English and in Dutch.
//!
//! Every step is a form that is posted to the visit's own path: `step` names the page, `answer` the button, `user` and
//! `account` are what was chosen.

use super::super::answers::Answer;
use super::super::pages::{Bank, Html, Language, Step};
use super::authorize::Visit;
use super::data::USERS;

/// The language is chosen on the pages; no parameter names it.
pub(super) const BANK: Bank = Bank { name: "ABN AMRO", class: "abn", languages: &[Language::Dutch, Language::English] };

/// The page of a step, or the last one before it that is not filled in yet.
pub(super) fn at(step: Option<&str>, name: &str, visit: &Visit) -> Answer {
    match (step, visit.user, visit.iban) {
        (Some("authorize"), Some(_), Some(iban)) => authorize(name, visit, iban),
        (Some("authorize" | "check"), Some(user), _) => check(name, visit, user.accounts),
        _ => log_on(name, visit),
    }
}

/// Step 1: who the customer is.
pub(super) fn log_on(name: &str, visit: &Visit) -> Answer {
    let words = words(visit.language);
    let chosen = visit.user.unwrap_or(&USERS[0]);
    let fields = Html::default()
        .markup("<fieldset><legend>")
        .text(words.test_user)
        .markup("</legend>")
        .each(&USERS, |html, user| html.choice("user", user.name, user.holder(), user == chosen))
        .markup("</fieldset>");
    step(name, visit, ("1", "logon"), words.log_on, fields, ("next", words.log_on))
}

/// Step 2: what is asked for, and for which account.
fn check(name: &str, visit: &Visit, accounts: &[&'static str]) -> Answer {
    let words = words(visit.language);
    let chosen = visit.iban.or(accounts.first().copied());
    let fields = asked(visit)
        .markup("<fieldset><legend>")
        .text(words.account)
        .markup("</legend>")
        .each(accounts, |html, iban| html.choice("account", iban, &in_fours(iban), Some(*iban) == chosen))
        .markup("</fieldset>");
    step(name, visit, ("2", "check"), words.check, fields, ("next", words.next))
}

/// Step 3: the customer's word.
fn authorize(name: &str, visit: &Visit, iban: &str) -> Answer {
    let words = words(visit.language);
    let (iban, days) = (in_fours(iban), visit.request.days.to_string());
    let fields = asked(visit).facts([(words.account, iban.as_str()), (words.days, days.as_str())]);
    step(name, visit, ("3", "authorize"), words.authorize, fields, ("authorize", words.authorize))
}

/// Who asks, and for what.
fn asked(visit: &Visit) -> Html {
    let words = words(visit.language);
    let html = Html::default().markup("<p><strong>").text(&visit.request.client_id).markup("</strong> ");
    let html = html.text(words.asks_for).markup("</p><ul>");
    let html = html.each(visit.request.scope.split(' '), |html, scope| {
        html.markup("<li>").text(words.of_scope(scope)).markup(" <code>").text(scope).markup("</code></li>")
    });
    let html = html.markup("</ul>");
    match &visit.request.transaction_id {
        Some(id) => html.markup("<p>").text(words.payment).markup(": <code>").text(id).markup("</code></p>"),
        None => html,
    }
}

/// A step with its button and the one that cancels.
fn step(
    name: &str,
    visit: &Visit,
    (number, step): (&'static str, &'static str),
    title: &'static str,
    fields: Html,
    yes: (&'static str, &'static str),
) -> Answer {
    let action = format!("/as/{name}/resume/as/authorization.ping");
    let no = ("cancel", words(visit.language).cancel);
    let (bank, language, number) = (&BANK, visit.language, (number, "3"));
    Step { bank, language, title, number, name: step, action: &action, fields, yes, no }.page()
}

/// An IBAN as people read it (ISO 13616-1).
fn in_fours(iban: &str) -> String {
    let mut shown = String::new();
    for (nth, character) in iban.chars().enumerate() {
        if nth > 0 && nth % 4 == 0 {
            shown.push(' ');
        }
        shown.push(character);
    }
    shown
}

/// The words of a language.
struct Words {
    log_on: &'static str,
    test_user: &'static str,
    check: &'static str,
    asks_for: &'static str,
    account: &'static str,
    payment: &'static str,
    next: &'static str,
    authorize: &'static str,
    days: &'static str,
    cancel: &'static str,
    details: &'static str,
    balance: &'static str,
    transactions: &'static str,
    funds: &'static str,
    pay: &'static str,
}

impl Words {
    fn of_scope(&self, scope: &str) -> &'static str {
        match scope {
            "psd2:account:details:read" => self.details,
            "psd2:account:balance:read" => self.balance,
            "psd2:account:transaction:read" => self.transactions,
            "psd2:account:funds:read" => self.funds,
            _ => self.pay,
        }
    }
}

/// There are no pages in Norwegian here.
const fn words(language: Language) -> &'static Words {
    match language {
        Language::Dutch => &DUTCH,
        Language::English | Language::Norwegian => &ENGLISH,
    }
}

const ENGLISH: Words = Words {
    log_on: "Log on",
    test_user: "Test user",
    check: "Check the data",
    asks_for: "asks for:",
    account: "Account",
    payment: "Payment",
    next: "Next",
    authorize: "Authorize",
    days: "Days until it ends",
    cancel: "Cancel",
    details: "Holder and currency",
    balance: "Balance",
    transactions: "Transactions of the last 18 months",
    funds: "Whether an amount is available",
    pay: "A payment",
};

const DUTCH: Words = Words {
    log_on: "Inloggen",
    test_user: "Testgebruiker",
    check: "Controleer de gegevens",
    asks_for: "vraagt om:",
    account: "Rekening",
    payment: "Betaling",
    next: "Volgende",
    authorize: "Toestemming geven",
    days: "Dagen tot het eindigt",
    cancel: "Annuleren",
    details: "Houder en valuta",
    balance: "Saldo",
    transactions: "Transacties van de laatste 18 maanden",
    funds: "Of een bedrag beschikbaar is",
    pay: "Een betaling",
};
