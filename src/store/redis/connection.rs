//! Connections to the server: how one is made, kept and given up.
//!
//! We make the socket ourselves, so that TLS uses our roots and our one crypto library, and nothing waits without a
//! limit. A [`Link`] is one connection that many share. It is made when first needed and again when it is found broken;
//! whoever asks while one is being made waits for that one, and whoever asks just after a failure is told of it at once,
//! so that a server that is down costs little.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::{AsyncConnectionConfig, ErrorKind, Pipeline, ProtocolVersion, RedisConnectionInfo, RedisError, Value};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::identity::{Gate, Identity};
use super::settings::RedisSettings;
use super::tls;
use crate::simulation::{self, Stream};
use crate::store::contract::StoreError;

/// How long a failure to connect answers for everybody.
const FAILURE_HOLDS: Duration = Duration::from_millis(100);

/// Knows how to reach the server.
pub(super) struct Connector {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    info: RedisConnectionInfo,
    connect_timeout: Duration,
    gate: Gate,
}

/// One shared connection.
pub(super) struct Link {
    connector: Arc<Connector>,
    reply_timeout: Duration,
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    live: Option<Live>,
    failed: Option<(Instant, StoreError)>,
}

/// A connection, the server at its other end, and the task that serves it while anybody holds it.
#[derive(Clone)]
pub(super) struct Live {
    connection: MultiplexedConnection,
    driver: Arc<AbortOnDropHandle<()>>,
    identity: Identity,
}

impl Connector {
    pub(super) fn new(settings: &RedisSettings, gate: &Gate) -> Result<Self, tls::TlsSettingsError> {
        let address = &settings.address;
        let tls = if address.tls {
            let name = ServerName::try_from(address.host.clone()).map_err(|_| tls::TlsSettingsError::ServerName)?;
            Some((tls::connector(settings)?, name))
        } else {
            None
        };
        // Naming the library to the server would be one more command that an ACL has to allow.
        let mut info = RedisConnectionInfo::default().set_db(address.database.into()).set_skip_set_lib_name();
        if let Some(username) = &settings.username {
            info = info.set_username(username);
        }
        if let Some(password) = &settings.password {
            info = info.set_password(password.expose());
        }
        let (host, port) = (address.host.clone(), address.port);
        Ok(Self { host, port, tls, info, connect_timeout: settings.connect_timeout, gate: gate.clone() })
    }

    /// `host:port`.
    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Connects, proves who we are, chooses the database, and learns which incarnation of the server this is.
    pub(super) async fn connect(&self, config: AsyncConnectionConfig, resp3: bool) -> Result<Live, StoreError> {
        let connecting = async {
            let stream = self.stream().await.map_err(|error| self.unreachable(error.kind()))?;
            let protocol = if resp3 { ProtocolVersion::RESP3 } else { ProtocolVersion::RESP2 };
            let info = self.info.clone().set_protocol(protocol);
            let (connection, driver) = MultiplexedConnection::new_with_config(&info, stream, config)
                .await
                .map_err(|error| self.rejected(&error))?;
            let driver = Arc::new(AbortOnDropHandle::new(tokio::spawn(simulation::task(driver))));
            let mut live = Live { connection, driver, identity: Identity::nameless() };
            let named = live.ask_identity().await.map_err(|_| self.unreachable(io::ErrorKind::ConnectionAborted))?;
            live.identity = named.unwrap_or(live.identity);
            Ok(live)
        };
        let late = |_| self.unreachable(io::ErrorKind::TimedOut);
        timeout(self.connect_timeout, connecting).await.map_err(late)?
    }

    async fn stream(&self) -> io::Result<Box<dyn Stream>> {
        if let Some(host) = simulation::current() {
            return host.dial(&self.host, self.port).await;
        }
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
        tcp.set_nodelay(true)?;
        match &self.tls {
            Some((connector, name)) => Ok(Box::new(connector.connect(name.clone(), tcp).await?)),
            None => Ok(Box::new(tcp)),
        }
    }

    fn unreachable(&self, kind: io::ErrorKind) -> StoreError {
        StoreError::Unavailable(format!("redis at {}:{}: {kind}", self.host, self.port))
    }

    fn rejected(&self, error: &RedisError) -> StoreError {
        let refused = |why| StoreError::Refused(format!("redis at {}:{} {why}", self.host, self.port));
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
            (_, None) => self.unreachable(io::ErrorKind::ConnectionAborted),
        }
    }
}

impl Link {
    pub(super) fn new(connector: Arc<Connector>, reply_timeout: Duration) -> Self {
        Self { connector, reply_timeout, slot: Mutex::default() }
    }

    /// The connection, made anew if there is none that works.
    pub(super) async fn get(&self) -> Result<Live, StoreError> {
        let mut slot = self.slot.lock().await;
        if let Some(live) = slot.live.as_ref().filter(|live| !live.driver.is_finished()) {
            return Ok(live.clone());
        }
        slot.live = None;
        if let Some((_, error)) = slot.failed.as_ref().filter(|(at, _)| at.elapsed() < FAILURE_HOLDS) {
            return Err(error.clone());
        }
        // The connection's own limit on replies; connecting has its own.
        let config =
            AsyncConnectionConfig::new().set_response_timeout(Some(self.reply_timeout)).set_connection_timeout(None);
        match self.connector.connect(config, false).await {
            Ok(live) => {
                // Whoever guards the gate hears of a new incarnation before anybody wants a lease of it.
                self.connector.gate.is_open(&live.identity);
                slot.failed = None;
                Ok(slot.live.insert(live).clone())
            }
            Err(error) => {
                slot.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Gives up a connection that did not answer, unless somebody has done so already.
    pub(super) async fn give_up(&self, broken: &Live) {
        let mut slot = self.slot.lock().await;
        if slot.live.as_ref().is_some_and(|live| Arc::ptr_eq(&live.driver, &broken.driver)) {
            slot.live = None;
        }
    }
}

impl Live {
    /// Sends the commands together and reads as many replies. An `Err`: the connection is no good.
    pub(super) async fn send(&mut self, commands: &Pipeline, count: usize) -> Result<Vec<Value>, RedisError> {
        self.connection.req_packed_commands(commands, 0, count).await
    }

    /// Which incarnation of the server this connection was made to.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Which incarnation the server says it is now; `None` if it does not say. An `Err`: the connection is no good.
    pub(super) async fn ask_identity(&mut self) -> Result<Option<Identity>, RedisError> {
        let mut questions = redis::pipe();
        questions.cmd("INFO").arg("server");
        questions.cmd("INFO").arg("replication");
        let replies = self.send(&questions, 2).await?;
        let [server, replication] = replies.as_slice() else { return Ok(None) };
        Ok(Identity::from_info(server, replication))
    }

    /// Whether the server is still the incarnation that this connection was made to. One that does not name itself is
    /// the same while the connection lasts.
    pub(super) async fn is_unchanged(&mut self) -> Result<bool, RedisError> {
        let said = self.ask_identity().await?;
        Ok(said.as_ref().map_or(!self.identity.is_named(), |said| *said == self.identity))
    }

    /// Whether the connection has ended.
    pub(super) fn is_finished(&self) -> bool {
        self.driver.is_finished()
    }
}

/// What an error code of the server means. Its text is not passed on: it may quote a command.
pub(super) fn server_error(code: &str, detail: Option<&str>, doing: &str) -> StoreError {
    let code = telling(code, detail.unwrap_or_default());
    match code {
        "LOADING" | "MASTERDOWN" | "TRYAGAIN" | "CLUSTERDOWN" | "BUSY" | "READONLY" | "MISCONF" | "NOREPLICAS"
        | "OOM" | "UNKILLABLE" => StoreError::Unavailable(format!("redis answers {code} to {doing}")),
        "NOPERM" | "NOAUTH" | "WRONGPASS" => StoreError::Refused(format!("redis does not allow {doing}: {code}")),
        "WRONGTYPE" => StoreError::Unreadable("it is not a hash".into()),
        "MOVED" | "ASK" | "CROSSSLOT" => {
            StoreError::Refused("redis is a cluster, which needs a connection of its own kind".into())
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
