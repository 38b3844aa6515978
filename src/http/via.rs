//! `Via` (RFC 9110 §7.6.3): says that a message passed here, and gives away a request that came back.

use http::Version;
use http::header::{self, HeaderMap, HeaderValue};

use crate::words::problem::ProblemType;

/// Our line, for each version a request can arrive in.
#[derive(Clone, Debug)]
pub struct Via {
    pseudonym: Box<str>,
    http_1_0: HeaderValue,
    http_1_1: HeaderValue,
    http_2: HeaderValue,
}

/// A pseudonym that is not a token (RFC 9110 §5.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name in Via may hold only letters, digits and ! # $ % & ' * + - . ^ _ ` | ~")]
pub struct NotAPseudonym;

/// The request has been here before: `Via` names us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request has already passed this proxy")]
pub struct Loop;

impl Loop {
    /// The problem an app is told.
    pub const fn problem(self) -> ProblemType {
        ProblemType::LoopDetected
    }
}

impl Via {
    /// Lines under the name `pseudonym`, `consentry` unless two instances in a row need to be told apart.
    pub fn new(pseudonym: &str) -> Result<Self, NotAPseudonym> {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if pseudonym.is_empty() || !pseudonym.bytes().all(token) {
            return Err(NotAPseudonym);
        }
        let line = |version: &str| HeaderValue::from_str(&format!("{version} {pseudonym}")).map_err(|_| NotAPseudonym);
        Ok(Self { pseudonym: pseudonym.into(), http_1_0: line("1.0")?, http_1_1: line("1.1")?, http_2: line("2")? })
    }

    /// Refuses a request that `Via` says was here. To be asked before hop-by-hop headers are stripped, as
    /// `Connection: via` would hide it.
    pub fn refuse_loop(&self, headers: &HeaderMap) -> Result<(), Loop> {
        let mut lines = headers.get_all(header::VIA).iter();
        if lines.any(|line| names(line.as_bytes(), self.pseudonym.as_bytes())) { Err(Loop) } else { Ok(()) }
    }

    /// Adds our line behind the others; `received` is the version of the message as it came in.
    pub fn append(&self, headers: &mut HeaderMap, received: Version) {
        let line = match received {
            Version::HTTP_2 => &self.http_2,
            Version::HTTP_10 => &self.http_1_0,
            _ => &self.http_1_1,
        };
        headers.append(header::VIA, line.clone());
    }
}

/// Whether one of the line's members was received by `pseudonym`: the second word of each, comments left out.
fn names(line: &[u8], pseudonym: &[u8]) -> bool {
    let mut comments = 0_usize;
    let mut escaped = false;
    let mut word = 0_usize;
    let mut start = None;
    for (at, byte) in line.iter().copied().chain([b',']).enumerate() {
        let in_word = comments == 0 && !matches!(byte, b' ' | b'\t' | b',' | b'(');
        if let (Some(from), false) = (start, in_word) {
            let text = line.get(from..at).unwrap_or_default();
            if word == 1 && text.eq_ignore_ascii_case(pseudonym) {
                return true;
            }
            word += 1;
            start = None;
        }
        if in_word {
            start = start.or(Some(at));
            continue;
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' if comments > 0 => escaped = true,
            b'(' => comments += 1,
            b')' => comments = comments.saturating_sub(1),
            b',' if comments == 0 => word = 0,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn came_back(lines: &[&'static str]) -> bool {
        let via = Via::new("consentry").expect("a token");
        let line = |text: &&'static str| (header::VIA, HeaderValue::from_static(text));
        via.refuse_loop(&lines.iter().map(line).collect()).is_err()
    }

    #[test]
    fn a_request_that_was_here_is_told_from_one_that_only_mentions_us() {
        for lines in [
            &["1.1 consentry"][..],
            &["2 Consentry"],
            &["HTTP/1.1 consentry (a comment)"],
            &["1.0 fred, 1.1 consentry"],
            &["1.0 fred", "1.1  consentry"],
            &["1.0 fred (x, (y) \\) z),1.1 consentry"],
            &["1.1 consentry(comment)"],
        ] {
            assert!(came_back(lines), "{lines:?}");
        }
        for lines in [
            &[][..],
            &["1.1 fred"],
            &["1.1 consentry2"],
            &["1.1 my-consentry"],
            &["1.1 fred (1.1 consentry)"],
            &["1.1 fred (x, 1.1 consentry)"],
            &["consentry fred"],
            &["1.1 fred consentry"],
            &["1.1 fred ("],
            &[""],
        ] {
            assert!(!came_back(lines), "{lines:?}");
        }
    }

    #[test]
    fn our_line_comes_last_and_is_recognised() {
        let via = Via::new("consentry").expect("a token");
        for (version, wanted) in
            [(Version::HTTP_10, "1.0 consentry"), (Version::HTTP_11, "1.1 consentry"), (Version::HTTP_2, "2 consentry")]
        {
            let mut headers = HeaderMap::new();
            headers.insert(header::VIA, HeaderValue::from_static("1.0 fred"));
            via.append(&mut headers, version);
            let lines: Vec<_> = headers.get_all(header::VIA).iter().collect();
            assert_eq!(lines, ["1.0 fred", wanted]);
            assert_eq!(via.refuse_loop(&headers), Err(Loop));
        }
    }

    #[test]
    fn a_pseudonym_is_a_token() {
        for bad in ["", "a b", "a,b", "a(b)", "é"] {
            assert_eq!(Via::new(bad).err(), Some(NotAPseudonym), "{bad}");
        }
    }
}
