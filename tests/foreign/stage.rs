//! The stage of one fault: a bank, a store, instances of the subject and a consent, and how it went in the end.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::bank::{Bank, Ended, Shown, TOKENS};
use crate::faults::Fault;
use crate::instance::{Instance, Told};
use crate::subject::Subject;
use crate::support::redis::{RedisOptions, RedisServer};

/// The life of the access tokens that the bank issues.
const LIFE: Duration = Duration::from_secs(3);
/// That of the first, which is over when a fault begins.
const FIRST_LIFE: Duration = Duration::from_secs(1);
/// The consent that a fault is about.
pub(crate) const CONSENT: &str = "suite-0";
/// A pause between two calls of an app that wants to be served.
const BREATH: Duration = Duration::from_millis(100);

pub(crate) struct Stage {
    pub(crate) subject: Subject,
    pub(crate) bank: Bank,
    pub(crate) store: RedisServer,
    pub(crate) instances: Vec<Instance>,
    calls: JoinSet<Told>,
    token_shown: bool,
}

/// What was found to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// A consent could not be used any more, though the fault was over.
    Lost,
    /// A spent refresh token was presented.
    Reused,
    /// A call carried another consent's token.
    WrongToken,
    /// A call carried a token that had expired.
    ExpiredToken,
    /// An app was shown a token.
    TokenShown,
    /// A token stood in what the program wrote.
    TokenLogged,
}

impl Finding {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Lost => "LOST",
            Self::Reused => "REUSED",
            Self::WrongToken => "WRONG TOKEN",
            Self::ExpiredToken => "EXPIRED TOKEN",
            Self::TokenShown => "TOKEN SHOWN",
            Self::TokenLogged => "TOKEN LOGGED",
        }
    }
}

impl Stage {
    /// Starts everything; the consents' first access tokens have expired when this is over.
    pub(crate) async fn set(subject: &Subject, fault: Fault, consents: usize) -> Result<Self, String> {
        let life = match fault {
            // Nobody who was stopped can know when, between its request and now, a token was made; only of one that lives
            // for longer than twice as long is there something left in any case.
            Fault::Stopped => subject.stopped() * 2 + LIFE,
            _ => LIFE,
        };
        let grace = if fault.needs_grace() { Duration::from_secs(60) } else { Duration::ZERO };
        let options = RedisOptions::default().with("appendonly", "yes").with("appendfsync", "always");
        let (bank, store) = tokio::join!(Bank::start(subject.bank_tls, life, grace), RedisServer::start_with(options));
        let mut stage = Self {
            subject: subject.clone(),
            bank,
            store,
            instances: Vec::new(),
            calls: JoinSet::new(),
            token_shown: false,
        };
        let count = if subject.shares_store { fault.instances() } else { 1 };
        for _ in 0..count {
            stage.instances.push(Instance::start(subject, &stage.bank, stage.store.port()).await?);
        }
        for n in 0..consents {
            let consent = format!("suite-{n}");
            let granted = stage.bank.grant(&consent, FIRST_LIFE);
            stage.instances[0].seed(&consent, &granted, FIRST_LIFE.as_secs()).await?;
        }
        sleep(FIRST_LIFE).await;
        Ok(stage)
    }

    /// Calls through one instance and waits for the answer's status.
    pub(crate) async fn call(&mut self, instance: usize, consent: &str) -> u16 {
        let told = self.instances[instance].call(consent).await;
        self.note(&told)
    }

    /// Lets a call go on beside what comes next.
    pub(crate) fn call_beside(&mut self, instance: usize, consent: &str) {
        let call = self.instances[instance].call(consent);
        self.calls.spawn(call);
    }

    /// Waits for all calls that go on.
    pub(crate) async fn all_answered(&mut self) {
        while let Some(told) = self.calls.join_next().await {
            if let Ok(told) = told {
                self.note(&told);
            }
        }
    }

    fn note(&mut self, told: &Told) -> u16 {
        self.token_shown |= told.token_shown;
        told.status
    }

    /// Calls through these instances, one after the other, for so long.
    pub(crate) async fn keep_calling(&mut self, instances: &[usize], time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            for instance in instances {
                self.call_beside(*instance, CONSENT);
            }
            sleep(BREATH * 3).await;
        }
    }

    /// Waits until the bank has been asked so many times.
    pub(crate) async fn until_asked(&self, times: usize) -> Result<(), String> {
        let deadline = Instant::now() + self.subject.heals_within();
        while self.bank.arrived() < times {
            if Instant::now() > deadline {
                return Err("it did not ask the bank for a token, though the one it had was over".to_owned());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Whether a consent still works: calls are served again, and still after one more refresh. Only that shows that its
    /// refresh token was kept.
    pub(crate) async fn survives(&mut self, consent: &str) -> bool {
        let (deadline, before) = (Instant::now() + self.subject.heals_within(), self.bank.rotations(consent));
        let mut instance = 0;
        while Instant::now() < deadline {
            instance = (instance + 1) % self.instances.len();
            let refreshed = self.bank.rotations(consent) > before;
            if self.call(instance, consent).await == 200 && refreshed {
                return true;
            }
            sleep(BREATH).await;
        }
        false
    }

    /// What is to be said of it all, where no more than `reuse` presentations of a spent token were without a choice.
    pub(crate) async fn judge(mut self, lost: bool, reuse: usize) -> Vec<Finding> {
        self.all_answered().await;
        let shown = self.bank.shown();
        let output: String = self.instances.iter().map(Instance::output).collect();
        let findings = [
            (Finding::Reused, self.bank.count(Ended::Reused) > reuse),
            (Finding::Lost, lost),
            (Finding::WrongToken, shown.contains(&Shown::Wrong)),
            (Finding::ExpiredToken, shown.contains(&Shown::Expired)),
            (Finding::TokenShown, self.token_shown),
            (Finding::TokenLogged, output.contains(TOKENS)),
        ];
        findings.into_iter().filter(|(_, found)| *found).map(|(finding, _)| finding).collect()
    }
}
