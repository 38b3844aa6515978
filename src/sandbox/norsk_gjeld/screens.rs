//! The pages of the imitated Norsk Gjeldsinformasjon, in Norwegian and in English: log in, then approve or deny.
//!
//! Every step is a form that is posted to the visit's own path: `step` names the page, `answer` the button, `nin` is
//! the person's national identity number. No password is asked for, as test persons have none.

use super::super::answers::Answer;
use super::super::pages::{Bank, Html, Language, Step};
use super::authorize::Visit;
use super::data::WITH_DEBT;

pub(super) const BANK: Bank =
    Bank { name: "Norsk Gjeldsinformasjon", class: "nogi", languages: &[Language::Norwegian, Language::English] };

/// The page of a step, or the one before it if that is not filled in yet.
pub(super) fn at(step: &str, name: &str, visit: &Visit) -> Answer {
    match (step, &visit.nin) {
        ("consent", Some(nin)) => consent(name, visit, nin),
        _ => log_in(name, visit, None),
    }
}

/// Step 1: who the person is. After what is no number, it is shown again, and that it is wrong.
pub(super) fn log_in(name: &str, visit: &Visit, wrong: Option<&str>) -> Answer {
    let words = words(visit.language);
    let html = Html::default().markup("<label class=\"field\" for=\"nin\">").text(words.nin_of).markup("</label>");
    let html = html.each(wrong, |html, _| {
        html.markup("<p class=\"alert\" id=\"wrong\" role=\"alert\">").text(words.wrong).markup("</p>")
    });
    let fields = html
        .markup("<input type=\"text\" id=\"nin\" name=\"nin\" inputmode=\"numeric\" pattern=\"[0-9]{11}\" required ")
        .markup(if wrong.is_some() { "aria-invalid=\"true\" aria-describedby=\"wrong\" " } else { "" })
        .markup("autocomplete=\"off\" value=\"")
        .text(wrong.or(visit.nin.as_deref()).unwrap_or(WITH_DEBT[0]))
        .markup("\">");
    let (yes, no) = (("next", words.log_in), ("cancel", words.cancel));
    step(name, visit, ("1", "login"), words.log_in, fields, yes, no)
}

/// Step 2: the person's word.
fn consent(name: &str, visit: &Visit, nin: &str) -> Answer {
    let (words, request) = (words(visit.language), &visit.request);
    let purpose = match request.scope {
        "debt.unsecured.presentation" => words.presentation,
        _ => words.processing,
    };
    let days = request.days.map(|days| days.to_string());
    let fields = Html::default()
        .markup("<p><strong>")
        .text(&request.client_id)
        .markup("</strong> ")
        .text(purpose)
        .markup(" <code>")
        .text(request.scope)
        .markup("</code></p>")
        .facts([
            (words.nin, nin),
            match &days {
                Some(days) => (words.days, days.as_str()),
                None => (words.how_often, words.once),
            },
        ]);
    let (yes, no) = (("approve", words.approve), ("deny", words.deny));
    step(name, visit, ("2", "consent"), words.approve_or_deny, fields, yes, no)
}

fn step(
    name: &str,
    visit: &Visit,
    (number, step): (&'static str, &'static str),
    title: &'static str,
    fields: Html,
    yes: (&'static str, &'static str),
    no: (&'static str, &'static str),
) -> Answer {
    let action = format!("/oauth2/visit/{name}");
    let (bank, language, number) = (&BANK, visit.language, (number, "2"));
    Step { bank, language, title, number, name: step, action: &action, fields, yes, no }.page()
}

/// The words of a language.
struct Words {
    log_in: &'static str,
    nin_of: &'static str,
    wrong: &'static str,
    cancel: &'static str,
    approve_or_deny: &'static str,
    presentation: &'static str,
    processing: &'static str,
    nin: &'static str,
    days: &'static str,
    how_often: &'static str,
    once: &'static str,
    approve: &'static str,
    deny: &'static str,
}

/// There are no pages in Dutch here.
const fn words(language: Language) -> &'static Words {
    match language {
        Language::Norwegian => &NORWEGIAN,
        Language::English | Language::Dutch => &ENGLISH,
    }
}

const ENGLISH: Words = Words {
    log_in: "Log in",
    nin_of: "National identity number of a test person",
    wrong: "Eleven digits are needed.",
    cancel: "Cancel",
    approve_or_deny: "Approve or deny",
    presentation: "shows you your unsecured debt.",
    processing: "looks at your unsecured debt to process an application for credit.",
    nin: "National identity number",
    days: "Days until it ends",
    how_often: "How often",
    once: "Once, within ten minutes",
    approve: "Approve",
    deny: "Deny",
};

const NORWEGIAN: Words = Words {
    log_in: "Logg inn",
    nin_of: "Fødselsnummeret til en testperson",
    wrong: "Det må være elleve sifre.",
    cancel: "Avbryt",
    approve_or_deny: "Godkjenn eller avslå",
    presentation: "viser deg den usikrede gjelden din.",
    processing: "henter den usikrede gjelden din for å behandle en kredittsøknad.",
    nin: "Fødselsnummer",
    days: "Dager til det utløper",
    how_often: "Hvor ofte",
    once: "Én gang, innen ti minutter",
    approve: "Godkjenn",
    deny: "Avslå",
};
