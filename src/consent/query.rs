//! What a bank sends along with a browser (RFC 6749 §4.1.2).

use super::exchange::Answer;
use crate::http::form::{decode, pairs};
use crate::words::ids::StateDigest;
use crate::words::secrets::AuthorizationCode;

/// The parameters that matter; others are passed over.
#[derive(Debug)]
pub struct Parameters {
    /// A digest of `state`.
    pub state: StateDigest,
    /// `iss` (RFC 9207).
    pub issuer: Option<String>,
    /// `code` or `error`.
    pub answer: Answer,
}

impl Parameters {
    /// `None` for what no bank sends: no `state`, neither or both of `code` and `error`, one of them twice, or escapes that are
    /// none.
    pub fn parse(query: &str) -> Option<Self> {
        let (mut state, mut code, mut error, mut issuer) = (None, None, None, None);
        for (name, value) in pairs(query) {
            let slot = match name {
                "state" => &mut state,
                "code" => &mut code,
                "error" => &mut error,
                "iss" => &mut issuer,
                _ => continue,
            };
            if slot.replace(decode(value)?).is_some() {
                return None;
            }
        }
        let answer = match (code, error) {
            (Some(mut code), None) if !code.is_empty() => {
                Answer::Code(AuthorizationCode::new(std::mem::take::<String>(&mut *code)))
            }
            (None, Some(error)) => Answer::Error(error.to_string()),
            (Some(_), _) | (None, None) => return None,
        };
        let state = state.filter(|state| !state.is_empty())?;
        Some(Self { state: StateDigest::of(&state), issuer: issuer.map(|issuer| issuer.to_string()), answer })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(query: &str) -> Option<String> {
        match Parameters::parse(query)?.answer {
            Answer::Code(code) => Some(code.expose().to_owned()),
            Answer::Error(_) => None,
        }
    }

    fn error(query: &str) -> Option<String> {
        match Parameters::parse(query)?.answer {
            Answer::Code(_) => None,
            Answer::Error(error) => Some(error),
        }
    }

    #[test]
    fn the_banks_documented_answers_are_read() {
        let abn = "code=9C6UrsGZ0Z3XJymRAOAgl7hKPLlWKUo9GBfMQQEs&state=SilverAdministration-123";
        assert_eq!(code(abn).as_deref(), Some("9C6UrsGZ0Z3XJymRAOAgl7hKPLlWKUo9GBfMQQEs"));
        assert_eq!(Parameters::parse(abn).unwrap().state, StateDigest::of("SilverAdministration-123"));
        let cancelled =
            "error_description=Unexpected+Runtime+Authn+Adapter+Integration+Problem.&error=server_error&state=s";
        assert_eq!(error(cancelled).as_deref(), Some("server_error"));
        let nogi = "code=wi-w8zIdwwBHggkHhSjR24wH8pN6MDqxdObTBDuzaZo.sciTzz9qgwMlGBZ6X0jYIDyib8MupoIp5gbIJBxnTCs\
                    &scope=debt.unsecured.presentation&state=thisShouldBeARandomValue";
        assert!(code(nogi).unwrap().contains('.'));
        let denied = "error=consent_denied&error_description=&state=thisShouldBeARandomValue";
        assert_eq!(error(denied).as_deref(), Some("consent_denied"));
        let named = Parameters::parse("code=c&state=s&iss=https%3A%2F%2Faccess.norskgjeld.no%2F").unwrap();
        assert_eq!(named.issuer.as_deref(), Some("https://access.norskgjeld.no/"));
    }

    #[test]
    fn what_no_bank_sends_is_not_read() {
        for odd in [
            "",
            "state=s",
            "code=c",
            "code=c&state=",
            "code=&state=s",
            "code=c&error=e&state=s",
            "code=c&code=c&state=s",
            "code=c&state=s&state=s",
            "code=%&state=s",
            "code=%4&state=s",
            "code=%zz&state=s",
            "code=%ff&state=s",
            "CODE=c&state=s",
            "code[]=c&state=s",
        ] {
            assert!(Parameters::parse(odd).is_none(), "{odd}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(query in "[ -~]{0,80}") {
            let _ = Parameters::parse(&query);
        }
    }
}
