//! What happened, in order. The oracle reads nothing else, and two runs of a seed must have the same.

use std::fmt;
use std::sync::Mutex;

use tokio::time::Instant;

/// One life of one process: which replica, and how often it was started before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pid {
    pub(crate) replica: usize,
    pub(crate) life: u32,
}

impl fmt::Debug for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}.{}", self.replica, self.life)
    }
}

/// What the bank did with a refresh token that was presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was taken, and `serial` is the next one. Whether the answer told is another matter.
    Rotated { serial: u64, told: Told },
    /// It had been taken before: the grant is dead.
    Reused,
    /// The grant was dead already, or the bank never heard of this token.
    Refused,
    /// It was not looked at.
    NotProcessed,
}

/// What the bank answered after it had taken a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// The whole token set.
    Whole,
    /// Part of it.
    Truncated,
    /// A 5xx.
    Error,
    /// Nothing.
    Nothing,
}

/// A stored record's fields that the oracle needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) generation: u64,
    pub(crate) state: String,
    pub(crate) sends: u64,
    pub(crate) intent: Option<String>,
    pub(crate) committed_by: Option<String>,
}

/// What happened, one line of the history.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "what the oracle does not need is there to be read by a person")]
pub(crate) enum What {
    Granted {
        consent: usize,
    },
    Presented {
        request: u64,
        consent: usize,
        serial: u64,
        by: Pid,
        verdict: Verdict,
    },
    Answered {
        request: u64,
    },
    Heard {
        request: u64,
    },
    /// The client gave up the connection before it had the whole answer.
    HungUp {
        request: u64,
    },
    /// The network did.
    LineBroke {
        request: u64,
    },
    Wrote {
        server: usize,
        offset: u64,
        consent: usize,
        by: Pid,
        step: &'static str,
        record: Stored,
    },
    Saw {
        by: Pid,
        consent: usize,
        generation: u64,
    },
    Forgot {
        consent: usize,
        had: Option<Stored>,
        has: Option<Stored>,
        acknowledged: bool,
    },
    Store(String),
    Started {
        pid: Pid,
    },
    Killed {
        pid: Pid,
        power: bool,
        spills: Vec<String>,
    },
    Stopped {
        pid: Pid,
    },
    Continued {
        pid: Pid,
    },
    Cut {
        replica: usize,
        from: &'static str,
    },
    Healed {
        replica: usize,
        from: &'static str,
    },
    Spilled {
        pid: Pid,
        attempt: String,
    },
    DiskFull {
        replica: usize,
    },
    Machine(String),
    Served {
        by: Pid,
        consent: usize,
        serial: u64,
        left: i64,
    },
    Denied {
        by: Pid,
        consent: usize,
        why: String,
    },
    Calm,
    Broken(String),
}

#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// Milliseconds since the beginning.
    pub(crate) at: u64,
    pub(crate) what: What,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6}.{:03} s  {:?}", self.at / 1_000, self.at % 1_000, self.what)
    }
}

impl What {
    /// Whether this is about `consent`, or about everybody.
    pub(crate) const fn concerns(&self, of: usize) -> bool {
        match self {
            Self::Granted { consent }
            | Self::Presented { consent, .. }
            | Self::Wrote { consent, .. }
            | Self::Saw { consent, .. }
            | Self::Forgot { consent, .. } => *consent == of,
            Self::Served { .. } | Self::Denied { .. } => false,
            Self::Answered { .. }
            | Self::Heard { .. }
            | Self::HungUp { .. }
            | Self::LineBroke { .. }
            | Self::Store(_)
            | Self::Started { .. }
            | Self::Killed { .. }
            | Self::Stopped { .. }
            | Self::Continued { .. }
            | Self::Cut { .. }
            | Self::Healed { .. }
            | Self::Spilled { .. }
            | Self::DiskFull { .. }
            | Self::Machine(_)
            | Self::Calm
            | Self::Broken(_) => true,
        }
    }
}

/// Everything that happened so far.
#[derive(Debug)]
pub(crate) struct Trace {
    start: Instant,
    events: Mutex<Vec<Event>>,
}

impl Trace {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), events: Mutex::default() }
    }

    pub(crate) fn add(&self, what: What) {
        self.events.lock().expect("one thread").push(Event { at: self.now(), what });
    }

    /// Milliseconds since the beginning.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).expect("a short history")
    }

    pub(crate) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().expect("one thread"))
    }
}

/// One number for a whole history (FNV-1a over its text).
pub(crate) fn digest(events: &[Event]) -> u64 {
    let mut digest = 0xCBF2_9CE4_8422_2325_u64;
    for event in events {
        for byte in event.to_string().bytes() {
            digest = (digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
    }
    digest
}
