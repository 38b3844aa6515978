//! One step of a visit as a form: what is asked, the button that goes on, the one that does not, and the other languages.

use http::StatusCode;

use super::super::answers::Answer;
use super::language::Language;
use super::{Bank, Html, Sheet};

/// A step. It is posted to the visit's own path: `step` names it, `answer` is the button.
pub(in crate::sandbox) struct Step<'s> {
    pub(in crate::sandbox) bank: &'static Bank,
    pub(in crate::sandbox) language: Language,
    pub(in crate::sandbox) title: &'static str,
    /// Which step it is, and of how many.
    pub(in crate::sandbox) number: (&'static str, &'static str),
    /// What the form calls it.
    pub(in crate::sandbox) name: &'static str,
    /// Where it is posted.
    pub(in crate::sandbox) action: &'s str,
    /// What is shown and filled in.
    pub(in crate::sandbox) fields: Html,
    /// What the button that goes on answers and says.
    pub(in crate::sandbox) yes: (&'static str, &'static str),
    /// The same of the other. It needs nothing to be filled in.
    pub(in crate::sandbox) no: (&'static str, &'static str),
}

impl Step<'_> {
    pub(in crate::sandbox) fn page(&self) -> Answer {
        let main = self.form().append(&self.fields).markup("<div class=\"buttons\">");
        let main = main.markup("<button class=\"yes\" name=\"answer\" value=\"").text(self.yes.0).markup("\">");
        let main = main.text(self.yes.1).markup("</button><button name=\"answer\" value=\"").text(self.no.0);
        let main = main.markup("\" formnovalidate>").text(self.no.1).markup("</button></div></form>");
        let others = self.bank.languages.iter().filter(|language| **language != self.language);
        let footer = self.form().each(others, |html, language| {
            let html = html.markup("<button name=\"language\" value=\"").text(language.tag()).markup("\" lang=\"");
            html.text(language.tag()).markup("\">").text(language.name()).markup("</button>")
        });
        Sheet {
            status: StatusCode::OK,
            bank: self.bank,
            language: self.language,
            step: Some(self.number),
            title: self.title,
            main,
            footer: Some(Html::default().markup("<div class=\"languages\">").append(&footer).markup("</form></div>")),
        }
        .answer()
    }

    /// The beginning of a form that names this step.
    fn form(&self) -> Html {
        let html = Html::default().markup("<form method=\"post\" action=\"").text(self.action);
        html.markup("\"><input type=\"hidden\" name=\"step\" value=\"").text(self.name).markup("\">")
    }
}

impl Html {
    /// One of several values to choose from.
    pub(in crate::sandbox) fn choice(self, name: &'static str, value: &str, shown: &str, chosen: bool) -> Self {
        let html = self.markup("<label class=\"choice\"><input type=\"radio\" required name=\"").text(name);
        let html = html.markup("\" value=\"").text(value).markup(if chosen { "\" checked>" } else { "\">" });
        html.markup("<span>").text(shown).markup("</span></label>")
    }

    /// Things that are so, each with its name.
    pub(in crate::sandbox) fn facts<'f>(self, facts: impl IntoIterator<Item = (&'f str, &'f str)>) -> Self {
        let html = self.markup("<dl>").each(facts, |html, (name, value)| {
            html.markup("<div><dt>").text(name).markup("</dt><dd>").text(value).markup("</dd></div>")
        });
        html.markup("</dl>")
    }
}
