//! What the Redis store is told.

use std::time::Duration;

use crate::words::secrets::StorePassword;

/// The settings of a [`super::RedisStore`].
#[derive(Debug)]
pub struct RedisSettings {
    /// Where the server is.
    pub address: RedisAddress,
    /// The ACL user; `None` is the server's default user.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<StorePassword>,
    /// The certificate authorities that may vouch for the server, in PEM; `None`: those of the machine. For TLS only.
    pub ca_pem: Option<Vec<u8>>,
    /// Our own certificate chain and its private key, in PEM, where the server asks for one. For TLS only.
    pub client_identity: Option<ClientIdentity>,
    /// What all our keys begin with.
    pub key_prefix: String,
    /// How many replicas must have an intent, a new grant or an end before it counts. Zero: the primary's word is enough.
    pub replicas_required: u32,
    /// How long to wait for them.
    pub replica_wait: Duration,
    /// Whether a server that may evict consents is used all the same.
    pub accept_eviction: bool,
    /// How long one command may take. A step is repeated within twice this time.
    pub command_timeout: Duration,
    /// How long connecting may take: address, TLS and password.
    pub connect_timeout: Duration,
}

/// A client certificate and its key.
pub struct ClientIdentity {
    /// The chain in PEM, our own certificate first.
    pub certificate_pem: Vec<u8>,
    /// The private key in PEM.
    pub key_pem: zeroize::Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientIdentity(…)")
    }
}

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

impl RedisSettings {
    /// Settings for a server with everything else at its default.
    pub fn new(address: RedisAddress) -> Self {
        Self {
            address,
            username: None,
            password: None,
            ca_pem: None,
            client_identity: None,
            key_prefix: "consentry".into(),
            replicas_required: 0,
            replica_wait: Duration::from_millis(250),
            accept_eviction: false,
            command_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
        }
    }
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
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
        if host.is_empty() || !host.bytes().all(allowed) {
            return Err(AddressError::Host);
        }
        let port = match port {
            Some(port) => digits(port).filter(|port| *port > 0).ok_or(AddressError::Port)?,
            None => 6_379,
        };
        let database = if path.is_empty() { 0 } else { digits(path).ok_or(AddressError::Database)? };
        Ok(Self { tls, host: host.to_owned(), port, database })
    }
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
}
