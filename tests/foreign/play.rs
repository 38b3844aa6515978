//! How each fault is played, and what came out.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::bank::{Ended, Fault as AtBank, answer_of};
use crate::faults::Fault;
use crate::stage::{CONSENT, Finding, Stage};
use crate::subject::Subject;

/// What came out of one fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing was lost and nothing done twice.
    Pass,
    /// What was wrong.
    Found(Vec<Finding>),
    /// The fault makes no sense for this subject.
    NotApplicable(&'static str),
    /// The subject could not be tried.
    Broken(String),
}

/// What a play found by itself.
struct Played {
    lost: bool,
    /// Presentations of a spent token that no client could have known to be one.
    unavoidable: usize,
}

/// Plays a fault to its end.
pub(crate) async fn play(subject: &Subject, fault: Fault) -> Verdict {
    let tolerant = subject.tolerant();
    let subject = match (fault.needs_grace(), &tolerant) {
        (false, _) => subject,
        (true, Some(tolerant)) => tolerant,
        (true, None) => return Verdict::NotApplicable("it has no setting for a bank with a grace"),
    };
    if fault.needs_redis() && !subject.uses_redis {
        return Verdict::NotApplicable("its store is its own");
    }
    if fault == Fault::HerdMany && !subject.shares_store {
        return Verdict::NotApplicable("its instances share no store");
    }
    let consents = match fault {
        Fault::RefusedAll => 4,
        Fault::ManyConsents => 24,
        _ => 1,
    };
    let mut stage = match Stage::set(subject, fault, consents).await {
        Ok(stage) => stage,
        Err(why) => return Verdict::Broken(why),
    };
    match perform(fault, &mut stage).await {
        Ok(Played { lost, unavoidable }) => match stage.judge(lost, unavoidable).await {
            findings if findings.is_empty() => Verdict::Pass,
            findings => Verdict::Found(findings),
        },
        Err(why) => Verdict::Broken(why),
    }
}

async fn perform(fault: Fault, stage: &mut Stage) -> Result<Played, String> {
    let count = stage.instances.len();
    let all: Vec<_> = (0..count).collect();
    match fault {
        Fault::HerdOne | Fault::HerdMany => {
            for n in 0..100 {
                stage.call_beside(n % count, CONSENT);
            }
            stage.all_answered().await;
        }
        Fault::SlowBank => {
            let slow = stage.subject.slow();
            let_the_bank_think(stage, slow).await?;
            stage.keep_calling(&all, slow).await;
        }
        Fault::CallerLeaves => {
            stage.bank.next(AtBank::ThinksAfter(MOMENT));
            let leaving = stage.instances[0].call_and_leave(CONSENT).await?;
            stage.until_asked(1).await?;
            drop(leaving);
        }
        Fault::KilledUnread => {
            stage.bank.next(AtBank::ThinksBefore(Duration::from_secs(600)));
            stage.call_beside(0, CONSENT);
            stage.until_asked(1).await?;
            stage.instances[0].kill();
            stage.instances[0].start_again().await?;
        }
        Fault::KilledAnswered => {
            let deadline = Instant::now() + stage.subject.heals_within();
            while stage.call(0, CONSENT).await != 200 {
                if Instant::now() > deadline {
                    return Err("no call was served, though nothing was wrong yet".to_owned());
                }
            }
            stage.instances[0].kill();
            stage.instances[0].start_again().await?;
        }
        Fault::Stopped => {
            let_the_bank_think(stage, MOMENT).await?;
            stage.instances[0].signal("STOP");
            let time = stage.subject.stopped();
            stage.keep_calling(&all[count - 1..], time).await;
            stage.instances[0].signal("CONT");
        }
        Fault::Terminated => {
            let_the_bank_think(stage, MOMENT).await?;
            stage.instances[0].signal("TERM");
            stage.instances[0].until_ended(Duration::from_secs(30)).await;
            stage.instances[0].start_again().await?;
        }
        Fault::StoreGone => {
            let_the_bank_think(stage, MOMENT).await?;
            stage.store.stop();
            stage.keep_calling(&all, MOMENT * 3).await;
            stage.store.start_again().await;
        }
        Fault::StoreSilent => {
            let_the_bank_think(stage, MOMENT).await?;
            stage.store.signal("STOP");
            stage.keep_calling(&all, MOMENT * 3).await;
            stage.store.signal("CONT");
        }
        Fault::StoreRestarted => {
            stage.call(0, CONSENT).await;
            stage.store.stop();
            stage.store.start_again().await;
        }
        Fault::StoreAway => {
            stage.store.stop();
            stage.keep_calling(&all, MOMENT * 4).await;
            stage.store.start_again().await;
        }
        Fault::Bank500 => instead(stage, answer_of(500, r#"{"error":"server_error"}"#)),
        Fault::Bank502 => instead(stage, answer_of(502, PAGE)),
        Fault::Garbage => instead(stage, answer_of(200, PAGE)),
        Fault::Truncated => {
            let whole = answer_of(200, r#"{"access_token":"half-an-answer","token_type":"Bearer","expires_in":3600}"#);
            instead(stage, whole[..whole.len() - 20].to_vec());
        }
        Fault::Reset => stage.bank.next(AtBank::Unread),
        Fault::BankDown => {
            stage.bank.every(Some(AtBank::Instead(answer_of(503, PAGE))));
            stage.keep_calling(&all, MOMENT * 5).await;
            stage.bank.every(None);
        }
        Fault::RefusedOnce => {
            instead(stage, answer_of(400, REFUSED));
            stage.call_beside(0, CONSENT);
            stage.until_asked(1).await?;
            stage.all_answered().await;
            revive(stage).await?;
        }
        Fault::RefusedAll => {
            for n in 0..4 {
                instead(stage, answer_of(400, REFUSED));
                stage.call_beside(0, &format!("suite-{n}"));
            }
            stage.all_answered().await;
            let mut lost = false;
            for n in 0..4 {
                lost |= !stage.survives(&format!("suite-{n}")).await;
            }
            return Ok(Played { lost, unavoidable: 0 });
        }
        Fault::NoNewToken => {
            stage.bank.next(AtBank::KeepsRefresh);
            let lost = !stage.survives(CONSENT).await;
            return Ok(Played { lost: lost || !stage.survives(CONSENT).await, unavoidable: 0 });
        }
        Fault::LostAnswer => {
            stage.bank.next(AtBank::Lost);
            let deadline = Instant::now() + stage.subject.heals_within();
            while stage.bank.count(Ended::Reused) == 0 && Instant::now() < deadline {
                stage.call(0, CONSENT).await;
                sleep(MOMENT / 10).await;
            }
            // Whoever does not know how to stop presents it again.
            stage.keep_calling(&all, MOMENT * 3).await;
            return Ok(Played { lost: false, unavoidable: 1 });
        }
        Fault::LostInGrace => stage.bank.next(AtBank::Lost),
        Fault::KilledInGrace => {
            let_the_bank_think(stage, Duration::from_secs(600)).await?;
            stage.instances[0].kill();
            stage.instances[0].start_again().await?;
        }
        Fault::ManyConsents => {
            let until = Instant::now() + MOMENT * 6;
            while Instant::now() < until {
                for n in 0..24 {
                    stage.call_beside(n % count, &format!("suite-{n}"));
                }
                stage.all_answered().await;
                sleep(MOMENT / 5).await;
            }
            let mut lost = false;
            for n in 0..24 {
                lost |= !stage.survives(&format!("suite-{n}")).await;
            }
            return Ok(Played { lost, unavoidable: 0 });
        }
    }
    Ok(Played { lost: !stage.survives(CONSENT).await, unavoidable: 0 })
}

/// Has an instance ask the bank, which processes the request and answers after so long.
async fn let_the_bank_think(stage: &mut Stage, time: Duration) -> Result<(), String> {
    stage.bank.next(AtBank::ThinksAfter(time));
    stage.call_beside(0, CONSENT);
    stage.until_asked(1).await
}

fn instead(stage: &Stage, answer: Vec<u8>) {
    stage.bank.next(AtBank::Instead(answer));
}

/// Where the subject has a way for a person to say that a refusal was a mistake, the person says so. It may be too early:
/// the app may be told before the refusal is written down.
async fn revive(stage: &mut Stage) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match stage.instances[0].revive(CONSENT).await {
            None | Some(Ok(())) => return Ok(()),
            Some(Err(why)) if Instant::now() > deadline => return Err(format!("it was not revived: {why}")),
            Some(Err(_)) => sleep(MOMENT / 10).await,
        }
    }
}

/// Long enough for whatever is to happen meanwhile.
const MOMENT: Duration = Duration::from_secs(1);
const PAGE: &str = "<!DOCTYPE html><html><body>We are back soon.</body></html>";
const REFUSED: &str = r#"{"error":"invalid_grant"}"#;
