//! `config.example.yaml` shows every key, and its commented defaults are the defaults.

use std::collections::BTreeSet;

use super::{Folder, example, keys};
use crate::config::fault::Collector;
use crate::config::tree::{self, Node};

/// The example with every `#key:` line turned on.
fn with_defaults_written_out() -> String {
    let turned_on = |line: &str| {
        let code = line.trim_start();
        let is_default = code.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
        if is_default { line.replacen('#', "", 1) } else { line.to_owned() }
    };
    example().lines().map(turned_on).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_is_a_configuration_without_warnings() {
    let folder = Folder::new();
    let (config, warnings) = folder.load(&example()).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(warnings, []);
    assert_eq!(config.proxy.apis.len(), 3);
    assert_eq!(config.registrations.len(), 3);
    assert_eq!(config.replica, "replica-1");
}

#[test]
fn the_defaults_in_the_example_are_the_defaults() {
    let folder = Folder::new();
    let written_out = with_defaults_written_out();
    assert!(written_out.lines().count() == example().lines().count() && written_out != example());
    let spelled = format!("{:#?}", folder.config(&written_out));
    assert_eq!(spelled, format!("{:#?}", folder.config(&example())));
}

#[test]
fn the_example_shows_every_key() {
    let mut shown = BTreeSet::new();
    let tree = tree::read(&with_defaults_written_out(), &Collector::default()).expect("YAML");
    collect(&tree, "", &mut shown);
    // The other store is shown in a comment: a file has one of the two.
    let other_store = "#   embedded: {path: consentry.redb, key_prefix: consentry}\n";
    assert!(example().contains(other_store));
    for key in ["", ".path", ".key_prefix"] {
        shown.insert(format!("store.embedded{key}"));
    }
    // So are the other ways to name servers.
    for key in ["sentinel", "cluster"] {
        assert!(example().lines().any(|line| line.trim_start().starts_with(&format!("#   {key}: {{"))), "{key}");
    }
    assert!(example().contains("#   database: 0\n"));
    for key in ["sentinel", "cluster", "database"] {
        shown.insert(format!("store.redis.{key}"));
    }
    for key in ["name", "nodes", "username", "password"] {
        shown.insert(format!("store.redis.sentinel.{key}"));
    }
    shown.insert("store.redis.cluster.nodes".into());
    // Its form stands in the comment above it, and written out under the first API.
    for key in ["certificate", "key"] {
        shown.insert(format!("store.redis.client_certificate.{key}"));
    }
    let missing: Vec<_> = keys::all().difference(&shown).cloned().collect();
    assert_eq!(missing, Vec::<String>::new());
}

fn collect(node: &Node, path: &str, keys: &mut BTreeSet<String>) {
    let chosen_by_the_operator =
        ["providers", "apis", "apis.*.set_headers", "providers.*.authorize_parameters"].contains(&path);
    match node {
        Node::Map(members) => {
            for (key, value) in members {
                let key = if chosen_by_the_operator { "*" } else { key };
                let dot = if path.is_empty() { "" } else { "." };
                let path = format!("{path}{dot}{key}");
                keys.insert(path.clone());
                collect(value, &path, keys);
            }
        }
        Node::List(items) => items.iter().for_each(|item| collect(item, path, keys)),
        Node::Null | Node::Bool(_) | Node::Unsigned(_) | Node::Signed(_) | Node::Float(_) | Node::Text(_) => {}
    }
}
