//! What is learnt of a server when a connection to it is made.

use redis::{Pipeline, Value};

use super::address::Endpoint;
use super::identity::Identity;

/// A server as it was when a connection to it was made.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) endpoint: Endpoint,
    pub(super) identity: Identity,
    /// `None`: it does not say.
    pub(super) is_primary: Option<bool>,
    /// Its major and minor version, where it says.
    pub(super) version: Option<(u32, u32)>,
}

impl Peer {
    /// How many answers [`Peer::questions`] have.
    pub(super) const QUESTIONS: usize = 3;

    /// What is asked of a server. HELLO, which changes nothing like this, is open to every user.
    pub(super) fn questions() -> Pipeline {
        let mut questions = redis::pipe();
        questions.cmd("INFO").arg("server");
        questions.cmd("INFO").arg("replication");
        questions.cmd("HELLO");
        questions
    }

    pub(super) fn unknown(endpoint: Endpoint) -> Self {
        Self { endpoint, identity: Identity::nameless(), is_primary: None, version: None }
    }

    pub(super) fn from_replies(endpoint: Endpoint, replies: &[Value]) -> Self {
        let identity = Identity::from_replies(replies).unwrap_or_else(Identity::nameless);
        let hello = |name| replies.get(2).and_then(|hello| field(hello, name));
        let version = hello("version").and_then(|text| {
            let mut numbers = text.split('.').map(|part| part.parse().ok());
            numbers.next().flatten().zip(numbers.next().flatten())
        });
        Self { endpoint, identity, is_primary: hello("role").map(|role| role == "master"), version }
    }

    /// Whether it can say that a write is on disk. One that does not tell its version is asked all the same.
    pub(super) fn has_waitaof(&self) -> bool {
        self.version.is_none_or(|version| version >= (7, 2))
    }
}

/// A text from a reply of names and values, as either protocol writes it.
fn field(reply: &Value, name: &str) -> Option<String> {
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    };
    match reply {
        Value::Array(parts) => {
            parts.chunks_exact(2).find(|pair| text(&pair[0]).as_deref() == Some(name)).and_then(|pair| text(&pair[1]))
        }
        Value::Map(pairs) => {
            pairs.iter().find(|(key, _)| text(key).as_deref() == Some(name)).and_then(|(_, value)| text(value))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_of_itself_is_read_in_both_protocols() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let said = [("server", "redis"), ("version", "7.2.4"), ("role", "master")];
        let flat = said.iter().flat_map(|(name, value)| [text(name), text(value)]).collect();
        let map = said.iter().map(|(name, value)| (text(name), text(value))).collect();
        for hello in [Value::Array(flat), Value::Map(map)] {
            let peer = Peer::from_replies(Endpoint { host: "a".into(), port: 1 }, &[Value::Nil, Value::Nil, hello]);
            assert_eq!((peer.is_primary, peer.version), (Some(true), Some((7, 2))));
            assert!(peer.has_waitaof() && !peer.identity.is_named());
        }
        let silent = Peer::from_replies(Endpoint { host: "a".into(), port: 1 }, &[]);
        assert_eq!((silent.is_primary, silent.version), (None, None));
    }

    #[test]
    fn a_server_before_waitaof_is_told_by_its_version() {
        for (version, has) in [((7, 0), false), ((7, 1), false), ((7, 2), true), ((8, 0), true)] {
            let peer = Peer { version: Some(version), ..Peer::unknown(Endpoint { host: "a".into(), port: 1 }) };
            assert_eq!(peer.has_waitaof(), has, "{version:?}");
        }
    }
}
