//! The small pages that a customer may see.
//!
//! Everything in them is written here, what they say in `words`; nothing of a request, a bank or a consent is. So there is
//! nothing to escape, and the policy that goes with them allows one style sheet, by its digest, and nothing else.

mod words;

use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

use words::{again, words};

use super::language::Language;
use crate::consent::Ending;

/// What a page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Granted,
    Denied,
    Failed,
    /// The code is being exchanged; the browser asks again by itself.
    Working,
    /// Another browser than the one that began.
    Foreign,
    /// The customer was at the bank and back.
    Used,
    /// No such attempt, or too late.
    Unknown,
    /// Not what a bank sends.
    Malformed,
    /// Ours or the bank's machines are away for a moment.
    Unavailable,
    /// The operator has to mend something.
    Misconfigured,
    NotFound,
    Method,
    /// The request is not acceptable.
    Refused(StatusCode),
}

impl Page {
    pub(super) const fn of(ending: Ending) -> Self {
        match ending {
            Ending::Granted => Self::Granted,
            Ending::Denied => Self::Denied,
            Ending::Failed => Self::Failed,
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::Granted | Self::Denied | Self::Failed | Self::Used => StatusCode::OK,
            Self::Working => StatusCode::ACCEPTED,
            Self::Foreign => StatusCode::FORBIDDEN,
            Self::Unknown | Self::NotFound => StatusCode::NOT_FOUND,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Misconfigured => StatusCode::BAD_GATEWAY,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Refused(status) => status,
        }
    }

    /// What its mark is coloured by, and the lines in its circle. It tells nothing that the words do not.
    const fn mark(self) -> (&'static str, &'static str) {
        match self {
            Self::Granted => ("good", "M15 25l6 6 12-14"),
            Self::Working => ("wait", "M24 13v11l7 5"),
            Self::Denied | Self::Used | Self::NotFound => ("calm", "M16 24h16"),
            Self::Failed
            | Self::Foreign
            | Self::Unknown
            | Self::Malformed
            | Self::Unavailable
            | Self::Misconfigured
            | Self::Method
            | Self::Refused(_) => ("care", "M24 14v12M24 33v.5"),
        }
    }

    /// The page as a response.
    pub(super) fn into_response(self, language: Language) -> Response<Full<Bytes>> {
        let (title, text) = words(self, language);
        let (class, mark) = self.mark();
        let tag = language.tag();
        // An empty reference is the page's own address (RFC 3986 §4.4).
        let link = again(self, language).map_or_else(String::new, |label| format!("<a href=\"\">{label}</a>\n"));
        let html = format!(
            "<!doctype html>\n<html lang=\"{tag}\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
             <style>{STYLE}</style>\n<main class=\"{class}\">\n\
             <svg viewBox=\"0 0 48 48\" aria-hidden=\"true\"><circle cx=\"24\" cy=\"24\" r=\"21\"/><path d=\"{mark}\"/></svg>\n\
             <h1>{title}</h1>\n<p>{text}</p>\n{link}</main>\n</html>\n"
        );
        let mut response = Response::new(Full::from(html));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(tag));
        headers.insert(header::VARY, HeaderValue::from_static("accept-language, cookie"));
        if let Ok(policy) = HeaderValue::try_from(policy()) {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        match self {
            Self::Working => {
                headers.insert(REFRESH, HeaderValue::from(AGAIN.as_secs()));
            }
            Self::Unavailable => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(AGAIN.as_secs()));
            }
            Self::Method => {
                headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
            }
            Self::Granted
            | Self::Denied
            | Self::Failed
            | Self::Foreign
            | Self::Used
            | Self::Unknown
            | Self::Malformed
            | Self::Misconfigured
            | Self::NotFound
            | Self::Refused(_) => {}
        }
        private(headers);
        response
    }
}

/// Sends a browser elsewhere. `None`: not an address that a header can carry.
pub(super) fn redirect(to: &str) -> Option<Response<Full<Bytes>>> {
    let mut location = HeaderValue::try_from(to).ok()?;
    location.set_sensitive(true);
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SEE_OTHER;
    response.headers_mut().insert(header::LOCATION, location);
    private(response.headers_mut());
    Some(response)
}

/// The address of a page holds a code or a ticket: it is neither kept nor passed on.
fn private(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
}

/// Content Security Policy, level 3.
fn policy() -> String {
    let digest = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// Light or dark as the browser would have it; its colours keep to WCAG 2.2 AA in both.
const STYLE: &str = include_str!("style.css");

/// After how long a browser asks again.
const AGAIN: Duration = Duration::from_secs(2);

const REFRESH: HeaderName = HeaderName::from_static("refresh");

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    const ALL: [Page; 13] = [
        Page::Granted,
        Page::Denied,
        Page::Failed,
        Page::Working,
        Page::Foreign,
        Page::Used,
        Page::Unknown,
        Page::Malformed,
        Page::Unavailable,
        Page::Misconfigured,
        Page::NotFound,
        Page::Method,
        Page::Refused(StatusCode::BAD_REQUEST),
    ];

    #[tokio::test]
    async fn every_page_is_whole_in_every_language_and_holds_no_script() {
        for language in [Language::English, Language::Dutch, Language::Norwegian] {
            for page in ALL {
                let response = page.into_response(language);
                let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
                assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
                assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
                assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
                assert_eq!(response.headers()[header::REFERRER_POLICY], "no-referrer");
                assert_eq!(response.headers()[header::CONTENT_LANGUAGE], language.tag());
                let body = response.into_body().collect().await.unwrap().to_bytes();
                let html = std::str::from_utf8(&body).unwrap();
                let (title, text) = words(page, language);
                assert!(!title.is_empty() && !text.is_empty());
                assert_eq!(html.matches(title).count(), 2, "{html}");
                assert!(!html.contains("<script") && !html.contains("javascript") && !html.contains("  "), "{html}");
                for tag in ["main", "svg", "h1", "p", "title", "style", "html"] {
                    assert!(html.contains(&format!("</{tag}>")), "{tag}");
                }
            }
        }
    }

    #[test]
    fn a_redirect_is_private_and_takes_no_line_breaks() {
        let response = redirect("https://bank.example/authorize?state=s").unwrap();
        assert_eq!(response.status(), StatusCode::SEE_OTHER);
        assert!(response.headers()[header::LOCATION].is_sensitive());
        assert_eq!(response.headers()[header::REFERRER_POLICY], "no-referrer");
        assert!(redirect("https://bank.example/\r\nX: y").is_none());
    }
}
