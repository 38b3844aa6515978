//! What follows from how the servers are joined, and from their findings taken together.

use std::collections::{BTreeMap, BTreeSet};

use super::{fine, warn};
use crate::store::redis::address::Endpoint;
use crate::store::redis::doctor::Finding;
use crate::store::redis::sentinel::Word;
use crate::store::redis::slots::{SLOTS, Shard};

/// The findings about several servers as one list: of each check the heaviest, with the servers that it is about.
pub(in crate::store::redis::doctor) fn together(mut found: Vec<(String, Vec<Finding>)>) -> Vec<Finding> {
    if found.len() == 1 {
        return found.pop().map(|(_, findings)| findings).unwrap_or_default();
    }
    let mut by_check: BTreeMap<&'static str, Vec<(String, Finding)>> = BTreeMap::new();
    for (server, findings) in found {
        for finding in findings {
            by_check.entry(finding.check).or_default().push((server.clone(), finding));
        }
    }
    by_check.into_values().filter_map(heaviest).collect()
}

fn heaviest(findings: Vec<(String, Finding)>) -> Option<Finding> {
    let severity = findings.iter().map(|(_, finding)| finding.severity).min()?;
    let mut sentences: Vec<(String, Vec<String>)> = Vec::new();
    let mut check = "";
    for (server, finding) in findings.into_iter().filter(|(_, finding)| finding.severity == severity) {
        check = finding.check;
        match sentences.iter_mut().find(|(sentence, _)| *sentence == finding.sentence) {
            Some((_, servers)) => servers.push(server),
            None => sentences.push((finding.sentence, vec![server])),
        }
    }
    let said = sentences.iter().map(|(sentence, servers)| format!("{}: {sentence}", servers.join(", ")));
    let sentence = said.collect::<Vec<_>>().join("; ");
    Some(Finding { severity, check, sentence })
}

/// A replica cannot be looked at, though it may be the next primary.
pub(in crate::store::redis::doctor) fn hidden(why: &str) -> Finding {
    let text = format!(
        "{why}: it may be the next primary, and then nothing works; users and their rights are not copied to replicas, so \
         give it the same ones, and an address that can be reached from here"
    );
    warn("replica-access", text)
}

pub(in crate::store::redis::doctor) fn seen() -> Finding {
    fine("replica-access", "it can be reached and lets us in")
}

/// Whether the sentinels agree.
pub(in crate::store::redis::doctor) fn sentinels(
    name: &str,
    primary: &Endpoint,
    words: &[(Endpoint, Word)],
) -> Finding {
    let all = words.len();
    let agreeing = words.iter().filter(|(_, word)| matches!(word, Ok(Some(named)) if named == primary)).count();
    let others: Vec<String> = words
        .iter()
        .filter_map(|(sentinel, word)| match word {
            Ok(Some(named)) if named == primary => None,
            Ok(Some(named)) => Some(format!("{sentinel} names {named}")),
            Ok(None) => Some(format!("{sentinel} does not know {name}")),
            Err(error) => Some(error.to_string()),
        })
        .collect();
    let text = format!("{agreeing} of {all} sentinels name {primary} as {name}");
    if agreeing * 2 <= all {
        let text = format!(
            "{text}, which is not most of them ({}): a failover may not be heard of, or be wrong; bring them back",
            others.join("; ")
        );
        return warn("sentinels", text);
    }
    if !others.is_empty() {
        return warn("sentinels", format!("{text}; {}; bring them back before another is away", others.join("; ")));
    }
    if all < 3 {
        let text =
            format!("{text}: with fewer than three, one that is away leaves nobody to agree on a failover; have three");
        return warn("sentinels", text);
    }
    fine("sentinels", text)
}

/// Whether every slot has a node.
pub(in crate::store::redis::doctor) fn shards(shards: &[Shard]) -> Finding {
    let covered: usize = shards.iter().map(|shard| usize::from(shard.last - shard.first) + 1).sum();
    let primaries: BTreeSet<_> = shards.iter().map(|shard| &shard.primary).collect();
    if covered < usize::from(SLOTS) {
        let text = format!(
            "{covered} of {SLOTS} slots have a node: the consents of the others can be neither read nor refreshed; give \
             each slot a node"
        );
        return warn("cluster", text);
    }
    fine("cluster", format!("{} nodes have all slots", primaries.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract::StoreError;
    use crate::store::redis::doctor::Severity;

    fn at(port: u16) -> Endpoint {
        Endpoint { host: "h".into(), port }
    }

    #[test]
    fn of_several_servers_the_heaviest_counts_and_is_named() {
        let found = vec![
            ("a".to_owned(), vec![fine("x", "good"), warn("y", "bad")]),
            ("b".to_owned(), vec![warn("x", "bad"), warn("y", "bad")]),
            ("c".to_owned(), vec![warn("x", "worse")]),
        ];
        let together = together(found);
        let said: Vec<_> = together.iter().map(|finding| (finding.check, finding.sentence.as_str())).collect();
        assert_eq!(said, [("x", "b: bad; c: worse"), ("y", "a, b: bad")]);
        assert_eq!(super::together(vec![("a".to_owned(), vec![fine("x", "good")])])[0].sentence, "good");
    }

    #[test]
    fn sentinels_have_to_be_three_and_agree() {
        let away = || Err(StoreError::Unavailable("h:3".into()));
        let judged = |words: Vec<Word>| {
            let words: Vec<_> = words.into_iter().map(|word| (at(9), word)).collect();
            sentinels("m", &at(1), &words)
        };
        let yes = || Ok(Some(at(1)));
        assert_eq!(judged(vec![yes(), yes(), yes()]).severity, Severity::Fine);
        for (words, says) in [
            (vec![yes(), yes(), away()], "before another is away"),
            (vec![yes(), Ok(Some(at(2))), Ok(None)], "not most of them"),
            (vec![yes(), yes()], "fewer than three"),
        ] {
            let finding = judged(words);
            assert!(finding.severity == Severity::Warn && finding.sentence.contains(says), "{finding:?}");
        }
    }

    #[test]
    fn every_slot_has_to_have_a_node() {
        let shard = |first, last| Shard { first, last, primary: at(first + 1), replicas: vec![] };
        let sound = shards(&[shard(0, 9_999), shard(10_000, 16_383)]);
        assert_eq!((sound.severity, sound.sentence.as_str()), (Severity::Fine, "2 nodes have all slots"));
        let holes = shards(&[shard(0, 9_999)]);
        assert!(holes.severity == Severity::Warn && holes.sentence.contains("10000 of 16384"), "{holes:?}");
    }
}
