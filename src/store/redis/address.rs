//! Where a server is, as a person writes it and as servers tell each other.

use std::fmt;

/// A server as `redis://` or `rediss://` names it, without any secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisAddress {
    /// Whether to speak TLS.
    pub tls: bool,
    /// A name or an address; an IPv6 address without its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The number of the database.
    pub database: u32,
}

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither `redis://` nor `rediss://`.
    #[error("it must begin with redis:// or rediss://")]
    Scheme,
    /// User and password have keys of their own, so that no secret stands in a URL.
    #[error("it may not hold a user or password; they have keys of their own")]
    Userinfo,
    /// No host, or one with characters that a host cannot have.
    #[error("its host is missing or malformed")]
    Host,
    /// Not a port number.
    #[error("its port is not a number from 1 to 65535")]
    Port,
    /// Not a database number.
    #[error("its path is not a database number")]
    Database,
}

impl RedisAddress {
    /// Reads `redis[s]://host[:port][/database]`. The port is 6379 and the database 0 unless given.
    pub fn parse(url: &str) -> Result<Self, AddressError> {
        let (tls, rest) = match (url.strip_prefix("redis://"), url.strip_prefix("rediss://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return Err(AddressError::Scheme),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err(AddressError::Userinfo);
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or(AddressError::Host)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| AddressError::Host)?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or(AddressError::Port)?) })
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let host = told_host(host).ok_or(AddressError::Host)?;
        let port = match port {
            Some(port) => digits(port).filter(|port| *port > 0).ok_or(AddressError::Port)?,
            None => 6_379,
        };
        let database = if path.is_empty() { 0 } else { digits(path).ok_or(AddressError::Database)? };
        Ok(Self { tls, host, port, database })
    }
}

/// A server as others name it: in a redirection, by a sentinel, in a cluster's map.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Endpoint {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Endpoint {
    /// What a server said; `None` if that is no address, so that nothing else of it reaches a log or a socket.
    pub(super) fn parse(host: &str, port: &str) -> Option<Self> {
        Some(Self { host: told_host(host)?, port: digits(port).filter(|port| *port > 0)? })
    }
}

impl From<&RedisAddress> for Endpoint {
    fn from(address: &RedisAddress) -> Self {
        Self { host: address.host.clone(), port: address.port }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

fn told_host(host: &str) -> Option<String> {
    ((1..=253).contains(&host.len()) && host.bytes().all(in_host)).then(|| host.to_owned())
}

fn in_host(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':')
}

fn digits<N: std::str::FromStr>(text: &str) -> Option<N> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_with_its_defaults() {
        let address = |tls, host: &str, port, database| Ok(RedisAddress { tls, host: host.into(), port, database });
        assert_eq!(RedisAddress::parse("redis://127.0.0.1"), address(false, "127.0.0.1", 6379, 0));
        assert_eq!(RedisAddress::parse("rediss://cache.example:6380/7"), address(true, "cache.example", 6380, 7));
        assert_eq!(RedisAddress::parse("redis://[::1]:7000/"), address(false, "::1", 7000, 0));
        assert_eq!(RedisAddress::parse("redis://[::1]"), address(false, "::1", 6379, 0));
    }

    #[test]
    fn a_malformed_address_names_its_fault() {
        for (url, fault) in [
            ("http://a", AddressError::Scheme),
            ("redis://user:password@a", AddressError::Userinfo),
            ("redis://", AddressError::Host),
            ("redis://a b", AddressError::Host),
            ("redis://[x]", AddressError::Host),
            ("redis://a:0", AddressError::Port),
            ("redis://a:+1", AddressError::Port),
            ("redis://[::1]7000", AddressError::Port),
            ("redis://a/x", AddressError::Database),
            ("redis://a/0?protocol=resp3", AddressError::Database),
        ] {
            assert_eq!(RedisAddress::parse(url), Err(fault), "{url}");
        }
    }

    #[test]
    fn what_a_server_tells_is_an_address_or_nothing() {
        let told = |host: &str, port: &str| Endpoint::parse(host, port).map(|endpoint| endpoint.to_string());
        assert_eq!(told("10.0.0.7", "6379").as_deref(), Some("10.0.0.7:6379"));
        assert_eq!(told("cache-1.example", "7000").as_deref(), Some("cache-1.example:7000"));
        for (host, port) in [("", "1"), ("a b", "1"), ("\u{1b}[2J", "1"), ("a", "0"), ("a", "70000"), ("a", "x")] {
            assert_eq!(told(host, port), None, "{host:?} {port}");
        }
    }
}
