//! How long it takes from `consentry demo` to the last line it prints, and how much memory it then has.
//!
//! The demo is the whole program and the imitated banks: certificates made, store and spill opened, five plus three
//! listeners bound, two consents granted and one imported. Run with `cargo bench --bench start`.

#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

const RUNS: usize = 15;

fn main() {
    // `cargo test --benches` only asks whether it runs.
    let runs = if std::env::args().any(|argument| argument == "--bench") { RUNS } else { 1 };
    let mut measured: Vec<(Duration, u64)> = (0..runs).map(|_| start()).collect();
    measured.sort_unstable();
    let (median, resident) = measured[measured.len() / 2];
    let (slowest, _) = measured[measured.len() - 1];
    println!("demo, {runs} runs: median {median:.1?}, slowest {slowest:.1?}, resident {resident} KiB");
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock")]
fn start() -> (Duration, u64) {
    let begun = std::time::Instant::now();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_consentry"))
        .arg("demo")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(demo.stdout.take().expect("its output")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("Ctrl-C")), "the demo ended without a word");
    let took = begun.elapsed();
    let status = fs::read_to_string(format!("/proc/{}/status", demo.id())).unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let resident = resident.trim().trim_end_matches(" kB").parse().unwrap_or_default();
    // Softly, so that it takes its folder with it.
    Command::new("kill").args(["-s", "INT", &demo.id().to_string()]).status().expect("kill is there");
    demo.wait().expect("it ends");
    (took, resident)
}
