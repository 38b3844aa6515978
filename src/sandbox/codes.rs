//! Authorization codes: each for one exchange, one redirect URI and, where the client asked for it, one verifier.
//!
//! A spent code is remembered, so that a second exchange is told from a code that never was.

use std::collections::{HashMap, VecDeque};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::answers::Form;
use crate::words::clock::BootInstant;

/// Codes remembered at most, spent and expired ones included.
const MAX_CODES: usize = 100_000;

/// The codes of a bank, each with what `G` tells of the grant behind it.
pub(super) struct Codes<G> {
    codes: HashMap<String, Code<G>>,
    issued: VecDeque<String>,
}

/// What a code is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Code<G> {
    pub(super) grant: G,
    pub(super) redirect_uri: String,
    pub(super) challenge: Option<Challenge>,
    pub(super) ends: BootInstant,
    pub(super) spent: bool,
}

/// Why a code is not exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadCode {
    Unknown,
    Expired,
    /// It was exchanged before: somebody has it who should not, or a client has asked twice.
    Spent,
    RedirectUriMissing,
    RedirectUri,
    /// The verifier is missing, wrong, or there although the authorization had no challenge (RFC 9700 §2.1.1).
    Verifier,
}

impl<G> Default for Codes<G> {
    fn default() -> Self {
        Self { codes: HashMap::new(), issued: VecDeque::new() }
    }
}

impl<G> Codes<G> {
    /// Remembers a code that is about to be given out.
    pub(super) fn keep(&mut self, text: String, code: Code<G>) {
        self.issued.push_back(text.clone());
        self.codes.insert(text, code);
        if self.issued.len() > MAX_CODES
            && let Some(oldest) = self.issued.pop_front()
        {
            self.codes.remove(&oldest);
        }
    }

    /// A code that was given out, whatever became of it.
    pub(super) fn find(&mut self, text: &str) -> Option<&mut Code<G>> {
        self.codes.get_mut(text)
    }
}

impl<G> Code<G> {
    /// Whether the code may be exchanged by who brings this redirect URI and verifier. Changes nothing.
    pub(super) fn check(
        &self,
        now: BootInstant,
        redirect_uri: Option<&str>,
        verifier: Option<&str>,
    ) -> Result<(), BadCode> {
        if self.spent {
            return Err(BadCode::Spent);
        }
        if now >= self.ends {
            return Err(BadCode::Expired);
        }
        if redirect_uri.ok_or(BadCode::RedirectUriMissing)? != self.redirect_uri {
            return Err(BadCode::RedirectUri);
        }
        let fits = match (&self.challenge, verifier) {
            (None, None) => true,
            (Some(challenge), Some(verifier)) => challenge.fits(verifier),
            (None, Some(_)) | (Some(_), None) => false,
        };
        if fits { Ok(()) } else { Err(BadCode::Verifier) }
    }
}

/// A code challenge (RFC 7636 §4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    text: String,
    method: ChallengeMethod,
}

/// How a challenge was made from its verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChallengeMethod {
    Plain,
    S256,
}

/// The parameters are not a code challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadChallenge;

impl Challenge {
    /// The challenge of an authorization request, if it has one. Without a method it is a plain one (RFC 7636 §4.3).
    pub(super) fn of(request: &Form) -> Result<Option<Self>, BadChallenge> {
        let method = match request.get("code_challenge_method") {
            None | Some("plain") => ChallengeMethod::Plain,
            Some("S256") => ChallengeMethod::S256,
            Some(_) => return Err(BadChallenge),
        };
        let Some(text) = request.get("code_challenge") else {
            let alone = request.get("code_challenge_method").is_some();
            return if alone { Err(BadChallenge) } else { Ok(None) };
        };
        let whole = method == ChallengeMethod::Plain || text.len() == 43;
        let fits = whole && is_verifier(text);
        if fits { Ok(Some(Self { text: text.to_owned(), method })) } else { Err(BadChallenge) }
    }

    /// Whether the verifier itself went through the browser.
    pub(super) fn is_plain(&self) -> bool {
        self.method == ChallengeMethod::Plain
    }

    fn fits(&self, verifier: &str) -> bool {
        is_verifier(verifier)
            && match self.method {
                ChallengeMethod::Plain => verifier == self.text,
                ChallengeMethod::S256 => {
                    URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()).as_ref()) == self.text
                }
            }
    }
}

/// 43 to 128 unreserved characters (RFC 7636 §4.1).
fn is_verifier(text: &str) -> bool {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    (43..=128).contains(&text.len()) && text.bytes().all(unreserved)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: BootInstant = BootInstant::from_millis(1_000);
    /// The pair of RFC 7636, appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    fn challenge(query: &str) -> Result<Option<Challenge>, BadChallenge> {
        Challenge::of(&Form::parse(query.as_bytes()))
    }

    fn code(challenge: Option<Challenge>) -> Code<()> {
        let ends = BootInstant::from_millis(61_000);
        Code { grant: (), redirect_uri: "https://x/cb".to_owned(), challenge, ends, spent: false }
    }

    #[test]
    fn a_code_is_good_once_in_time_and_for_its_redirect_uri() {
        let mut code = code(None);
        assert_eq!(code.check(NOW, Some("https://x/cb"), None), Ok(()));
        assert_eq!(code.check(NOW, None, None), Err(BadCode::RedirectUriMissing));
        assert_eq!(code.check(NOW, Some("https://x/cb/"), None), Err(BadCode::RedirectUri));
        assert_eq!(code.check(code.ends, Some("https://x/cb"), None), Err(BadCode::Expired));
        code.spent = true;
        assert_eq!(code.check(code.ends, Some("https://x/cb"), None), Err(BadCode::Spent));
    }

    #[test]
    fn the_verifier_must_fit_the_challenge_and_neither_comes_alone() {
        let s256 = challenge(&format!("code_challenge={CHALLENGE}&code_challenge_method=S256")).expect("valid");
        let plain = challenge(&format!("code_challenge={VERIFIER}")).expect("valid");
        let check = |code: Code<()>, verifier| code.check(NOW, Some("https://x/cb"), verifier);
        for with in [s256, plain] {
            assert_eq!(check(code(with.clone()), Some(VERIFIER)), Ok(()));
            assert_eq!(check(code(with.clone()), Some(CHALLENGE)), Err(BadCode::Verifier));
            assert_eq!(check(code(with), None), Err(BadCode::Verifier));
        }
        assert_eq!(check(code(None), Some(VERIFIER)), Err(BadCode::Verifier));
    }

    #[test]
    fn what_is_no_challenge_is_refused() {
        assert_eq!(challenge("x=y"), Ok(None));
        let short = &CHALLENGE[1..];
        for bad in [
            "code_challenge=short".to_owned(),
            "code_challenge_method=S256".to_owned(),
            format!("code_challenge={CHALLENGE}&code_challenge_method=S512"),
            format!("code_challenge={short}&code_challenge_method=S256"),
            format!("code_challenge={short}%2B&code_challenge_method=S256"),
        ] {
            assert_eq!(challenge(&bad), Err(BadChallenge), "{bad}");
        }
    }

    #[test]
    fn codes_are_bounded() {
        let mut codes = Codes::default();
        for number in 0..=MAX_CODES {
            codes.keep(number.to_string(), code(None));
        }
        assert!(codes.find("0").is_none() && codes.find("1").is_some());
        assert_eq!((codes.codes.len(), codes.issued.len()), (MAX_CODES, MAX_CODES));
    }
}
