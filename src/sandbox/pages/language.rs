//! In which language a page is, and what the pages of both banks say.

use http::HeaderMap;

use crate::http::accept_language::preferred;

/// What a customer reads. Each bank has two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sandbox) enum Language {
    Dutch,
    English,
    Norwegian,
}

impl Language {
    /// What a visit begins in: the browser's first choice among those of a bank, English where that is none of them.
    pub(in crate::sandbox) fn of_browser(headers: &HeaderMap, offered: &[Self]) -> Self {
        let named = |primary: &str| match primary {
            "nl" => Some(Self::Dutch),
            "en" => Some(Self::English),
            "nb" | "no" | "nn" => Some(Self::Norwegian),
            _ => None,
        };
        preferred(headers, |primary| named(primary).filter(|language| offered.contains(language)))
            .unwrap_or(Self::English)
    }

    /// The language of a button; English where the bank has no such button.
    pub(in crate::sandbox) fn of_button(tag: &str, offered: &[Self]) -> Self {
        offered.iter().copied().find(|language| language.tag() == tag).unwrap_or(Self::English)
    }

    /// The tag for `lang` and `Content-Language` (BCP 47).
    pub(in crate::sandbox) const fn tag(self) -> &'static str {
        match self {
            Self::Dutch => "nl",
            Self::English => "en",
            Self::Norwegian => "nb",
        }
    }

    /// What those who speak it call it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Dutch => "Nederlands",
            Self::English => "English",
            Self::Norwegian => "Norsk",
        }
    }

    pub(super) const fn words(self) -> &'static Words {
        match self {
            Self::Dutch => &DUTCH,
            Self::English => &ENGLISH,
            Self::Norwegian => &NORWEGIAN,
        }
    }
}

/// What both banks say.
pub(super) struct Words {
    pub(super) imitated: &'static str,
    pub(super) step: &'static str,
    pub(super) of: &'static str,
    pub(super) refused: &'static str,
    pub(super) lost: &'static str,
    pub(super) lost_how: &'static str,
}

const ENGLISH: Words = Words {
    imitated: "Imitated by consentry's sandbox",
    step: "Step",
    of: "of",
    refused: "This request is refused",
    lost: "This visit is over",
    lost_how: "It has ended, or your browser has not kept the bank's cookie. Begin again where you came from.",
};

const DUTCH: Words = Words {
    imitated: "Nagebootst door de sandbox van consentry",
    step: "Stap",
    of: "van",
    refused: "Dit verzoek wordt geweigerd",
    lost: "Dit bezoek is voorbij",
    lost_how: "Het is afgelopen, of uw browser heeft de cookie van de bank niet bewaard. Begin opnieuw waar u vandaan kwam.",
};

const NORWEGIAN: Words = Words {
    imitated: "Etterlignet av sandkassen til consentry",
    step: "Steg",
    of: "av",
    refused: "Forespørselen avvises",
    lost: "Besøket er over",
    lost_how: "Det er avsluttet, eller nettleseren din har ikke tatt vare på informasjonskapselen. Start på nytt der du kom fra.",
};

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::ACCEPT_LANGUAGE;

    use super::*;

    #[test]
    fn a_bank_speaks_the_browsers_language_where_it_can_and_english_elsewhere() {
        let of = |line: &'static str, offered: &[Language]| {
            let headers = [(ACCEPT_LANGUAGE, HeaderValue::from_static(line))].into_iter().collect();
            Language::of_browser(&headers, offered)
        };
        let (abn, nogi) = ([Language::Dutch, Language::English], [Language::Norwegian, Language::English]);
        assert_eq!((of("nl-BE", &abn), of("nl-BE", &nogi)), (Language::Dutch, Language::English));
        assert_eq!((of("nn, nl;q=0.5", &abn), of("nn, nl;q=0.5", &nogi)), (Language::Dutch, Language::Norwegian));
        assert_eq!(of("de", &abn), Language::English);
        assert_eq!(Language::of_button("nb", &abn), Language::English);
        assert_eq!(Language::of_button("nb", &nogi), Language::Norwegian);
    }
}
