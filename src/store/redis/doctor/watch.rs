//! Examining the server while the process runs.
//!
//! Until a server is found that need not be refused the process is not ready. After that it stays ready whatever is
//! found, as it does when the server goes away: taking every replica out of service at once would help nobody. A refusal
//! is said each time, everything else when it changes.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::sleep;

use super::{Examination, Finding, Severity};
use crate::store::redis::RedisStore;
use crate::words::clock::Clock;

/// How long to wait for a server that has not been reached yet, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl RedisStore {
    /// Examines the server `every` so often and logs what is worth it; never ends. Calls `sound` once, when the server
    /// has been reached and is not refused.
    pub async fn watch<C: Clock>(&self, clock: &C, every: Duration, sound: impl FnOnce()) {
        let (mut sound, mut said) = (Some(sound), Said::default());
        let mut pause = FIRST_PAUSE;
        loop {
            match self.examine(clock).await {
                Ok(examination) => {
                    said.news(&examination).into_iter().for_each(log);
                    if !examination.is_refused()
                        && let Some(sound) = sound.take()
                    {
                        sound();
                    }
                    sleep(every).await;
                }
                Err(error) if sound.is_some() => {
                    tracing::warn!(%error, "The token store has not been reached yet.");
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => {
                    // Whoever needs the store says so, too, and louder.
                    tracing::debug!(%error, "The token store could not be examined.");
                    sleep(every).await;
                }
            }
        }
    }
}

fn log(finding: &Finding) {
    let Finding { severity, check, sentence } = finding;
    match severity {
        Severity::Refuse => tracing::error!(check, sentence, "The token store is refused."),
        Severity::Warn => tracing::warn!(check, sentence, "The token store is at risk."),
        Severity::Fine => tracing::info!(check, sentence, "The token store is as it should be again."),
    }
}

/// What was said last of each thing that is not fine.
#[derive(Default)]
struct Said(BTreeMap<&'static str, Severity>);

impl Said {
    /// What is to be said of an examination, after those before it.
    fn news<'e>(&mut self, examination: &'e Examination) -> Vec<&'e Finding> {
        let mut last = std::mem::take(&mut self.0);
        let mut news = Vec::new();
        for finding in examination.findings() {
            let before = last.remove(finding.check).unwrap_or(Severity::Fine);
            if finding.severity == Severity::Refuse || finding.severity != before {
                news.push(finding);
            }
            if finding.severity != Severity::Fine {
                self.0.insert(finding.check, finding.severity);
            }
        }
        // What could not be looked at this time is as it was.
        self.0.extend(last);
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examined(findings: &[(&'static str, Severity)]) -> Examination {
        let finding = |(check, severity): &(&'static str, Severity)| Finding {
            severity: *severity,
            check,
            sentence: String::new(),
        };
        Examination::of(findings.iter().map(finding).collect())
    }

    #[test]
    fn a_refusal_is_said_each_time_and_the_rest_when_it_changes() {
        use Severity::{Fine, Refuse, Warn};
        let mut said = Said::default();
        let mut news = |findings: &[(&'static str, Severity)]| -> Vec<_> {
            said.news(&examined(findings)).into_iter().map(|finding| (finding.check, finding.severity)).collect()
        };
        let first = [("eviction", Refuse), ("fsync", Warn), ("role", Fine)];
        assert_eq!(news(&first), [("eviction", Refuse), ("fsync", Warn)]);
        assert_eq!(news(&first), [("eviction", Refuse)]);
        assert_eq!(news(&[("eviction", Fine), ("fsync", Warn)]), [("eviction", Fine)]);
        assert_eq!(news(&[("login", Refuse)]), [("login", Refuse)]);
        assert_eq!(news(&[("eviction", Fine), ("fsync", Warn)]), [], "fsync was not looked at in between");
        assert_eq!(news(&[("eviction", Fine), ("fsync", Fine)]), [("fsync", Fine)]);
    }
}
