//! The store under torture: one Redis that syncs every write, or a primary with a replica behind three sentinels.

use std::time::Duration;

use tokio::time::sleep;

use super::chance::Chance;
use super::support::redis::{RedisOptions, RedisServer, until};
use super::support::redis_sentinel::Sentinels;

pub(crate) enum Servers {
    Alone(Box<RedisServer>),
    Watched(Sentinels),
}

fn durable() -> RedisOptions {
    RedisOptions::default().with("appendonly", "yes").with("appendfsync", "always")
}

impl Servers {
    pub(crate) async fn start(sentinel: bool) -> Self {
        if sentinel {
            Self::Watched(Sentinels::start_with(1, &durable, "", RedisServer::port).await)
        } else {
            Self::Alone(Box::new(RedisServer::start_with(durable()).await))
        }
    }

    /// Lines of a configuration, under `store:`.
    pub(crate) fn yaml(&self) -> String {
        match self {
            Self::Alone(server) => format!("  redis: {{url: \"redis://127.0.0.1:{}/0\"}}\n", server.port()),
            Self::Watched(servers) => servers.yaml().replace("}}\n", "}, replicas_required: 1, replica_wait: 500ms}\n"),
        }
    }

    /// Something befalls it, and is over when this returns. Says what.
    pub(crate) async fn befall(&mut self, chance: &mut Chance) -> &'static str {
        match self {
            Self::Alone(server) => {
                server.stop();
                sleep(chance.millis(300..4_000)).await;
                server.start_again().await;
                "store killed and started again"
            }
            Self::Watched(servers) if chance.happens(400) => {
                servers.fail_over().await;
                servers.until_followed_by(1).await;
                "failover in good order"
            }
            Self::Watched(servers) => {
                let before = servers.primary_port();
                if before == 0 {
                    sleep(Duration::from_secs(1)).await;
                    return "sentinels were not of one mind";
                }
                servers.server(before).stop();
                servers.until_primary_is_not(before).await;
                sleep(chance.millis(0..3_000)).await;
                servers.server(before).start_again().await;
                let old = servers.servers.iter().find(|server| server.port() == before).unwrap();
                until("the old primary follows", async || old.cli(&["role"]).contains("slave")).await;
                servers.until_followed_by(1).await;
                "primary killed, another promoted"
            }
        }
    }
}
