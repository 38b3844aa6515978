//! What the banks' pages have in common: HTML without a script, the bank's cookie, the way back to the client.
//!
//! A page loads nothing, runs nothing and sits in no frame; its policy says so. The policy leaves out `form-action`:
//! browsers hold it against every redirect that follows a form, and the last form of a visit leads through the
//! client's callback to wherever the client sends its customer next.
//!
//! `step` is a form of a visit, `language` what its customer reads.

mod language;
mod step;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, COOKIE, LOCATION, REFERRER_POLICY, SET_COOKIE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use language::Words;

use super::answers::{Answer, answer, empty, form_encode};
pub(super) use language::Language;
pub(super) use step::Step;

/// HTML under construction. Markup comes from this program alone; whatever else goes in is escaped.
#[derive(Default)]
pub(super) struct Html(String);

impl Html {
    /// Markup, as it is.
    pub(super) fn markup(mut self, markup: &'static str) -> Self {
        self.0.push_str(markup);
        self
    }

    /// Text, or the value of a quoted attribute.
    pub(super) fn text(mut self, text: &str) -> Self {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                other => self.0.push(other),
            }
        }
        self
    }

    /// What was built elsewhere.
    pub(super) fn append(mut self, other: &Self) -> Self {
        self.0.push_str(&other.0);
        self
    }

    /// The same piece for every item.
    pub(super) fn each<T>(self, items: impl IntoIterator<Item = T>, piece: impl Fn(Self, T) -> Self) -> Self {
        items.into_iter().fold(self, piece)
    }
}

/// Light or dark as the browser would have it; its colours keep to WCAG 2.2 AA in both.
const STYLE: &str = include_str!("style.css");

/// Whose pages they are.
pub(super) struct Bank {
    pub(super) name: &'static str,
    /// The class that colours them.
    pub(super) class: &'static str,
    /// What its pages can be read in.
    pub(super) languages: &'static [Language],
}

/// A page.
struct Sheet {
    status: StatusCode,
    bank: &'static Bank,
    language: Language,
    /// Which step it is, and of how many.
    step: Option<(&'static str, &'static str)>,
    title: &'static str,
    main: Html,
    footer: Option<Html>,
}

impl Sheet {
    fn answer(self) -> Answer {
        let Self { status, bank, language, step, title, main, footer } = self;
        let words = language.words();
        let html = Html::default()
            .markup("<!DOCTYPE html>\n<html lang=\"")
            .text(language.tag())
            .markup("\"><head><meta charset=\"utf-8\">")
            .markup("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>")
            .text(title)
            .markup(" - ")
            .text(bank.name)
            .markup("</title><style>")
            .markup(STYLE)
            .markup("</style></head>\n<body class=\"")
            .text(bank.class)
            .markup("\"><header><p class=\"bank\">")
            .text(bank.name)
            .markup("</p><p class=\"made-up\">")
            .text(words.imitated)
            .markup("</p></header>\n<main>")
            .each(step, |html, (number, all)| {
                let html = html.markup("<p class=\"step\">").text(words.step).markup(" ").text(number).markup(" ");
                html.text(words.of).markup(" ").text(all).markup("</p>")
            })
            .markup("<h1>")
            .text(title)
            .markup("</h1>\n")
            .append(&main)
            .markup("</main>\n")
            .each(footer, |html, footer| html.markup("<footer>").append(&footer).markup("</footer>"))
            .markup("</body></html>\n");
        let mut page = answer(status, "text/html; charset=utf-8", html.0);
        let headers = page.headers_mut();
        headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
        if let Ok(policy) = HeaderValue::from_str(&policy()) {
            headers.insert(CONTENT_SECURITY_POLICY, policy);
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        page
    }
}

/// The request does not come from a client that is known, so nobody is sent anywhere. `why` is for the client's developer,
/// in the protocol's English.
pub(super) fn refused(bank: &'static Bank, headers: &HeaderMap, why: &[&str]) -> Answer {
    let main = Html::default().each(why, |html, line| html.markup("<p lang=\"en\">").text(line).markup("</p>"));
    told(bank, headers, |words| words.refused, |_| main)
}

/// The visit is over, or its cookie did not come back.
pub(super) fn lost(bank: &'static Bank, headers: &HeaderMap) -> Answer {
    let main = |words: &Words| Html::default().markup("<p>").text(words.lost_how).markup("</p>");
    told(bank, headers, |words| words.lost, main)
}

/// A page that nothing follows.
fn told(
    bank: &'static Bank,
    headers: &HeaderMap,
    title: impl Fn(&Words) -> &'static str,
    main: impl FnOnce(&Words) -> Html,
) -> Answer {
    let language = Language::of_browser(headers, bank.languages);
    let words = language.words();
    let (title, main) = (title(words), main(words));
    Sheet { status: StatusCode::BAD_REQUEST, bank, language, step: None, title, main, footer: None }.answer()
}

/// The content security policy (CSP level 3) of every page: the one style, by its digest, and nothing else.
fn policy() -> String {
    let style = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()).as_ref());
    format!("default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; frame-ancestors 'none'")
}

/// Sends the browser to a client's redirect URI with these parameters (RFC 6749 §4.1.2). `end` is put behind them.
pub(super) fn send_back(status: StatusCode, redirect_uri: &str, parameters: &[(&str, &str)], end: &str) -> Answer {
    let mut url = redirect_uri.to_owned();
    for (name, value) in parameters {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(name);
        url.push('=');
        url.push_str(&form_encode(value));
    }
    url.push_str(end);
    // The control API registers none that a header could not carry; a program that embeds this might.
    let Ok(location) = HeaderValue::from_str(&url) else { return empty(StatusCode::INTERNAL_SERVER_ERROR) };
    let mut answer = empty(status);
    answer.headers_mut().insert(LOCATION, location);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store"));
    answer
}

/// The value of a cookie that the browser sent (RFC 6265 §4.2).
pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(own, _)| *own == name).map(|(_, value)| value).next()
}

/// Has the browser keep a cookie for as long as it runs. `secure` where the page came over TLS.
pub(super) fn set_cookie(answer: &mut Answer, name: &'static str, value: &str, secure: bool) {
    let secure = if secure { "; Secure" } else { "" };
    if let Ok(line) = HeaderValue::from_str(&format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}")) {
        answer.headers_mut().insert(SET_COOKIE, line);
    }
}

#[cfg(test)]
mod tests {
    use super::super::answers::Payload;
    use super::*;

    fn text(answer: &Answer) -> String {
        let Payload::Whole(bytes) = answer.body() else { panic!("a page is whole") };
        String::from_utf8_lossy(bytes).into_owned()
    }

    const BANK: Bank = Bank { name: "Bank", class: "bank", languages: &[Language::English] };

    fn step(fields: Html) -> Answer {
        let (number, yes, no) = (("1", "2"), ("next", "Next"), ("cancel", "Cancel"));
        let language = Language::English;
        Step { bank: &BANK, language, title: "a<b", number, name: "step", action: "/\"", fields, yes, no }.page()
    }

    #[test]
    fn nothing_that_came_from_outside_becomes_markup() {
        let page = text(&step(Html::default().markup("<p>").text("<script>\"'&").markup("</p>")));
        for shown in ["<p>&lt;script&gt;&quot;&#39;&amp;</p>", "<h1>a&lt;b</h1>", "action=\"/&quot;\""] {
            assert!(page.contains(shown), "{shown}: {page}");
        }
    }

    #[test]
    fn the_policy_names_the_style_that_the_page_holds() {
        let page = step(Html::default());
        let told = page.headers()[CONTENT_SECURITY_POLICY].to_str().expect("text").to_owned();
        let html = text(&page);
        let style = html.split("<style>").nth(1).and_then(|rest| rest.split("</style>").next()).expect("a style");
        let wanted = STANDARD.encode(digest(&SHA256, style.as_bytes()).as_ref());
        assert!(told.contains(&format!("'sha256-{wanted}'")), "{told}");
    }

    #[test]
    fn parameters_are_encoded_and_join_those_that_the_redirect_uri_has() {
        let to = |uri: &str| {
            let answer = send_back(StatusCode::FOUND, uri, &[("error", "a b&c"), ("state", "é#")], "#");
            answer.headers()[LOCATION].to_str().expect("text").to_owned()
        };
        assert_eq!(to("https://x/cb"), "https://x/cb?error=a+b%26c&state=%C3%A9%23#");
        assert_eq!(to("https://x/cb?a=1"), "https://x/cb?a=1&error=a+b%26c&state=%C3%A9%23#");
    }

    #[test]
    fn a_cookie_is_found_among_others_and_in_any_line() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("XPF=1; PF2=2"));
        headers.append(COOKIE, HeaderValue::from_static("a=b;PF=three=3"));
        assert_eq!(cookie(&headers, "PF"), Some("three=3"));
        assert_eq!(cookie(&headers, "P"), None);
    }
}
