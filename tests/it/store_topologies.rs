//! The real binary in front of sentinels and of a cluster: refreshes go on while the servers change.

use http::StatusCode;

use crate::support::bank::Bank;
use crate::support::redis_cluster::RedisCluster;
use crate::support::redis_sentinel::Sentinels;
use crate::support::sidecar::{Replica, Sidecar};

/// A call whose token has expired is served, as soon as the store can be reached.
async fn served(sidecar: &Sidecar, consent: &str) {
    sidecar.until("the call is served", async || sidecar.balances(consent).await.status == StatusCode::OK).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_behind_sentinels_costs_no_consent_and_no_second_request() {
    let (bank, servers) = (Bank::start().await, Sentinels::start(1).await);
    let yaml = servers.yaml().replace("}}\n", "}, replicas_required: 1, replica_wait: 900ms}\n");
    let sidecar = Replica::new(&bank, &yaml).start().await;
    let granted = bank.grant(0).await;
    sidecar.import("c-1", &granted).await;
    served(&sidecar, "c-1").await;
    servers.fail_over().await;
    servers.until_followed_by(1).await;
    sidecar.until_linked().await;
    sidecar.expire(&bank, "c-1", &granted).await;
    served(&sidecar, "c-1").await;
    assert_eq!((bank.refreshes().await, bank.reuse_events().await), (2, 0));
    assert_eq!(sidecar.consent("c-1").await["state"], "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_moves_a_consents_slot_costs_no_consent_and_no_second_request() {
    let (bank, cluster) = (Bank::start().await, RedisCluster::start().await);
    let (one, other) =
        (Replica::new(&bank, &cluster.yaml()).start().await, Replica::new(&bank, &cluster.yaml()).start().await);
    let granted = bank.grant(0).await;
    one.import("c-1", &granted).await;
    served(&one, "c-1").await;
    let key = "consentry:c:{c-1}";
    let slot = cluster.slot(key);
    let from = RedisCluster::first_owner(slot);
    let to = (from + 1) % 3;
    cluster.begin_move(slot, from, to);
    cluster.move_key(key, from, to);
    one.expire(&bank, "c-1", &granted).await;
    served(&other, "c-1").await;
    cluster.end_move(slot, to).await;
    one.expire(&bank, "c-1", &granted).await;
    served(&one, "c-1").await;
    served(&other, "c-1").await;
    assert_eq!((bank.refreshes().await, bank.reuse_events().await), (3, 0));
    assert!(cluster.nodes[to].cli(&["hget", key, "st"]).contains("active"));
}
