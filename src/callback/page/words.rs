//! What the pages say, in every language: a title and a text.

use super::Page;
use crate::callback::language::Language;

/// Title and text. A customer who was asked again has a consent that a no, or a failure, leaves as it is: no page says otherwise.
pub(super) const fn words(page: Page, language: Language) -> (&'static str, &'static str) {
    use Language as L;
    match (page, language) {
        (Page::Granted, L::English) => ("You have given your consent", "You can close this page and go on in the app."),
        (Page::Granted, L::Dutch) => {
            ("U hebt toestemming gegeven", "U kunt deze pagina sluiten en verdergaan in de app.")
        }
        (Page::Granted, L::Norwegian) => ("Du har gitt samtykke", "Du kan lukke denne siden og fortsette i appen."),
        (Page::Denied, L::English) => (
            "You did not give your consent",
            "Nothing new is shared. What you agreed to before has not changed. If you change your mind, start again in the app.",
        ),
        (Page::Denied, L::Dutch) => (
            "U hebt geen toestemming gegeven",
            "Er wordt niets nieuws gedeeld. Aan eerdere toestemmingen is niets veranderd. Als u van gedachten verandert, begint u \
             opnieuw in de app.",
        ),
        (Page::Denied, L::Norwegian) => (
            "Du ga ikke samtykke",
            "Ingen nye opplysninger deles. Tidligere samtykker er ikke endret. Ombestemmer du deg, kan du starte på nytt i appen.",
        ),
        (Page::Failed, L::English) => (
            "It did not work",
            "Your bank could not complete your consent. Nothing that you agreed to before has changed. Please start again in \
             the app.",
        ),
        (Page::Failed, L::Dutch) => (
            "Het is niet gelukt",
            "Uw bank kon uw toestemming niet afronden. Aan eerdere toestemmingen is niets veranderd. Begin opnieuw in de \
             app.",
        ),
        (Page::Failed, L::Norwegian) => (
            "Det gikk ikke",
            "Samtykket kunne ikke fullføres. Tidligere samtykker er ikke endret. Start på nytt i appen.",
        ),
        (Page::Working, L::English) => ("One moment", "Your consent is being completed. This page goes on by itself."),
        (Page::Working, L::Dutch) => {
            ("Een ogenblik", "Uw toestemming wordt afgerond. Deze pagina gaat vanzelf verder.")
        }
        (Page::Working, L::Norwegian) => {
            ("Et øyeblikk", "Samtykket ditt fullføres. Denne siden går videre av seg selv.")
        }
        (Page::Foreign, L::English) => (
            "This was begun in another browser",
            "For your safety it can be finished only there. Please start again in the app, and stay in one browser.",
        ),
        (Page::Foreign, L::Dutch) => (
            "Dit is in een andere browser begonnen",
            "Voor uw veiligheid kan het alleen daar worden afgerond. Begin opnieuw in de app en blijf in één browser.",
        ),
        (Page::Foreign, L::Norwegian) => (
            "Dette ble startet i en annen nettleser",
            "Av hensyn til sikkerheten kan det bare fullføres der. Start på nytt i appen, og bruk samme nettleser.",
        ),
        (Page::Used, L::English) => (
            "You have been at your bank already",
            "Go on in the app. If you want to give your consent again, start again there.",
        ),
        (Page::Used, L::Dutch) => (
            "U bent al bij uw bank geweest",
            "Ga verder in de app. Wilt u opnieuw toestemming geven, begin dan daar opnieuw.",
        ),
        (Page::Used, L::Norwegian) => {
            ("Du har allerede vært hos banken", "Fortsett i appen. Vil du gi samtykke på nytt, starter du på nytt der.")
        }
        (Page::Unknown, L::English) => {
            ("This link is no longer valid", "It works once and for ten minutes. Please start again in the app.")
        }
        (Page::Unknown, L::Dutch) => {
            ("Deze link is niet meer geldig", "Hij werkt één keer en tien minuten lang. Begin opnieuw in de app.")
        }
        (Page::Unknown, L::Norwegian) => {
            ("Denne lenken er ikke lenger gyldig", "Den virker én gang og i ti minutter. Start på nytt i appen.")
        }
        (Page::Malformed, L::English) => {
            ("This answer cannot be understood", "Nothing was changed. Please start again in the app.")
        }
        (Page::Malformed, L::Dutch) => {
            ("Dit antwoord is niet te begrijpen", "Er is niets veranderd. Begin opnieuw in de app.")
        }
        (Page::Malformed, L::Norwegian) => {
            ("Dette svaret kan ikke leses", "Ingenting er endret. Start på nytt i appen.")
        }
        (Page::Unavailable, L::English) => {
            ("This does not work at the moment", "Nothing is lost. Please try again in a moment.")
        }
        (Page::Unavailable, L::Dutch) => {
            ("Dit werkt op dit moment niet", "Er is niets verloren. Probeer het zo meteen opnieuw.")
        }
        (Page::Unavailable, L::Norwegian) => {
            ("Dette virker ikke akkurat nå", "Ingenting er tapt. Prøv igjen om et øyeblikk.")
        }
        (Page::Misconfigured, L::English) => {
            ("This does not work here", "The operator of this service has to mend something first.")
        }
        (Page::Misconfigured, L::Dutch) => {
            ("Dit werkt hier niet", "De beheerder van deze dienst moet eerst iets herstellen.")
        }
        (Page::Misconfigured, L::Norwegian) => {
            ("Dette virker ikke her", "De som driver tjenesten, må rette noe først.")
        }
        (Page::NotFound, L::English) => ("There is nothing here", "Please start in the app."),
        (Page::NotFound, L::Dutch) => ("Hier is niets", "Begin in de app."),
        (Page::NotFound, L::Norwegian) => ("Her er det ingenting", "Start i appen."),
        (Page::Method | Page::Refused(_), L::English) => {
            ("This request is not accepted", "Please start again in the app.")
        }
        (Page::Method | Page::Refused(_), L::Dutch) => ("Dit verzoek wordt niet aanvaard", "Begin opnieuw in de app."),
        (Page::Method | Page::Refused(_), L::Norwegian) => ("Forespørselen godtas ikke", "Start på nytt i appen."),
    }
}

/// What a link says that loads the page again. Only one has any use for it.
pub(super) const fn again(page: Page, language: Language) -> Option<&'static str> {
    match (page, language) {
        (Page::Unavailable, Language::English) => Some("Try again"),
        (Page::Unavailable, Language::Dutch) => Some("Probeer opnieuw"),
        (Page::Unavailable, Language::Norwegian) => Some("Prøv igjen"),
        (
            Page::Granted
            | Page::Denied
            | Page::Failed
            | Page::Working
            | Page::Foreign
            | Page::Used
            | Page::Unknown
            | Page::Malformed
            | Page::Misconfigured
            | Page::NotFound
            | Page::Method
            | Page::Refused(_),
            Language::English | Language::Dutch | Language::Norwegian,
        ) => None,
    }
}
