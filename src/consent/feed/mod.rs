//! A bank's feed of events: what it tells of its own accord, so that a consent which has ended at the bank ends here before
//! an app runs into it.
//!
//! One replica reads at a time, under a lease in the store; the position stands there too, and moves only once everything
//! before it was applied. So a reader that is killed, or a store that restarts, costs that events are read twice and none
//! is passed over. Where a feed is and how it is read is data of the bank's profile. `page` reads an answer, `apply` ends a
//! consent; this file is when that is done, and what keeps it from being done too often.

mod apply;
mod page;

use std::sync::Arc;
use std::time::Duration;

pub(super) use apply::note_name;
use http::uri::PathAndQuery;
use tokio::time::sleep;

use super::desk::{CallPath, Desk, Heard, Unheard};
use crate::net::shutdown::Shutdown;
use crate::oauth::TokenEndpoint;
use crate::store::{Feeds, MoveFeed, MoveFeedOutcome, StoreError, TakeFeed, TakeFeedOutcome};
use crate::token::{ClientGrant, TokenError, Tokens};
use crate::words::clock::Clock;
use crate::words::ids::{AttemptId, Fence, ProviderId, random};
use crate::words::metrics::{OutcomeLabels, ProviderLabels};
use crate::words::pace::paced;

/// Where a bank tells what has happened to consents, and how its answer is read. Places are JSON pointers (RFC 6901), those
/// of an event's members from the event on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedCall {
    /// Where, from the root of the host on.
    pub path: CallPath,
    /// What our client's token for it is asked for with.
    pub token: Arc<ClientGrant>,
    /// The query's parameter for the first number that is wanted.
    pub from: String,
    /// The query's parameter for how many events are wanted.
    pub limit: String,
    /// The list of events.
    pub events: String,
    /// An event's number.
    pub number: String,
    /// What the bank calls the consent.
    pub consent: String,
    /// The word for what has happened.
    pub kind: String,
    /// The words that mean that a consent has ended.
    pub ended: Vec<String>,
    /// How often it is read.
    pub every: Duration,
    /// How long the bank keeps an event.
    pub kept: Duration,
}

/// A feed cannot be asked as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the parameters of a query are 1 to 64 of letters, digits, - and _")]
pub struct NotAFeed;

/// How many events are asked for at once: what fits into the 64 KiB that are read of an answer.
pub const LONGEST_PAGE: usize = 100;
/// The first number there is.
const FIRST: u64 = 1;
/// What a reader may need for one page, besides the pause before it: a token, two calls, and the steps of the store.
const READING: Duration = Duration::from_secs(30);
/// The longest pause after failures. What our client may not read is asked for no more often than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(900);

impl FeedCall {
    /// Whether `parameter` can stand in a query as it is.
    pub fn check_parameter(parameter: &str) -> Result<(), NotAFeed> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if (1..=64).contains(&parameter.len()) && parameter.bytes().all(plain) { Ok(()) } else { Err(NotAFeed) }
    }

    /// What is asked for: events from this number on.
    pub(super) fn target(&self, from: u64) -> String {
        let target = format!("{}?{}={from}&{}={LONGEST_PAGE}", self.path.of(""), self.from, self.limit);
        debug_assert!(PathAndQuery::try_from(target.as_str()).is_ok(), "{target}");
        target
    }
}

/// How one look at the feed came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    /// To its end, for now.
    ToItsEnd,
    /// And there is more.
    More,
    /// Somebody else reads it, for so long at least.
    Elsewhere(Duration),
    /// Nothing is asked of the provider: it is frozen.
    Frozen,
    /// The right to read went to somebody else meanwhile.
    Lost,
    /// The store did not answer, or said no.
    Store,
    /// There is no token to ask with, and there may be one later.
    NoToken,
    /// The bank does not let our client read it.
    NotAllowed,
    /// The bank was not reached, or gave no answer.
    NoAnswer,
    /// It answered with another status than 200.
    Refused,
    /// Its answer is no page.
    NoPage,
}

impl Read {
    const fn as_str(self) -> &'static str {
        match self {
            Self::ToItsEnd | Self::More => "read",
            Self::Elsewhere(_) => "elsewhere",
            Self::Frozen => "frozen",
            Self::Lost => "lost",
            Self::Store => "store_failed",
            Self::NoToken => "no_token",
            Self::NotAllowed => "not_allowed",
            Self::NoAnswer => "no_answer",
            Self::Refused => "refused",
            Self::NoPage => "no_page",
        }
    }
}

/// Reads the feed that `desk` has until the shutdown begins: a page that is being applied then is finished, and the right to
/// read is given back.
pub async fn read_feed<S: Feeds, E: TokenEndpoint, C: Clock>(
    tokens: Tokens<S, E, C>,
    provider: ProviderId,
    desk: Arc<Desk>,
    clock: C,
    stop: Shutdown,
) {
    let Some(feed) = desk.feed().cloned() else { return };
    let by = tokens.name_attempt();
    let reader = Reader { tokens, provider, desk, feed, clock, by };
    let (mut pause, mut failures) = (jittered(reader.feed.every.min(Duration::from_secs(1))), 0_u32);
    let mut said = None;
    loop {
        tokio::select! {
            biased;
            () = stop.soft() => break,
            () = sleep(pause) => {}
        }
        let read = reader.look().await;
        reader.count(read);
        if said.replace(read.as_str()) != Some(read.as_str()) {
            reader.say(read);
        }
        pause = reader.pause_after(read, &mut failures);
    }
    reader.give_back().await;
}

struct Reader<S, E, C> {
    tokens: Tokens<S, E, C>,
    provider: ProviderId,
    desk: Arc<Desk>,
    feed: FeedCall,
    clock: C,
    by: AttemptId,
}

impl<S: Feeds, E: TokenEndpoint, C: Clock> Reader<S, E, C> {
    /// How long nobody else reads: the pause until the next look, and what that may take.
    fn lease(&self) -> Duration {
        self.feed.every * 2 + paced(READING)
    }

    /// One page, if it is this replica's turn.
    async fn look(&self) -> Read {
        match self.tokens.provider_standing(&self.provider).await {
            Ok(standing) if standing.freeze.is_some() => return Read::Frozen,
            Ok(_) => {}
            Err(_) => return Read::Store,
        }
        let take = TakeFeed { by: self.by.clone(), life: self.lease() };
        let (fence, position, idle) = match self.tokens.store().take_feed(&self.provider, &take).await {
            Ok(TakeFeedOutcome::Taken { fence, position, idle }) => (fence, position, idle),
            Ok(TakeFeedOutcome::Busy(wait)) => return Read::Elsewhere(wait),
            Err(error) => return self.store_failed(&error),
        };
        if let Some(idle) = idle.filter(|idle| *idle > self.feed.kept) {
            tracing::error!(provider = %self.provider, ?idle, "Nobody has read the bank's feed for longer than it keeps events. Consents may have ended at the bank without a word here.");
        }
        let from = position.unwrap_or(FIRST);
        let page = match self.desk.page(&self.tokens, &self.provider, &self.feed, from).await {
            Ok(Heard::Answer(answer, _)) if answer.status.is_success() => page::read(&self.feed, &answer.body, from),
            Ok(Heard::Answer(answer, _)) if answer.status.is_server_error() => return Read::NoAnswer,
            Ok(Heard::Answer(..) | Heard::ConsentDead(_) | Heard::TokenRejected(_)) => return Read::Refused,
            Err(Unheard::NoToken(TokenError::Misconfigured { .. })) => return Read::NotAllowed,
            Err(Unheard::NoToken(TokenError::Frozen { .. })) => return Read::Frozen,
            Err(Unheard::NoToken(_)) => return Read::NoToken,
            Err(Unheard::Undelivered(_)) => return Read::NoAnswer,
        };
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(provider = %self.provider, %error, from, "An answer of the bank's feed cannot be read.");
                return Read::NoPage;
            }
        };
        if page.nameless > 0 {
            let provider = &self.provider;
            tracing::error!(%provider, count = page.nameless, from, "The bank's feed says that consents have ended, and not which.");
        }
        for name in &page.ended {
            match apply::ended(&self.tokens, &self.provider, name).await {
                Ok(applied) => self.count_event(applied.as_str()),
                Err(error) => return self.store_failed(&error),
            }
        }
        if !page.ended.is_empty() {
            self.tokens.feed_applied().await;
        }
        self.advance(fence, position, page.next, page.is_full).await
    }

    /// Says that all before `to` was applied.
    async fn advance(&self, fence: Fence, from: Option<u64>, to: u64, is_full: bool) -> Read {
        let moved = MoveFeed { by: self.by.clone(), fence, from, to, life: self.lease() };
        match super::persist::persist(|| self.tokens.store().move_feed(&self.provider, &moved)).await {
            Ok(MoveFeedOutcome::Moved) if is_full && from != Some(to) => Read::More,
            Ok(MoveFeedOutcome::Moved) => {
                let read_at = self.tokens.metrics().feed_read_at.get_or_create_owned(&self.labels());
                read_at.set(i64::try_from(self.clock.wall().as_millis() / 1_000).unwrap_or(i64::MAX));
                Read::ToItsEnd
            }
            Ok(MoveFeedOutcome::Lost) => Read::Lost,
            Err(error) => self.store_failed(&error),
        }
    }

    /// Lets another replica read at once. A lease that is not given back ends by itself.
    async fn give_back(&self) {
        let take = TakeFeed { by: self.by.clone(), life: Duration::ZERO };
        match self.tokens.store().take_feed(&self.provider, &take).await {
            Ok(TakeFeedOutcome::Taken { .. } | TakeFeedOutcome::Busy(_)) => {}
            Err(error) => tracing::debug!(%error, "The right to read a feed could not be given back."),
        }
    }

    fn pause_after(&self, read: Read, failures: &mut u32) -> Duration {
        let every = self.feed.every;
        let (pause, failed) = match read {
            Read::More => (Duration::ZERO, false),
            Read::ToItsEnd | Read::Frozen | Read::Lost => (every, false),
            Read::Elsewhere(wait) => (wait.clamp(Duration::from_millis(100), self.lease()), false),
            // A store that comes back is asked again soon.
            Read::Store => (every.min(Duration::from_secs(5)), false),
            Read::NotAllowed => (LONGEST_PAUSE, true),
            Read::NoToken | Read::NoAnswer | Read::Refused | Read::NoPage => {
                (every.saturating_mul(1 << (*failures).min(10)).min(LONGEST_PAUSE), true)
            }
        };
        *failures = if failed { failures.saturating_add(1) } else { 0 };
        if pause.is_zero() { pause } else { jittered(pause) }
    }

    fn count(&self, read: Read) {
        let outcome = read.as_str();
        let labels = OutcomeLabels { provider: self.provider.as_str().to_owned(), outcome };
        self.tokens.metrics().feed_reads.get_or_create(&labels).inc();
    }

    fn count_event(&self, outcome: &'static str) {
        let labels = OutcomeLabels { provider: self.provider.as_str().to_owned(), outcome };
        self.tokens.metrics().feed_events.get_or_create(&labels).inc();
    }

    fn labels(&self) -> ProviderLabels {
        ProviderLabels { provider: self.provider.as_str().to_owned() }
    }

    fn say(&self, read: Read) {
        let (provider, outcome) = (self.provider.as_str(), read.as_str());
        match read {
            Read::ToItsEnd | Read::More => tracing::info!(provider, "This replica reads the bank's feed of events."),
            Read::Elsewhere(_) => tracing::info!(provider, "Another replica reads the bank's feed of events."),
            Read::Frozen | Read::Lost => tracing::info!(provider, outcome, "The bank's feed of events is not read."),
            Read::NotAllowed => tracing::error!(
                provider,
                "The bank gives our client no token for its feed of events: have it registered for that, or set feed: {{read: false}}."
            ),
            Read::Store | Read::NoToken | Read::NoAnswer | Read::Refused | Read::NoPage => {
                tracing::warn!(provider, outcome, "The bank's feed of events could not be read.");
            }
        }
    }

    fn store_failed(&self, error: &StoreError) -> Read {
        tracing::debug!(provider = %self.provider, %error, "The store has no outcome for a step of the feed.");
        Read::Store
    }
}

/// Between nine tenths of `pause` and the whole of it, so that replicas do not look together.
fn jittered(pause: Duration) -> Duration {
    let [byte, ..] = random();
    pause / 10 * 9 + pause / 10 * u32::from(byte) / 255
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::consent::feed) fn feed() -> FeedCall {
        FeedCall {
            path: CallPath::parse("/feed/v1/consent").expect("a path"),
            token: Arc::new(ClientGrant { audience: None, scope: None }),
            from: "fromSequenceNr".to_owned(),
            limit: "limit".to_owned(),
            events: "/result".to_owned(),
            number: "/sequenceNr".to_owned(),
            consent: "/consentId".to_owned(),
            kind: "/eventType".to_owned(),
            ended: vec!["SAMTYKKE_ARKIVERT".to_owned()],
            every: Duration::from_secs(30),
            kept: Duration::from_secs(7 * 86_400),
        }
    }

    #[test]
    fn a_page_is_asked_for_by_its_first_number_and_its_length() {
        assert_eq!(feed().target(17), "/feed/v1/consent?fromSequenceNr=17&limit=100");
        for bad in ["", "a b", "a&b", "a=b", &"x".repeat(65)] {
            assert_eq!(FeedCall::check_parameter(bad), Err(NotAFeed), "{bad}");
        }
    }
}
