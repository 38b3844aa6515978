//! What is different between two configurations, key by key, and what of it a running process can take over.

use std::fmt;

use super::fault::{Step, YamlPath};
use super::tree::Node;

/// A key whose value is another than before. Holds no secret: there is none in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which key.
    pub path: YamlPath,
    /// What was there, if anything.
    pub was: Option<String>,
    /// What is there now, if anything.
    pub is: Option<String>,
}

/// More of a value than a line of the log has room for is left out.
const MOST_CHARACTERS: usize = 200;

/// What below `proxy` belongs to the listener, which is opened once.
const OF_THE_LISTENER: &[&str] = &["listen", "http2", "workers"];
/// What below `proxy.limits` the listener was told when it was opened.
const OF_CONNECTIONS: &[&str] = &[
    "max_connections",
    "max_connections_per_caller",
    "max_streams",
    "header_read_timeout",
    "idle_timeout",
    "max_head_size",
    "max_headers",
    "max_target_size",
];

impl Change {
    /// Whether a running process takes it over: what calls are led by (`apis`), and of `proxy` what is not the listener's.
    pub fn is_taken_over(&self) -> bool {
        let key = |nth: usize| match self.path.steps().get(nth) {
            Some(Step::Key(key)) => Some(key.as_str()),
            Some(Step::Index(_)) | None => None,
        };
        match (key(0), key(1), key(2)) {
            (Some("apis"), ..) => true,
            (Some("proxy"), Some("limits"), Some(limit)) => !OF_CONNECTIONS.contains(&limit),
            (Some("proxy"), Some(setting), _) => !OF_THE_LISTENER.contains(&setting),
            _ => false,
        }
    }
}

impl fmt::Display for Change {
    /// `apis.debt.upstream: https://a.example is https://b.example now`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.was, &self.is) {
            (Some(was), Some(is)) => write!(f, "{}: {was} is {is} now", self.path),
            (None, Some(is)) => write!(f, "{}: new, {is}", self.path),
            (Some(was), None) => write!(f, "{}: gone, was {was}", self.path),
            (None, None) => write!(f, "{}", self.path),
        }
    }
}

/// Every key that differs, in the order of the keys.
pub(super) fn differences(was: &Node, is: &Node) -> Vec<Change> {
    let mut changes = Vec::new();
    compare(&YamlPath::default(), was, is, &mut changes);
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    changes
}

fn compare(path: &YamlPath, was: &Node, is: &Node, changes: &mut Vec<Change>) {
    match (was, is) {
        (Node::Map(before), Node::Map(after)) => {
            for (key, value) in before {
                let path = path.clone().key(key);
                match member(after, key) {
                    Some(now) => compare(&path, value, now, changes),
                    None if is_mixed(&path) => compare(&path, value, &Node::Map(Vec::new()), changes),
                    None => changes.push(Change { path, was: Some(shown(value)), is: None }),
                }
            }
            for (key, value) in after.iter().filter(|(key, _)| member(before, key).is_none()) {
                let path = path.clone().key(key);
                if is_mixed(&path) {
                    compare(&path, &Node::Map(Vec::new()), value, changes);
                } else {
                    changes.push(Change { path, was: None, is: Some(shown(value)) });
                }
            }
        }
        (Node::List(before), Node::List(after)) => {
            for nth in 0..before.len().max(after.len()) {
                let path = path.clone().index(nth);
                match (before.get(nth), after.get(nth)) {
                    (Some(value), Some(now)) => compare(&path, value, now, changes),
                    (value, now) => changes.push(Change { path, was: value.map(shown), is: now.map(shown) }),
                }
            }
        }
        (was, is) if was == is => {}
        (was, is) => {
            let there = |node: &Node| (*node != Node::Null).then(|| shown(node));
            changes.push(Change { path: path.clone(), was: there(was), is: there(is) });
        }
    }
}

/// Whether some of what is below is taken over and some is not, so that it is told key by key even where all of it is new.
fn is_mixed(path: &YamlPath) -> bool {
    matches!(path.to_string().as_str(), "proxy" | "proxy.limits")
}

fn member<'n>(map: &'n [(String, Node)], key: &str) -> Option<&'n Node> {
    map.iter().find(|(name, _)| name == key).map(|(_, value)| value)
}

/// A value on one line, as YAML would have it there.
fn shown(node: &Node) -> String {
    let mut text = String::new();
    write_flow(node, &mut text);
    match text.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn write_flow(node: &Node, text: &mut String) {
    // What is longer is not shown, so there is no need to write it out.
    if text.len() > MOST_CHARACTERS * 4 {
        return;
    }
    match node {
        Node::Null => text.push('~'),
        Node::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
        Node::Unsigned(value) => text.push_str(&value.to_string()),
        Node::Signed(value) => text.push_str(&value.to_string()),
        Node::Float(value) => text.push_str(&value.to_string()),
        // A line break in a value must not begin a line of the log.
        Node::Text(value) => text.extend(value.chars().map(|c| if c.is_control() { ' ' } else { c })),
        Node::List(items) => {
            text.push('[');
            for (nth, item) in items.iter().enumerate() {
                text.push_str(if nth > 0 { ", " } else { "" });
                write_flow(item, text);
            }
            text.push(']');
        }
        Node::Map(members) => {
            text.push('{');
            for (nth, (key, value)) in members.iter().enumerate() {
                text.push_str(if nth > 0 { ", " } else { "" });
                text.push_str(key);
                text.push_str(": ");
                write_flow(value, text);
            }
            text.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::fault::Collector;
    use crate::config::tree;

    fn changes(was: &str, is: &str) -> Vec<String> {
        let read = |text| tree::read(text, &Collector::default()).expect("YAML");
        differences(&read(was), &read(is))
            .iter()
            .map(|change| format!("{change}{}", if change.is_taken_over() { "" } else { " (later)" }))
            .collect()
    }

    #[test]
    fn what_is_new_gone_or_another_is_told_key_by_key() {
        let was =
            "apis:\n  debt: {path: /debt, upstream: https://a.example}\n  old: {path: /old}\nstore: {key_prefix: a}\n";
        let is =
            "apis:\n  debt: {path: /debt, upstream: https://b.example}\n  new: {path: /new}\nstore: {key_prefix: b}\n";
        let expected = [
            "apis.debt.upstream: https://a.example is https://b.example now",
            "apis.new: new, {path: /new}",
            "apis.old: gone, was {path: /old}",
            "store.key_prefix: a is b now (later)",
        ];
        assert_eq!(changes(was, is), expected);
        assert_eq!(changes(is, is), Vec::<String>::new());
    }

    #[test]
    fn lists_are_compared_item_by_item() {
        let expected = ["a[1].match: /b is /c now (later)", "a[2]: new, 3 (later)"];
        assert_eq!(changes("a: [1, {match: /b}]", "a: [1, {match: /c}, 3]"), expected);
    }

    #[test]
    fn the_order_of_keys_and_the_way_of_writing_them_are_no_difference() {
        assert_eq!(changes("a: 1\nb: {c: x, d: y}", "b:\n  d: 'y'\n  c: x\na: 1 # one\n"), Vec::<String>::new());
    }

    #[test]
    fn what_belongs_to_the_listener_waits_for_the_next_start() {
        let was = "proxy: {listen: a, consent_header: X, limits: {max_connections: 1, max_in_flight: 1}}";
        let is = "proxy: {listen: b, consent_header: Y, limits: {max_connections: 2, max_in_flight: 2}}";
        let expected = [
            "proxy.consent_header: X is Y now",
            "proxy.limits.max_connections: 1 is 2 now (later)",
            "proxy.limits.max_in_flight: 1 is 2 now",
            "proxy.listen: a is b now (later)",
        ];
        assert_eq!(changes(was, is), expected);
        let all_new = ["proxy.limits.idle_timeout: new, 1s (later)", "proxy.limits.max_in_flight: new, 2"];
        assert_eq!(changes("a: 1", "a: 1\nproxy: {limits: {idle_timeout: 1s, max_in_flight: 2}}"), all_new);
    }

    #[test]
    fn a_value_takes_one_line_and_not_all_of_it() {
        let shown = changes("a: ~", "a: \"one\\ntwo\"");
        assert_eq!(shown, ["a: new, one two (later)"]);
        let long = changes("a: ~", &format!("a: {}", "ø".repeat(1_000)));
        assert_eq!(long[0].chars().count(), "a: new, … (later)".chars().count() + MOST_CHARACTERS);
    }
}
