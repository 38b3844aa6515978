//! What to do with the token at hand: a pure function of what is held and of time.
//!
//! Everything the request path decides about a token is decided here. An expired token is never served, whatever else
//! is broken; a token that still lives is never withheld because something else is.

use std::time::Duration;

use super::timing::min_ttl;
use crate::words::bank::OldAccessToken;

/// What is known of a token at the moment it is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct AtHand {
    /// Its remaining life.
    pub(super) remaining: Duration,
    /// Its whole life.
    pub(super) life: Duration,
    /// Below this much remaining life a background refresh is due.
    pub(super) soft_window: Duration,
    /// Whether the store has vouched for it and would have told us of a newer one.
    pub(super) verified: bool,
    /// Whether the bank's API refused it.
    pub(super) rejected: bool,
    /// What a refresh does to it.
    pub(super) on_refresh: OldAccessToken,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Use it.
    Serve,
    /// Use it, and get the next one without waiting for it.
    ServeAndRefresh,
    /// Ask the store whether it is still the newest; use it if the store does not answer.
    Verify,
    /// There is nothing to use: get one.
    Fetch,
}

/// Decides. `None`: nothing is held.
pub(super) fn decide(token: Option<AtHand>) -> Decision {
    let Some(token) = token else { return Decision::Fetch };
    if token.rejected || token.remaining <= min_ttl(token.life) {
        return Decision::Fetch;
    }
    if !token.verified {
        return Decision::Verify;
    }
    match token.on_refresh {
        OldAccessToken::Valid if token.remaining < token.soft_window => Decision::ServeAndRefresh,
        OldAccessToken::Valid | OldAccessToken::Revoked => Decision::Serve,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at_hand() -> AtHand {
        AtHand {
            remaining: Duration::from_secs(600),
            life: Duration::from_secs(7_200),
            soft_window: Duration::from_secs(300),
            verified: true,
            rejected: false,
            on_refresh: OldAccessToken::Valid,
        }
    }

    #[test]
    fn a_token_with_life_left_is_served() {
        assert_eq!(decide(Some(at_hand())), Decision::Serve);
        assert_eq!(decide(None), Decision::Fetch);
    }

    #[test]
    fn in_the_soft_window_it_is_served_and_replaced() {
        let soft = AtHand { remaining: Duration::from_secs(200), ..at_hand() };
        assert_eq!(decide(Some(soft)), Decision::ServeAndRefresh);
        let before = AtHand { remaining: soft.soft_window, ..soft };
        assert_eq!(decide(Some(before)), Decision::Serve);
    }

    #[test]
    fn a_bank_that_kills_the_old_token_is_not_asked_early() {
        let soft = AtHand { remaining: Duration::from_secs(200), on_refresh: OldAccessToken::Revoked, ..at_hand() };
        assert_eq!(decide(Some(soft)), Decision::Serve);
    }

    #[test]
    fn an_unverified_token_is_checked_first_and_a_rejected_one_is_not_used() {
        assert_eq!(decide(Some(AtHand { verified: false, ..at_hand() })), Decision::Verify);
        assert_eq!(decide(Some(AtHand { rejected: true, verified: false, ..at_hand() })), Decision::Fetch);
    }

    proptest! {
        #[test]
        fn nothing_with_less_than_the_minimum_left_is_ever_used(
            life in 0_u64..10_000_000, remaining in 0_u64..10_000_000, soft in 0_u64..400_000,
            verified: bool, rejected: bool, dies: bool,
        ) {
            let on_refresh = if dies { OldAccessToken::Revoked } else { OldAccessToken::Valid };
            let (life, remaining) = (Duration::from_millis(life), Duration::from_millis(remaining.min(life)));
            let soft_window = Duration::from_millis(soft);
            let decision = decide(Some(AtHand { remaining, life, soft_window, verified, rejected, on_refresh }));
            if remaining <= min_ttl(life) || rejected {
                prop_assert_eq!(decision, Decision::Fetch);
            } else {
                prop_assert_ne!(decision, Decision::Fetch);
            }
        }
    }
}
