//! The fault suite for any token proxy: it starts a program that a small file describes, before a strict bank and a real
//! store, does to it from outside what happens in production, and says by name what it lost.
//!
//! `cargo test --test foreign -- --subject FILE` tries another program; `docs/fault-suite.md` tells how. Without a subject,
//! as in `cargo test`, it tries this program, which must pass, and a naive one, whose losses it must find.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program without a harness says itself what it found")]

// What the tests stand on: servers, certificates, an app's calls.
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the other test binaries use the rest")]
mod support;

// What is to be known of a program.
mod subject;

// The bank.
mod bank;

// One instance of a subject.
mod instance;

// The faults, by name.
mod faults;

// A bank, a store, instances, and what was found.
mod stage;

// How each fault is played.
mod play;

// A proxy that loses consents, to show that the suite finds it.
mod naive;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use faults::Fault;
use play::{Verdict, play};
use stage::Finding;
use subject::Subject;

/// What was asked for.
#[derive(Default)]
struct Asked {
    subject: Option<String>,
    faults: Vec<Fault>,
    list: bool,
    at_once: Option<usize>,
    /// Words that name no fault: filters that are meant for other test binaries.
    others: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if let Some((first, rest)) = arguments.split_first()
        && first == "naive"
    {
        runtime.block_on(naive::run(rest));
        return ExitCode::SUCCESS;
    }
    match asked(&arguments) {
        Ok(asked) => runtime.block_on(answer(asked)),
        Err(why) => {
            eprintln!("{why}\nusage: cargo test --test foreign -- [--subject FILE] [--at-once N] [--list] [FAULT …]");
            ExitCode::from(64)
        }
    }
}

fn asked(arguments: &[String]) -> Result<Asked, String> {
    let mut asked = Asked::default();
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().cloned().ok_or(format!("{word} wants a value"));
        match word.as_str() {
            "--subject" => asked.subject = Some(value()?),
            "--at-once" => asked.at_once = Some(value()?.parse().map_err(|_| "--at-once wants a number")?),
            "--list" => asked.list = true,
            "--nocapture" | "--no-capture" | "--quiet" | "-q" | "--exact" | "--show-output" => {}
            word if word.starts_with("--test-threads") || word.starts_with("--format") => {}
            word if word.starts_with('-') => return Err(format!("{word} is not known")),
            word => match Fault::ALL.into_iter().find(|fault| fault.name() == word) {
                Some(fault) => asked.faults.push(fault),
                None if asked.subject.is_some() => return Err(format!("there is no fault {word}; --list names them")),
                None => asked.others = true,
            },
        }
    }
    Ok(asked)
}

async fn answer(asked: Asked) -> ExitCode {
    if asked.list {
        for fault in Fault::ALL {
            println!("{:<16} {}", fault.name(), fault.meaning());
        }
        return ExitCode::SUCCESS;
    }
    if asked.others && asked.faults.is_empty() {
        return ExitCode::SUCCESS;
    }
    let faults = if asked.faults.is_empty() { Fault::ALL.to_vec() } else { asked.faults };
    let at_once = asked.at_once.unwrap_or(AT_ONCE);
    if let Some(file) = asked.subject {
        let subject = match Subject::read(Path::new(&file)) {
            Ok(subject) => subject,
            Err(why) => {
                eprintln!("{why}");
                return ExitCode::from(64);
            }
        };
        let verdicts = run(&subject, &faults, at_once).await;
        return if verdicts.iter().all(|it| is_fine(&it.1)) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let own = Subject::parse(include_str!("consentry.yaml")).unwrap();
    let passed = run(&own, &faults, at_once).await.iter().all(|it| is_fine(&it.1));
    let found = naive_is_found_out(&faults, at_once).await;
    if passed && found { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Faults that are played at once: each waits most of its time.
const AT_ONCE: usize = 6;

/// Plays these faults and prints what came out of each.
async fn run(subject: &Subject, faults: &[Fault], at_once: usize) -> Vec<(Fault, Verdict)> {
    println!("\n{}: {} faults", subject.name, faults.len());
    let room = Arc::new(Semaphore::new(at_once.max(1)));
    let mut plays = JoinSet::new();
    for (n, fault) in faults.iter().copied().enumerate() {
        let (subject, room) = (subject.clone(), Arc::clone(&room));
        plays.spawn(async move {
            let _turn = room.acquire_owned().await;
            let started = Instant::now();
            let verdict = play(&subject, fault).await;
            (n, fault, verdict, started.elapsed())
        });
    }
    let mut done = Vec::new();
    while let Some(played) = plays.join_next().await {
        let (n, fault, verdict, took) = played.unwrap();
        println!("{}", line(fault, &verdict, took));
        done.push((n, fault, verdict));
    }
    done.sort_by_key(|it| it.0);
    let passed = done.iter().filter(|it| it.2 == Verdict::Pass).count();
    println!("{}: {passed} of {} passed", subject.name, done.len());
    done.into_iter().map(|(_, fault, verdict)| (fault, verdict)).collect()
}

fn line(fault: Fault, verdict: &Verdict, took: Duration) -> String {
    let said = match verdict {
        Verdict::Pass => "PASS".to_owned(),
        Verdict::Found(findings) => findings.iter().map(|it| it.name()).collect::<Vec<_>>().join(", "),
        Verdict::NotApplicable(why) => format!("NOT APPLICABLE ({why})"),
        Verdict::Broken(why) => format!("COULD NOT BE TRIED ({why})"),
    };
    format!("  {:<16} {:>5.1} s  {said}", fault.name(), took.as_secs_f64())
}

fn is_fine(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Pass | Verdict::NotApplicable(_) => true,
        Verdict::Found(_) | Verdict::Broken(_) => false,
    }
}

/// Runs the naive proxy through some of the faults: those it survives must pass, and those that cost it a consent be named.
async fn naive_is_found_out(faults: &[Fault], at_once: usize) -> bool {
    let expected = [
        (Fault::HerdMany, None),
        (Fault::Bank500, None),
        (Fault::SlowBank, Some(Finding::Reused)),
        (Fault::Stopped, Some(Finding::Reused)),
        (Fault::CallerLeaves, Some(Finding::Lost)),
        (Fault::RefusedAll, Some(Finding::Lost)),
    ];
    let tried: Vec<_> = expected.iter().map(|it| it.0).filter(|fault| faults.contains(fault)).collect();
    if tried.is_empty() {
        return true;
    }
    let naive = Subject::parse(include_str!("naive.yaml")).unwrap();
    let verdicts = run(&naive, &tried, at_once).await;
    let as_expected = verdicts.iter().all(|(fault, verdict)| {
        let wanted = expected.iter().find(|it| it.0 == *fault).and_then(|it| it.1);
        match (wanted, verdict) {
            (None, Verdict::Pass) => true,
            (Some(finding), Verdict::Found(findings)) => findings.contains(&finding),
            _ => false,
        }
    });
    println!("the suite {} what a naive proxy loses", if as_expected { "finds" } else { "DOES NOT FIND" });
    as_expected
}
