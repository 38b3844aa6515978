//! The pages of the imitated Norsk Gjeldsinformasjon: log in, then approve or deny.
//!
//! Every step is a form that is posted to the visit's own path: `step` names the page, `answer` the button, `nin` is
//! the person's national identity number. No password is asked for, as test persons have none.

use http::StatusCode;

use super::super::answers::Answer;
use super::super::pages::{Html, page};
use super::authorize::Wanted;
use super::data::WITH_DEBT;

const BANK: &str = "Norsk Gjeldsinformasjon";

/// Step 1: who the person is. `again` after a number that is none.
pub(super) fn log_in(name: &str, again: bool) -> Answer {
    let html = form(name, "login")
        .markup(if again { "<p role=\"alert\">Eleven digits are needed.</p>" } else { "" })
        .markup("<p><label for=\"nin\">National identity number of a test person</label><br>")
        .markup("<input type=\"text\" id=\"nin\" name=\"nin\" inputmode=\"numeric\" pattern=\"[0-9]{11}\" required ")
        .markup("autocomplete=\"off\" value=\"")
        .text(WITH_DEBT[0])
        .markup("\"></p><button name=\"answer\" value=\"next\">Log in</button>")
        .markup("<button name=\"answer\" value=\"cancel\" formnovalidate>Cancel</button></form>\n");
    page(StatusCode::OK, "en", BANK, "Log in", &html)
}

/// Step 2: the person's word.
pub(super) fn consent(name: &str, request: &Wanted, nin: &str) -> Answer {
    let purpose = match request.scope {
        "debt.unsecured.presentation" => "shows you your unsecured debt",
        _ => "looks at your unsecured debt to process an application for credit",
    };
    let html = form(name, "consent")
        .markup("<p><strong>")
        .text(&request.client_id)
        .markup("</strong> ")
        .text(purpose)
        .markup(" <code>")
        .text(request.scope)
        .markup("</code></p><p>National identity number: <strong>")
        .text(nin)
        .markup("</strong></p><p>");
    let html = match request.days {
        Some(days) => html.markup("Days until it ends: ").text(&days.to_string()),
        None => html.markup("Once, within ten minutes"),
    };
    let html = html
        .markup("</p><button name=\"answer\" value=\"approve\">Approve</button>")
        .markup("<button name=\"answer\" value=\"deny\">Deny</button></form>\n");
    page(StatusCode::OK, "en", BANK, "Approve or deny", &html)
}

fn form(name: &str, step: &'static str) -> Html {
    let html = Html::default().markup("<form method=\"post\" action=\"/oauth2/visit/").text(name);
    html.markup("\"><input type=\"hidden\" name=\"step\" value=\"").text(step).markup("\">")
}

/// The request does not come from a client that is known, so nobody is sent anywhere.
pub(super) fn refused(error: &'static str, why: &'static str) -> Answer {
    let html = Html::default().markup("<p><code>").text(error).markup("</code></p><p>").text(why).markup("</p>");
    page(StatusCode::BAD_REQUEST, "en", BANK, "Error", &html)
}

/// The visit is over, or its cookie did not come back.
pub(super) fn lost() -> Answer {
    const WHY: &str = "This visit is over, or your browser has not kept its cookie. Begin again where you came from.";
    page(StatusCode::BAD_REQUEST, "en", BANK, "Error", &Html::default().markup("<p>").text(WHY).markup("</p>"))
}
