//! How often a bank lets a consent be used while its customer is away, and how that is counted.
//!
//! PSD2 has a bank answer an app that comes on its own no more than four times in 24 hours, unless the two agreed on more
//! (Regulation (EU) 2018/389, article 36(5)(b)). A [`Quota`] is such a rule; the [`Counter`] has the store count, so that all
//! replicas count together. It says no only where the store said so: a store that is away, or that cannot count, stops no
//! call, for the bank counts as well and has the last word, and no consent is lost by its no.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::timeout;

use crate::oauth::TokenEndpoint;
use crate::store::{Quotas, Refund, Spend, SpendOutcome, StoreError, Window};
use crate::token::Tokens;
use crate::words::clock::Clock;
use crate::words::ids::{ConsentId, QuotaGroup};

/// What a bank allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// What the configuration calls the calls that it is for.
    pub name: String,
    /// So many of them, at least one.
    pub calls: u32,
    /// Which of them are counted together.
    pub per: Per,
    /// When a bank's day begins, after midnight in UTC. `None`: so many within any 24 hours, which is so many within any
    /// day, whoever's.
    pub day_begins: Option<Duration>,
    /// Parameters of a query by which a call goes on with what an earlier one began, as with the next page; it is not
    /// counted.
    pub continued_by: Vec<String>,
}

/// Which calls of a consent are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// Those to the same path, whatever the method and the query.
    Path,
    /// All that the quota is for.
    Consent,
}

/// A day, in which so many calls may be made.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Quota {
    /// What a call to this path of this host is counted with.
    pub fn group(&self, host: &str, path: &str) -> QuotaGroup {
        QuotaGroup::of(&match self.per {
            Per::Path => format!("path {host}{path}"),
            Per::Consent => format!("all {}", self.name),
        })
    }

    /// For how long a call counts.
    pub fn window(&self) -> Window {
        match self.day_begins {
            Some(offset) => Window::Fixed { length: DAY, offset },
            None => Window::Sliding(DAY),
        }
    }

    /// Whether a call with this query goes on with an earlier one.
    pub fn is_continued_by(&self, query: Option<&str>) -> bool {
        let names = query.into_iter().flat_map(|query| query.split('&')).map(|pair| pair.split('=').next());
        !self.continued_by.is_empty() && names.flatten().any(|name| self.continued_by.iter().any(|it| it == name))
    }
}

/// What became of counting a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// It is counted.
    Counted {
        /// How many more there is room for.
        remaining: u32,
    },
    /// As many were made as may be.
    Exhausted {
        /// When there is room again, from here.
        until: Duration,
    },
    /// Nobody knows whether it is.
    Unknown,
}

/// Counts calls, and does without a store that does not answer.
#[derive(Debug, Default)]
pub struct Counter {
    /// Milliseconds of the boot clock until which the store is not asked.
    away_until: AtomicU64,
}

/// How long a call waits for the store: less than an app would notice beside a bank.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long the store is left alone after it did not answer, so that not every call waits for it.
const PAUSE: Duration = Duration::from_secs(1);

impl Counter {
    /// Counts a call before it is sent.
    pub async fn spend<S: Quotas, E: TokenEndpoint, C: Clock>(
        &self,
        tokens: &Tokens<S, E, C>,
        clock: &C,
        consent: &ConsentId,
        spend: Spend,
    ) -> Spent {
        if self.away_until.load(Ordering::Relaxed) > clock.boot().as_millis() {
            return Spent::Unknown;
        }
        let of = consent.clone();
        let asked = tokens.apart(move |tokens| async move { tokens.store().spend(&of, &spend).await });
        match timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(silent())) {
            Ok(SpendOutcome::Counted { remaining }) => Spent::Counted { remaining },
            Ok(SpendOutcome::Exhausted { until }) => Spent::Exhausted { until },
            Err(error) => {
                tracing::warn!(?consent, %error, "A call could not be counted; it is sent all the same.");
                self.away_until.store(clock.boot().plus(PAUSE).as_millis(), Ordering::Relaxed);
                Spent::Unknown
            }
        }
    }

    /// Takes back a call that did not reach the bank. Whether it was is not said: the worst that comes of it is a call too
    /// few.
    pub async fn refund<S: Quotas, E: TokenEndpoint, C: Clock>(
        &self,
        tokens: &Tokens<S, E, C>,
        consent: &ConsentId,
        refund: Refund,
    ) {
        let of = consent.clone();
        let asked = tokens.apart(move |tokens| async move { tokens.store().refund(&of, &refund).await });
        if let Err(error) = timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(silent())) {
            tracing::warn!(?consent, %error, "A call that did not reach the bank could not be taken back; it counts.");
        }
    }
}

fn silent() -> StoreError {
    StoreError::Unavailable("it did not answer in time".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(per: Per, continued_by: &[&str]) -> Quota {
        let continued_by = continued_by.iter().map(ToString::to_string).collect();
        Quota { name: "GET /v1/**".to_owned(), calls: 4, per, day_begins: None, continued_by }
    }

    #[test]
    fn each_path_of_each_host_is_counted_apart_or_all_together() {
        let apart = quota(Per::Path, &[]);
        let group = |path| apart.group("bank.example", path);
        assert_eq!(group("/v1/accounts"), group("/v1/accounts"));
        assert_ne!(group("/v1/accounts"), group("/v1/accounts/1"));
        assert_ne!(group("/v1/accounts"), apart.group("other.example", "/v1/accounts"));
        let together = quota(Per::Consent, &[]);
        assert_eq!(together.group("bank.example", "/a"), together.group("bank.example", "/b"));
        assert_ne!(
            together.group("bank.example", "/a"),
            Quota { name: "x".to_owned(), ..together.clone() }.group("bank.example", "/a")
        );
    }

    #[test]
    fn a_further_page_is_known_by_the_name_of_its_parameter_alone() {
        let paged = quota(Per::Path, &["nextPageKey", "page"]);
        for (query, continues) in [
            (None, false),
            (Some(""), false),
            (Some("x=nextPageKey"), false),
            (Some("pages=2"), false),
            (Some("from=1&nextPageKey=abc"), true),
            (Some("page"), true),
        ] {
            assert_eq!(paged.is_continued_by(query), continues, "{query:?}");
        }
        assert!(!quota(Per::Path, &[]).is_continued_by(Some("page=2")));
    }
}
