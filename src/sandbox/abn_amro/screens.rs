//! The pages of the imitated consent application, in English and in Dutch.
//!
//! Every step is a form that is posted to the visit's own path: `step` names the page, `answer` the button, `user` and
//! `account` are what was chosen.

use http::StatusCode;

use super::super::answers::Answer;
use super::super::pages::{Html, page};
use super::authorize::Visit;
use super::data::USERS;

const BANK: &str = "ABN AMRO";

/// What the customer reads. It is chosen on the pages; no parameter names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Dutch,
    English,
}

impl Language {
    /// The language of a button; English where there is no such button.
    pub(super) fn of(tag: &str) -> Self {
        if tag == "nl" { Self::Dutch } else { Self::English }
    }

    const fn tag(self) -> &'static str {
        match self {
            Self::Dutch => "nl",
            Self::English => "en",
        }
    }

    const fn words(self) -> &'static Words {
        match self {
            Self::Dutch => &DUTCH,
            Self::English => &ENGLISH,
        }
    }
}

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
    let words = visit.language.words();
    let chosen = visit.user.unwrap_or(&USERS[0]);
    let fields = Html::default()
        .markup("<fieldset><legend>")
        .text(words.test_user)
        .markup("</legend>")
        .each(&USERS, |html, user| {
            let html = html.markup("<p><input type=\"radio\" name=\"user\" required id=\"").text(user.name);
            let html = html.markup("\" value=\"").text(user.name);
            let html = html.markup(if user == chosen { "\" checked>" } else { "\">" });
            html.markup(" <label for=\"").text(user.name).markup("\">").text(user.holder()).markup("</label></p>")
        })
        .markup("</fieldset>");
    step(name, visit, "logon", words.log_on, &fields, ("next", words.log_on))
}

/// Step 2: what is asked for, and for which account.
fn check(name: &str, visit: &Visit, accounts: &[&'static str]) -> Answer {
    let words = visit.language.words();
    let chosen = visit.iban.or(accounts.first().copied());
    let fields = asked(visit)
        .markup("<fieldset><legend>")
        .text(words.account)
        .markup("</legend>")
        .each(accounts, |html, iban| {
            let html = html.markup("<p><input type=\"radio\" name=\"account\" required id=\"").text(iban);
            let html = html.markup("\" value=\"").text(iban);
            let html = html.markup(if Some(*iban) == chosen { "\" checked>" } else { "\">" });
            html.markup(" <label for=\"").text(iban).markup("\">").text(iban).markup("</label></p>")
        })
        .markup("</fieldset>");
    step(name, visit, "check", words.check, &fields, ("next", words.next))
}

/// Step 3: the customer's word.
fn authorize(name: &str, visit: &Visit, iban: &str) -> Answer {
    let words = visit.language.words();
    let fields = asked(visit)
        .markup("<p>")
        .text(words.account)
        .markup(": <strong>")
        .text(iban)
        .markup("</strong></p><p>")
        .text(words.days)
        .markup(": ")
        .text(&visit.request.days.to_string())
        .markup("</p>");
    step(name, visit, "authorize", words.authorize, &fields, ("authorize", words.authorize))
}

/// Who asks, and for what.
fn asked(visit: &Visit) -> Html {
    let words = visit.language.words();
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

/// A step as a form, with its button, the one that cancels, and the choice of a language.
fn step(
    name: &str,
    visit: &Visit,
    step: &'static str,
    title: &'static str,
    fields: &Html,
    button: (&'static str, &'static str),
) -> Answer {
    let (language, words) = (visit.language, visit.language.words());
    let form = |html: Html| {
        let html = html.markup("<form method=\"post\" action=\"/as/").text(name);
        let html = html.markup("/resume/as/authorization.ping\"><input type=\"hidden\" name=\"step\" value=\"");
        html.text(step).markup("\">")
    };
    let html = form(Html::default())
        .append(fields)
        .markup("<button name=\"answer\" value=\"")
        .text(button.0)
        .markup("\">")
        .text(button.1)
        .markup("</button><button name=\"answer\" value=\"cancel\" formnovalidate>")
        .text(words.cancel)
        .markup("</button></form>\n");
    let html = form(html).markup(match language {
        Language::Dutch => "<button name=\"language\" value=\"en\" lang=\"en\">English</button></form>",
        Language::English => "<button name=\"language\" value=\"nl\" lang=\"nl\">Nederlands</button></form>",
    });
    page(StatusCode::OK, language.tag(), BANK, title, &html)
}

/// The request does not come from a client that is known, so nobody is sent anywhere.
pub(super) fn refused(why: &'static str) -> Answer {
    page(StatusCode::BAD_REQUEST, "en", BANK, "Error", &Html::default().markup("<p>").text(why).markup("</p>"))
}

/// The visit is over, or its cookie did not come back.
pub(super) fn lost() -> Answer {
    const WHY: &str =
        "This visit is over, or your browser has not kept the bank's cookie. Begin again where you came from.";
    page(StatusCode::BAD_REQUEST, "en", BANK, "Error", &Html::default().markup("<p>").text(WHY).markup("</p>"))
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
