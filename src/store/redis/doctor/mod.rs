//! Whether a server is fit to keep consents.
//!
//! The protocol can be right and a consent still be lost, by a server that evicts keys, forgets what it acknowledged, or
//! refuses the one write that matters. So the server is asked what it is. `facts` asks, `rights` tries what our user may
//! do, `judge` says what follows, and `watch` does it again while the process runs. Nothing here changes a record, and
//! whatever may not be asked is a finding and not a failure.

use std::fmt;
use std::time::Duration;

use redis::{AsyncConnectionConfig, Pipeline, Value};

use super::RedisStore;
use super::connection::Live;
use crate::store::contract::{Store as _, StoreError};
use crate::words::clock::Clock;
use crate::words::ids::{ConsentId, TokenKey};

mod facts;
mod judge;
mod rights;
mod watch;

use facts::Facts;

/// How much a finding weighs. The heaviest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Consents would be lost here, or nothing works: the process does not become ready.
    Refuse,
    /// It works, with a risk that somebody should know of.
    Warn,
    /// As it should be.
    Fine,
}

/// What was found about one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it weighs.
    pub severity: Severity,
    /// Which thing: a word that stays the same between versions. An examination has at most one finding for each.
    pub check: &'static str,
    /// What is, why it matters, what to do.
    pub sentence: String,
}

/// Everything that was found, the heaviest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examination {
    findings: Vec<Finding>,
}

/// What the configuration asks of the server.
#[derive(Clone, Copy, Debug)]
struct Terms {
    replicas_required: u32,
    accept_eviction: bool,
    command_timeout: Duration,
}

impl RedisStore {
    /// Asks the server what it is, over a connection of its own, and judges it.
    ///
    /// Takes about ten round trips, none longer than the command timeout. `Err`: the server cannot be reached, or does
    /// not answer yet; one that turns us away has been reached, and that is a finding.
    pub async fn examine<C: Clock>(&self, clock: &C) -> Result<Examination, StoreError> {
        let inner = &self.0;
        let terms = Terms {
            replicas_required: inner.replicas_required,
            accept_eviction: inner.accept_eviction,
            command_timeout: inner.command_timeout,
        };
        let mut live = match self.open(false).await {
            Ok(live) => live,
            Err(StoreError::Refused(why)) => return Ok(Examination::of(vec![judge::turned_away(&why)])),
            Err(error @ (StoreError::Unavailable(_) | StoreError::Unreadable(_) | StoreError::Reuniting)) => {
                return Err(error);
            }
        };
        let facts = Facts::ask(&mut live, clock).await?;
        if let Some(code) = facts.turned_away {
            return Ok(Examination::of(vec![judge::turned_away(&format!("redis answers {code}"))]));
        }
        let missing = self.missing_rights(&mut live).await?;
        let mut findings = judge::judge(&facts, &terms);
        findings.extend([judge::let_in(), judge::rights(&missing, inner.keys.prefix())]);
        if !findings.iter().any(|finding| finding.severity == Severity::Refuse) {
            findings.push(self.try_a_script().await?);
        }
        Ok(Examination::of(findings))
    }

    /// A connection of the examination's own, so that no refresh waits behind its questions.
    async fn open(&self, resp3: bool) -> Result<Live, StoreError> {
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(Some(self.0.command_timeout))
            .set_connection_timeout(None);
        self.0.connector.connect(config, resp3).await
    }

    /// Reads a record that no consent has: whatever else keeps our scripts from running shows here.
    async fn try_a_script(&self) -> Result<Finding, StoreError> {
        let id = ConsentId::parse("~doctor~").map_err(|error| StoreError::Refused(error.to_string()))?;
        match self.read(&TokenKey::Consent(id)).await {
            // A record that cannot be read has been looked at.
            Ok(_) | Err(StoreError::Unreadable(_)) => Ok(judge::scripts_run()),
            Err(StoreError::Refused(why)) => Ok(judge::scripts_do_not_run(&why)),
            Err(error @ (StoreError::Unavailable(_) | StoreError::Reuniting)) => Err(error),
        }
    }
}

impl Examination {
    fn of(mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| finding.severity);
        Self { findings }
    }

    /// All findings, the heaviest first.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The findings for which this server must not be used.
    pub fn refusals(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Refuse)
    }

    /// Whether there is any such finding.
    pub fn is_refused(&self) -> bool {
        self.refusals().next().is_some()
    }
}

impl Severity {
    /// In a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Warn => "warn",
            Self::Fine => "fine",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Sends questions together. What the server says no to is among the replies.
async fn ask(live: &mut Live, questions: &Pipeline, count: usize) -> Result<Vec<Value>, StoreError> {
    let unanswered = |_| StoreError::Unavailable("redis does not answer the examination".into());
    live.send(questions, count).await.map_err(unanswered)
}
