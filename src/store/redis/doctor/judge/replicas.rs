//! What follows from the replicas: whether refreshes can go on, and what a failover could take back.

use super::{fine, warn};
use crate::store::redis::doctor::facts::{Facts, Replicas};
use crate::store::redis::doctor::{Finding, Terms};
use crate::words::clock::millis;

pub(super) fn count(Replicas { connected, online }: Replicas, terms: &Terms) -> Finding {
    let required = terms.replicas_required;
    if online < required {
        let text = format!(
            "replicas_required is {required} and {online} are following: no refresh is sent until there are enough, and \
             expired tokens are answered with an error; bring the replicas back"
        );
        return warn("replicas", text);
    }
    if connected == 0 {
        let text = "no replica is connected: if this server's disk is lost, so is every consent; have a replica and set \
                    replicas_required to 1, or take backups";
        return warn("replicas", text);
    }
    fine("replicas", format!("{online} following, {required} required"))
}

pub(super) fn link(Replicas { connected, online }: Replicas) -> Option<Finding> {
    if connected == 0 {
        return None;
    }
    if online < connected {
        let text = format!(
            "{} of {connected} replicas are connected and do not follow yet: promoted in this state they would bring old \
             token sets back; if it stays so, look into their logs",
            connected - online
        );
        return Some(warn("replica-link", text));
    }
    Some(fine("replica-link", "every connected replica follows"))
}

pub(super) fn fewest(facts: &Facts) -> Option<Finding> {
    if facts.replicas_to_write()? == 0 {
        return Some(fine("min-replicas", "no write is refused for want of replicas"));
    }
    let text = "min-replicas-to-write is set: while replicas are away the server refuses every write, also that of a token \
                set with which the bank has just replaced the old one, which then waits in the spill alone; set it to 0 \
                and replicas_required instead, which is asked before a refresh is sent";
    Some(warn("min-replicas", text))
}

/// How many of them say in time that they have a write, which is what every intent waits for.
pub(super) fn acknowledging(facts: &Facts, terms: &Terms) -> Option<Finding> {
    let (connected, acknowledging) = (facts.replicas()?.connected, facts.acknowledging?);
    let within = millis(terms.replica_wait);
    let text = format!("{acknowledging} of {connected} replicas acknowledged within {within} ms");
    if acknowledging < terms.replicas_required {
        return Some(warn(
            "acknowledging",
            format!(
                "{text}, and replicas_required is {}: no refresh is sent; raise replica_wait, or look at what holds them up",
                terms.replicas_required
            ),
        ));
    }
    Some(fine("acknowledging", text))
}

/// Whether window W7 is open: an acknowledged write that the store itself loses.
pub(super) fn acknowledged_writes(facts: &Facts, terms: &Terms) -> Finding {
    let restart = match (facts.keeps_append_only_file(), facts.append_sync()) {
        (Some(false), _) => Some("a restart forgets what no append-only file holds"),
        (Some(true), _) if terms.fsync_required && facts.has_waitaof() => None,
        (Some(true), Some("always")) => None,
        (Some(true), Some(_)) => Some("a failure of its machine takes what is not synced yet"),
        (Some(true), None) | (None, _) => return w7_unknown(),
    };
    let Some(replicas) = facts.replicas() else { return w7_unknown() };
    let unasked = replicas.connected.saturating_sub(terms.replicas_required);
    let failover = (unasked > 0).then(|| {
        format!(
            "a failover may promote a replica that has not acknowledged, as {unasked} of {} need not",
            replicas.connected
        )
    });
    let reasons: Vec<_> = restart.map(str::to_owned).into_iter().chain(failover).collect();
    if reasons.is_empty() {
        let text = "not exposed to W7, the loss of an acknowledged write: each is on disk and with every replica first";
        return fine("acknowledged-writes", text);
    }
    let text = format!(
        "exposed to W7, the loss of an acknowledged write: {}; a consent whose newest token set is lost so has to be \
         granted again; appendonly yes, appendfsync always, and replicas_required as many as there are replicas close it",
        reasons.join(", and ")
    );
    warn("acknowledged-writes", text)
}

fn w7_unknown() -> Finding {
    let text = "whether W7 is open, the loss of an acknowledged write, cannot be told without knowing appendonly, \
                appendfsync and the replicas; it is closed with appendfsync always and replicas_required as many as there \
                are replicas";
    warn("acknowledged-writes", text)
}
