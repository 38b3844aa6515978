//! What the Redis store is told.

use std::time::Duration;

use super::address::RedisAddress;
use crate::words::secrets::StorePassword;

/// The settings of a [`super::RedisStore`].
#[derive(Debug)]
pub struct RedisSettings {
    /// Which servers keep the records.
    pub servers: Servers,
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
    /// Whether a write also has to be on the primary's disk, and on those replicas', before it counts. It takes a server
    /// that has WAITAOF: Redis 7.2 or Valkey.
    pub fsync_required: bool,
    /// How long to wait for either.
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

/// Which servers keep the records, and how the one for a record is found.
#[derive(Debug)]
pub enum Servers {
    /// One address, behind which a primary answers.
    One(RedisAddress),
    /// The primary that sentinels name.
    Sentinel(SentinelSettings),
    /// The members of a cluster, or some of them; the rest is learnt from these. All speak TLS or none, and the database
    /// is always the first.
    Cluster(Vec<RedisAddress>),
}

/// How a primary is asked for.
#[derive(Debug)]
pub struct SentinelSettings {
    /// What the sentinels call it, such as `mymaster`.
    pub name: String,
    /// The sentinels: at least one. All speak TLS or none, and so do the servers that they name.
    pub nodes: Vec<RedisAddress>,
    /// The ACL user at the sentinels; `None` is their default user.
    pub username: Option<String>,
    /// Its password there.
    pub password: Option<StorePassword>,
    /// The number of the database at the primary.
    pub database: u32,
}

impl From<RedisAddress> for Servers {
    fn from(address: RedisAddress) -> Self {
        Self::One(address)
    }
}

impl Servers {
    /// Whether TLS is spoken.
    pub fn tls(&self) -> bool {
        match self {
            Self::One(address) => address.tls,
            Self::Sentinel(SentinelSettings { nodes, .. }) | Self::Cluster(nodes) => nodes.iter().any(|node| node.tls),
        }
    }

    /// The number of the database.
    pub fn database(&self) -> u32 {
        match self {
            Self::One(address) => address.database,
            Self::Sentinel(sentinel) => sentinel.database,
            Self::Cluster(_) => 0,
        }
    }
}

impl RedisSettings {
    /// Settings for these servers with everything else at its default.
    pub fn new(servers: impl Into<Servers>) -> Self {
        Self {
            servers: servers.into(),
            username: None,
            password: None,
            ca_pem: None,
            client_identity: None,
            key_prefix: "consentry".into(),
            replicas_required: 0,
            fsync_required: false,
            replica_wait: Duration::from_millis(250),
            accept_eviction: false,
            command_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
        }
    }
}
