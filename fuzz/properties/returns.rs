//! What a bank sends along with a browser: one answer to one attempt, and what is not told plainly is refused.

use consentry::callback::Parameters;
use consentry::consent::Answer;
use consentry::words::ids::StateDigest;
use consentry::words::secrets::AuthorizationCode;

/// The query of a return is read if the plainest reading finds one meaning in it, and as nothing else; otherwise refused.
pub(super) fn callback_query(data: &[u8]) {
    let Ok(query) = std::str::from_utf8(data) else { return };
    let read = Parameters::parse(query);
    if let Some(Answer::Code(_)) = read.as_ref().map(|read| &read.answer) {
        let shown = read.as_ref().map(|read| format!("{:?}", read.answer));
        let nothing = Answer::Code(AuthorizationCode::new(""));
        assert_eq!(shown, Some(format!("{nothing:?}")), "a code is not shown");
    }
    let meant = Meaning::plainly(query);
    assert_eq!(read.map(Read::from), meant.as_ref().map(Meaning::read), "{query}");
    let Some(meant) = meant else { return };
    let bytes = meant.values().map(|(_, value)| value.len()).sum::<usize>();
    assert!(bytes < query.len(), "nothing grows");

    assert_same(&meant, &meant.written());
    for stranger in ["", "=", "scope=a+b", "error_description=%", "State=s", "code[]=c"] {
        assert_same(&meant, &format!("{stranger}&{query}&{stranger}"));
    }
    let contradictions =
        ["state=s", "state", "code=c", "code", "error=e", "error", "iss=%", "iss=%f", "iss=%+1", "iss=%ff"];
    for more in contradictions.into_iter().chain(meant.issuer.as_ref().map(|_| "iss=i")) {
        for contradictory in [format!("{more}&{query}"), format!("{query}&{more}")] {
            assert!(Parameters::parse(&contradictory).is_none(), "{contradictory}");
        }
    }
}

fn assert_same(meant: &Meaning, query: &str) {
    assert_eq!(Parameters::parse(query).map(Read::from), Some(meant.read()), "{query}");
}

/// What the program keeps: a digest of the state, the issuer, and `code` or `error` with its value.
#[derive(Debug, PartialEq, Eq)]
struct Read(StateDigest, Option<String>, &'static str, String);

impl From<Parameters> for Read {
    fn from(read: Parameters) -> Self {
        let (kind, value) = match read.answer {
            Answer::Code(code) => ("code", code.expose().to_owned()),
            Answer::Error(error) => ("error", error),
        };
        Self(read.state, read.issuer, kind, value)
    }
}

/// What a query means, in words of its own.
struct Meaning {
    state: String,
    issuer: Option<String>,
    kind: &'static str,
    answer: String,
}

impl Meaning {
    /// By the plainest means: each name is looked for in all of the query.
    fn plainly(query: &str) -> Option<Self> {
        let (state, issuer) = (only(query, "state").ok()?, only(query, "iss").ok()?);
        let (kind, answer) = match (only(query, "code").ok()?, only(query, "error").ok()?) {
            (Some(code), None) if !code.is_empty() => ("code", code),
            (None, Some(error)) => ("error", error),
            _ => return None,
        };
        Some(Self { state: state.filter(|state| !state.is_empty())?, issuer, kind, answer })
    }

    fn read(&self) -> Read {
        Read(StateDigest::of(&self.state), self.issuer.clone(), self.kind, self.answer.clone())
    }

    fn values(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let issuer = self.issuer.as_ref().map(|issuer| ("iss", issuer));
        issuer.into_iter().chain([(self.kind, &self.answer), ("state", &self.state)])
    }

    /// The same, with every byte escaped.
    fn written(&self) -> String {
        let escaped = |value: &str| value.bytes().map(|byte| format!("%{byte:02x}")).collect::<Vec<_>>().concat();
        self.values().map(|(name, value)| format!("{name}={}", escaped(value))).collect::<Vec<_>>().join("&")
    }
}

/// There are two, or one that cannot be decoded.
struct Unclear;

/// The value of the only parameter of this name, if there is one.
fn only(query: &str, name: &str) -> Result<Option<String>, Unclear> {
    let with_value = format!("{name}=");
    let mut values =
        query.split('&').filter_map(|pair| if pair == name { Some("") } else { pair.strip_prefix(&with_value) });
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => decoded(value).map(Some).ok_or(Unclear),
        (Some(_), Some(_)) => Err(Unclear),
    }
}

/// Escapes are whole and of two hexadecimal digits, and what they make is text.
fn decoded(value: &str) -> Option<String> {
    let spaced = value.replace('+', " ");
    let mut pieces = spaced.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let digits = piece.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}
