//! Which incarnation of which server a connection talks to, and whether that one may grant leases.
//!
//! A server that restarted, or one that was promoted, may have forgotten an intent that another incarnation had
//! acknowledged. So each connection learns, when it is made, the server's `run_id` (new with every start) and its
//! replication id (new with every promotion). Where INFO may not be asked a connection gets a random name of its own, and
//! is not held up: nobody could say which incarnation he has told.
//!
//! A [`Gate`] is what BEGIN and ARM are held up at. It is open until somebody guards it; whoever does lets an identity
//! through when every refresh under way has been told to it again. No other step is ever held up.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::Value;
use tokio::sync::Notify;

use crate::words::ids::{hex, random};

/// How many identities a gate remembers. An identity that was forgotten is met as a new one.
const MOST_MET: usize = 256;

/// One incarnation of one server: its `run_id` and replication id, or a random name of one connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(Arc<str>);

/// A server that takes writes, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Primary {
    /// `host:port`.
    pub address: String,
    /// Which incarnation of it.
    pub identity: Identity,
}

/// Which identities may grant leases. Clones are the same gate.
#[derive(Clone, Default)]
pub struct Gate(Arc<Inner>);

#[derive(Default)]
struct Inner {
    met: Mutex<Met>,
    new_identity: Notify,
}

#[derive(Default)]
struct Met {
    guarded: bool,
    /// In the order in which they were met, with whether they are open.
    identities: VecDeque<(Identity, bool)>,
}

impl Identity {
    /// From the replies to `INFO server` and `INFO replication`; `None` if they do not name both ids.
    pub(super) fn from_info(server: &Value, replication: &Value) -> Option<Self> {
        let run = line(server, "run_id")?;
        let stream = line(replication, "master_replid")?;
        Some(Self(format!("{run}-{stream}").into()))
    }

    /// Whether a reply to `INFO replication` names the stream of writes that this incarnation began.
    pub(super) fn is_in_stream(&self, replication: &Value) -> bool {
        let stream = line(replication, "master_replid");
        stream.is_some_and(|stream| self.0.split_once('-').is_some_and(|(_, own)| own == stream))
    }

    /// A name that no other connection has.
    pub(super) fn nameless() -> Self {
        Self(format!("connection-{}", hex(&random())).into())
    }

    /// Whether the server named itself. If not, the next connection to the same server has another identity.
    pub fn is_named(&self) -> bool {
        !self.0.starts_with("connection-")
    }

    /// `<run id>-<replication id>` or `connection-<random>`: letters, digits and hyphens, 100 at most.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Gate {
    /// From here on an identity that has not been met yet is shut until [`Gate::open`] lets it through.
    pub fn guard(&self) {
        self.met().guarded = true;
    }

    /// Whether leases may be granted by this incarnation. One that is asked for the first time has been met.
    pub fn is_open(&self, identity: &Identity) -> bool {
        let mut met = self.met();
        if let Some((_, open)) = met.identities.iter().find(|(known, _)| known == identity) {
            return *open;
        }
        let open = !met.guarded;
        met.put(identity, open);
        drop(met);
        if !open {
            self.0.new_identity.notify_one();
        }
        open
    }

    /// Lets an identity through.
    pub fn open(&self, identity: &Identity) {
        self.met().put(identity, true);
    }

    /// Holds an identity up.
    pub fn shut(&self, identity: &Identity) {
        self.met().put(identity, false);
    }

    /// The identities that were met and are shut, in the order in which they were met.
    pub fn waiting(&self) -> Vec<Identity> {
        let met = self.met();
        met.identities.iter().filter(|(_, open)| !open).map(|(identity, _)| identity.clone()).collect()
    }

    /// Returns when an identity was met and found shut since this last returned. For one task.
    pub async fn new_identity(&self) {
        self.0.new_identity.notified().await;
    }

    fn met(&self) -> MutexGuard<'_, Met> {
        // Nothing panics while it is held; and if it did, what it holds would be whole.
        self.0.met.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Met {
    fn put(&mut self, identity: &Identity, open: bool) {
        if let Some(known) = self.identities.iter_mut().find(|(known, _)| known == identity) {
            known.1 = open;
            return;
        }
        if self.identities.len() >= MOST_MET {
            self.identities.pop_front();
        }
        self.identities.push_back((identity.clone(), open));
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

/// A hexadecimal id from a `name:value` line of INFO.
fn line(info: &Value, name: &str) -> Option<String> {
    let text = match info {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?,
        Value::VerbatimString { text, .. } => text,
        _ => return None,
    };
    let value = text.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))?;
    let plain = (8..=48).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn an_identity_is_the_start_and_the_stream_of_a_server() {
        let (run, stream) = ("a".repeat(40), "b".repeat(40));
        let server = info(&format!("# Server\r\nredis_version:7.0.15\r\nrun_id:{run}\r\n"));
        let replication = info(&format!("# Replication\r\nrole:master\r\nmaster_replid:{stream}\r\n"));
        let identity = Identity::from_info(&server, &replication).unwrap();
        assert_eq!(identity.as_str(), format!("{run}-{stream}"));
        assert!(identity.is_named());
        assert!(identity.is_in_stream(&replication));
        assert!(!identity.is_in_stream(&info(&format!("master_replid:{run}\r\n"))));
        assert_eq!(Identity::from_info(&server, &info("role:master\r\n")), None);
        assert_eq!(Identity::from_info(&info("run_id:\u{1b}[2J\r\n"), &replication), None);
        assert_eq!(Identity::from_info(&Value::Nil, &replication), None);
    }

    #[test]
    fn a_connection_without_a_name_is_like_no_other() {
        let (one, other) = (Identity::nameless(), Identity::nameless());
        assert_ne!(one, other);
        assert!(!one.is_named());
    }

    #[tokio::test]
    async fn a_gate_is_open_until_it_is_guarded_and_then_shut_to_whoever_is_new() {
        let gate = Gate::default();
        let (early, late) = (Identity::nameless(), Identity::nameless());
        assert!(gate.is_open(&early));
        gate.guard();
        assert!(gate.is_open(&early), "it was let through before");
        assert!(!gate.is_open(&late));
        gate.new_identity().await;
        assert_eq!(gate.waiting(), std::slice::from_ref(&late));
        gate.open(&late);
        assert!(gate.is_open(&late) && gate.waiting().is_empty());
        gate.shut(&early);
        assert!(!gate.is_open(&early));
    }

    #[test]
    fn a_gate_remembers_a_bounded_number_and_forgets_to_the_safe_side() {
        let gate = Gate::default();
        gate.guard();
        let first = Identity::nameless();
        gate.open(&first);
        for _ in 0..MOST_MET {
            gate.open(&Identity::nameless());
        }
        assert!(!gate.is_open(&first), "forgotten is shut");
        assert!(gate.met().identities.len() <= MOST_MET);
    }
}
