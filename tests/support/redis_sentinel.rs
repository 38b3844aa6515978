//! Three real sentinels over a real primary and its replicas, all gone with the test.

use std::fs;
use std::process::{Child, Command, Stdio};

use consentry::store::RedisStore;
use consentry::store::redis::{RedisSettings, SentinelSettings, Servers};

use super::redis::{RedisOptions, RedisServer, address, cli, free_port, server_program, settings_for, until};

/// What the sentinels call the primary.
pub(crate) const NAME: &str = "mymaster";

pub(crate) struct Sentinels {
    /// The primary that they began with, and its replicas.
    pub(crate) servers: Vec<RedisServer>,
    pub(crate) watchers: Vec<Watcher>,
}

/// One sentinel.
pub(crate) struct Watcher {
    child: Child,
    pub(crate) port: u16,
    /// Beside the other, where its configuration names a certificate.
    pub(crate) tls_port: Option<u16>,
    _home: tempfile::TempDir,
}

impl Sentinels {
    /// A primary with so many replicas.
    pub(crate) async fn start(replicas: usize) -> Self {
        Self::start_with(replicas, &|| RedisOptions::default(), "", RedisServer::port).await
    }

    /// Servers with these options, and sentinels with these lines in their configuration; both are told to reach a server
    /// at the port that `reached` gives.
    pub(crate) async fn start_with(
        replicas: usize,
        options: &dyn Fn() -> RedisOptions,
        lines: &str,
        reached: fn(&RedisServer) -> u16,
    ) -> Self {
        let primary = RedisServer::start_with(options()).await;
        let follows = format!("127.0.0.1 {}", reached(&primary));
        let mut servers = vec![primary];
        for _ in 0..replicas {
            servers.push(RedisServer::start_with(options().with("replicaof", &follows)).await);
        }
        let watchers = (0..3).map(|_| Watcher::start(&follows, lines)).collect();
        let all = Self { servers, watchers };
        for server in &all.servers[1..] {
            until("a replica follows", async || server.cli(&["info", "replication"]).contains("link_status:up")).await;
        }
        for watcher in &all.watchers {
            until("the sentinels know everybody", async || {
                let known = watcher.cli(&["sentinel", "master", NAME]);
                let has = |name: &str, count: usize| {
                    let rest = known.split(&format!("\"{name}\"")).nth(1).unwrap_or_default();
                    rest.split('"').nth(1) == Some(count.to_string().as_str())
                };
                has("num-slaves", replicas) && has("num-other-sentinels", 2)
            })
            .await;
        }
        all
    }

    pub(crate) fn settings(&self) -> RedisSettings {
        settings_for(self.servers_setting())
    }

    /// The sentinels as a setting, for settings of a test's own.
    pub(crate) fn servers_setting(&self) -> Servers {
        Servers::Sentinel(SentinelSettings {
            name: NAME.into(),
            nodes: self.watchers.iter().map(|watcher| address(watcher.port)).collect(),
            username: None,
            password: None,
            database: 0,
        })
    }

    pub(crate) fn store(&self) -> RedisStore {
        RedisStore::connect(&self.settings()).unwrap()
    }

    /// The same as lines of a configuration, under `store:`.
    pub(crate) fn yaml(&self) -> String {
        let nodes: Vec<_> =
            self.watchers.iter().map(|watcher| format!("\"redis://127.0.0.1:{}\"", watcher.port)).collect();
        format!("  redis: {{sentinel: {{name: {NAME}, nodes: [{}]}}}}\n", nodes.join(", "))
    }

    /// The port of the primary by the word of the sentinels; 0 while they do not agree.
    pub(crate) fn primary_port(&self) -> u16 {
        let port = |watcher: &Watcher| {
            let said = watcher.cli(&["sentinel", "get-master-addr-by-name", NAME]);
            said.rsplit('"').nth(1).and_then(|port| port.parse::<u16>().ok()).unwrap_or_default()
        };
        let ports: Vec<u16> = self.watchers.iter().map(port).collect();
        if ports.iter().all(|port| *port == ports[0]) { ports[0] } else { 0 }
    }

    /// The server at a port.
    pub(crate) fn server(&mut self, port: u16) -> &mut RedisServer {
        self.servers.iter_mut().find(|server| server.port() == port).expect("one of ours")
    }

    /// Asks for a failover in good order, and waits until another server is the primary.
    pub(crate) async fn fail_over(&self) {
        let before = self.primary_port();
        until("a failover is agreed to", async || self.watchers[0].cli(&["sentinel", "failover", NAME]).contains("OK"))
            .await;
        self.until_primary_is_not(before).await;
    }

    /// Waits until so many replicas follow the primary.
    pub(crate) async fn until_followed_by(&self, replicas: usize) {
        until("the replicas follow", async || {
            let port = self.primary_port();
            port != 0 && cli(port, &["info", "replication"]).matches("state=online").count() == replicas
        })
        .await;
    }

    /// Waits until the sentinels agree on another primary, and that one takes writes.
    pub(crate) async fn until_primary_is_not(&self, before: u16) {
        until("another primary", async || {
            let port = self.primary_port();
            port != 0 && port != before && cli(port, &["role"]).contains("master")
        })
        .await;
    }
}

impl Watcher {
    fn start(primary: &str, lines: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let port = free_port();
        let tls_port = lines.contains("tls-cert-file").then(free_port);
        let encrypted = tls_port.map(|port| format!("tls-port {port}\n")).unwrap_or_default();
        let file = home.path().join("sentinel.conf");
        let text = format!(
            "port {port}\n{encrypted}bind 127.0.0.1\ndir {dir}\n{lines}\nsentinel monitor {NAME} {primary} 2\n\
             sentinel down-after-milliseconds {NAME} 500\nsentinel failover-timeout {NAME} 5000\n",
            dir = home.path().display(),
        );
        fs::write(&file, text).unwrap();
        let child = Command::new(server_program())
            .arg(&file)
            .arg("--sentinel")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed; on Debian: apt-get install redis-server");
        Self { child, port, tls_port, _home: home }
    }

    pub(crate) fn cli(&self, command: &[&str]) -> String {
        cli(self.port, command)
    }

    /// Kills it.
    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop();
    }
}
