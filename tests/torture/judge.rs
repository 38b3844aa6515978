//! Whether a loss has a window that explains it.
//!
//! A consent may be lost where the process that spent its refresh token was killed after it wrote down the intent, and
//! before it could have kept the answer (W1, W2 of `docs/refresh.md`). The history names the process, and every process
//! here has a name of its own, so that a death at the same time elsewhere explains nothing.

use serde_json::Value;

/// A SIGKILL of one of our processes, in milliseconds of this machine's calendar: just before, and just after.
#[derive(Clone, Debug)]
pub(crate) struct Death {
    pub(crate) process: String,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// What a consent's history has to say about its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// Its sender was killed, and one probe was refused.
    SenderKilled { process: String, after_ms: u64 },
    /// No death of ours explains it.
    Unexplained(String),
}

/// How long after its intent a sender may still have been without an answer on disk: a slow answer, a stop of that
/// process, connecting, and a busy machine.
pub(crate) const UNANSWERED_MS: u64 = 15_000;

/// Judges a consent that was refused, by its events as `/v1/consents/{id}/history` gives them.
pub(crate) fn judge(events: &[Value], deaths: &[Death]) -> Judged {
    let word = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let unexplained = |what: &str| Judged::Unexplained(what.to_owned());
    let Some(end) = events.iter().rposition(|event| event["event"] == "suspended") else {
        return unexplained("it was never refused");
    };
    if word(&events[end], "why") != "lost_reply" {
        return unexplained(&format!("the cause is not lost_reply but {:?}", word(&events[end], "why")));
    }
    let settled = |event: &Value| matches!(event["event"].as_str(), Some("committed" | "seeded" | "replaced"));
    let begin = events[..end].iter().rposition(settled).map_or(0, |at| at + 1);
    let armed: Vec<&Value> = events[begin..end].iter().filter(|event| event["event"] == "armed").collect();
    let Some((probe, before)) = armed.split_last() else { return unexplained("no intent stands before the refusal") };
    if word(probe, "why") != "probe" {
        return unexplained("what was refused was no recorded probe");
    }
    let killed = before.iter().find_map(|intent| {
        let (attempt, at) = (word(intent, "attempt"), moment(&word(intent, "at"))?);
        let death = deaths.iter().find(|death| attempt.starts_with(&format!("{}/", death.process)))?;
        // The store's clock is this machine's, rounded down to a millisecond.
        let in_time = death.to >= at && death.from <= at + UNANSWERED_MS;
        in_time.then(|| Judged::SenderKilled { process: death.process.clone(), after_ms: death.to.saturating_sub(at) })
    });
    killed.unwrap_or_else(|| unexplained("none of the processes that spent the token was killed while it waited"))
}

/// Milliseconds of a time in RFC 3339.
fn moment(text: &str) -> Option<u64> {
    let stamp: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(stamp.as_millisecond()).ok()
}

/// Tries the judgement itself.
pub(crate) fn tried() {
    use serde_json::json;
    let at = |second: u64| format!("2026-01-01T00:00:{second:02}Z");
    let event = |second, kind: &str, attempt: &str, why: &str| json!({"at": at(second), "event": kind, "attempt": attempt, "why": why});
    let story = |sender: &str, probe: &str, cause: &str| {
        vec![
            event(0, "seeded", "r1-1/0a/1", ""),
            event(5, "armed", sender, ""),
            event(20, "holder_lost", "r2-1/0b/2", ""),
            event(50, "armed", "r2-1/0b/3", probe),
            event(51, "suspended", "r2-1/0b/3", cause),
        ]
    };
    let base = moment(&at(0)).expect("a time");
    let death = |process: &str, second: u64| Death {
        process: process.to_owned(),
        from: base + second * 1_000 - 5,
        to: base + second * 1_000 + 5,
    };
    let good = story("r1-1/0a/7", "probe", "lost_reply");
    let explained = Judged::SenderKilled { process: "r1-1".to_owned(), after_ms: 1_005 };
    assert_eq!(judge(&good, &[death("r1-1", 6)]), explained);
    let unexplained = |events: &[Value], deaths: &[Death]| matches!(judge(events, deaths), Judged::Unexplained(_));
    assert!(unexplained(&good, &[]), "nobody died");
    assert!(unexplained(&good, &[death("r2-1", 6), death("r1-11", 6)]), "others died");
    assert!(unexplained(&good, &[death("r1-1", 4)]), "it died before");
    assert!(unexplained(&good, &[death("r1-1", 40)]), "it died long after");
    assert!(unexplained(&story("r1-1/0a/7", "", "lost_reply"), &[death("r1-1", 6)]), "no probe");
    assert!(unexplained(&story("r1-1/0a/7", "probe", "double_send"), &[death("r1-1", 6)]), "another cause");
    assert!(unexplained(&good[..4], &[death("r1-1", 6)]), "not refused");
    let mut answered = good;
    answered.insert(2, event(6, "committed", "r1-1/0a/7", ""));
    assert!(unexplained(&answered, &[death("r1-1", 6)]), "the answer was kept");
}
