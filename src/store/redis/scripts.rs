//! The Lua scripts: their text, their arguments and their replies.
//!
//! A script is its own file with the shared part put in after its first line. It is called by its digest; a server that
//! does not know it is given the text once.

use redis::{Cmd, Value};

use crate::store::attempt::AttemptRecord;
use crate::store::contract::{Sealed, StoreError};
use crate::store::feed::{FeedRecord, NameRecord};
use crate::store::provider::ProviderRecord;
use crate::store::record::Record;

const COMMON: &str = include_str!("lua/common.lua");
const PROVIDER_COMMON: &str = include_str!("lua/provider/common.lua");
const ATTEMPT_COMMON: &str = include_str!("lua/attempt/common.lua");
const QUOTA_COMMON: &str = include_str!("lua/quota/common.lua");
const FEED_COMMON: &str = include_str!("lua/feed/common.lua");

/// A script as the server knows it.
pub(super) struct LuaScript {
    /// What errors call it.
    pub(super) name: &'static str,
    /// Whether it gives somebody the right to refresh or to send, which takes a server that knows every intent.
    pub(super) grants: bool,
    digest: String,
    text: String,
}

/// All scripts.
pub(super) struct Scripts {
    pub(super) read: LuaScript,
    pub(super) begin: LuaScript,
    pub(super) arm: LuaScript,
    pub(super) renew: LuaScript,
    pub(super) commit: LuaScript,
    pub(super) fail: LuaScript,
    pub(super) restore: LuaScript,
    pub(super) reassert: LuaScript,
    pub(super) seed: LuaScript,
    pub(super) end: LuaScript,
    pub(super) revive: LuaScript,
    pub(super) history: LuaScript,
    pub(super) reprieve: LuaScript,
    pub(super) permits: LuaScript,
    pub(super) renew_permit: LuaScript,
    pub(super) report: LuaScript,
    pub(super) freeze: LuaScript,
    pub(super) standing: LuaScript,
    pub(super) beat: LuaScript,
    pub(super) await_grant: LuaScript,
    pub(super) tell: LuaScript,
    pub(super) term: LuaScript,
    pub(super) attempt_open: LuaScript,
    pub(super) attempt_bind: LuaScript,
    pub(super) attempt_claim: LuaScript,
    pub(super) attempt_settle: LuaScript,
    pub(super) attempt_read: LuaScript,
    pub(super) spend: LuaScript,
    pub(super) refund: LuaScript,
    pub(super) feed_take: LuaScript,
    pub(super) feed_move: LuaScript,
    pub(super) feed_name: LuaScript,
    pub(super) feed_named: LuaScript,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            read: LuaScript::new("READ", include_str!("lua/read.lua")),
            begin: LuaScript::new("BEGIN", include_str!("lua/begin.lua")),
            arm: LuaScript::new("ARM", include_str!("lua/arm.lua")),
            renew: LuaScript::new("RENEW", include_str!("lua/renew.lua")),
            commit: LuaScript::new("COMMIT", include_str!("lua/commit.lua")),
            fail: LuaScript::new("FAIL", include_str!("lua/fail.lua")),
            restore: LuaScript::new("RESTORE", include_str!("lua/restore.lua")),
            reassert: LuaScript::new("REASSERT", include_str!("lua/reassert.lua")),
            seed: LuaScript::new("SEED", include_str!("lua/seed.lua")),
            end: LuaScript::new("END", include_str!("lua/end.lua")),
            revive: LuaScript::new("REVIVE", include_str!("lua/revive.lua")),
            history: LuaScript::new("HISTORY", include_str!("lua/history.lua")),
            reprieve: LuaScript::new("REPRIEVE", include_str!("lua/reprieve.lua")),
            permits: LuaScript::of_provider("PERMITS", include_str!("lua/provider/permits.lua")),
            renew_permit: LuaScript::of_provider("PERMIT RENEW", include_str!("lua/provider/renew.lua")),
            report: LuaScript::of_provider("REPORT", include_str!("lua/provider/report.lua")),
            freeze: LuaScript::of_provider("FREEZE", include_str!("lua/provider/freeze.lua")),
            standing: LuaScript::of_provider("PROVIDER READ", include_str!("lua/provider/read.lua")),
            beat: LuaScript::apart("BEAT", include_str!("lua/beat.lua")),
            await_grant: LuaScript::new("AWAIT", include_str!("lua/await.lua")),
            tell: LuaScript::new("TELL", include_str!("lua/tell.lua")),
            term: LuaScript::new("TERM", include_str!("lua/term.lua")),
            attempt_open: LuaScript::of_attempt("OPEN", include_str!("lua/attempt/open.lua")),
            attempt_bind: LuaScript::of_attempt("BIND", include_str!("lua/attempt/bind.lua")),
            attempt_claim: LuaScript::of_attempt("CLAIM", include_str!("lua/attempt/claim.lua")),
            attempt_settle: LuaScript::of_attempt("SETTLE", include_str!("lua/attempt/settle.lua")),
            attempt_read: LuaScript::of_attempt("ATTEMPT READ", include_str!("lua/attempt/read.lua")),
            spend: LuaScript::of_quota("SPEND", include_str!("lua/quota/spend.lua")),
            refund: LuaScript::of_quota("REFUND", include_str!("lua/quota/refund.lua")),
            feed_take: LuaScript::of_feed("TAKE FEED", include_str!("lua/feed/take.lua")),
            feed_move: LuaScript::of_feed("MOVE FEED", include_str!("lua/feed/move.lua")),
            feed_name: LuaScript::of_feed("NAME", include_str!("lua/feed/name.lua")),
            feed_named: LuaScript::of_feed("NAMED", include_str!("lua/feed/named.lua")),
        }
    }
}

impl LuaScript {
    fn new(name: &'static str, source: &str) -> Self {
        Self::with(COMMON, name, source)
    }

    /// A step on a provider's record.
    fn of_provider(name: &'static str, source: &str) -> Self {
        Self::with(PROVIDER_COMMON, name, source)
    }

    /// A step of an attempt.
    fn of_attempt(name: &'static str, source: &str) -> Self {
        Self::with(ATTEMPT_COMMON, name, source)
    }

    /// A step of a quota.
    fn of_quota(name: &'static str, source: &str) -> Self {
        Self::with(QUOTA_COMMON, name, source)
    }

    /// A step on what is known of a feed.
    fn of_feed(name: &'static str, source: &str) -> Self {
        Self::with(FEED_COMMON, name, source)
    }

    fn with(common: &str, name: &'static str, source: &str) -> Self {
        let (flags, body) = source.split_once('\n').unwrap_or((source, ""));
        let text = format!("{flags}\n{common}\n{body}");
        let grants = matches!(name, "BEGIN" | "ARM");
        Self { name, grants, digest: redis::Script::new(&text).get_hash().to_owned(), text }
    }

    /// A script that works on no record.
    fn apart(name: &'static str, text: &str) -> Self {
        Self { name, grants: false, digest: redis::Script::new(text).get_hash().to_owned(), text: text.to_owned() }
    }

    /// The call by digest on a record and what lives beside it, all in one slot, or on a key that is no record.
    pub(super) fn call(&self, keys: &[String], arguments: &Arguments) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.digest).arg(keys.len()).arg(keys);
        for argument in &arguments.0 {
            command.arg(argument.as_slice());
        }
        command
    }

    /// Makes the script known to the server.
    pub(super) fn load(&self) -> Cmd {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(&self.text);
        command
    }
}

/// A script's arguments, in order.
#[derive(Default)]
pub(super) struct Arguments(Vec<Vec<u8>>);

impl Arguments {
    pub(super) fn text(mut self, text: &str) -> Self {
        self.0.push(text.as_bytes().to_vec());
        self
    }

    pub(super) fn number(self, number: u64) -> Self {
        self.text(&number.to_string())
    }

    pub(super) fn flag(self, flag: bool) -> Self {
        self.text(if flag { "1" } else { "0" })
    }

    pub(super) fn sealed(mut self, sealed: &Sealed) -> Self {
        self.0.push(sealed.as_bytes().to_vec());
        self
    }

    /// Empty where there is none, else `=` and the value, so that an empty value is told from none.
    pub(super) fn optional<T: AsRef<[u8]>>(mut self, value: Option<T>) -> Self {
        self.0.push(value.map_or(Vec::new(), |value| [b"=", value.as_ref()].concat()));
        self
    }

    pub(super) fn optional_text<T: ToString>(self, value: Option<T>) -> Self {
        self.optional(value.map(|value| value.to_string()))
    }
}

/// What a script answered.
pub(super) struct Reply {
    pub(super) word: String,
    pub(super) first: u64,
    pub(super) second: u64,
    now: u64,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Reply {
    /// Takes a reply apart; `Err` holds the field that cannot be understood, where the script says so.
    pub(super) fn parse(value: Value, script: &LuaScript) -> Result<Result<Self, String>, StoreError> {
        let malformed = || StoreError::Refused(format!("redis answers {} with something else", script.name));
        let Value::Array(parts) = value else { return Err(malformed()) };
        let mut parts = parts.into_iter();
        let word = parts.next().and_then(text).ok_or_else(malformed)?;
        if word == "UNREADABLE" {
            return parts.next().and_then(text).map(Err).ok_or_else(malformed);
        }
        let (first, second, now) = (parts.next(), parts.next(), parts.next());
        let Some(Value::Array(flat)) = parts.next() else { return Err(malformed()) };
        let mut fields = Vec::with_capacity(flat.len() / 2);
        let mut flat = flat.into_iter();
        while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
            fields.push((bytes(name).ok_or_else(malformed)?, bytes(value).ok_or_else(malformed)?));
        }
        let number = |value: Option<Value>| value.as_ref().and_then(number).ok_or_else(malformed);
        Ok(Ok(Self { word, first: number(first)?, second: number(second)?, now: number(now)?, fields }))
    }

    /// The values alone, each as text, where they are that.
    pub(super) fn lines(self) -> impl Iterator<Item = String> {
        self.fields.into_iter().filter_map(|(_, line)| String::from_utf8(line).ok())
    }

    /// An attempt after the step, and the server's time.
    pub(super) fn attempt(&self) -> Result<(AttemptRecord, u64), &'static str> {
        AttemptRecord::from_fields(&self.fields).map(|record| (record, self.now)).map_err(|bad| bad.0)
    }

    /// A feed's record after the step, and the server's time.
    pub(super) fn feed(&self) -> Result<(FeedRecord, u64), &'static str> {
        FeedRecord::from_fields(&self.fields).map(|record| (record, self.now)).map_err(|bad| bad.0)
    }

    /// What is noted under a bank's name.
    pub(super) fn named(&self) -> Result<NameRecord, &'static str> {
        NameRecord::from_fields(&self.fields).map_err(|bad| bad.0)
    }

    /// A provider's record after the step, and the server's time.
    pub(super) fn provider(&self) -> Result<(ProviderRecord, u64), &'static str> {
        ProviderRecord::from_fields(&self.fields).map(|record| (record, self.now)).map_err(|bad| bad.0)
    }

    /// The record after the step, and the server's time.
    pub(super) fn record(&self) -> Result<(Record, u64), &'static str> {
        Record::from_fields(&self.fields).map(|record| (record, self.now)).map_err(|bad| bad.0)
    }
}

pub(super) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

fn text(value: Value) -> Option<String> {
    bytes(value).and_then(|bytes| String::from_utf8(bytes).ok())
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        Value::Okay => Some(b"OK".to_vec()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_begins_with_its_flags_and_holds_the_shared_part() {
        let scripts = Scripts::new();
        let writers = [
            &scripts.begin,
            &scripts.arm,
            &scripts.renew,
            &scripts.commit,
            &scripts.fail,
            &scripts.restore,
            &scripts.reassert,
            &scripts.seed,
            &scripts.end,
            &scripts.revive,
            &scripts.reprieve,
            &scripts.permits,
            &scripts.renew_permit,
            &scripts.report,
            &scripts.freeze,
            &scripts.await_grant,
            &scripts.tell,
            &scripts.term,
            &scripts.attempt_open,
            &scripts.attempt_bind,
            &scripts.attempt_claim,
            &scripts.attempt_settle,
            &scripts.refund,
            &scripts.feed_take,
            &scripts.feed_move,
            &scripts.feed_name,
        ];
        for script in writers {
            assert!(script.text.starts_with("#!lua flags=allow-oom\n"), "{}", script.name);
            assert!(script.text.contains("local function load()"), "{}", script.name);
        }
        assert!(scripts.spend.text.starts_with("#!lua\n") && scripts.spend.text.contains("local function load()"));
        for reader in [&scripts.read, &scripts.history, &scripts.standing, &scripts.attempt_read, &scripts.feed_named] {
            assert!(reader.text.starts_with("#!lua flags=no-writes,allow-oom\n"), "{}", reader.name);
        }
    }

    #[test]
    fn a_reply_that_is_no_reply_is_an_error_and_not_a_panic() {
        let script = Scripts::new().read;
        let odd = [
            Value::Nil,
            Value::Int(1),
            Value::Array(vec![]),
            Value::Array(vec![Value::BulkString(b"RECORD".to_vec()), Value::Int(-1)]),
            Value::Array(vec![Value::BulkString(b"UNREADABLE".to_vec())]),
        ];
        for value in odd {
            assert!(Reply::parse(value, &script).is_err());
        }
    }
}
