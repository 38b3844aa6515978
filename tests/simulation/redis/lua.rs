//! Runs the shipping scripts in a Lua 5.1, as Redis does, on one server's data.
//!
//! `redis.call` and `redis.pcall` know the commands that the scripts use, with the types Redis gives their answers, and an
//! error for any other. A script that fails half-way leaves what it had written, as in Redis.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use mlua::{Function, Lua, MultiValue, Table, Value};

use super::resp::Reply;

/// One key's value: a hash, or a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    List(Vec<Vec<u8>>),
}

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

struct Engine {
    lua: Lua,
    compiled: RefCell<BTreeMap<String, Function>>,
}

/// Runs a script's text on `ground`, and gives the ground back.
pub(crate) fn run(text: &str, keys: &[Vec<u8>], arguments: &[Vec<u8>], ground: Ground) -> (Reply, Ground) {
    GROUND.set(ground);
    let reply = ENGINE.with(|engine| engine.run(text, keys, arguments));
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

    fn run(&self, text: &str, keys: &[Vec<u8>], arguments: &[Vec<u8>]) -> mlua::Result<Reply> {
        let table = |words: &[Vec<u8>]| {
            let table = self.lua.create_table()?;
            for word in words {
                table.push(self.lua.create_string(word)?)?;
            }
            Ok::<_, mlua::Error>(table)
        };
        self.lua.globals().set("KEYS", table(keys)?)?;
        self.lua.globals().set("ARGV", table(arguments)?)?;
        let known = self.compiled.borrow().get(text).cloned();
        let function = if let Some(function) = known {
            function
        } else {
            // The first line is for Redis, not for Lua.
            let body =
                text.split_once('\n').filter(|(first, _)| first.starts_with("#!")).map_or(text, |(_, body)| body);
            let function = self.lua.load(body).into_function()?;
            self.compiled.borrow_mut().insert(text.to_owned(), function.clone());
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
                let pairs = self.hash(&key()?)?.into_iter().flat_map(|(name, value)| [name, value]);
                Ok(Reply::Array(pairs.map(Reply::Bulk).collect()))
            }
            "HGET" => {
                let field = words.get(2).ok_or("ERR wrong number of arguments")?;
                Ok(self.hash(&key()?)?.get(field).cloned().map_or(Reply::Nothing, Reply::Bulk))
            }
            "HSET" => {
                let key = key()?;
                let mut hash = self.hash(&key)?;
                for pair in words[2..].chunks(2) {
                    let [field, value] = pair else { return Err("ERR wrong number of arguments".into()) };
                    hash.insert(field.clone(), value.clone());
                }
                self.put(key, Entry::Hash(hash));
                Ok(Reply::Number(0))
            }
            "HDEL" => {
                let key = key()?;
                let mut hash = self.hash(&key)?;
                hash.retain(|field, _| !words[2..].contains(field));
                self.put(key, Entry::Hash(hash));
                Ok(Reply::Number(0))
            }
            "DEL" => {
                let key = key()?;
                self.data.remove(&key);
                self.touched.insert(key);
                Ok(Reply::Number(1))
            }
            "RPUSH" => {
                let key = key()?;
                let mut list = self.list(&key)?;
                list.extend(words[2..].iter().cloned());
                let length = list.len();
                self.put(key, Entry::List(list));
                Ok(Reply::Number(i64::try_from(length).unwrap_or(i64::MAX)))
            }
            "LTRIM" | "LRANGE" => {
                let key = key()?;
                let list = self.list(&key)?;
                let kept = range(&list, words.get(2), words.get(3)).ok_or("ERR value is not an integer")?.to_vec();
                if name == "LRANGE" {
                    return Ok(Reply::Array(kept.into_iter().map(Reply::Bulk).collect()));
                }
                self.put(key, Entry::List(kept));
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

    fn put(&mut self, key: Vec<u8>, entry: Entry) {
        let empty = match &entry {
            Entry::Hash(hash) => hash.is_empty(),
            Entry::List(list) => list.is_empty(),
        };
        self.touched.insert(key.clone());
        if empty {
            self.data.remove(&key);
        } else {
            self.data.insert(key, entry);
        }
    }

    fn hash(&self, key: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, String> {
        match self.data.get(key) {
            None => Ok(BTreeMap::new()),
            Some(Entry::Hash(hash)) => Ok(hash.clone()),
            Some(Entry::List(_)) => Err(WRONG_TYPE.into()),
        }
    }

    fn list(&self, key: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        match self.data.get(key) {
            None => Ok(Vec::new()),
            Some(Entry::List(list)) => Ok(list.clone()),
            Some(Entry::Hash(_)) => Err(WRONG_TYPE.into()),
        }
    }
}

const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";

fn range<'a>(list: &'a [Vec<u8>], from: Option<&Vec<u8>>, to: Option<&Vec<u8>>) -> Option<&'a [Vec<u8>]> {
    let length = i64::try_from(list.len()).ok()?;
    let index = |word: Option<&Vec<u8>>| {
        let index: i64 = std::str::from_utf8(word?).ok()?.parse().ok()?;
        Some(if index < 0 { index + length } else { index })
    };
    let (from, to) = (index(from)?.max(0), index(to)?.min(length - 1));
    if from > to {
        return Some(&[]);
    }
    list.get(usize::try_from(from).ok()?..=usize::try_from(to).ok()?)
}
