//! What the documents say is what the program does, where that can be checked by reading both.

// How the suite for other programs reads what it is to try, and what it plays.
#[path = "foreign/faults.rs"]
#[expect(dead_code, reason = "the suite uses the rest")]
mod faults;
#[path = "foreign/subject.rs"]
#[expect(dead_code, reason = "the suite uses the rest")]
mod subject;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use consentry::admin::AdminProblem;
use consentry::config::Config;
use consentry::token::timing::Timing;
use consentry::words::failure::FailureClass;
use consentry::words::problem::{ProblemType, WhoActs};

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The rows of all tables of a document whose first cell is code: what the cell says, and the other cells.
fn rows(text: &str) -> BTreeMap<String, Vec<String>> {
    let row = |line: &str| {
        let cells: Vec<_> = line.strip_prefix("| `")?.trim_end_matches('|').split('|').map(str::trim).collect();
        let (first, rest) = cells.split_first()?;
        let first = first.trim_end_matches('`').to_owned();
        Some((first, rest.iter().map(ToString::to_string).collect()))
    };
    text.lines().filter_map(row).collect()
}

#[test]
fn every_problem_is_described_with_its_status_and_with_something_to_do() {
    let text = read("docs/errors.md");
    let rows = rows(&text);
    for problem in ProblemType::ALL {
        let row = rows.get(problem.slug()).unwrap_or_else(|| panic!("{} is not described", problem.slug()));
        assert_eq!(row[0], problem.status().as_u16().to_string(), "{}", problem.slug());
        if problem.who_acts() == WhoActs::Operator {
            assert!(!row[2].is_empty(), "{}: the operator acts, and is not told how", problem.slug());
        }
    }
    for problem in AdminProblem::ALL {
        let row = rows.get(problem.slug()).unwrap_or_else(|| panic!("{} is not described", problem.slug()));
        assert_eq!(row[0], problem.status().as_u16().to_string(), "{}", problem.slug());
    }
    assert_eq!(rows.len(), ProblemType::ALL.len() + AdminProblem::ALL.len(), "and nothing else is");
}

#[test]
fn the_constants_of_the_protocol_are_those_that_are_described() {
    let text = read("docs/refresh.md");
    let timing = Timing::STANDARD;
    let described = [
        ("lease", timing.lease),
        ("renewal", timing.renewal),
        ("armed lease", timing.armed_lease),
        ("quarantine", timing.quarantine),
        ("send", timing.send),
        ("spill kept", timing.spill_keep),
        ("reunion", timing.reunion),
        ("rejection pause", timing.rejection_pause),
    ];
    for (name, value) in described {
        let row = format!("| {name} | {} s |", value.as_secs());
        assert!(text.contains(&row), "docs/refresh.md does not say: {row}");
    }
}

#[test]
fn every_field_of_a_record_is_described() {
    let text = read("docs/refresh.md");
    let source = read("src/store/record/mod.rs");
    // A field's documentation begins with its stored name, or names: `at_exp`.
    let body = source.split("pub struct Record {").nth(1).expect("the record").split("\n}").next().expect("its end");
    let mut seen = 0;
    for line in body.lines().filter_map(|line| line.trim().strip_prefix("/// `")) {
        for name in line.split(':').next().expect("a name").split(['`', ',', ' ']).filter(|part| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') && *part != "and"
        }) {
            seen += 1;
            assert!(text.contains(&format!("`{name}`")), "docs/refresh.md does not describe the field {name}");
        }
    }
    assert!(seen > 25, "only {seen} fields were found, so the test does not see them");
}

#[test]
fn every_file_that_a_document_names_is_there() {
    let mut seen = 0;
    for document in [
        "README.md",
        "docs/architecture.md",
        "docs/refresh.md",
        "docs/consents.md",
        "docs/quota.md",
        "docs/events.md",
        "docs/performance.md",
        "docs/errors.md",
        "docs/fault-matrix.md",
        "docs/bad-input.md",
    ] {
        let text = read(document);
        for name in text.split('`').skip(1).step_by(2).filter(|name| is_source(name)) {
            seen += 1;
            let found = [name.to_owned(), format!("src/{name}")].iter().any(|path| Path::new(path).exists());
            assert!(found, "{document} names {name}, which is not there");
        }
    }
    assert!(seen > 30, "only {seen} files were found, so the test does not see them");
}

fn is_source(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|ending| ending == "rs") && !name.contains(' ')
}

#[test]
fn every_decision_is_numbered_in_order_and_has_its_three_parts() {
    let mut files: Vec<_> =
        fs::read_dir("docs/decisions").expect("the folder").map(|file| file.expect("readable").path()).collect();
    files.sort();
    for (number, file) in (1..).zip(files) {
        let text = read(file.to_str().expect("a plain name"));
        assert!(text.starts_with(&format!("# {number}. ")), "{}", file.display());
        for part in ["\nContext. ", "\nDecision. ", "\nConsequences. "] {
            assert!(text.contains(part), "{} lacks{part}", file.display());
        }
    }
}

#[test]
fn every_crate_has_its_line() {
    let text = read("docs/dependencies.md");
    let manifest = read("Cargo.toml");
    let section =
        manifest.split("[dependencies]").nth(1).expect("dependencies").split("\n[").next().expect("their end");
    let names = section.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name.trim());
    let mut seen = 0;
    for name in names.filter(|name| !name.is_empty() && !name.starts_with('#')) {
        seen += 1;
        let listed = text
            .lines()
            .filter(|line| line.starts_with("| "))
            .any(|line| line.split('|').nth(1).is_some_and(|cell| cell.split([',', ' ']).any(|word| word == name)));
        assert!(listed, "{name} is not in docs/dependencies.md");
    }
    assert!(seen > 20);
}

#[test]
fn the_configuration_in_the_readme_is_one() {
    let readme = read("README.md");
    let yaml = readme.split("```yaml\n").nth(1).expect("a configuration").split("```").next().expect("its end");
    let home = tempfile::tempdir().expect("a temporary directory");
    let write = |name: &str, text: &str| {
        let path = home.path().join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("ours");
    };
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["tpp".to_owned()]).expect("a name");
    write("tls.crt", &params.self_signed(&key).expect("signed").pem());
    write("tls.key", &key.serialize_pem());
    write("seal.key", "Q0FOQVJZLXNlYWwta2V5LTAxMjM0NTY3ODlhYmNkZWY=");
    write("admin.key", "an admin key of some length");
    write("consentry.yaml", yaml);
    let env = |name: &str| (name == "ABN_API_KEY").then(|| "key".to_owned());
    let loaded = Config::load(Path::new(&home.path().join("consentry.yaml")), env);
    let (_, warnings) = loaded.unwrap_or_else(|faults| panic!("{faults}"));
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn the_subject_of_the_fault_suite_is_one_and_every_fault_is_described() {
    let text = read("docs/fault-suite.md");
    let yaml = text.split("```yaml\n").nth(1).expect("a subject").split("```").next().expect("its end");
    let subject = subject::Subject::parse(yaml).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((subject.name.as_str(), subject.uses_redis, subject.grace.is_none()), ("my-proxy", true, true));
    let misspelt = yaml.replace("uses_redis", "use_redis");
    assert!(subject::Subject::parse(&misspelt).is_err_and(|error| error.contains("use_redis")));
    let faults = text.split("## The faults").nth(1).expect("the faults").split("\n## ").next().expect("their end");
    let described: Vec<_> = faults
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('|').next())
        .flat_map(|cell| cell.split(['`', ',', ' ']).filter(|word| !word.is_empty()))
        .collect();
    assert_eq!(described, faults::Fault::ALL.map(faults::Fault::name));
    for file in ["tests/foreign/consentry.yaml", "tests/foreign/naive.yaml"] {
        assert!(subject::Subject::read(Path::new(file)).is_ok(), "{file}");
    }
}

#[test]
fn every_class_of_failure_that_is_written_down_has_its_words() {
    let mut seen = 0;
    let mut folders = vec![PathBuf::from("src/oauth"), PathBuf::from("src/token")];
    while let Some(folder) = folders.pop() {
        for file in fs::read_dir(folder).expect("the folder").map(|file| file.expect("readable").path()) {
            // Tests make up words of their own.
            if file.is_dir() && !file.ends_with("tests") {
                folders.push(file.clone());
            }
            let Ok(source) = fs::read_to_string(&file) else { continue };
            let source = source.split("#[cfg(test)]\nmod tests {").next().expect("its beginning");
            for before in ["why: \"", "FailTo::Released, \"", "self.later(None), \"", "cut.unwrap_or(\"", ", Some(\""] {
                let words = source.split(before).skip(1).filter_map(|rest| rest.split('"').next());
                for word in words.filter(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')) {
                    seen += 1;
                    // Said to a client token it is an error of ours and stands in no record.
                    let known = FailureClass::parse(word).is_some() || word == "invalid_grant";
                    assert!(known, "{}: {word} is no class of failure", file.display());
                }
            }
        }
    }
    assert!(seen > 30, "only {seen} words were found, so the test does not see them");
}

#[test]
fn every_metric_is_described_with_what_to_do() {
    let source = read("src/words/metrics.rs");
    let rows = rows(&read("docs/metrics.md"));
    let mut seen = 0;
    for call in ["registry.register(", "registry.register_with_unit("] {
        for rest in source.split(call).skip(1) {
            let name = rest.split('"').nth(1).expect("a name");
            seen += 1;
            let named = |end: &str| rows.get(&format!("consentry_{name}{end}"));
            let row = ["", "_total", "_seconds"].into_iter().find_map(named);
            let row = row.unwrap_or_else(|| panic!("docs/metrics.md does not describe {name}"));
            assert!(row.len() == 3 && row[1..].iter().all(|cell| !cell.is_empty()), "{name}: {row:?}");
        }
    }
    assert!(seen > 15, "only {seen} metrics were found, so the test does not see them");
    assert_eq!(seen, rows.len(), "and nothing else is");
}

#[test]
fn every_row_of_the_fault_matrix_names_its_tests_or_says_why_there_is_none() {
    let text = read("docs/fault-matrix.md");
    let mut tests = Vec::new();
    for file in fs::read_dir("tests/matrix").expect("the folder") {
        let source = read(file.expect("readable").path().to_str().expect("a plain name"));
        let attributed =
            source.split("#[tokio::test").skip(1).filter_map(|after| after.split_once("async fn f")?.1.split_once('('));
        tests.extend(attributed.map(|(name, _)| format!("f{name}")));
    }
    assert!(tests.len() > 40, "only {} tests were found, so this one does not see them", tests.len());
    let rows: Vec<_> = text.lines().filter(|line| line.starts_with("| F")).collect();
    assert_eq!(rows.len(), 48);
    for (number, row) in (1..).zip(rows) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, _, _, held] = cells.as_slice() else { panic!("{row}: four cells are needed") };
        assert_eq!(*name, format!("F{number}"));
        let own = format!("f{number:02}_");
        let named: Vec<_> = held.split('`').skip(1).step_by(2).filter(|name| name.starts_with('f')).collect();
        let there: Vec<_> = tests.iter().filter(|test| test.starts_with(&own)).map(String::as_str).collect();
        for test in &there {
            assert!(named.contains(test), "{name} does not name {test}");
        }
        for test in &named {
            assert!(there.contains(test), "{name} names {test}, which is not there");
        }
        let reason = held.strip_prefix("Not tested: ").is_some_and(|reason| reason.len() > 40);
        assert!(reason == named.is_empty(), "{name} needs a test or a reason, and not both");
    }
}

#[test]
fn every_row_of_bad_input_names_tests_that_are_there() {
    let (mut all, mut raw) = (Vec::new(), Vec::new());
    for folder in ["tests/it/raw", "tests/it/breaking", "tests/it", "src/proxy/tests", "src/net"] {
        for file in fs::read_dir(folder).expect("the folder").map(|file| file.expect("readable").path()) {
            let Ok(source) = fs::read_to_string(&file) else { continue };
            for after in source.split("#[tokio::test").skip(1) {
                let name = after.split_once("async fn ").and_then(|(_, rest)| rest.split_once('(')).expect("a test").0;
                all.push(name.to_owned());
                if folder == "tests/it/raw" {
                    raw.push(name.to_owned());
                }
            }
        }
    }
    assert!(raw.len() > 35, "only {} tests were found, so this one does not see them", raw.len());
    let text = read("docs/bad-input.md");
    let is_row = |line: &&str| ["| H", "| B", "| P"].iter().any(|start| line.starts_with(start));
    let mut named = Vec::new();
    let mut rows = Vec::new();
    for row in text.lines().filter(is_row) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, _, _, tests] = cells.as_slice() else { panic!("{row}: four cells are needed") };
        rows.push((*name).to_owned());
        let tests: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{name} names no test");
        for test in tests {
            assert!(all.iter().any(|known| known == test), "{name} names {test}, which is not there");
            named.push(test.to_owned());
        }
    }
    let wanted: Vec<_> = [('H', 29), ('B', 35), ('P', 5)]
        .into_iter()
        .flat_map(|(kind, last)| (1..=last).map(move |number| format!("{kind}{number}")))
        .collect();
    assert_eq!(rows, wanted);
    for test in raw {
        assert!(named.contains(&test), "no row names {test}");
    }
}
