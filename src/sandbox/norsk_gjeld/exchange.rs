//! What an authorization code becomes at the imitated Norsk Gjeldsinformasjon: an access token that carries one
//! consent. There is no refresh token; when it has expired, the person must be asked again, or the client's own token
//! used where the consent lasts longer.
//!
//! As at ORY Hydra, a code is spent by an exchange that succeeds, and only by that. A second one ends the token that
//! the first was given (RFC 6749 §4.1.2); the consent stays.

use std::time::Duration;

use super::super::codes::{BadCode, Challenge, Code};
use super::DEBT;
use super::register::{NotRegistered, Now, Register, Token, two_halves};

/// What a person has agreed to, and how the client asked.
pub(super) struct Approved<'a> {
    pub(super) nin: &'a str,
    pub(super) consent_scope: &'a str,
    pub(super) days: Option<u64>,
    /// What the token's answer will say.
    pub(super) token_scope: String,
    pub(super) redirect_uri: String,
    pub(super) challenge: Option<Challenge>,
}

/// What a code stands for.
pub(super) struct Grant {
    consent: String,
    scope: String,
    /// What it was exchanged for.
    token: Option<String>,
}

impl Register {
    /// Creates the consent and gives a code for it.
    pub(super) fn approve(
        &mut self,
        now: Now,
        limit: usize,
        code_life_s: u64,
        approved: Approved<'_>,
    ) -> Result<String, NotRegistered> {
        let consent = self.create(now, limit, approved.nin, approved.consent_scope, approved.days)?;
        let text = two_halves();
        let code = Code {
            grant: Grant { consent: consent.id, scope: approved.token_scope, token: None },
            redirect_uri: approved.redirect_uri,
            challenge: approved.challenge,
            ends: now.boot.plus(Duration::from_secs(code_life_s)),
            spent: false,
        };
        self.counters.codes_issued += 1;
        self.codes.keep(text.clone(), code);
        Ok(text)
    }

    /// The consent that a code stands for.
    pub(super) fn consent_of_code(&mut self, code: &str) -> Option<&str> {
        self.codes.find(code).map(|code| code.grant.consent.as_str())
    }

    /// Exchanges a code. Gives the access token and its scope.
    pub(super) fn exchange(
        &mut self,
        now: Now,
        life: Duration,
        code: &str,
        redirect_uri: Option<&str>,
        verifier: Option<&str>,
    ) -> Result<(String, String), BadCode> {
        let found = self.codes.find(code).ok_or(BadCode::Unknown)?;
        let checked = found.check(now.boot, redirect_uri, verifier);
        let (scope, consent) = (found.grant.scope.clone(), found.grant.consent.clone());
        if checked == Err(BadCode::Spent) {
            let token = found.grant.token.take();
            self.counters.code_reuses += 1;
            token.inspect(|token| self.revoke_token(token));
        }
        checked?;
        let expires = now.boot.plus(life);
        let token = self.issue(Token { services: vec![DEBT], scope: scope.clone(), consent: Some(consent), expires });
        self.counters.code_exchanges += 1;
        if let Some(code) = self.codes.find(code) {
            code.spent = true;
            code.grant.token = Some(token.clone());
        }
        Ok((token, scope))
    }
}
