//! Slots of a Redis Cluster: which one a key has, which node owns which, and how a node sends us elsewhere.

use redis::Value;

use super::address::Endpoint;

/// How many slots every cluster has.
pub(super) const SLOTS: u16 = 16_384;

/// The slot of a key: of what stands between its first braces, if anything does.
pub(super) fn of_key(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    crc16(hashed.as_bytes()) % SLOTS
}

/// CRC-16/XMODEM, as the Redis Cluster specification defines it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        let mixed = crc ^ (u16::from(*byte) << 8);
        (0..8).fold(mixed, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    })
}

/// A range of slots and who keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) primary: Endpoint,
    pub(super) replicas: Vec<Endpoint>,
}

/// Reads the reply to CLUSTER SLOTS. A node that does not know its own name is called what we reached it as. Ranges that
/// cannot be understood are left out.
pub(super) fn shards(reply: &Value, asked: &Endpoint) -> Vec<Shard> {
    let Value::Array(ranges) = reply else { return Vec::new() };
    ranges.iter().filter_map(|range| shard(range, asked)).collect()
}

fn shard(range: &Value, asked: &Endpoint) -> Option<Shard> {
    let Value::Array(parts) = range else { return None };
    let [first, last, primary, replicas @ ..] = parts.as_slice() else { return None };
    let slot = |value: &Value| match value {
        Value::Int(number) => u16::try_from(*number).ok().filter(|slot| *slot < SLOTS),
        _ => None,
    };
    let (first, last) = (slot(first)?, slot(last)?);
    let replicas = replicas.iter().filter_map(|node| self::node(node, asked)).collect();
    (first <= last).then_some(Shard { first, last, primary: node(primary, asked)?, replicas })
}

fn node(value: &Value, asked: &Endpoint) -> Option<Endpoint> {
    let Value::Array(parts) = value else { return None };
    let [host, Value::Int(port), ..] = parts.as_slice() else { return None };
    let host = match host {
        Value::Nil => asked.host.as_str(),
        Value::BulkString(host) if host.is_empty() => asked.host.as_str(),
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        _ => return None,
    };
    Endpoint::parse(host, &port.to_string())
}

/// Where a node sends us: the details of MOVED or ASK, `<slot> <host>:<port>`. Without a host it is the node's own.
pub(super) fn redirection(details: Option<&str>, asked: &Endpoint) -> Option<Endpoint> {
    let (_, address) = details?.trim().split_once(' ')?;
    let (host, port) = address.rsplit_once(':')?;
    Endpoint::parse(if host.is_empty() { &asked.host } else { host }, port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(host: &str, port: u16) -> Endpoint {
        Endpoint { host: host.into(), port }
    }

    #[test]
    fn a_key_has_the_slot_that_the_specification_says() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        // By `redis-cli cluster keyslot`.
        for (key, slot) in
            [("foo", 12_182), ("{user1000}.following", 3_443), ("foo{}{bar}", 8_363), ("foo{{bar}}zap", 4_015)]
        {
            assert_eq!(of_key(key), slot, "{key}");
        }
        assert_eq!(of_key("consentry:c:{a}"), of_key("consentry:c:{a}:ev"), "what belongs to a record lives beside it");
    }

    #[test]
    fn a_map_is_read_with_its_oddities() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let node = |host, port| Value::Array(vec![host, Value::Int(port), text("id"), Value::Array(vec![])]);
        let range =
            |first, last, nodes: Vec<Value>| Value::Array([vec![Value::Int(first), Value::Int(last)], nodes].concat());
        let reply = Value::Array(vec![
            range(0, 5, vec![node(text("10.0.0.1"), 7000), node(text("10.0.0.2"), 7001)]),
            range(6, 6, vec![node(Value::Nil, 7002)]),
            range(7, 8, vec![node(text(""), 7003)]),
            range(9, 9, vec![node(text("?\u{1b}"), 7004)]),
            range(10, 9, vec![node(text("a"), 1)]),
            range(0, 16_384, vec![node(text("a"), 1)]),
            Value::Nil,
        ]);
        let asked = endpoint("seed", 6379);
        let shard = |first, last, primary, replicas| Shard { first, last, primary, replicas };
        assert_eq!(
            shards(&reply, &asked),
            [
                shard(0, 5, endpoint("10.0.0.1", 7000), vec![endpoint("10.0.0.2", 7001)]),
                shard(6, 6, endpoint("seed", 7002), vec![]),
                shard(7, 8, endpoint("seed", 7003), vec![]),
            ]
        );
        assert_eq!(shards(&Value::Nil, &asked), []);
    }

    #[test]
    fn a_redirection_names_a_node_or_is_none() {
        let asked = endpoint("seed", 6379);
        let sent = |details| redirection(Some(details), &asked);
        assert_eq!(sent("3999 127.0.0.1:6381"), Some(endpoint("127.0.0.1", 6381)));
        assert_eq!(sent("3999 ::1:6381"), Some(endpoint("::1", 6381)));
        assert_eq!(sent("3999 :6381"), Some(endpoint("seed", 6381)));
        for odd in ["", "3999", "3999 host", "3999 host:0", "3999 a b:1"] {
            assert_eq!(sent(odd), None, "{odd}");
        }
        assert_eq!(redirection(None, &asked), None);
    }
}
