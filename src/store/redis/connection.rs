//! One connection to one server: how it is made, and what is learnt of the server then.
//!
//! We make the socket ourselves, so that TLS uses our roots and our one crypto library, and nothing waits without a
//! limit.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::{AsyncConnectionConfig, ErrorKind, Pipeline, ProtocolVersion, RedisConnectionInfo, RedisError, Value};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::address::Endpoint;
use super::identity::Identity;
use super::peer::Peer;
use super::settings::{RedisSettings, SentinelSettings, Servers};
use super::tls;
use crate::simulation::{self, Stream};
use crate::store::contract::StoreError;
use crate::words::secrets::StorePassword;

/// Knows how to reach any server of a kind: whether with TLS, and as whom.
pub(super) struct Dialer {
    tls: Option<TlsConnector>,
    info: RedisConnectionInfo,
    connect_timeout: Duration,
}

/// A connection, the server at its other end, and the task that serves it while anybody holds it.
#[derive(Clone)]
pub(super) struct Live {
    connection: MultiplexedConnection,
    driver: Arc<AbortOnDropHandle<()>>,
    peer: Arc<Peer>,
    /// Which term of office of a primary this connection was made in; see `sentinel`.
    pub(super) term: u64,
}

impl Dialer {
    /// Reaches the servers that keep records.
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, tls::TlsSettingsError> {
        let tls = if settings.servers.tls() { Some(tls::connector(settings)?) } else { None };
        let nodes = match &settings.servers {
            Servers::One(address) => std::slice::from_ref(address),
            Servers::Sentinel(SentinelSettings { nodes, .. }) | Servers::Cluster(nodes) => nodes,
        };
        if tls.is_some() && nodes.iter().any(|node| ServerName::try_from(node.host.as_str()).is_err()) {
            return Err(tls::TlsSettingsError::ServerName);
        }
        let info = info(settings.username.as_deref(), settings.password.as_ref(), settings.servers.database());
        Ok(Self { tls, info, connect_timeout: settings.connect_timeout })
    }

    /// Reaches the sentinels that name them.
    pub(super) fn to_sentinels(&self, settings: &SentinelSettings) -> Self {
        let info = info(settings.username.as_deref(), settings.password.as_ref(), 0);
        Self { tls: self.tls.clone(), info, connect_timeout: self.connect_timeout }
    }

    /// Connects, proves who we are, chooses the database, and learns what server this is.
    pub(super) async fn dial(
        &self,
        to: &Endpoint,
        config: AsyncConnectionConfig,
        resp3: bool,
    ) -> Result<Live, StoreError> {
        let connecting = async {
            let stream = self.stream(to).await.map_err(|error| unreachable(to, error.kind()))?;
            let protocol = if resp3 { ProtocolVersion::RESP3 } else { ProtocolVersion::RESP2 };
            let info = self.info.clone().set_protocol(protocol);
            let (connection, driver) = MultiplexedConnection::new_with_config(&info, stream, config)
                .await
                .map_err(|error| rejected(to, &error))?;
            let driver = Arc::new(AbortOnDropHandle::new(tokio::spawn(simulation::task(driver))));
            let mut live = Live { connection, driver, peer: Arc::new(Peer::unknown(to.clone())), term: 0 };
            let replies = live.send(&Peer::questions(), Peer::QUESTIONS).await;
            let replies = replies.map_err(|_| unreachable(to, io::ErrorKind::ConnectionAborted))?;
            live.peer = Arc::new(Peer::from_replies(to.clone(), &replies));
            Ok(live)
        };
        timeout(self.connect_timeout, connecting).await.map_err(|_| unreachable(to, io::ErrorKind::TimedOut))?
    }

    async fn stream(&self, to: &Endpoint) -> io::Result<Box<dyn Stream>> {
        if let Some(host) = simulation::current() {
            return host.dial(&to.host, to.port).await;
        }
        let tcp = TcpStream::connect((to.host.as_str(), to.port)).await?;
        tcp.set_nodelay(true)?;
        let Some(connector) = &self.tls else { return Ok(Box::new(tcp)) };
        let name = ServerName::try_from(to.host.clone()).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(Box::new(connector.connect(name, tcp).await?))
    }
}

fn info(username: Option<&str>, password: Option<&StorePassword>, database: u32) -> RedisConnectionInfo {
    // Naming the library to the server would be one more command that an ACL has to allow.
    let mut info = RedisConnectionInfo::default().set_db(database.into()).set_skip_set_lib_name();
    if let Some(username) = username {
        info = info.set_username(username);
    }
    if let Some(password) = password {
        info = info.set_password(password.expose());
    }
    info
}

fn unreachable(to: &Endpoint, kind: io::ErrorKind) -> StoreError {
    StoreError::Unavailable(format!("redis at {to}: {kind}"))
}

fn rejected(to: &Endpoint, error: &RedisError) -> StoreError {
    let refused = |why| StoreError::Refused(format!("redis at {to} {why}"));
    if error.detail().is_some_and(|detail| detail.contains("DB index is out of range")) {
        return refused("has no database of that number");
    }
    match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS" | "NOAUTH")) => {
            refused("does not accept the user or password")
        }
        (_, Some("NOPERM")) => refused("does not allow this user to connect"),
        (ErrorKind::RESP3NotSupported, _) => refused("is older than version 7"),
        (_, Some(code)) => server_error(code, error.detail(), "HELLO, AUTH or SELECT"),
        (_, None) => unreachable(to, io::ErrorKind::ConnectionAborted),
    }
}

impl Live {
    /// Sends the commands together and reads as many replies. An `Err`: the connection is no good.
    pub(super) async fn send(&mut self, commands: &Pipeline, count: usize) -> Result<Vec<Value>, RedisError> {
        self.connection.req_packed_commands(commands, 0, count).await
    }

    /// The server as it was when this connection was made.
    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Whether the server is still the incarnation that this connection was made to. One that does not name itself is
    /// the same while the connection lasts. An `Err`: the connection is no good.
    pub(super) async fn is_unchanged(&mut self) -> Result<bool, RedisError> {
        let replies = self.send(&Peer::questions(), Peer::QUESTIONS).await?;
        let own = &self.peer.identity;
        let said = Identity::from_replies(&replies);
        Ok(said.as_ref().map_or(!own.is_named(), |said| said == own))
    }

    /// Whether the connection has ended.
    pub(super) fn is_finished(&self) -> bool {
        self.driver.is_finished()
    }

    /// Whether both are the same connection.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.driver, &other.driver)
    }
}

/// What an error code of the server means. Its text is not passed on: it may quote a command.
pub(super) fn server_error(code: &str, detail: Option<&str>, doing: &str) -> StoreError {
    let code = telling(code, detail.unwrap_or_default());
    match code {
        "LOADING" | "MASTERDOWN" | "TRYAGAIN" | "CLUSTERDOWN" | "BUSY" | "READONLY" | "MISCONF" | "NOREPLICAS"
        | "OOM" | "UNKILLABLE" => StoreError::Unavailable(format!("redis answers {code} to {doing}")),
        "NOPERM" | "NOAUTH" | "WRONGPASS" => StoreError::Refused(format!("redis does not allow {doing}: {code}")),
        "WRONGTYPE" => StoreError::Unreadable("it is of another kind".into()),
        "MOVED" | "ASK" | "CROSSSLOT" => {
            StoreError::Refused("redis is a cluster, which has to be configured as store.redis.cluster".into())
        }
        other => StoreError::Refused(format!("redis cannot run {doing}: {}", word(other))),
    }
}

/// The code that says what is wrong, where redis itself says no more than `ERR`: an access control list that stops a
/// script half-way, and a long command before the password.
fn telling<'a>(code: &'a str, detail: &str) -> &'a str {
    match code {
        "ERR" if detail.contains("ACL failure in script") || detail.contains("this user has no permissions") => {
            "NOPERM"
        }
        "ERR" if detail.contains("Protocol error: unauthenticated") => "NOAUTH",
        code => code,
    }
}

/// An error code is one word of capitals; anything else is not repeated.
fn word(code: &str) -> &str {
    let plain = (1..=24).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    if plain { code } else { "an unknown error" }
}
