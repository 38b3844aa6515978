//! A real `redis-server` process of a test's own: a free port, a directory of its own, nothing written to disk unless
//! asked for, and gone with the test.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use consentry::store::RedisStore;
use consentry::store::redis::{RedisAddress, RedisSettings, Servers};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep};

/// How long a server may take to come up or go down on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct RedisServer {
    child: Option<Child>,
    port: u16,
    options: Vec<String>,
    home: tempfile::TempDir,
}

/// What a server is started with besides its defaults.
#[derive(Default)]
pub(crate) struct RedisOptions(Vec<String>);

impl RedisOptions {
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.0.push(format!("--{name}"));
        self.0.extend(value.split(' ').map(str::to_owned));
        self
    }
}

impl RedisServer {
    pub(crate) async fn start() -> Self {
        Self::start_with(RedisOptions::default()).await
    }

    /// Starts a server; its port speaks TLS if the options name a certificate and no `tls-port` beside it.
    pub(crate) async fn start_with(options: RedisOptions) -> Self {
        let mut server =
            Self { child: None, port: free_port(), options: options.0, home: tempfile::tempdir().unwrap() };
        // Who names a port, and does not ask for any, may still take it.
        for _ in 0..3 {
            if server.try_start().await {
                return server;
            }
            server.port = free_port();
        }
        panic!("redis-server ended at once: are its options right?");
    }

    /// Starts the same server again on the same port.
    pub(crate) async fn start_again(&mut self) {
        assert!(self.try_start().await, "redis-server did not start again on its port");
    }

    async fn try_start(&mut self) -> bool {
        let has = |name| self.options.iter().any(|option| option == name);
        let tls = has("--tls-cert-file") && !has("--tls-port");
        let port = self.port.to_string();
        let (plain, encrypted) = if tls { ("0", port.as_str()) } else { (port.as_str(), "0") };
        let child = Command::new(server_program())
            .args(["--port", plain, "--tls-port", encrypted, "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "no", "--daemonize", "no", "--repl-diskless-sync-delay", "0"])
            .args(&self.options)
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed; on Debian: apt-get install redis-server");
        self.child = Some(child);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answers = TcpStream::connect(("127.0.0.1", self.port)).await.is_ok();
            if self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some()) {
                return false;
            }
            // A server that reads its files takes connections and does nothing yet.
            if answers && (tls || !self.cli(&["PING"]).contains("LOADING")) {
                return true;
            }
            assert!(Instant::now() < deadline, "redis-server did not come up");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Kills the server.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// A copy of all that it holds.
    pub(crate) fn back_up(&self) -> Vec<u8> {
        assert_eq!(self.cli(&["SAVE"]).trim(), "OK");
        std::fs::read(self.home().join("dump.rdb")).unwrap()
    }

    /// Kills it, and starts it again with nothing but such a copy. Not for a server that keeps an append-only file.
    pub(crate) async fn put_back(&mut self, backup: &[u8]) {
        assert_ne!(self.option("appendonly").as_deref(), Some("yes"), "it would read that file and no other");
        self.stop();
        std::fs::write(self.home().join("dump.rdb"), backup).unwrap();
        self.start_again().await;
    }

    /// Stops it from doing anything, with its connections open, or lets it go on: `STOP` and `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// What it was started with under this name.
    pub(crate) fn option(&self, name: &str) -> Option<String> {
        let mut rest = self.options.iter().skip_while(|option| option.strip_prefix("--") != Some(name));
        rest.nth(1).cloned()
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn settings(&self) -> RedisSettings {
        settings(self.port)
    }

    pub(crate) fn store(&self) -> RedisStore {
        RedisStore::connect(&self.settings()).unwrap()
    }

    /// What `redis-cli` prints for a command, quoted as a person would see it.
    pub(crate) fn cli(&self, command: &[&str]) -> String {
        cli(self.port, command)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The server under test: the machine's own, or another version that somebody wants to try.
pub(crate) fn server_program() -> String {
    std::env::var("CONSENTRY_TEST_REDIS_SERVER").unwrap_or_else(|_| "redis-server".into())
}

/// A server of this machine, without TLS.
pub(crate) fn address(port: u16) -> RedisAddress {
    RedisAddress { tls: false, host: "127.0.0.1".into(), port, database: 0 }
}

/// What `redis-cli` prints for a command to the server at this port.
pub(crate) fn cli(port: u16, command: &[&str]) -> String {
    let output = Command::new("redis-cli")
        .args(["-p", &port.to_string(), "--no-raw"])
        .args(command)
        .output()
        .expect("redis-cli is installed; on Debian: apt-get install redis-tools");
    String::from_utf8(output.stdout).unwrap()
}

/// Waits for what servers have to agree on among themselves, a minute and a half at most: sentinels on a busy machine take
/// their time.
pub(crate) async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(90);
    while !condition().await {
        assert!(Instant::now() < deadline, "not within a minute and a half: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Settings for a server of this machine.
pub(crate) fn settings(port: u16) -> RedisSettings {
    settings_for(address(port))
}

/// Settings for servers of this machine.
pub(crate) fn settings_for(servers: impl Into<Servers>) -> RedisSettings {
    // A loaded machine may hold a server up for longer than a production one should.
    RedisSettings {
        command_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
        ..RedisSettings::new(servers)
    }
}

/// A port that nobody listens on. Until this process ends it is given to nobody who asks for any port, so that it cannot be
/// taken before it is used: it stays bound here, without anybody listening, which lets those listen who name it.
pub(crate) fn free_port() -> u16 {
    static KEPT: Mutex<Vec<TcpSocket>> = Mutex::new(Vec::new());
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = socket.local_addr().unwrap().port();
    KEPT.lock().unwrap().push(socket);
    port
}
