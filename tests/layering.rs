//! Imports point down, floor by floor.
//!
//! One package has no crates to enforce its layers, so this test reads the sources. A room may use the floors below its
//! own; two rooms of one floor do not know each other, but for the pairs listed here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every room and its floor.
const FLOORS: &[(&str, u8)] = &[
    ("simulation", 0),
    ("words", 0),
    ("http", 1),
    ("net", 1),
    ("oauth", 2),
    ("store", 2),
    ("token", 3),
    ("consent", 3),
    ("proxy", 4),
    ("callback", 4),
    ("admin", 4),
    ("config", 5),
    ("profiles", 5),
    ("telemetry", 5),
    ("app", 6),
    ("cli", 7),
];

/// Neighbours that may know each other: who imports, and what.
const NEIGHBOURS: &[(&str, &str)] =
    &[("net", "http"), ("consent", "token"), ("config", "profiles"), ("words", "simulation")];

/// The sandbox is a peer of the program, not a part of it: it knows sockets, HTTP and words, and only the command line
/// knows it.
const SANDBOX_KNOWS: &[&str] = &["words", "http", "net"];
const SANDBOX_IS_KNOWN_TO: &[&str] = &["cli"];

#[test]
fn imports_point_down() {
    let floors: BTreeMap<_, _> = FLOORS.iter().copied().collect();
    let mut faults = Vec::new();
    let mut seen = 0;
    for file in sources(Path::new("src")) {
        let Some(room) = room_of(&file) else { continue };
        let text = fs::read_to_string(&file).expect("sources are readable");
        for import in imports(&text) {
            seen += 1;
            if import == room || is_allowed(&floors, &room, import) {
                continue;
            }
            faults.push(format!("{}: {room} may not import {import}", file.display()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(seen > 100, "the test found only {seen} imports, so it does not see them");
}

#[test]
fn every_room_has_a_floor() {
    for entry in fs::read_dir("src").expect("src is there") {
        let path = entry.expect("readable").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a plain name").to_owned();
        let placed =
            FLOORS.iter().any(|(room, _)| *room == name) || ["lib", "main", "sandbox"].contains(&name.as_str());
        assert!(placed, "src/{name} stands on no floor");
    }
}

#[test]
fn an_import_that_points_up_is_found() {
    let floors: BTreeMap<_, _> = FLOORS.iter().copied().collect();
    assert!(!is_allowed(&floors, "token", "proxy"));
    assert!(!is_allowed(&floors, "oauth", "store"), "neighbours do not know each other");
    assert!(!is_allowed(&floors, "sandbox", "store"));
    assert!(!is_allowed(&floors, "app", "sandbox"));
    assert!(is_allowed(&floors, "consent", "token"));
    assert!(!is_allowed(&floors, "token", "consent"));
    let text = "use crate::proxy::x;\n    let a = crate::admin::y();\n// crate::cli is only named here\n";
    assert_eq!(imports(text), ["proxy", "admin"]);
}

fn is_allowed(floors: &BTreeMap<&str, u8>, room: &str, import: &str) -> bool {
    if room == "sandbox" {
        return SANDBOX_KNOWS.contains(&import);
    }
    if import == "sandbox" {
        return SANDBOX_IS_KNOWN_TO.contains(&room);
    }
    match (floors.get(room), floors.get(import)) {
        (Some(own), Some(other)) => other < own || NEIGHBOURS.contains(&(room, import)),
        (None, _) | (_, None) => false,
    }
}

/// The first segment of every `crate::` path outside comments.
fn imports(text: &str) -> Vec<&str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split("crate::").skip(1))
        .filter_map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next())
        .filter(|name| !name.is_empty())
        .collect()
}

/// The room a file belongs to: the folder under `src`, or the file itself.
fn room_of(file: &Path) -> Option<String> {
    let inside = file.strip_prefix("src").ok()?;
    let first = inside.iter().next()?.to_str()?;
    let room = first.strip_suffix(".rs").unwrap_or(first);
    (!["lib", "main"].contains(&room)).then(|| room.to_owned())
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("sources are readable") {
        let path = entry.expect("sources are readable").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files
}
