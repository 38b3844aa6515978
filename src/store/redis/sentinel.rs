//! Which server is the primary, by the word of the sentinels.
//!
//! Every connection begins with this question, so a connection that ended is the only thing that has to be noticed. All
//! sentinels are asked at once, and what more than half of them say counts: one that is cut off from the others still
//! names the primary from before. A *term* is the time in which one server is the primary, as far as we have heard;
//! when a term ends, the connections made in it are made anew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Value;
use tokio::task::JoinSet;

use super::address::Endpoint;
use super::connection::{Dialer, server_error};
use super::route::patient;
use super::settings::SentinelSettings;
use crate::simulation;
use crate::store::contract::StoreError;

/// The sentinels of one primary.
pub(super) struct Sentinels {
    asking: Arc<Asking>,
    nodes: Vec<Endpoint>,
    office: Mutex<Office>,
}

struct Asking {
    name: String,
    dialer: Dialer,
    reply_timeout: Duration,
}

#[derive(Default)]
struct Office {
    term: u64,
    holder: Option<Endpoint>,
}

/// What one sentinel says.
pub(super) type Word = Result<Option<Endpoint>, StoreError>;

impl Sentinels {
    pub(super) fn new(settings: &SentinelSettings, dialer: Dialer, reply_timeout: Duration) -> Self {
        let asking = Asking { name: settings.name.clone(), dialer, reply_timeout };
        let nodes = settings.nodes.iter().map(Endpoint::from).collect();
        Self { asking: Arc::new(asking), nodes, office: Mutex::default() }
    }

    /// What they call the primary.
    pub(super) fn name(&self) -> &str {
        &self.asking.name
    }

    /// The primary, and the number of its term.
    pub(super) async fn primary(&self) -> Result<(Endpoint, u64), StoreError> {
        let mut questions = self.questions();
        let (mut votes, mut last) = (BTreeMap::<Endpoint, usize>::new(), None);
        while let Some(answer) = questions.join_next().await {
            match answer {
                Ok((_, Ok(Some(endpoint)))) => {
                    let count = votes.entry(endpoint.clone()).or_default();
                    *count += 1;
                    if *count * 2 > self.nodes.len() {
                        return Ok(self.elected(endpoint));
                    }
                }
                Ok((node, Ok(None))) => last = Some(self.unknown_at(&node)),
                Ok((_, Err(error))) => last = Some(error),
                // It was cut off, which only the end of this function does.
                Err(_) => {}
            }
        }
        let most = votes.into_iter().max_by_key(|(_, count)| *count);
        match most {
            Some((endpoint, _)) => Ok(self.elected(endpoint)),
            None => Err(last.unwrap_or_else(|| StoreError::Unavailable("there is no sentinel to ask".into()))),
        }
    }

    /// What each of them says, for an examination.
    pub(super) async fn words(&self) -> Vec<(Endpoint, Word)> {
        let mut words = self.questions().join_all().await;
        words.sort_by(|(one, _), (other, _)| one.cmp(other));
        words
    }

    /// The number of the term.
    pub(super) fn term(&self) -> u64 {
        self.office().term
    }

    /// The holder of this term turned out to be no primary.
    pub(super) fn depose(&self, term: u64) {
        let mut office = self.office();
        if office.term == term {
            office.term += 1;
        }
    }

    fn elected(&self, endpoint: Endpoint) -> (Endpoint, u64) {
        let mut office = self.office();
        if office.holder.as_ref().is_some_and(|holder| *holder != endpoint) {
            office.term += 1;
        }
        office.holder = Some(endpoint.clone());
        (endpoint, office.term)
    }

    fn questions(&self) -> JoinSet<(Endpoint, Word)> {
        let ask = |node: &Endpoint| {
            let (asking, node) = (Arc::clone(&self.asking), node.clone());
            simulation::task(async move {
                let word = asking.ask(&node).await;
                (node, word)
            })
        };
        self.nodes.iter().map(ask).collect()
    }

    fn unknown_at(&self, node: &Endpoint) -> StoreError {
        StoreError::Refused(format!("the sentinel at {node} knows no primary called {}", self.asking.name))
    }

    fn office(&self) -> MutexGuard<'_, Office> {
        // Nothing panics while it is held; and if it did, what it holds would be whole.
        self.office.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asking {
    async fn ask(&self, node: &Endpoint) -> Word {
        let unheard = |_| StoreError::Unavailable(format!("the sentinel at {node} does not answer"));
        let mut live = self.dialer.dial(node, patient(self.reply_timeout), false).await?;
        let mut question = redis::pipe();
        question.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&self.name);
        let reply = live.send(&question, 1).await.map_err(unheard)?.into_iter().next();
        match reply {
            Some(Value::Array(parts)) => {
                let endpoint = match parts.as_slice() {
                    [Value::BulkString(host), Value::BulkString(port)] => {
                        std::str::from_utf8(host).ok().zip(std::str::from_utf8(port).ok())
                    }
                    _ => None,
                };
                let endpoint = endpoint.and_then(|(host, port)| Endpoint::parse(host, port));
                endpoint.map(Some).ok_or_else(|| StoreError::Refused(format!("{node} answers like no sentinel")))
            }
            Some(Value::Nil) => Ok(None),
            Some(Value::ServerError(error)) => {
                let code = server_error(error.code(), error.details(), "SENTINEL");
                Err(StoreError::Refused(format!("the sentinel at {node}: {code}")))
            }
            Some(_) | None => Err(StoreError::Refused(format!("{node} answers like no sentinel"))),
        }
    }
}
