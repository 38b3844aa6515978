//! What a customer does at the two banks, page by page, in the words that stand there.

use http::StatusCode;
use serde_json::{Value, json};

use crate::customer::Customer;
use crate::driver::{ENTER, SPACE};
use crate::support::client::Answer;
use crate::support::sidecar::Sidecar;
use crate::support::street::start_with;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Bank {
    AbnAmro,
    NorskGjeldsinformasjon,
}

/// An account of the test user who has two, as it is shown and as it is asked for.
const ACCOUNT: (&str, &str) = ("NL91 ABNA 0417 1643 00", "NL91ABNA0417164300");

impl Bank {
    pub(crate) const BOTH: [Self; 2] = [Self::AbnAmro, Self::NorskGjeldsinformasjon];

    /// As the sandbox's faults call its first page.
    pub(crate) const fn authorize(self) -> &'static str {
        match self {
            Self::AbnAmro => "abn-authorize",
            Self::NorskGjeldsinformasjon => "nogi-authorize",
        }
    }

    /// Under what the sandbox's control API has it.
    pub(crate) const fn control(self) -> &'static str {
        match self {
            Self::AbnAmro => "abn-amro",
            Self::NorskGjeldsinformasjon => "norsk-gjeld",
        }
    }

    /// How many codes it has exchanged.
    pub(crate) async fn exchanges(self, street: &crate::support::street::Street) -> u64 {
        let name = match self {
            Self::AbnAmro => "abn",
            Self::NorskGjeldsinformasjon => "norsk_gjeld",
        };
        street.bank.count(name, "code_exchanges").await
    }

    /// The app asks for a consent here; the customer is shown a page in the end.
    pub(crate) async fn ask(self, sidecar: &Sidecar, consent: &str) -> String {
        let body = match self {
            Self::AbnAmro => json!({ "provider": "abn-amro", "consent_id": consent }),
            Self::NorskGjeldsinformasjon => {
                let scope = "debt.unsecured.presentation.30";
                json!({ "provider": "norsk-gjeld", "consent_id": consent, "scope": scope })
            }
        };
        start_url(&start_with(sidecar, &body).await)
    }

    /// What its pages are in for a customer with this language.
    pub(crate) fn speaks(self, language: &str) -> &'static str {
        match (self, language) {
            (Self::AbnAmro, "nl") => "nl",
            (Self::NorskGjeldsinformasjon, "nb") => "nb",
            (Self::AbnAmro | Self::NorskGjeldsinformasjon, _) => "en",
        }
    }

    /// Through all pages, to a yes or a no on the last one.
    pub(crate) async fn decide(self, customer: &Customer, yes: bool) {
        let language = self.speaks(customer.language);
        match self {
            Self::AbnAmro => {
                let [log_on, check, next, authorize, cancel] = match language {
                    "nl" => ["Inloggen", "Controleer de gegevens", "Volgende", "Toestemming geven", "Annuleren"],
                    _ => ["Log on", "Check the data", "Next", "Authorize", "Cancel"],
                };
                customer.sees(language, log_on).await;
                customer.tab_to("E.P.G. Doe").await;
                customer.choose("A. Customer").await;
                customer.press(log_on).await;
                customer.sees(language, check).await;
                customer.tab_to("NL02 ABNA 0123 4567 89").await;
                customer.choose(ACCOUNT.0).await;
                customer.press(next).await;
                customer.sees(language, authorize).await;
                customer.press_with(if yes { authorize } else { cancel }, SPACE).await;
            }
            Self::NorskGjeldsinformasjon => {
                let [log_in, number, word, approve, deny] = match language {
                    "nb" => {
                        ["Logg inn", "Fødselsnummeret til en testperson", "Godkjenn eller avslå", "Godkjenn", "Avslå"]
                    }
                    _ => ["Log in", "National identity number of a test person", "Approve or deny", "Approve", "Deny"],
                };
                customer.sees(language, log_in).await;
                customer.tab_to(number).await;
                customer.window.press("29868099311".chars()).await;
                customer.press_with(log_in, SPACE).await;
                customer.sees(language, word).await;
                customer.press_with(if yes { approve } else { deny }, ENTER).await;
            }
        }
    }

    /// Turns back on the first page.
    pub(crate) async fn turn_back(self, customer: &Customer) {
        let cancel = match self.speaks(customer.language) {
            "nl" => "Annuleren",
            "nb" => "Avbryt",
            _ => "Cancel",
        };
        customer.press(cancel).await;
    }

    /// A call of the app with this consent: the balances of the account that was chosen, or the debt of the person.
    pub(crate) async fn read(self, sidecar: &Sidecar, consent: &str) -> Answer {
        let path = match self {
            Self::AbnAmro => format!("/accounts/v1/accounts/{}/balances", ACCOUNT.1),
            Self::NorskGjeldsinformasjon => "/debt/v1/debt".to_owned(),
        };
        sidecar.app.get(&sidecar.url(&path), &[("consent-id", consent)]).await
    }

    /// The call is answered with what the consent is about.
    pub(crate) async fn is_read(self, sidecar: &Sidecar, consent: &str) {
        let answer = self.read(sidecar, consent).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let told = answer.json();
        match self {
            Self::AbnAmro => assert_eq!(told["accountNumber"], ACCOUNT.1, "{told}"),
            Self::NorskGjeldsinformasjon => assert_eq!(told["ssn"], "29868099311", "{told}"),
        }
    }
}

pub(crate) fn start_url(started: &Value) -> String {
    started["start_url"].as_str().unwrap().to_owned()
}

/// Where our own pages are, by one of them.
pub(crate) fn origin(start_url: &str) -> &str {
    start_url.split("/start/").next().unwrap()
}

/// The headings of our own pages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ours {
    Granted,
    Denied,
    Failed,
}

impl Ours {
    pub(crate) fn heading(self, language: &str) -> &'static str {
        match (self, language) {
            (Self::Granted, "nl") => "U hebt toestemming gegeven",
            (Self::Granted, "nb") => "Du har gitt samtykke",
            (Self::Granted, _) => "You have given your consent",
            (Self::Denied, "nl") => "U hebt geen toestemming gegeven",
            (Self::Denied, "nb") => "Du ga ikke samtykke",
            (Self::Denied, _) => "You did not give your consent",
            (Self::Failed, "nl") => "Het is niet gelukt",
            (Self::Failed, "nb") => "Det gikk ikke",
            (Self::Failed, _) => "It did not work",
        }
    }
}
