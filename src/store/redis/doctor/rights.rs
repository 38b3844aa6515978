//! Tries what our user may do.
//!
//! A right that is missing for one command shows itself at the worst moment: a token set that cannot be stored after
//! the bank has rotated. So every command that we or our scripts run is tried, with `ACL DRYRUN` where the server has it
//! and lets us, else for real. The same command lines serve both, so each is harmless: on a record that nobody has, one
//! value short, or for a script that does not exist; but for RPUSH, which is asked for only. A server looks at the rights first and at the rest after.

use redis::{Cmd, Value};

use super::{Topology, ask};
use crate::store::contract::StoreError;
use crate::store::keys::KeyLayout;
use crate::store::redis::RedisStore;
use crate::store::redis::address::Endpoint;
use crate::store::redis::connection::Live;

/// One command that is needed.
struct Need {
    /// What a person is told, such as `HSET on consentry:c:*`.
    told: String,
    words: Vec<String>,
    /// Whether it can be tried for real.
    harmless: bool,
}

impl RedisStore {
    /// What our user may not do, of what it needs.
    pub(super) async fn missing_rights(&self, live: &mut Live) -> Result<Vec<String>, StoreError> {
        let mut needs = needs(&self.0.keys, self.0.durability.waits() && !self.0.fsync_required);
        if self.0.fsync_required {
            needs.push(Need::new(&["WAITAOF", "0", "0", "0"], "WAITAOF"));
        }
        if self.topology() == Topology::Cluster {
            needs.push(Need::new(&["CLUSTER", "SLOTS"], "CLUSTER SLOTS"));
            needs.push(Need::new(&["CLUSTER", "INFO"], "CLUSTER INFO"));
            needs.push(Need::new(&["ASKING"], "ASKING"));
        }
        let channel = self.0.keys.changes();
        let listening = Need::on("SUBSCRIBE", &channel, &[&channel]);
        if let Some(denied) = dry_run(live, needs.iter().chain([&listening])).await? {
            return Ok(denied);
        }
        let mut denied = probe(live, &needs).await?;
        let to = live.peer().endpoint.clone();
        denied.extend(self.probe_listening(&to, &listening).await?);
        Ok(denied)
    }

    /// A connection that listens is good for nothing else, so this takes one of its own.
    async fn probe_listening(&self, to: &Endpoint, listening: &Need) -> Result<Option<String>, StoreError> {
        let mut live = match self.0.route.dial(to, true).await {
            Ok(live) => live,
            Err(StoreError::Refused(_)) => return Ok(Some(listening.told.clone())),
            Err(error @ (StoreError::Unavailable(_) | StoreError::Unreadable(_) | StoreError::Reuniting)) => {
                return Err(error);
            }
        };
        let denied = probe(&mut live, std::slice::from_ref(listening)).await?;
        Ok(denied.into_iter().next())
    }
}

impl Need {
    fn new(words: &[&str], told: &str) -> Self {
        Self { told: told.to_owned(), words: words.iter().map(ToString::to_string).collect(), harmless: true }
    }

    fn on(command: &str, what: &str, more: &[&str]) -> Self {
        let words: Vec<&str> = std::iter::once(command).chain(more.iter().copied()).collect();
        Self::new(&words, &format!("{command} on {what}"))
    }
}

fn needs(keys: &KeyLayout, waits: bool) -> Vec<Need> {
    let channel = keys.changes();
    let mut needs = vec![
        Need::new(&["PING"], "PING"),
        Need::new(&["TIME"], "TIME"),
        Need::new(&["SCRIPT", "LOAD", "return 1"], "SCRIPT LOAD"),
        // What is published is no change that a follower would understand.
        Need::on("PUBLISH", &channel, &[&channel, "-"]),
    ];
    if waits {
        needs.push(Need::new(&["WAIT", "0", "0"], "WAIT"));
    }
    for (pattern, key) in keys.nobodys() {
        let need = |command, words: &[&str]| Need::on(command, &pattern, words);
        needs.extend([
            need("EVALSHA", &[NO_SCRIPT, "1", &key]),
            need("HGETALL", &[&key]),
            need("HSET", &[&key, "v", "1", "a field without a value"]),
            need("HDEL", &[&key, "v"]),
            need("PEXPIRE", &[&key, "1"]),
            need("PERSIST", &[&key]),
        ]);
    }
    needs.push(Need::new(&["SCAN", "0", "COUNT", "1"], "SCAN"));
    let (pattern, history) = keys.nobodys_history();
    let need = |command, words: &[&str]| Need::on(command, &pattern, words);
    needs.extend([
        need("LRANGE", &[&history, "0", "0"]),
        need("LTRIM", &[&history, "no", "number"]),
        Need { harmless: false, ..need("RPUSH", &[&history, "a line"]) },
    ]);
    needs
}

/// The digest of no script.
const NO_SCRIPT: &str = "0000000000000000000000000000000000000000";

/// What the server says it would refuse; `None` if it cannot be asked that.
async fn dry_run<'n>(
    live: &mut Live,
    needs: impl Iterator<Item = &'n Need>,
) -> Result<Option<Vec<String>>, StoreError> {
    let mut who = redis::pipe();
    who.cmd("ACL").arg("WHOAMI");
    let Some(Value::BulkString(user)) = ask(live, &who, 1).await?.into_iter().next() else { return Ok(None) };
    let needs: Vec<&Need> = needs.collect();
    let mut questions = redis::pipe();
    for need in &needs {
        questions.cmd("ACL").arg("DRYRUN").arg(&user).arg(&need.words);
    }
    let replies = ask(live, &questions, needs.len()).await?;
    if matches!(replies.first(), Some(Value::ServerError(_)) | None) {
        return Ok(None);
    }
    let allowed = |reply: &Value| matches!(reply, Value::Okay) || *reply == Value::SimpleString("OK".into());
    let denied = needs.iter().zip(&replies).filter(|(_, reply)| !allowed(reply));
    Ok(Some(denied.map(|(need, _)| need.told.clone()).collect()))
}

/// What the server refuses.
async fn probe(live: &mut Live, needs: &[Need]) -> Result<Vec<String>, StoreError> {
    let needs: Vec<_> = needs.iter().filter(|need| need.harmless).collect();
    let mut questions = redis::pipe();
    for need in &needs {
        let mut command = Cmd::new();
        command.arg(&need.words);
        questions.add_command(command);
    }
    let replies = ask(live, &questions, needs.len()).await?;
    let denied = needs.iter().zip(&replies).filter(|(_, reply)| is_denied(reply));
    Ok(denied.map(|(need, _)| need.told.clone()).collect())
}

/// Forbidden, or not there at all because it was renamed. Any other error is the one that was provoked.
fn is_denied(reply: &Value) -> bool {
    let Value::ServerError(error) = reply else { return false };
    let unknown = error.details().is_some_and(|text| text.starts_with("unknown command"));
    error.code() == "NOPERM" || unknown
}
