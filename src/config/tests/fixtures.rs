//! `tests/fixtures/config`: files that load, and files that do not, with what is said about them beside.

use std::fs;
use std::path::PathBuf;

use super::{CANARY, Folder, repository};

fn fixtures(kind: &str) -> Vec<(PathBuf, String)> {
    let folder = repository().join("tests/fixtures/config").join(kind);
    let entries = fs::read_dir(&folder).expect("the folder is there");
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    found.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    found.sort();
    assert!(!found.is_empty(), "no fixtures in {}", folder.display());
    found.into_iter().map(|path| (path.clone(), fs::read_to_string(path).expect("text"))).collect()
}

#[test]
fn valid_files_load() {
    let folder = Folder::new();
    for (path, yaml) in fixtures("valid") {
        if let Err(faults) = folder.load(&yaml) {
            panic!("{}:\n{faults}", path.display());
        }
    }
}

#[test]
fn valid_files_warn_of_what_the_file_beside_them_says() {
    let folder = Folder::new();
    for (path, yaml) in fixtures("valid") {
        let (_, warnings) = folder.load(&yaml).unwrap_or_else(|faults| panic!("{}:\n{faults}", path.display()));
        let mut found = warnings.iter().map(ToString::to_string).collect::<Vec<_>>();
        found.push(String::new());
        let found = found.join("\n");
        let expected = fs::read_to_string(path.with_extension("warnings")).unwrap_or_default();
        assert_eq!(found, expected, "{}", path.display());
        assert!(!found.contains(CANARY));
    }
}

#[test]
fn invalid_files_are_refused_with_every_fault_at_its_place() {
    let folder = Folder::new();
    for (path, yaml) in fixtures("invalid") {
        let Err(faults) = folder.load(&yaml) else { panic!("{} loads", path.display()) };
        let found = format!("{faults}\n");
        let expected = fs::read_to_string(path.with_extension("faults")).expect("the faults stand beside the file");
        assert_eq!(found, expected, "{}", path.display());
        assert!(!found.contains(CANARY), "{}", path.display());
    }
}
