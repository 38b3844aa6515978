//! A bank that takes a refresh token once, behind a token endpoint of plain HTTP.
//!
//! It rotates, and a token that comes again ends the grant; the tolerant one takes the last spent token again while its
//! successor is unused and its grace lasts. It thinks before and after it has taken a token, now and then for long, and
//! does what real ones have done: a 5xx before or after, half an answer, none. It never takes a token later than
//! [`LATEST`] after the request arrived: that banks and networks do not is an assumption of the protocol.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::sleep;

use crate::chance::Chance;
use crate::network::{Line, Taken};
use crate::trace::{Pid, Told, Trace, Verdict, What};

/// The longest that a request may lie about before it is processed.
const LATEST: u64 = 30_000;

/// How a bank treats its clients. Rates are per mille.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manners {
    /// The life of an access token.
    pub(crate) life: Duration,
    /// How long a spent token is taken again.
    pub(crate) grace: Option<Duration>,
    pub(crate) slow: u64,
    /// It answers when nobody waits any more.
    pub(crate) endless: u64,
    pub(crate) error_before: u64,
    pub(crate) error_after: u64,
    pub(crate) truncated: u64,
    pub(crate) hung_up: u64,
    pub(crate) busy: u64,
}

impl Manners {
    pub(crate) const fn good(life: Duration) -> Self {
        Self {
            life,
            grace: None,
            slow: 0,
            endless: 0,
            error_before: 0,
            error_after: 0,
            truncated: 0,
            hung_up: 0,
            busy: 0,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Bank {
    pub(crate) name: String,
    trace: Arc<Trace>,
    books: Mutex<Books>,
}

#[derive(Debug)]
struct Books {
    manners: Manners,
    closed: bool,
    chance: Chance,
    requests: u64,
    grants: Vec<Option<Grant>>,
}

/// One customer's grant, as the bank has it.
#[derive(Clone, Debug, Default)]
struct Grant {
    alive: bool,
    newest: u64,
    spent_last: Option<(u64, u64)>,
    issued: u64,
    expires: Vec<(u64, u64)>,
}

/// What the bank says of a grant in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) alive: bool,
    pub(crate) newest: u64,
}

impl Bank {
    /// The `number`th of two, so that each request in a history has a number of its own.
    pub(crate) fn new(number: u64, name: String, manners: Manners, chance: Chance, trace: Arc<Trace>) -> Arc<Self> {
        let books = Books { manners, closed: false, chance, requests: number, grants: Vec::new() };
        Arc::new(Self { name, trace, books: Mutex::new(books) })
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().expect("one thread")
    }

    pub(crate) fn set_manners(&self, manners: Manners) {
        self.books().manners = manners;
    }

    pub(crate) fn set_closed(&self, closed: bool) {
        self.books().closed = closed;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.books().closed
    }

    /// Grants a consent. Answers its refresh token and its access token.
    pub(crate) fn grant(&self, consent: usize) -> (String, String) {
        let mut books = self.books();
        if books.grants.len() <= consent {
            books.grants.resize_with(consent + 1, || None);
        }
        books.grants[consent] = Some(Grant { alive: true, ..Grant::default() });
        self.trace.add(What::Granted { consent });
        (format!("rt.{consent}.0"), format!("at.{consent}.0"))
    }

    pub(crate) fn standing(&self, consent: usize) -> Option<Standing> {
        let books = self.books();
        let grant = books.grants.get(consent)?.as_ref()?;
        Some(Standing { alive: grant.alive, newest: grant.newest })
    }

    /// How many milliseconds of life are left of an access token; `None`: this bank never issued it.
    pub(crate) fn life_left(&self, consent: usize, serial: u64) -> Option<i64> {
        let books = self.books();
        let grant = books.grants.get(consent)?.as_ref()?;
        let (_, until) = grant.expires.iter().find(|(issued, _)| *issued == serial)?;
        Some(i64::try_from(*until).ok()? - i64::try_from(self.trace.now()).ok()?)
    }

    /// Answers one request, and closes.
    pub(crate) async fn serve(self: Arc<Self>, mut line: Line, by: Pid) {
        let Some((consent, serial)) = read_request(&mut line).await else { return };
        let (request, manners, mut chance) = {
            let mut books = self.books();
            books.requests += 2;
            let request = books.requests;
            (request, books.manners, books.chance.fork(request))
        };
        let think = if chance.happens(manners.slow) { 5_000..LATEST } else { 5..200 };
        sleep(chance.millis(think)).await;
        let presented = |verdict| What::Presented { request, consent, serial, by, verdict };
        if chance.happens(manners.error_before) || chance.happens(manners.busy) || self.is_closed() {
            self.trace.add(presented(Verdict::NotProcessed));
            let answer = if chance.happens(500) { status(503, "unavailable") } else { status(429, "slow down") };
            let _ = line.write_all(answer.as_bytes()).await;
            return;
        }
        let told = tell(manners, &mut chance);
        let verdict = self.books().take(consent, serial, told, self.trace.now());
        self.trace.add(presented(verdict.clone()));
        let Verdict::Rotated { serial: next, told } = verdict else {
            let _ = line.write_all(json(400, r#"{"error":"invalid_grant"}"#).as_bytes()).await;
            return;
        };
        let think = match () {
            () if chance.happens(manners.endless) => 115_000..150_000,
            () if chance.happens(manners.slow) => 1_000..70_000,
            () => 1..60,
        };
        sleep(chance.millis(think)).await;
        self.books().issue(consent, next, self.trace.now() + millis(manners.life));
        self.trace.add(What::Answered { request });
        let body = format!(
            r#"{{"access_token":"at.{consent}.{next}","token_type":"Bearer","expires_in":{},"refresh_token":"rt.{consent}.{next}"}}"#,
            manners.life.as_secs()
        );
        let answer = match told {
            Told::Whole => json(200, &body),
            Told::Truncated => json(200, &body).chars().take(60 + chance.below(80)).collect(),
            Told::Error => status(502, "bad gateway"),
            Told::Nothing => String::new(),
        };
        let _ = line.write_all(answer.as_bytes()).await;
        if told != Told::Whole {
            return;
        }
        self.trace.add(match line.taken().await {
            Taken::Whole => What::Heard { request },
            Taken::Refused => What::HungUp { request },
            Taken::Lost => What::LineBroke { request },
        });
    }
}

impl Books {
    fn issue(&mut self, consent: usize, serial: u64, until: u64) {
        if let Some(Some(grant)) = self.grants.get_mut(consent) {
            grant.expires.push((serial, until));
        }
    }

    fn take(&mut self, consent: usize, serial: u64, told: Told, now: u64) -> Verdict {
        let grace = self.manners.grace.map(millis);
        let Some(Some(grant)) = self.grants.get_mut(consent) else { return Verdict::Refused };
        if !grant.alive || serial > grant.issued {
            return Verdict::Refused;
        }
        let again = grace.zip(grant.spent_last).is_some_and(|(grace, (spent, at))| spent == serial && now < at + grace);
        if serial != grant.newest && !again {
            grant.alive = false;
            return Verdict::Reused;
        }
        grant.issued += 1;
        grant.newest = grant.issued;
        grant.spent_last = Some((serial, if again { grant.spent_last.map_or(now, |(_, at)| at) } else { now }));
        Verdict::Rotated { serial: grant.newest, told }
    }
}

fn tell(manners: Manners, chance: &mut Chance) -> Told {
    match () {
        () if chance.happens(manners.error_after) => Told::Error,
        () if chance.happens(manners.truncated) => Told::Truncated,
        () if chance.happens(manners.hung_up) => Told::Nothing,
        () => Told::Whole,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("short")
}

fn json(code: u16, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {code} Said\r\ncontent-type: application/json\r\ncache-control: no-store\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

fn status(code: u16, body: &str) -> String {
    let length = body.len();
    let pause = if code == 429 { "retry-after: 2\r\n" } else { "" };
    format!(
        "HTTP/1.1 {code} Said\r\ncontent-type: text/html\r\n{pause}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

/// The consent and the serial number of the refresh token in the request; `None` if it never came whole.
async fn read_request(line: &mut Line) -> Option<(usize, u64)> {
    let mut read = Vec::new();
    loop {
        if let Some(body) = whole_body(&read) {
            let field = body.split('&').find_map(|field| field.strip_prefix("refresh_token="))?;
            let (consent, serial) = field.strip_prefix("rt.")?.split_once('.')?;
            return Some((consent.parse().ok()?, serial.parse().ok()?));
        }
        let mut part = [0; 2_048];
        let length = line.read(&mut part).await.ok().filter(|length| *length > 0)?;
        read.extend_from_slice(&part[..length]);
    }
}

fn whole_body(read: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(read).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length: usize =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())?;
    (body.len() == length).then_some(body)
}
