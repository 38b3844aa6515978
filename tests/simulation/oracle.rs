//! One function over what happened: what must never happen, and whose fault each loss is.
//!
//! It replays the bank's log. A refresh token may come again only where the store had an intent that counted the earlier
//! sending, and a grant may be dead only if the history holds one of the windows that no client can close.

use std::collections::BTreeMap;

use crate::families::Family;
use crate::trace::{Event, Pid, Stored, Told, Verdict, What};
use crate::world::History;

/// Why a consent was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// The bank took the token, and its answer never reached a living process.
    W1,
    /// The process with the answer died before it was on the disk or in the store.
    W2,
    /// The same, longer after the answer, because the disk took no spill.
    NoSpill,
    /// A process stood still between its intent and its sending for longer than lease and quarantine.
    W5,
    /// The store lost what it had acknowledged, and nobody remembered.
    W7,
    /// A process with the answer, or with a spill, was away for as long as lease and quarantine: an assumption is broken.
    Away,
}

/// What the oracle makes of a history.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    /// Consents that were lost, why, and when.
    pub(crate) lost: Vec<(usize, Cause, u64)>,
    /// What must never happen.
    pub(crate) faults: Vec<Finding>,
    /// Refresh tokens the banks took.
    pub(crate) rotations: usize,
    /// Probes: refresh tokens that came again, and were recorded to.
    pub(crate) probes: usize,
}

/// What must never happen, and did.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    /// About which consent, if about one.
    pub(crate) consent: Option<usize>,
    /// When it was over.
    pub(crate) at: u64,
    pub(crate) text: String,
}

/// A presentation that a bank took, and what became of its answer.
#[derive(Clone, Debug)]
struct Taken {
    request: u64,
    at: u64,
    serial: u64,
    by: Pid,
    told: Told,
    attempt: Option<String>,
}

/// The end of every history.
const END: u64 = u64::MAX;
/// Longer away than this, and a process may come back after a probe: less than lease and quarantine, with a margin.
const LONG_AWAY: u64 = 40_000;
/// The same between intent and sending.
const LONG_STOP: u64 = 45_000;
/// The longest that a spill takes to be on the disk.
const TO_DISK: u64 = 1_000;
/// When nobody waits for an answer any more.
const PATIENCE: u64 = 119_000;

/// Judges a history of `family`.
pub(crate) fn judge(family: Family, history: &History) -> Judgement {
    let events = &history.events;
    let mut judgement = Judgement::default();
    for event in events {
        if let What::Broken(text) = &event.what {
            judgement.faults.push(Finding { consent: None, at: event.at, text: text.clone() });
        }
    }
    judgement.expired(events);
    let calm = events.iter().find(|event| matches!(event.what, What::Calm)).map_or(0, |event| event.at);
    for consent in 0..family.consents {
        let story = Story::of(events, consent);
        judgement.rotations += story.taken.len();
        judgement.probes += story.probes;
        let mut find = |at, text| judgement.faults.push(Finding { consent: Some(consent), at, text });
        story.unrecorded.iter().for_each(|(at, text)| find(*at, text.clone()));
        let standing = history.standings[consent];
        if !standing.alive {
            let died = story.death.map_or(END, |(at, ..)| at);
            match story.cause() {
                Ok(cause) => judgement.lost.push((consent, cause, died)),
                Err(text) => find(died, text),
            }
        }
        let rotated_since = story.taken.iter().any(|taken| taken.at >= calm && taken.told == Told::Whole);
        if standing.alive && !rotated_since {
            find(END, "it was not refreshed after the last fault".to_owned());
        }
        for replica in 0..family.replicas {
            let last = &history.last[&(replica, consent)];
            let right = match last {
                Ok((of, _)) => standing.alive && *of == consent,
                // Behind a breaker that is open nobody is asked, and while many are refused none is suspended: then a dead
                // consent is not found out yet.
                Err(why) => {
                    !standing.alive
                        && (["ReauthorizationRequired", "EndpointUnavailable", "Misconfigured"]
                            .iter()
                            .any(|word| why.starts_with(word)))
                }
            };
            if !right {
                let text = format!("alive: {}, and in the end r{replica} answers {last:?}", standing.alive);
                find(END, text);
            }
        }
    }
    judgement
}

impl Judgement {
    /// No app may be handed a token that has expired.
    fn expired(&mut self, events: &[Event]) {
        for event in events {
            if let What::Served { by, consent, serial, left } = &event.what
                && *left <= 0
            {
                let text = format!("{by:?} serves token {serial}, which has expired {} ms ago", -left);
                self.faults.push(Finding { consent: Some(*consent), at: event.at, text });
            }
        }
    }
}

/// What happened to one consent.
struct Story<'a> {
    events: &'a [Event],
    consent: usize,
    taken: Vec<Taken>,
    /// The presentation that killed the grant.
    death: Option<(u64, u64, Pid)>,
    probes: usize,
    unrecorded: Vec<(u64, String)>,
}

impl<'a> Story<'a> {
    fn of(events: &'a [Event], consent: usize) -> Self {
        let mut story = Self { events, consent, taken: Vec::new(), death: None, probes: 0, unrecorded: Vec::new() };
        let mut intents: BTreeMap<Pid, (u64, Stored)> = BTreeMap::new();
        let mut seen: BTreeMap<u64, Vec<(u64, Pid)>> = BTreeMap::new();
        for event in events {
            match &event.what {
                What::Wrote { consent: of, by, step: "ARM" | "REASSERT", record, .. } if *of == consent => {
                    intents.insert(*by, (event.at, record.clone()));
                }
                What::Presented { request, consent: of, serial, by, verdict } if *of == consent => {
                    let intent = intents.get(by);
                    let before = seen.entry(*serial).or_default();
                    story.check_recorded(event.at, *serial, *by, intent, before);
                    let processed = *verdict != Verdict::NotProcessed;
                    before.push((event.at, *by));
                    let attempt = intent.and_then(|(_, record)| record.intent.clone());
                    if let Verdict::Rotated { told, .. } = verdict {
                        let (request, serial, by, told) = (*request, *serial, *by, *told);
                        story.taken.push(Taken { request, at: event.at, serial, by, told, attempt });
                    }
                    if processed && *verdict == Verdict::Reused && story.death.is_none() {
                        story.death = Some((event.at, *serial, *by));
                    }
                }
                _ => {}
            }
        }
        story
    }

    /// A refresh token may come again only under an intent that says so.
    fn check_recorded(&mut self, at: u64, serial: u64, by: Pid, intent: Option<&(u64, Stored)>, before: &[(u64, Pid)]) {
        let Some((armed_at, record)) = intent else {
            self.unrecorded.push((at, format!("{by:?} presents {serial} and has never written an intent")));
            return;
        };
        // A bank that said "not processed" leaves nothing to record, and neither does one whose turning down is known.
        let unexplained: Vec<_> = before.iter().filter(|(when, who)| !self.explained(*when, *who, at)).collect();
        if unexplained.is_empty() {
            return;
        }
        if record.sends >= 2 {
            self.probes += 1;
        } else if !self.is_excused(unexplained[0].0, at, *armed_at, by) {
            let sends = record.sends;
            let text = format!("{by:?} presents {serial} again, under an intent that records {sends} sending(s)");
            self.unrecorded.push((at, text));
        }
    }

    /// Whether the sender said afterwards, in the store, that its request was turned down or never processed.
    fn explained(&self, when: u64, who: Pid, until: u64) -> bool {
        self.between(when, until).any(|what| match what {
            What::Wrote { by, step: "FAIL", record, .. } => *by == who && record.intent.is_none(),
            _ => false,
        })
    }

    /// Whether the store forgot an acknowledged intent, or somebody stood still for too long.
    fn is_excused(&self, first: u64, at: u64, armed_at: u64, by: Pid) -> bool {
        let forgot = self.between(0, at).any(|what| matches!(what, What::Forgot { acknowledged: true, .. }));
        forgot || self.stood_still(by, armed_at, at) > LONG_STOP || self.anybody_stood_still(first, at)
    }

    fn anybody_stood_still(&self, from: u64, until: u64) -> bool {
        self.taken.iter().any(|taken| self.stood_still(taken.by, from.saturating_sub(LONG_STOP * 4), until) > LONG_STOP)
    }

    /// What happened to this consent, or to everybody, in that time.
    fn between(&self, from: u64, until: u64) -> impl Iterator<Item = &What> {
        let here = move |event: &&Event| event.at >= from && event.at <= until;
        self.events.iter().filter(here).map(|event| &event.what).filter(|what| what.concerns(self.consent))
    }

    /// Why the grant is dead.
    fn cause(&self) -> Result<Cause, String> {
        let (died, serial, prober) = self.death.ok_or("dead, and nobody presented a spent token")?;
        let Some(taken) = self.taken.iter().rev().find(|taken| taken.serial == serial && taken.at <= died) else {
            return Err(format!("token {serial} killed the grant, and no bank ever took it"));
        };
        let heard = self.when(|what| matches!(what, What::Heard { request } if *request == taken.request));
        let Some(heard) = heard.filter(|heard| *heard <= died) else {
            return self.unheard(taken, died);
        };
        let kept = self.kept(taken);
        let killed = self.killed(taken.by, taken.at).filter(|(at, _)| *at <= died);
        if let Some((at, spills)) = &killed {
            let spilled = taken.attempt.as_ref().is_some_and(|attempt| spills.contains(attempt));
            if !spilled && kept.is_none_or(|kept| kept > *at) {
                let awake = at - heard - self.stood_still(taken.by, heard, *at);
                if awake <= TO_DISK {
                    return Ok(Cause::W2);
                }
                if self.disk_was_full(taken.by) {
                    return Ok(Cause::NoSpill);
                }
                return Err(format!("{:?} died {awake} ms after it had the answer, and had not kept it", taken.by));
            }
        }
        let forgot = |what: &What| match what {
            What::Forgot { had: Some(had), has, acknowledged, .. } => {
                let less = has.as_ref().is_none_or(|has| has.generation < had.generation);
                let counts = had.committed_by.as_ref() == taken.attempt.as_ref() || had.generation > serial;
                (less && counts).then_some(*acknowledged)
            }
            _ => None,
        };
        let forgotten: Vec<_> = self.between(taken.at, died).filter_map(forgot).collect();
        if forgotten.contains(&true) {
            return Ok(Cause::W7);
        }
        if let Some((_, spills)) = &killed
            && forgotten.contains(&false)
            && taken.attempt.as_ref().is_none_or(|attempt| !spills.contains(attempt))
        {
            return Ok(Cause::W2);
        }
        let (armed, _) = self.last_intent(prober, died).unwrap_or((died, String::new()));
        if self.stood_still(prober, armed, died) > LONG_STOP {
            return Ok(Cause::W5);
        }
        let (armed, _) = self.last_intent(taken.by, taken.at).unwrap_or((taken.at, String::new()));
        if self.stood_still(taken.by, armed, taken.at) > LONG_STOP {
            return Ok(Cause::W5);
        }
        if self.away(taken.by, taken.at, died) > LONG_AWAY {
            return Ok(Cause::Away);
        }
        let intent_forgotten = |what: &What| matches!(what, What::Forgot { acknowledged: true, .. });
        if self.between(armed, died).any(intent_forgotten) {
            return Ok(Cause::W7);
        }
        Err(format!(
            "lost for no reason: {:?} had the answer to request {} at {heard} ms, kept at {kept:?}, and {prober:?} presented {serial} again at {died} ms",
            taken.by, taken.request
        ))
    }

    /// The answer had not been read when the token came again: whether anybody but its client is to blame.
    fn unheard(&self, taken: &Taken, died: u64) -> Result<Cause, String> {
        let request = taken.request;
        let answered = self.when(|what| matches!(what, What::Answered { request: of } if *of == request));
        let given_up = self.when(|what| matches!(what, What::HungUp { request: of } if *of == request));
        let broke = self.when(|what| matches!(what, What::LineBroke { request: of } if *of == request));
        let began = self.began(taken);
        // The request may have been on its way still, or the bank thinking, when its line was cut.
        let line = format!("r{}: connections to the bank break", taken.by.replica);
        let cut = self.between(began, died).any(|what| matches!(what, What::Machine(text) if *text == line));
        let over = answered.map_or(died, |answered| answered.min(died));
        // It may have died while the bank was still thinking, and no process after it is told.
        let killed = self.killed(taken.by, 0).is_some_and(|(at, _)| at <= died);
        if taken.told != Told::Whole || killed || cut || broke.is_some() || over.saturating_sub(began) > PATIENCE {
            return Ok(Cause::W1);
        }
        if self.away(taken.by, began, died) > LONG_AWAY {
            return Ok(Cause::Away);
        }
        let verb = if given_up.is_some() { "hung up on the bank" } else { "still waited for the bank" };
        Err(format!("{:?} {verb}, which had taken {} at {} ms", taken.by, taken.serial, taken.at))
    }

    fn disk_was_full(&self, by: Pid) -> bool {
        self.when(|what| matches!(what, What::DiskFull { replica } if *replica == by.replica)).is_some()
    }

    fn when(&self, is: impl Fn(&What) -> bool) -> Option<u64> {
        self.events.iter().find(|event| is(&event.what)).map(|event| event.at)
    }

    /// When the answer was first on the disk for good, or in the store.
    fn kept(&self, taken: &Taken) -> Option<u64> {
        let attempt = taken.attempt.as_ref()?;
        self.when(|what| match what {
            What::Wrote { consent, record, .. } => {
                *consent == self.consent && record.committed_by.as_ref() == Some(attempt)
            }
            _ => false,
        })
    }

    fn killed(&self, pid: Pid, after: u64) -> Option<(u64, Vec<String>)> {
        self.events.iter().filter(|event| event.at >= after).find_map(|event| match &event.what {
            What::Killed { pid: who, spills, .. } if *who == pid => Some((event.at, spills.clone())),
            _ => None,
        })
    }

    fn last_intent(&self, by: Pid, until: u64) -> Option<(u64, String)> {
        let before = self.events.iter().filter(|event| event.at <= until);
        before.rev().find_map(|event| match &event.what {
            What::Wrote { consent, by: who, step: "ARM" | "REASSERT", record, .. }
                if *consent == self.consent && *who == by =>
            {
                Some((event.at, record.intent.clone().unwrap_or_default()))
            }
            _ => None,
        })
    }

    /// When its intent was first written. A store that forgets is told of it again later, also of one that has ended.
    fn began(&self, taken: &Taken) -> u64 {
        let first = self.events.iter().find(|event| match &event.what {
            What::Wrote { consent, step: "ARM", record, .. } => {
                *consent == self.consent && record.intent.is_some() && record.intent == taken.attempt
            }
            _ => false,
        });
        first.map_or(taken.at, |event| event.at)
    }

    /// How long a process stood still in that time, in all.
    fn stood_still(&self, pid: Pid, from: u64, until: u64) -> u64 {
        self.spans(from, until, |what| match what {
            What::Stopped { pid: who } if *who == pid => Some(true),
            What::Continued { pid: who } if *who == pid => Some(false),
            _ => None,
        })
    }

    /// How long its replica was down, cut off from the store, or stood still, in all.
    fn away(&self, pid: Pid, from: u64, until: u64) -> u64 {
        let cut = self.spans(from, until, |what| match what {
            What::Cut { replica, from: "store" } if *replica == pid.replica => Some(true),
            What::Healed { replica, from: "store" } if *replica == pid.replica => Some(false),
            _ => None,
        });
        let down = self.spans(from, until, |what| match what {
            What::Killed { pid: who, .. } if who.replica == pid.replica => Some(true),
            What::Started { pid: who } if who.replica == pid.replica => Some(false),
            _ => None,
        });
        let still = self.spans(from, until, |what| match what {
            What::Stopped { pid: who } if who.replica == pid.replica => Some(true),
            What::Continued { pid: who } if who.replica == pid.replica => Some(false),
            _ => None,
        });
        cut + down + still
    }

    fn spans(&self, from: u64, until: u64, edge: impl Fn(&What) -> Option<bool>) -> u64 {
        let (mut since, mut total) = (None, 0);
        for event in self.events.iter().filter(|event| event.at <= until) {
            match edge(&event.what) {
                Some(true) => since = since.or(Some(event.at)),
                Some(false) => {
                    total += since.take().map_or(0, |since: u64| event.at.saturating_sub(since.max(from)));
                }
                None => {}
            }
        }
        total + since.map_or(0, |since| until.saturating_sub(since.max(from)))
    }
}
