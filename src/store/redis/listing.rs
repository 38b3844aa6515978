//! A walk over the consents of a Redis: SCAN, and each record that it names.
//!
//! A place is a cursor of one server. A cursor means nothing to another server, nor to the same one after a restart, so a
//! place names the incarnation that gave it out; where another one answers, its part of the walk begins anew. In a cluster
//! the primaries are taken in the order of their lowest slots, and a place names the slot as well, so that a primary that
//! was replaced is found again. While slots move from one node to another, consents in them may be missed.
//!
//! A walk has connections of its own: nobody's token waits behind a page of it.

use aws_lc_rs::digest;
use redis::{Pipeline, Value};

use super::connection::{Live, server_error};
use super::identity::Identity;
use super::link::Lane;
use super::{REPEATS, RedisStore};
use crate::store::contract::{ListOutcome, ListPage, Listed, Listing, Place, Store as _, StoreError};
use crate::store::record::Record;
use crate::words::ids::{ConsentId, TokenKey, hex};

/// How many records are asked for together, each of a kibibyte or so.
const TOGETHER: usize = 64;

/// How far a walk is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Walk {
    /// The lowest slot of the server that is looked at; 0 where there is but one.
    slot: u16,
    /// Which incarnation gave out the cursor, or nothing where none was given out yet.
    incarnation: String,
    cursor: u64,
}

/// What one server said of a step.
struct Found {
    consents: Vec<Listed>,
    cursor: u64,
}

/// Why it said nothing.
enum Unheard {
    Broken,
    Error(StoreError),
}

impl Walk {
    /// Before the first record of the server that has a slot.
    fn at(slot: u16) -> Self {
        Self { slot, incarnation: String::new(), cursor: 0 }
    }

    fn parse(place: &Place) -> Option<Self> {
        let mut parts = place.text().split('.');
        let (mark, slot, incarnation, cursor) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let walk = Self { slot: slot.parse().ok()?, incarnation: incarnation.to_owned(), cursor: cursor.parse().ok()? };
        (mark == MARK && parts.next().is_none() && walk.slot < super::slots::SLOTS).then_some(walk)
    }

    fn place(&self) -> Place {
        Place::new(format!("{MARK}.{}.{}.{}", self.slot, self.incarnation, self.cursor))
    }
}

/// What a place of this store begins with.
const MARK: &str = "r";

impl Listing for RedisStore {
    async fn list(&self, from: Option<&Place>, count: u32) -> Result<ListOutcome, StoreError> {
        let walk = match from.map(Walk::parse) {
            None => Walk::at(0),
            Some(Some(walk)) => walk,
            Some(None) => return Ok(ListOutcome::NoSuchPlace),
        };
        let mut last = StoreError::Unavailable("redis does not answer SCAN".to_owned());
        for _ in 0..=REPEATS {
            match self.walk_on(&walk, count).await {
                Ok(page) => return Ok(ListOutcome::Page(page)),
                Err(error @ StoreError::Unavailable(_)) => last = error,
                Err(error @ (StoreError::Refused(_) | StoreError::Reuniting | StoreError::Unreadable(_))) => {
                    return Err(error);
                }
            }
            self.0.route.doubt().await;
        }
        Err(last)
    }
}

impl RedisStore {
    async fn walk_on(&self, walk: &Walk, count: u32) -> Result<ListPage, StoreError> {
        let route = &self.0.route;
        let began = !walk.incarnation.is_empty();
        // A server that was begun is the one that has the slot, whatever else it has lost since.
        let found =
            if began { Some((walk.slot, route.owner(walk.slot).await?)) } else { route.from(walk.slot).await? };
        let Some((slot, node)) = found else { return Ok(ListPage::default()) };
        let link = node.link(Lane::Walks);
        let mut live = link.get().await?;
        let incarnation = brief(&live.peer().identity);
        let cursor = if walk.incarnation == incarnation { walk.cursor } else { 0 };
        let Found { consents, cursor } = match self.scan(&mut live, cursor, count).await {
            Ok(found) => found,
            Err(Unheard::Error(error)) => return Err(error),
            Err(Unheard::Broken) => {
                link.give_up(&live).await;
                return Err(StoreError::Unavailable("redis does not answer SCAN".to_owned()));
            }
        };
        let next = match cursor {
            0 => route.from(slot + 1).await?.map(|(slot, _)| Walk::at(slot)),
            cursor => Some(Walk { slot, incarnation, cursor }),
        };
        Ok(ListPage { consents, next: next.as_ref().map(Walk::place) })
    }

    /// One SCAN, and the records that it names.
    async fn scan(&self, live: &mut Live, cursor: u64, count: u32) -> Result<Found, Unheard> {
        let mut commands = redis::pipe();
        let (pattern, count) = (self.0.keys.consents(), count.max(1));
        commands.cmd("SCAN").arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(count);
        commands.cmd("TIME");
        let replies = send(live, &commands, 2, "SCAN").await?;
        let parsed = replies.split_first().and_then(|(scan, rest)| Some((keys(scan)?, now(rest.first()?)?)));
        let Some(((cursor, keys), now)) = parsed else { return Err(odd("SCAN")) };
        let named: Vec<_> = keys.into_iter().filter_map(|key| Some((self.0.keys.consent_of(&key)?, key))).collect();
        let mut consents = Vec::with_capacity(named.len());
        for some in named.chunks(TOGETHER) {
            let mut commands = redis::pipe();
            for (_, key) in some {
                commands.cmd("HGETALL").arg(key.as_slice());
            }
            let replies = live.send(&commands, some.len()).await.map_err(|_| Unheard::Broken)?;
            for ((consent, _), reply) in some.iter().zip(replies) {
                consents.extend(self.listed(consent, reply, now).await?);
            }
        }
        Ok(Found { consents, cursor })
    }

    /// What is told of one consent; `None` if it has gone meanwhile.
    async fn listed(&self, consent: &ConsentId, reply: Value, now: u64) -> Result<Option<Listed>, Unheard> {
        let listed = |record| Ok(Some(Listed { consent: consent.clone(), record }));
        match reply {
            Value::Array(flat) if flat.is_empty() => Ok(None),
            Value::Array(flat) => match fields(flat).map(|fields| Record::from_fields(&fields)) {
                Some(Ok(record)) => listed(Ok(record.snapshot(now))),
                Some(Err(bad)) => listed(Err(format!("the field {} is not what it has to be", bad.0))),
                None => listed(Err("it is not what it has to be".to_owned())),
            },
            // Its slot is on the way to another node, or has arrived there.
            Value::ServerError(error) if matches!(error.code(), "MOVED" | "ASK" | "TRYAGAIN") => {
                match self.read(&TokenKey::Consent(consent.clone())).await {
                    Ok(None) => Ok(None),
                    Ok(Some(record)) => listed(Ok(record)),
                    Err(StoreError::Unreadable(why)) => listed(Err(why)),
                    Err(error @ (StoreError::Unavailable(_) | StoreError::Refused(_) | StoreError::Reuniting)) => {
                        Err(Unheard::Error(error))
                    }
                }
            }
            Value::ServerError(error) => match server_error(error.code(), error.details(), "HGETALL") {
                StoreError::Unreadable(why) => listed(Err(why)),
                error @ (StoreError::Unavailable(_) | StoreError::Refused(_) | StoreError::Reuniting) => {
                    Err(Unheard::Error(error))
                }
            },
            _ => Err(odd("HGETALL")),
        }
    }
}

/// Sends commands of which none may be refused.
async fn send(live: &mut Live, commands: &Pipeline, count: usize, doing: &str) -> Result<Vec<Value>, Unheard> {
    let replies = live.send(commands, count).await.map_err(|_| Unheard::Broken)?;
    let refused = replies.iter().find_map(|reply| match reply {
        Value::ServerError(error) => Some(server_error(error.code(), error.details(), doing)),
        _ => None,
    });
    refused.map_or(Ok(replies), |error| Err(Unheard::Error(error)))
}

fn odd(command: &str) -> Unheard {
    Unheard::Error(StoreError::Refused(format!("redis answers {command} with something else")))
}

/// A cursor and the keys that go with it.
fn keys(reply: &Value) -> Option<(u64, Vec<Vec<u8>>)> {
    let Value::Array(parts) = reply else { return None };
    let [Value::BulkString(cursor), Value::Array(keys)] = parts.as_slice() else { return None };
    let cursor = std::str::from_utf8(cursor).ok()?.parse().ok()?;
    let keys = keys.iter().map(|key| match key {
        Value::BulkString(key) => Some(key.clone()),
        _ => None,
    });
    Some((cursor, keys.collect::<Option<_>>()?))
}

/// The server's time in milliseconds.
fn now(reply: &Value) -> Option<u64> {
    let Value::Array(parts) = reply else { return None };
    let [Value::BulkString(seconds), Value::BulkString(micros)] = parts.as_slice() else { return None };
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse::<u64>().ok();
    number(seconds)?.checked_mul(1_000)?.checked_add(number(micros)? / 1_000)
}

fn fields(flat: Vec<Value>) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut flat = flat.into_iter().map(|value| match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    });
    let mut fields = Vec::with_capacity(flat.len() / 2);
    while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
        fields.push((name?, value?));
    }
    Some(fields)
}

/// Tells incarnations apart in a place.
fn brief(identity: &Identity) -> String {
    let digest = digest::digest(&digest::SHA256, identity.as_str().as_bytes());
    hex(&digest.as_ref()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_and_that_of_another_store_is_none() {
        let walk = Walk { slot: 5_461, incarnation: "0011223344556677".to_owned(), cursor: u64::MAX };
        for walk in [walk, Walk::at(0), Walk::at(16_383)] {
            assert_eq!(Walk::parse(&walk.place()), Some(walk));
        }
        for odd in ["", "e.c:a", "r", "r.1", "r.1.x", "r.16384.x.0", "r.-1.x.0", "r.1.x.y", "r.1.x.0.0", "s.1.x.0"] {
            assert_eq!(Walk::parse(&Place::new(odd.to_owned())), None, "{odd}");
        }
    }

    #[test]
    fn a_reply_that_is_no_reply_is_an_error_and_not_a_panic() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let scan = Value::Array(vec![text("17"), Value::Array(vec![text("a"), text("b")])]);
        assert_eq!(keys(&scan), Some((17, vec![b"a".to_vec(), b"b".to_vec()])));
        assert_eq!(now(&Value::Array(vec![text("7"), text("5999")])), Some(7_005));
        let odd = [
            Value::Nil,
            Value::Array(vec![]),
            Value::Array(vec![text("x"), Value::Array(vec![])]),
            Value::Array(vec![text("1"), Value::Array(vec![Value::Nil])]),
            Value::Array(vec![text("18446744073709551615"), text("0")]),
        ];
        for reply in odd {
            assert_eq!(keys(&reply), None, "{reply:?}");
            assert_eq!(now(&reply), None, "{reply:?}");
        }
        assert_eq!(fields(vec![text("a"), Value::Nil]), None);
    }
}
