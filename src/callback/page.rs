//! The small pages that a customer may see.
//!
//! Everything in them is written here; nothing of a request, a bank or a consent is. So there is nothing to escape, and the
//! policy that goes with them allows one style sheet, by its digest, and nothing else.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

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

    /// Title and text.
    const fn words(self, language: Language) -> (&'static str, &'static str) {
        use Language as L;
        match (self, language) {
            (Self::Granted, L::English) => {
                ("You have given your consent", "You can close this page and go on in the app.")
            }
            (Self::Granted, L::Dutch) => {
                ("U hebt toestemming gegeven", "U kunt deze pagina sluiten en verdergaan in de app.")
            }
            (Self::Granted, L::Norwegian) => ("Du har gitt samtykke", "Du kan lukke denne siden og fortsette i appen."),
            (Self::Denied, L::English) => (
                "You did not give your consent",
                "Nothing was shared. If you change your mind, start again in the app.",
            ),
            (Self::Denied, L::Dutch) => (
                "U hebt geen toestemming gegeven",
                "Er is niets gedeeld. Als u van gedachten verandert, begint u opnieuw in de app.",
            ),
            (Self::Denied, L::Norwegian) => {
                ("Du ga ikke samtykke", "Ingenting ble delt. Ombestemmer du deg, kan du starte på nytt i appen.")
            }
            (Self::Failed, L::English) => (
                "It did not work",
                "Your bank could not complete your consent. Nothing that you agreed to before has changed. Please start again in \
                 the app.",
            ),
            (Self::Failed, L::Dutch) => (
                "Het is niet gelukt",
                "Uw bank kon uw toestemming niet afronden. Aan eerdere toestemmingen is niets veranderd. Begin opnieuw in de \
                 app.",
            ),
            (Self::Failed, L::Norwegian) => (
                "Det gikk ikke",
                "Samtykket kunne ikke fullføres. Tidligere samtykker er ikke endret. Start på nytt i appen.",
            ),
            (Self::Working, L::English) => {
                ("One moment", "Your consent is being completed. This page goes on by itself.")
            }
            (Self::Working, L::Dutch) => {
                ("Een ogenblik", "Uw toestemming wordt afgerond. Deze pagina gaat vanzelf verder.")
            }
            (Self::Working, L::Norwegian) => {
                ("Et øyeblikk", "Samtykket ditt fullføres. Denne siden går videre av seg selv.")
            }
            (Self::Foreign, L::English) => (
                "This was begun in another browser",
                "For your safety it can be finished only there. Please start again in the app, and stay in one browser.",
            ),
            (Self::Foreign, L::Dutch) => (
                "Dit is in een andere browser begonnen",
                "Voor uw veiligheid kan het alleen daar worden afgerond. Begin opnieuw in de app en blijf in één browser.",
            ),
            (Self::Foreign, L::Norwegian) => (
                "Dette ble startet i en annen nettleser",
                "Av hensyn til sikkerheten kan det bare fullføres der. Start på nytt i appen, og bruk samme nettleser.",
            ),
            (Self::Used, L::English) => (
                "You have been at your bank already",
                "Go on in the app. If you want to give your consent again, start again there.",
            ),
            (Self::Used, L::Dutch) => (
                "U bent al bij uw bank geweest",
                "Ga verder in de app. Wilt u opnieuw toestemming geven, begin dan daar opnieuw.",
            ),
            (Self::Used, L::Norwegian) => (
                "Du har allerede vært hos banken",
                "Fortsett i appen. Vil du gi samtykke på nytt, starter du på nytt der.",
            ),
            (Self::Unknown, L::English) => {
                ("This link is no longer valid", "It works once and for ten minutes. Please start again in the app.")
            }
            (Self::Unknown, L::Dutch) => {
                ("Deze link is niet meer geldig", "Hij werkt één keer en tien minuten lang. Begin opnieuw in de app.")
            }
            (Self::Unknown, L::Norwegian) => {
                ("Denne lenken er ikke lenger gyldig", "Den virker én gang og i ti minutter. Start på nytt i appen.")
            }
            (Self::Malformed, L::English) => {
                ("This answer cannot be understood", "Nothing was changed. Please start again in the app.")
            }
            (Self::Malformed, L::Dutch) => {
                ("Dit antwoord is niet te begrijpen", "Er is niets veranderd. Begin opnieuw in de app.")
            }
            (Self::Malformed, L::Norwegian) => {
                ("Dette svaret kan ikke leses", "Ingenting er endret. Start på nytt i appen.")
            }
            (Self::Unavailable, L::English) => {
                ("This does not work at the moment", "Nothing is lost. Please load this page again in a moment.")
            }
            (Self::Unavailable, L::Dutch) => {
                ("Dit werkt op dit moment niet", "Er is niets verloren. Laad deze pagina zo meteen opnieuw.")
            }
            (Self::Unavailable, L::Norwegian) => {
                ("Dette virker ikke akkurat nå", "Ingenting er tapt. Last siden på nytt om et øyeblikk.")
            }
            (Self::Misconfigured, L::English) => {
                ("This does not work here", "The operator of this service has to mend something first.")
            }
            (Self::Misconfigured, L::Dutch) => {
                ("Dit werkt hier niet", "De beheerder van deze dienst moet eerst iets herstellen.")
            }
            (Self::Misconfigured, L::Norwegian) => {
                ("Dette virker ikke her", "De som driver tjenesten, må rette noe først.")
            }
            (Self::NotFound, L::English) => ("There is nothing here", "Please start in the app."),
            (Self::NotFound, L::Dutch) => ("Hier is niets", "Begin in de app."),
            (Self::NotFound, L::Norwegian) => ("Her er det ingenting", "Start i appen."),
            (Self::Method | Self::Refused(_), L::English) => {
                ("This request is not accepted", "Please start again in the app.")
            }
            (Self::Method | Self::Refused(_), L::Dutch) => {
                ("Dit verzoek wordt niet aanvaard", "Begin opnieuw in de app.")
            }
            (Self::Method | Self::Refused(_), L::Norwegian) => ("Forespørselen godtas ikke", "Start på nytt i appen."),
        }
    }

    /// The page as a response.
    pub(super) fn into_response(self, language: Language) -> Response<Full<Bytes>> {
        let (title, text) = self.words(language);
        let tag = language.tag();
        let html = format!(
            "<!doctype html>\n<html lang=\"{tag}\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
             <main>\n<h1>{title}</h1>\n<p>{text}</p>\n</main>\n</html>\n"
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

const STYLE: &str = "body{font:1.1rem/1.5 system-ui,sans-serif;color:#1a1a1a;background:#f6f6f4;margin:0}\
                     main{max-width:32rem;margin:15vh auto 0;padding:0 1.5rem}h1{font-size:1.5rem;line-height:1.25}\
                     @media(prefers-color-scheme:dark){body{color:#eee;background:#1c1c1c}}";

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
                let (title, text) = page.words(language);
                assert!(!title.is_empty() && !text.is_empty());
                assert_eq!(html.matches(title).count(), 2, "{html}");
                assert!(!html.contains("<script") && !html.contains("javascript") && !html.contains("  "), "{html}");
                for tag in ["main", "h1", "p", "title", "style", "html"] {
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
