//! What a bank lets be asked for together, as data, and whether a scope keeps to it.

use std::time::Duration;

use crate::words::token_set::Scope;

/// A bank's rules about scopes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeRules {
    /// Sets of which no two may be asked for together. A word that ends in `*` stands for all that begin like it.
    pub exclusive: Vec<Vec<String>>,
    /// Of these exactly one has to be asked for; empty: there is no such rule.
    pub one_of: Vec<String>,
    /// Whether a word may end in `.` and a number of days, for which the consent is then asked.
    pub days: bool,
}

/// Which rule a scope breaks. The texts repeat words of the configuration, never of a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeFault {
    /// Words of two sets that exclude each other.
    #[error("the bank does not take {one} together with {other}")]
    Exclusive {
        /// A word of one set's rule.
        one: String,
        /// A word of the other's.
        other: String,
    },
    /// None, or more than one, of those of which one is needed.
    #[error("the bank takes exactly one of {}", .0.join(", "))]
    OneOf(Vec<String>),
}

impl ScopeRules {
    /// Whether the bank takes this scope, as far as is known.
    pub fn check(&self, scope: &Scope) -> Result<(), ScopeFault> {
        let asked: Vec<&str> = words(scope).map(|word| self.without_days(word).0).collect();
        let touched = |set: &[String]| set.iter().find(|rule| asked.iter().any(|word| matches(rule, word))).cloned();
        let mut first = None;
        for found in self.exclusive.iter().filter_map(|set| touched(set)) {
            match first.take() {
                Some(one) => return Err(ScopeFault::Exclusive { one, other: found }),
                None => first = Some(found),
            }
        }
        let counted = asked.iter().filter(|word| self.one_of.iter().any(|rule| matches(rule, word))).count();
        if !self.one_of.is_empty() && counted != 1 {
            return Err(ScopeFault::OneOf(self.one_of.clone()));
        }
        Ok(())
    }

    /// For how long the scope asks, where it says so: the shortest of its words' days.
    pub fn life(&self, scope: &Scope) -> Option<Duration> {
        words(scope).filter_map(|word| self.without_days(word).1).min()
    }

    /// The scope as banks tell of it: without days.
    pub fn bare(&self, scope: &Scope) -> Scope {
        let bare: Vec<_> = words(scope).map(|word| self.without_days(word).0).collect();
        Scope::parse(&bare.join(" ")).unwrap_or_default()
    }

    fn without_days<'w>(&self, word: &'w str) -> (&'w str, Option<Duration>) {
        let split = word.rsplit_once('.').filter(|_| self.days);
        match split.and_then(|(bare, days)| Some((bare, days.parse::<u32>().ok()?))) {
            Some((bare, days)) => (bare, Some(Duration::from_secs(u64::from(days) * 86_400))),
            None => (word, None),
        }
    }
}

fn words(scope: &Scope) -> impl Iterator<Item = &str> {
    scope.as_str().split(' ').filter(|word| !word.is_empty())
}

fn matches(rule: &str, word: &str) -> bool {
    rule.strip_suffix('*').map_or(rule == word, |start| word.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(exclusive: &[&[&str]], one_of: &[&str], days: bool) -> ScopeRules {
        let owned = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        ScopeRules { exclusive: exclusive.iter().map(|set| owned(set)).collect(), one_of: owned(one_of), days }
    }

    fn scope(text: &str) -> Scope {
        Scope::parse(text).expect("a scope")
    }

    #[test]
    fn accounts_and_payments_are_never_asked_for_together() {
        let abn = rules(&[&["psd2:account:*"], &["psd2:payment:*"]], &[], false);
        for good in ["", "psd2:account:balance:read psd2:account:details:read", "psd2:payment:sepa:write", "other"] {
            assert_eq!(abn.check(&scope(good)), Ok(()), "{good}");
        }
        let fault = abn.check(&scope("psd2:payment:sepa:write psd2:account:balance:read")).unwrap_err();
        assert_eq!(fault.to_string(), "the bank does not take psd2:account:* together with psd2:payment:*");
    }

    #[test]
    fn exactly_one_debt_scope_is_asked_for_with_or_without_days() {
        let nogi = rules(&[], &["debt.unsecured.presentation", "debt.unsecured.processing"], true);
        for good in ["debt.unsecured.presentation", "debt.unsecured.processing.28 openid"] {
            assert_eq!(nogi.check(&scope(good)), Ok(()), "{good}");
        }
        for bad in
            ["", "openid", "debt.unsecured.presentation debt.unsecured.processing", "debt.unsecured.presentation.x"]
        {
            assert!(matches!(nogi.check(&scope(bad)), Err(ScopeFault::OneOf(_))), "{bad}");
        }
    }

    #[test]
    fn days_name_the_life_of_the_consent_where_the_bank_knows_them() {
        let nogi = rules(&[], &[], true);
        let asked = scope("debt.unsecured.presentation.100 openid");
        assert_eq!(nogi.life(&asked), Some(Duration::from_secs(100 * 86_400)));
        assert_eq!(nogi.bare(&asked).as_str(), "debt.unsecured.presentation openid");
        assert_eq!(nogi.life(&scope("debt.unsecured.presentation")), None);
        let other = rules(&[], &[], false);
        assert_eq!((other.life(&asked), other.bare(&asked)), (None, asked));
    }
}
