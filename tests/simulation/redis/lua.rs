//! Runs the shipping scripts in a Lua 5.1, as Redis does, on one server's data.
//!
//! `redis.call` and `redis.pcall` know the commands that the scripts use, with the types Redis gives their answers, and an
//! error for any other. A script that fails half-way leaves what it had written, as in Redis.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use mlua::{Function, Lua, MultiValue, Table, Value};

use super::resp::Reply;

/// One key's value: a hash, or a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Hash(Hash),
    List(Vec<Vec<u8>>),
}

pub(crate) type Hash = BTreeMap<Vec<u8>, Vec<u8>>;

/// Everything a server holds.
pub(crate) type Data = BTreeMap<Vec<u8>, Entry>;

/// What a script works on, and what it did.
#[derive(Debug, Default)]
pub(crate) struct Ground {
    pub(crate) data: Data,
    /// The server's clock, in microseconds since the epoch.
    pub(crate) now: u64,
    pub(crate) touched: BTreeSet<Vec<u8>>,
    pub(crate) published: Vec<(Vec<u8>, Vec<u8>)>,
}

thread_local! {
    static ENGINE: Engine = Engine::new().expect("Lua starts");
    static GROUND: RefCell<Ground> = RefCell::default();
}

/// A script as a server keeps it.
#[derive(Debug)]
pub(crate) struct Script {
    body: String,
    digest: String,
    pub(crate) only_reads: bool,
    /// Which step of the store it is.
    pub(crate) step: &'static str,
}

impl Script {
    pub(crate) fn new(text: String) -> Self {
        const STEPS: [&str; 11] =
            ["READ", "BEGIN", "ARM", "RENEW", "COMMIT", "FAIL", "RESTORE", "REASSERT", "SEED", "END", "BEAT"];
        let named = |step: &&&str| text.lines().any(|line| line.starts_with(&format!("-- {step}: ")));
        // The first line is for Redis, not for Lua.
        let body = text.split_once('\n').filter(|(first, _)| first.starts_with("#!")).map_or(&*text, |(_, body)| body);
        Self {
            digest: redis::Script::new(&text).get_hash().to_owned(),
            only_reads: text.starts_with("#!lua flags=no-writes"),
            step: STEPS.iter().find(named).copied().unwrap_or("another step"),
            body: body.to_owned(),
        }
    }
}

struct Engine {
    lua: Lua,
    compiled: RefCell<BTreeMap<String, Function>>,
}

/// Runs a script on `ground`, and gives the ground back.
pub(crate) fn run(script: &Script, keys: &[Vec<u8>], arguments: &[Vec<u8>], ground: Ground) -> (Reply, Ground) {
    GROUND.set(ground);
    let reply = ENGINE.with(|engine| engine.run(script, keys, arguments));
    let reply =
        reply.unwrap_or_else(|error| Reply::Error(format!("ERR {}", error.to_string().replace(['\r', '\n'], " "))));
    (reply, GROUND.take())
}

impl Engine {
    fn new() -> mlua::Result<Self> {
        let lua = Lua::new();
        let redis = lua.create_table()?;
        redis.set("call", lua.create_function(|lua, words: MultiValue| called(lua, words, true))?)?;
        redis.set("pcall", lua.create_function(|lua, words: MultiValue| called(lua, words, false))?)?;
        lua.globals().set("redis", redis)?;
        Ok(Self { lua, compiled: RefCell::default() })
    }

    fn run(&self, script: &Script, keys: &[Vec<u8>], arguments: &[Vec<u8>]) -> mlua::Result<Reply> {
        let table = |words: &[Vec<u8>]| {
            let table = self.lua.create_table()?;
            for word in words {
                table.push(self.lua.create_string(word)?)?;
            }
            Ok::<_, mlua::Error>(table)
        };
        self.lua.globals().set("KEYS", table(keys)?)?;
        self.lua.globals().set("ARGV", table(arguments)?)?;
        let known = self.compiled.borrow().get(&script.digest).cloned();
        let function = if let Some(function) = known {
            function
        } else {
            let function = self.lua.load(&script.body).into_function()?;
            self.compiled.borrow_mut().insert(script.digest.clone(), function.clone());
            function
        };
        to_reply(function.call(())?)
    }
}

/// A Lua value as Redis makes a reply of it.
fn to_reply(value: Value) -> mlua::Result<Reply> {
    Ok(match value {
        Value::Boolean(true) => Reply::Number(1),
        Value::Nil | Value::Boolean(false) => Reply::Nothing,
        Value::Integer(number) => Reply::Number(number),
        #[expect(clippy::cast_possible_truncation, reason = "Redis cuts numbers to whole ones")]
        Value::Number(number) => Reply::Number(number as i64),
        Value::String(text) => Reply::Bulk(text.as_bytes().to_vec()),
        Value::Table(table) => {
            if let Ok(error) = table.get::<String>("err") {
                return Ok(Reply::Error(error));
            }
            let mut parts = Vec::new();
            for index in 1.. {
                match table.get(index)? {
                    Value::Nil => break,
                    part => parts.push(to_reply(part)?),
                }
            }
            Reply::Array(parts)
        }
        other => return Err(mlua::Error::runtime(format!("a script answers a {}", other.type_name()))),
    })
}

fn called(lua: &Lua, words: MultiValue, raise: bool) -> mlua::Result<Value> {
    let words: Vec<Vec<u8>> = words.into_iter().map(|word| word_of(&word)).collect::<mlua::Result<_>>()?;
    let answer = GROUND.with_borrow_mut(|ground| ground.command(&words));
    match answer {
        Ok(reply) => to_lua(lua, &reply),
        Err(error) if raise => Err(mlua::Error::runtime(error)),
        Err(error) => {
            let table = lua.create_table()?;
            table.set("err", error)?;
            Ok(Value::Table(table))
        }
    }
}

fn word_of(value: &Value) -> mlua::Result<Vec<u8>> {
    match value {
        Value::String(text) => Ok(text.as_bytes().to_vec()),
        Value::Integer(number) => Ok(number.to_string().into_bytes()),
        Value::Number(number) => Ok(format!("{number}").into_bytes()),
        other => Err(mlua::Error::runtime(format!("redis takes no {}", other.type_name()))),
    }
}

fn to_lua(lua: &Lua, reply: &Reply) -> mlua::Result<Value> {
    Ok(match reply {
        Reply::Number(number) => Value::Integer(*number),
        Reply::Bulk(bytes) => Value::String(lua.create_string(bytes)?),
        Reply::Simple(text) => {
            let table: Table = lua.create_table()?;
            table.set("ok", *text)?;
            Value::Table(table)
        }
        Reply::Array(parts) => {
            let table = lua.create_table()?;
            for part in parts {
                table.push(to_lua(lua, part)?)?;
            }
            Value::Table(table)
        }
        Reply::Nothing => Value::Boolean(false),
        Reply::Error(_) | Reply::Map(_) | Reply::Push(_) => {
            return Err(mlua::Error::runtime("no command inside a script answers so"));
        }
    })
}

impl Ground {
    fn command(&mut self, words: &[Vec<u8>]) -> Result<Reply, String> {
        let name = words.first().map(|name| String::from_utf8_lossy(name).to_ascii_uppercase()).unwrap_or_default();
        let key = || words.get(1).cloned().ok_or("ERR wrong number of arguments");
        match name.as_str() {
            "TIME" => {
                let (seconds, micros) = (self.now / 1_000_000, self.now % 1_000_000);
                Ok(Reply::Array(vec![Reply::text(&seconds.to_string()), Reply::text(&micros.to_string())]))
            }
            "EXISTS" => Ok(Reply::Number(i64::from(self.data.contains_key(&key()?)))),
            "HGETALL" => {
                let pairs = self.hash(words.get(1))?.into_iter().flatten().flat_map(|(name, value)| [name, value]);
                Ok(Reply::Array(pairs.cloned().map(Reply::Bulk).collect()))
            }
            "HGET" => {
                let field = words.get(2).ok_or("ERR wrong number of arguments")?;
                let value = self.hash(words.get(1))?.and_then(|hash| hash.get(field));
                Ok(value.cloned().map_or(Reply::Nothing, Reply::Bulk))
            }
            "HSET" => {
                let hash = self.hash_to_change(key()?)?;
                for pair in words[2..].chunks(2) {
                    let [field, value] = pair else { return Err("ERR wrong number of arguments".into()) };
                    hash.insert(field.clone(), value.clone());
                }
                Ok(Reply::Number(0))
            }
            "HDEL" => {
                let hash = self.hash_to_change(key()?)?;
                words[2..].iter().for_each(|field| drop(hash.remove(field)));
                if hash.is_empty() {
                    self.data.remove(&key()?);
                }
                Ok(Reply::Number(0))
            }
            "DEL" => {
                let key = key()?;
                self.data.remove(&key);
                self.touched.insert(key);
                Ok(Reply::Number(1))
            }
            "RPUSH" => {
                let list = self.list_to_change(key()?)?;
                list.extend(words[2..].iter().cloned());
                Ok(Reply::Number(i64::try_from(list.len()).unwrap_or(i64::MAX)))
            }
            "LRANGE" => {
                let list = match self.data.get(&key()?) {
                    None => &[][..],
                    Some(Entry::List(list)) => list,
                    Some(Entry::Hash(_)) => return Err(WRONG_TYPE.into()),
                };
                let shown = range(list.len(), words.get(2), words.get(3)).ok_or("ERR value is not an integer")?;
                Ok(Reply::Array(list[shown].iter().cloned().map(Reply::Bulk).collect()))
            }
            "LTRIM" => {
                let list = self.list_to_change(key()?)?;
                let kept = range(list.len(), words.get(2), words.get(3)).ok_or("ERR value is not an integer")?;
                list.truncate(kept.end);
                list.drain(..kept.start);
                if list.is_empty() {
                    self.data.remove(&key()?);
                }
                Ok(Reply::Simple("OK"))
            }
            // No history here is as long as a tombstone stands.
            "PEXPIRE" | "PERSIST" | "EXPIRE" => {
                self.touched.insert(key()?);
                Ok(Reply::Number(1))
            }
            "PUBLISH" => {
                let message = words.get(2).cloned().ok_or("ERR wrong number of arguments")?;
                self.published.push((key()?, message));
                Ok(Reply::Number(1))
            }
            other => Err(format!("ERR this Redis does not know {other}")),
        }
    }

    fn hash(&self, key: Option<&Vec<u8>>) -> Result<Option<&Hash>, String> {
        match self.data.get(key.ok_or("ERR wrong number of arguments")?) {
            None => Ok(None),
            Some(Entry::Hash(hash)) => Ok(Some(hash)),
            Some(Entry::List(_)) => Err(WRONG_TYPE.into()),
        }
    }

    fn hash_to_change(&mut self, key: Vec<u8>) -> Result<&mut Hash, String> {
        self.touched.insert(key.clone());
        match self.data.entry(key).or_insert_with(|| Entry::Hash(Hash::new())) {
            Entry::Hash(hash) => Ok(hash),
            Entry::List(_) => Err(WRONG_TYPE.into()),
        }
    }

    fn list_to_change(&mut self, key: Vec<u8>) -> Result<&mut Vec<Vec<u8>>, String> {
        self.touched.insert(key.clone());
        match self.data.entry(key).or_insert_with(|| Entry::List(Vec::new())) {
            Entry::List(list) => Ok(list),
            Entry::Hash(_) => Err(WRONG_TYPE.into()),
        }
    }
}

const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";

/// Which of so many elements are meant.
fn range(length: usize, from: Option<&Vec<u8>>, to: Option<&Vec<u8>>) -> Option<Range<usize>> {
    let length = i64::try_from(length).ok()?;
    let index = |word: Option<&Vec<u8>>| {
        let index: i64 = std::str::from_utf8(word?).ok()?.parse().ok()?;
        Some(if index < 0 { index + length } else { index })
    };
    let (from, to) = (index(from)?.max(0), index(to)?.min(length - 1));
    if from > to {
        return Some(0..0);
    }
    Some(usize::try_from(from).ok()?..usize::try_from(to + 1).ok()?)
}
