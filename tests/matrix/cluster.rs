//! F44: a slot of a Redis Cluster moves to another node in the middle of a refresh.

use serde_json::json;

use crate::house::{
    SERVED, asked, calling, durable_options, failing, key, paced, record, until, until_frozen, until_told,
};
use crate::support::bank::{Bank, Granted};
use crate::support::redis_cluster::RedisCluster;
use crate::support::sidecar::{Replica, Sidecar};

/// A cluster with one consent in it, and where that goes.
struct Moving {
    bank: Bank,
    cluster: RedisCluster,
    slot: usize,
    from: usize,
    to: usize,
}

impl Moving {
    async fn set() -> Self {
        let (bank, cluster) = (Bank::start().await, RedisCluster::start_with(0, &durable_options).await);
        let slot = cluster.slot(&key("c-1"));
        let from = RedisCluster::first_owner(slot);
        Self { bank, cluster, slot, from, to: (from + 1) % 3 }
    }

    fn replica(&self) -> Replica {
        paced(Replica::new(&self.bank, &self.cluster.yaml()))
    }

    async fn import(&self, at: &Sidecar) -> Granted {
        let granted = self.bank.grant(0).await;
        at.import("c-1", &granted).await;
        granted
    }

    /// The record, and what belongs to it, is at the new node, and the slot is still on its way: ASK.
    fn half_move(&self) {
        self.cluster.begin_move(self.slot, self.from, self.to);
        let history = format!("{}:ev", key("c-1"));
        for key in [key("c-1"), history] {
            self.cluster.move_key(&key, self.from, self.to);
        }
    }

    /// From here on the old node says MOVED.
    async fn end_move(&self) {
        self.cluster.end_move(self.slot, self.to).await;
    }

    /// One request, one commit at the new node, and what was committed there is good.
    async fn came_through(&self, sidecars: &[&Sidecar], granted: &Granted) {
        for sidecar in sidecars {
            until_told(sidecar, "c-1", SERVED).await;
        }
        let node = &self.cluster.nodes[self.to];
        until("it is committed at the new node", async || record(node, "c-1")["gen"] == "2").await;
        assert_eq!(record(node, "c-1")["st"], "active");
        assert_eq!(asked(&self.bank, &granted.bank_id).await, ["granted"]);
        sidecars[0].expire(&self.bank, "c-1", granted).await;
        until("what was committed works", async || {
            for sidecar in sidecars {
                until_told(sidecar, "c-1", SERVED).await;
            }
            asked(&self.bank, &granted.bank_id).await.len() >= 2
        })
        .await;
        assert_eq!(asked(&self.bank, &granted.bank_id).await, ["granted", "granted"]);
        assert_eq!(self.bank.reuse_events().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f44_a_slot_that_is_on_its_way_between_lease_and_intent_costs_no_second_request() {
    let moving = Moving::set().await;
    let (holder, other) = (failing(moving.replica(), "after-begin=freeze"), moving.replica());
    let (holder, other) = tokio::join!(holder.start(), other.start());
    let granted = moving.import(&other).await;
    let call = calling(&holder, "c-1");
    until_frozen(&holder).await;
    assert_eq!(record(&moving.cluster.nodes[moving.from], "c-1")["st"], "leased");
    moving.half_move();
    holder.program.signal("CONT");
    let _ = call.await.unwrap();
    // All of it behind ASK.
    until_told(&other, "c-1", SERVED).await;
    until_told(&holder, "c-1", SERVED).await;
    other.until("it is committed", async || other.consent("c-1").await["generation"] == 2).await;
    assert_eq!(asked(&moving.bank, &granted.bank_id).await, ["granted"]);
    moving.end_move().await;
    moving.came_through(&[&holder, &other], &granted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f44_a_slot_that_moves_while_the_bank_thinks_is_followed_by_renewal_and_commit() {
    let moving = Moving::set().await;
    let (holder, other) = (moving.replica(), moving.replica());
    let (holder, other) = tokio::join!(holder.start(), other.start());
    let granted = moving.import(&other).await;
    // Longer than an armed lease of four seconds: it is renewed on the way, at both nodes.
    moving.bank.fault("abn-token", 1, json!({ "delay_ms": 6_000 })).await;
    let call = calling(&holder, "c-1");
    until("the bank has been asked", async || moving.bank.refreshes().await == 1).await;
    assert_eq!(record(&moving.cluster.nodes[moving.from], "c-1")["st"], "armed");
    moving.half_move();
    let waiting = calling(&other, "c-1");
    moving.end_move().await;
    assert_eq!(call.await.unwrap().unwrap().status, 200);
    let _ = waiting.await.unwrap();
    moving.came_through(&[&holder, &other], &granted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f44_a_commit_after_the_move_and_a_death_is_replayed_to_the_new_node() {
    let moving = Moving::set().await;
    let (mut dying, other) = (failing(moving.replica(), "before-commit,after-spill=freeze"), moving.replica());
    let (mut doomed, other) = tokio::join!(dying.start(), other.start());
    let granted = moving.import(&other).await;
    let call = calling(&doomed, "c-1");
    until_frozen(&doomed).await;
    moving.half_move();
    moving.end_move().await;
    doomed.program.kill();
    let _ = call.await.unwrap();
    dying.forget(crate::house::FAILPOINTS);
    let again = dying.start().await;
    moving.came_through(&[&again, &other], &granted).await;
}
