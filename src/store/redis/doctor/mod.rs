//! Whether a server is fit to keep consents.
//!
//! The protocol can be right and a consent still be lost, by a server that evicts keys, forgets what it acknowledged, or
//! refuses the one write that matters. So every server is asked what it is. `facts` asks, `rights` tries what our user
//! may do, `judge` says what follows, and `watch` does it again while the process runs. Nothing here changes a record, and
//! whatever may not be asked is a finding and not a failure.

use std::fmt;
use std::time::Duration;

use redis::{Pipeline, Value};

use super::RedisStore;
use super::address::Endpoint;
use super::connection::Live;
use super::route::Shape;
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
    topology: Topology,
    replicas_required: u32,
    fsync_required: bool,
    replica_wait: Duration,
    accept_eviction: bool,
    command_timeout: Duration,
}

/// How the servers are joined, by the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topology {
    One,
    Sentinel,
    Cluster,
}

/// What may not be said of a replica, because it is said of its primary or is otherwise there.
const OF_PRIMARIES: [&str; 8] = [
    "role",
    "replicas",
    "replica-link",
    "acknowledging",
    "min-replicas",
    "acknowledged-writes",
    "round-trip",
    "asking",
];

impl RedisStore {
    /// Asks the servers what they are, over connections of its own, and judges them: the one there is, or with sentinels
    /// and in a cluster every primary and every replica.
    ///
    /// Takes about ten round trips for each, none longer than the command timeout. `Err`: a primary cannot be reached, or
    /// does not answer yet; one that turns us away has been reached, and that is a finding.
    pub async fn examine<C: Clock>(&self, clock: &C) -> Result<Examination, StoreError> {
        let (mut findings, mut found) = (Vec::new(), Vec::new());
        match self.subjects(&mut findings).await {
            Ok(primaries) => {
                for (primary, mut replicas) in primaries {
                    let facts = self.examine_primary(&primary, clock, &mut found).await?;
                    // A cluster does not list a replica that has not been written to yet.
                    if self.topology() != Topology::One {
                        replicas.extend(facts.map(|facts| facts.replica_endpoints()).unwrap_or_default());
                    }
                    replicas.sort();
                    replicas.dedup();
                    for replica in replicas {
                        found.push((format!("replica {replica}"), self.examine_replica(&replica, clock).await?));
                    }
                }
            }
            Err(StoreError::Refused(why)) => findings.push(judge::turned_away(&why)),
            Err(error @ (StoreError::Unavailable(_) | StoreError::Unreadable(_) | StoreError::Reuniting)) => {
                return Err(error);
            }
        }
        findings.extend(judge::servers::together(found));
        if !findings.iter().any(|finding| finding.severity == Severity::Refuse) {
            findings.push(self.try_a_script().await?);
        }
        Ok(Examination::of(findings))
    }

    fn topology(&self) -> Topology {
        match self.0.route.shape() {
            Shape::One(_) => Topology::One,
            Shape::Watched(_) => Topology::Sentinel,
            Shape::Cluster(_) => Topology::Cluster,
        }
    }

    fn terms(&self) -> Terms {
        let inner = &self.0;
        Terms {
            topology: self.topology(),
            replicas_required: inner.replicas_required,
            fsync_required: inner.fsync_required,
            replica_wait: inner.replica_wait,
            accept_eviction: inner.accept_eviction,
            command_timeout: inner.command_timeout,
        }
    }

    /// Every primary with the replicas that are known without asking it, and what follows from how they are joined.
    async fn subjects(&self, findings: &mut Vec<Finding>) -> Result<Vec<(Endpoint, Vec<Endpoint>)>, StoreError> {
        match self.0.route.shape() {
            Shape::One(endpoint) => Ok(vec![(endpoint.clone(), Vec::new())]),
            Shape::Watched(sentinels) => {
                let (primary, _) = sentinels.primary().await?;
                findings.push(judge::servers::sentinels(sentinels.name(), &primary, &sentinels.words().await));
                Ok(vec![(primary, Vec::new())])
            }
            Shape::Cluster(cluster) => {
                let shards = cluster.shards().await?;
                findings.push(judge::servers::shards(&shards));
                let mut subjects: Vec<_> = shards.into_iter().map(|shard| (shard.primary, shard.replicas)).collect();
                subjects.sort();
                subjects.dedup_by(|one, other| one.0 == other.0);
                Ok(subjects)
            }
        }
    }

    /// What a primary says, where it lets us in; the findings are added to `found`.
    async fn examine_primary<C: Clock>(
        &self,
        at: &Endpoint,
        clock: &C,
        found: &mut Vec<(String, Vec<Finding>)>,
    ) -> Result<Option<Facts>, StoreError> {
        let mut live = match self.0.route.dial(at, false).await {
            Ok(live) => live,
            Err(StoreError::Refused(why)) => {
                found.push((at.to_string(), vec![judge::turned_away(&why)]));
                return Ok(None);
            }
            Err(error @ (StoreError::Unavailable(_) | StoreError::Unreadable(_) | StoreError::Reuniting)) => {
                return Err(error);
            }
        };
        let mut facts = Facts::ask(&mut live, clock).await?;
        if let Some(code) = facts.turned_away {
            found.push((at.to_string(), vec![judge::turned_away(&format!("redis answers {code}"))]));
            return Ok(None);
        }
        facts.ask_replicas(&mut live, &self.0.keys.changes(), self.0.replica_wait).await?;
        let missing = self.missing_rights(&mut live).await?;
        let mut findings = judge::judge(&facts, &self.terms());
        findings.extend([judge::let_in(), judge::rights(&missing, self.0.keys.prefix())]);
        found.push((at.to_string(), findings));
        Ok(Some(facts))
    }

    /// What would be wrong with a replica if it took over. That it cannot be reached is a finding and no failure.
    async fn examine_replica<C: Clock>(&self, at: &Endpoint, clock: &C) -> Result<Vec<Finding>, StoreError> {
        let mut live = match self.0.route.dial(at, false).await {
            Ok(live) => live,
            Err(error) => return Ok(vec![judge::servers::hidden(&error.to_string())]),
        };
        let facts = Facts::ask(&mut live, clock).await?;
        if let Some(code) = facts.turned_away {
            return Ok(vec![judge::servers::hidden(&format!("redis answers {code}"))]);
        }
        let missing = self.missing_rights(&mut live).await?;
        let mut findings = judge::judge(&facts, &self.terms());
        findings.retain(|finding| !OF_PRIMARIES.contains(&finding.check));
        findings.extend([judge::servers::seen(), judge::rights(&missing, self.0.keys.prefix())]);
        Ok(findings)
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
