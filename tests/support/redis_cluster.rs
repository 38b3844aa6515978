//! A real cluster of real servers: three primaries and as many replicas as a test wants, all gone with it.

use consentry::store::RedisStore;
use consentry::store::redis::{RedisSettings, Servers};

use super::redis::{RedisOptions, RedisServer, address, cli, free_port, settings_for, until};

const PRIMARIES: usize = 3;
const SLOTS: usize = 16_384;

pub(crate) struct RedisCluster {
    /// The three that began as primaries, then their replicas in turn.
    pub(crate) nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Three primaries.
    pub(crate) async fn start() -> Self {
        Self::start_with(0, &|| RedisOptions::default()).await
    }

    /// Three primaries, and so many replicas of each.
    pub(crate) async fn start_with(replicas: usize, options: &dyn Fn() -> RedisOptions) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..PRIMARIES * (1 + replicas) {
            // The other port is the port plus 10000 unless it is named, and that may not be there.
            let options = options()
                .with("cluster-enabled", "yes")
                .with("cluster-port", &free_port().to_string())
                .with("cluster-node-timeout", "1000")
                .with("cluster-replica-validity-factor", "0");
            nodes.push(RedisServer::start_with(options).await);
        }
        let cluster = Self { nodes };
        cluster.join().await;
        for (nth, replica) in cluster.nodes.iter().enumerate().skip(PRIMARIES) {
            let primary = cluster.nodes[nth % PRIMARIES].cluster_id();
            until("a replica is taken", async || replica.cli(&["cluster", "replicate", &primary]).contains("OK")).await;
            until("a replica follows", async || replica.cli(&["info", "replication"]).contains("link_status:up")).await;
        }
        cluster.until_agreed().await;
        for node in &cluster.nodes {
            let all = PRIMARIES * replicas;
            until("every node knows every replica", async || {
                node.cli(&["cluster", "nodes"]).matches("slave ").count() == all
            })
            .await;
        }
        cluster
    }

    async fn join(&self) {
        for (nth, node) in self.nodes.iter().enumerate() {
            node.cli(&["cluster", "set-config-epoch", &(nth + 1).to_string()]);
            if nth < PRIMARIES {
                let first = (nth * SLOTS / PRIMARIES).to_string();
                let last = ((nth + 1) * SLOTS / PRIMARIES - 1).to_string();
                assert!(node.cli(&["cluster", "addslotsrange", &first, &last]).contains("OK"));
            }
            let port = node.port().to_string();
            let bus = node.option("cluster-port").expect("every node has one");
            assert!(self.nodes[0].cli(&["cluster", "meet", "127.0.0.1", &port, &bus]).contains("OK"));
        }
        self.until_agreed().await;
    }

    /// Waits until every node that runs says that all is well.
    pub(crate) async fn until_agreed(&self) {
        let all = format!("cluster_known_nodes:{}", self.nodes.len());
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            until("the cluster agrees", async || {
                let info = node.cli(&["cluster", "info"]);
                info.contains("cluster_state:ok") && info.contains(&all)
            })
            .await;
        }
    }

    pub(crate) fn settings(&self) -> RedisSettings {
        settings_for(self.servers_setting())
    }

    /// The cluster as a setting, for settings of a test's own.
    pub(crate) fn servers_setting(&self) -> Servers {
        Servers::Cluster(self.nodes.iter().map(|node| address(node.port())).collect())
    }

    pub(crate) fn store(&self) -> RedisStore {
        RedisStore::connect(&self.settings()).unwrap()
    }

    /// The same as lines of a configuration, under `store:`.
    pub(crate) fn yaml(&self) -> String {
        let nodes: Vec<_> = self.nodes.iter().map(|node| format!("\"redis://127.0.0.1:{}\"", node.port())).collect();
        format!("  redis: {{cluster: {{nodes: [{}]}}}}\n", nodes.join(", "))
    }

    /// The slot of a key.
    pub(crate) fn slot(&self, key: &str) -> usize {
        let said = self.nodes[0].cli(&["cluster", "keyslot", key]);
        said.trim().trim_start_matches("(integer) ").parse().unwrap()
    }

    /// Which of the first three primaries a slot was given to.
    pub(crate) fn first_owner(slot: usize) -> usize {
        (0..PRIMARIES).find(|nth| slot < (nth + 1) * SLOTS / PRIMARIES).unwrap()
    }

    /// Begins to move a slot: keys that are at its owner stay there, new ones are sent to the other node.
    pub(crate) fn begin_move(&self, slot: usize, from: usize, to: usize) {
        let (source, target) = (self.nodes[from].cluster_id(), self.nodes[to].cluster_id());
        let slot = slot.to_string();
        assert!(self.nodes[to].cli(&["cluster", "setslot", &slot, "importing", &source]).contains("OK"));
        assert!(self.nodes[from].cli(&["cluster", "setslot", &slot, "migrating", &target]).contains("OK"));
    }

    /// Moves one record of a slot that is being moved.
    pub(crate) fn move_key(&self, key: &str, from: usize, to: usize) {
        // Nodes that speak TLS among themselves do so for this, too.
        let target = &self.nodes[to];
        let port = target.option("tls-port").unwrap_or_else(|| target.port().to_string());
        let said = self.nodes[from].cli(&["migrate", "127.0.0.1", &port, key, "0", "5000"]);
        assert!(said.contains("OK"), "{said}");
    }

    /// Ends the move of a slot: from here on it is the other node's.
    pub(crate) async fn end_move(&self, slot: usize, to: usize) {
        let target = self.nodes[to].cluster_id();
        let slot = slot.to_string();
        // What stands beside a record goes with it.
        for from in (0..PRIMARIES).filter(|nth| *nth != to) {
            for key in self.nodes[from].cli(&["cluster", "getkeysinslot", &slot, "100"]).split('"').skip(1).step_by(2) {
                self.move_key(key, from, to);
            }
        }
        // The new owner first, so that the slot is never nobody's.
        for nth in std::iter::once(to).chain((0..PRIMARIES).filter(|nth| *nth != to)) {
            let said = self.nodes[nth].cli(&["cluster", "setslot", &slot, "node", &target]);
            assert!(said.contains("OK"), "{said}");
        }
        self.until_agreed().await;
    }

    /// Asks a replica to take over from its primary in good order, and waits until it has.
    pub(crate) async fn fail_over(&self, replica: usize) {
        let port = self.nodes[replica].port();
        // An election that came too soon after another one is not won, and has to be asked for again.
        until("a replica takes over", async || {
            cli(port, &["cluster", "failover"]);
            let patience = tokio::time::Instant::now() + std::time::Duration::from_secs(3);
            while tokio::time::Instant::now() < patience {
                if cli(port, &["role"]).contains("\"master\"") {
                    return true;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            false
        })
        .await;
        self.until_primary(replica).await;
    }

    /// Waits until a replica has taken over.
    pub(crate) async fn until_primary(&self, replica: usize) {
        let port = self.nodes[replica].port();
        until("a replica takes over", async || cli(port, &["role"]).contains("\"master\"")).await;
        self.until_agreed().await;
    }
}

impl RedisServer {
    fn cluster_id(&self) -> String {
        self.cli(&["cluster", "myid"]).trim().trim_matches('"').to_owned()
    }
}
