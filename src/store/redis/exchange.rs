//! One step over one connection: what is sent, and what the answer asks us to do next.

use redis::{Cmd, Pipeline, Value};

use super::address::Endpoint;
use super::connection::{Live, server_error};
use super::durability::Durability;
use super::scripts::LuaScript;
use super::slots;
use crate::store::contract::StoreError;

/// A step, ready to be sent to whichever server has the record.
pub(super) struct Exchange<'s> {
    pub(super) script: &'s LuaScript,
    pub(super) call: Cmd,
    /// What has to have the write, where that is waited for.
    pub(super) durability: Option<Durability>,
}

/// Why there is no answer.
pub(super) enum Unanswered {
    /// The connection broke or fell silent, or leads to another incarnation; the step may or may not have happened.
    Broken,
    /// The server became a replica, which keeps its connections.
    Demoted(StoreError),
    /// The server cannot do it at the moment; the step did not happen.
    Later(StoreError),
    /// Another node has the slot for good.
    Moved(Endpoint),
    /// Another node has this record while the slot is on its way there.
    Ask(Endpoint),
    /// The server said no.
    Error(StoreError),
}

/// The replies to one step.
struct Replies {
    step: Value,
    wait: Option<Value>,
    info: Option<Value>,
}

impl Exchange<'_> {
    /// Sends the step, and with it, on the same connection, the wait for replicas. Gives what the script answered and how
    /// many acknowledged it.
    pub(super) async fn send(&self, live: &mut Live, asking: bool) -> Result<(Value, u32), Unanswered> {
        let mut replies = self.once(live, asking).await?;
        if matches!(&replies.step, Value::ServerError(error) if error.code() == "NOSCRIPT") {
            let mut load = redis::pipe();
            load.add_command(self.script.load());
            let loaded = live.send(&load, 1).await.map_err(|_| Unanswered::Broken)?;
            loaded.into_iter().try_for_each(|reply| self.without_error(reply, live).map(drop))?;
            replies = self.once(live, asking).await?;
        }
        if let Some(info) = replies.info
            && !live.peer().identity.is_in_stream(&info)
        {
            return Err(Unanswered::Broken);
        }
        let step = self.without_error(replies.step, live)?;
        let acknowledged = match (self.durability, replies.wait) {
            (Some(durability), Some(reply)) => durability.acknowledged(&self.without_denial(reply, live)?),
            (Some(_) | None, None) | (None, Some(_)) => 0,
        };
        Ok((step, acknowledged))
    }

    async fn once(&self, live: &mut Live, asking: bool) -> Result<Replies, Unanswered> {
        let mut commands = Pipeline::new();
        if asking {
            // It is good for the one command behind it.
            commands.cmd("ASKING");
        }
        commands.add_command(self.call.clone());
        let has_waitaof = live.peer().has_waitaof();
        let waits = self.durability.is_some_and(|durability| durability.wait(&mut commands, has_waitaof));
        // A server that was demoted and promoted again keeps its connections, and is another incarnation all the same.
        let rechecks = self.script.grants && live.peer().identity.is_named();
        if rechecks {
            commands.cmd("INFO").arg("replication");
        }
        let count = 1 + [asking, waits, rechecks].into_iter().filter(|is| *is).count();
        let replies = live.send(&commands, count).await.map_err(|_| Unanswered::Broken)?;
        let mut replies = replies.into_iter().skip(usize::from(asking));
        let step = replies.next().ok_or(Unanswered::Broken)?;
        let wait = if waits { Some(replies.next().ok_or(Unanswered::Broken)?) } else { None };
        let info = if rechecks { Some(replies.next().ok_or(Unanswered::Broken)?) } else { None };
        Ok(Replies { step, wait, info })
    }

    /// A wait that the server does not know or cannot do has waited for nobody; one that our user may not do is an error
    /// that somebody has to mend.
    fn without_denial(&self, reply: Value, live: &Live) -> Result<Value, Unanswered> {
        match &reply {
            Value::ServerError(error) if error.code() == "ERR" => Ok(Value::Nil),
            _ => self.without_error(reply, live),
        }
    }

    fn without_error(&self, reply: Value, live: &Live) -> Result<Value, Unanswered> {
        let Value::ServerError(error) = &reply else { return Ok(reply) };
        let meaning = server_error(error.code(), error.details(), self.script.name);
        let elsewhere = || slots::redirection(error.details(), &live.peer().endpoint);
        Err(match error.code() {
            "READONLY" => Unanswered::Demoted(meaning),
            "TRYAGAIN" | "CLUSTERDOWN" | "LOADING" | "MASTERDOWN" => Unanswered::Later(meaning),
            "MOVED" => elsewhere().map_or(Unanswered::Error(meaning), Unanswered::Moved),
            "ASK" => elsewhere().map_or(Unanswered::Error(meaning), Unanswered::Ask),
            _ => Unanswered::Error(meaning),
        })
    }
}
