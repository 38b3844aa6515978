//! `consentry login`: a person at this machine consents at a bank, and the command waits until that is done.
//!
//! The browser goes to the bank by way of the callback listener and comes back to it (RFC 8252 §7.3). Where the bank insists
//! on a redirect URI that leads to nobody, the browser goes there at once, and the person pastes the address that it ended
//! at; what ties that address to this command is a key that the process gave to it alone.

use std::io::{BufRead as _, Read as _, stdin};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};
use zeroize::Zeroizing;

use super::browser;
use super::call::{Answer, Call};
use super::exit::Failure;
use super::run::load;
use super::running::{ask_running, call_running, refused};
use super::{out, runtime};
use crate::config::Config;
use crate::consent::StartRequest;
use crate::consent::settings::Asking;
use crate::words::ids::ProviderId;

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Arguments {
    /// The provider, as the configuration names it.
    provider: String,
    /// The consent's id; without it a new one is made up. One that is in use stays in use until there is a new grant.
    #[arg(long, value_name = "ID")]
    consent: Option<String>,
    /// What to ask for; without it, the provider's default scope.
    #[arg(long)]
    scope: Option<String>,
    /// Open no browser; the address is printed in any case.
    #[arg(long)]
    no_browser: bool,
    /// Come back to the callback listener, even if the provider has a redirect URI whose address is pasted.
    #[arg(long)]
    callback: bool,
    /// Give up after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=1_200))]
    timeout: u32,
    /// The configuration file.
    #[arg(long, short, env = "CONSENTRY_CONFIG", value_name = "FILE")]
    config: PathBuf,
}

const HELP: &str = "Examples:
  consentry login abn-amro --consent customer-4711
  consentry login norsk-gjeld --scope debt.unsecured.presentation.30 --no-browser

The browser is $BROWSER, else xdg-open, or open on macOS. Where the provider has a pasted_redirect_uri, as ABN AMRO's sandbox
does, the browser ends at an address that it cannot open: paste it here, within the minute for which the bank's code lives.

Ends with 0 where the consent is granted, with 1 where it is denied or has failed, and with 69 where nobody runs or the time is up.";

/// How it ended, and of which consent.
struct Ended {
    consent: String,
    status: Status,
}

enum Status {
    Granted,
    Denied,
    Failed,
}

pub(super) fn run(arguments: &Arguments, json: bool) -> Result<(), Failure> {
    let body = json!({ "provider": arguments.provider, "consent_id": arguments.consent, "scope": arguments.scope });
    let body = body.to_string();
    // Looked at here first, so that a fault is named without a round trip.
    StartRequest::parse_login(body.as_bytes()).map_err(|error| Failure::Usage(error.to_string()))?;
    let (config, _) = load(&arguments.config)?;
    let until = Instant::now() + Duration::from_secs(arguments.timeout.into());
    let ended = runtime()?.block_on(async {
        let is_pasted = bank(&config, &arguments.provider).is_some_and(|bank| bank.pasted_redirect_uri.is_some());
        if is_pasted && !arguments.callback {
            paste(&config, body, arguments, until).await
        } else {
            come_back(&config, body, arguments, until).await
        }
    })?;
    ended.tell(json)
}

/// What is known of how this provider's customers are asked.
fn bank<'a>(config: &'a Config, provider: &str) -> Option<&'a Asking> {
    let (_, asking) = config.callback.as_ref()?;
    asking.providers.get(&ProviderId::parse(provider)?)
}

/// The browser comes back to the callback listener, and the consent tells.
async fn come_back(config: &Config, body: String, how: &Arguments, until: Instant) -> Result<Ended, Failure> {
    let call = Call::new(Method::POST, "/v1/consents").json(Bytes::from(body));
    let started = ask_running(config, call).await?.ok_or_else(nobody_runs)?;
    let consent = text(&started, "consent_id");
    send_to(&text(&started, "start_url"), how);
    let version = text(&started, "version");
    let bank = bank(config, &how.provider);
    let denials = bank.map(|bank| bank.denied_by.as_slice()).unwrap_or_default();
    while Instant::now() < until {
        sleep(PAUSE.min(until.saturating_duration_since(Instant::now()))).await;
        let path = format!("/v1/consents/{consent}/history");
        let answer = call_running(config, Call::new(Method::GET, &path)).await?.ok_or_else(nobody_runs)?;
        match answer.status {
            StatusCode::OK => {}
            // The store will come back, and the consent is there until its attempt is over.
            StatusCode::SERVICE_UNAVAILABLE => continue,
            _ => return Err(refused(&answer)),
        }
        if let Some(status) = status_of(&answer.json(), &version, denials) {
            return Ok(Ended { consent, status });
        }
    }
    Err(late(&consent))
}

/// How an attempt stands by the consent's history; `None` while it goes on. A customer's no to a consent that stays in use is
/// told by the bank's error, of which some mean that.
fn status_of(history: &Value, before: &str, denials: &[String]) -> Option<Status> {
    let (grant, generation) = (history["grant"].as_str()?, history["generation"].as_u64()?);
    let (grant_before, generation_before) = before.split_once('.')?;
    let is_new = grant != grant_before || generation_before == "0";
    if history["state"] == "active" && generation > 0 && is_new {
        return Some(Status::Granted);
    }
    let events = history["events"].as_array()?;
    let asked = events.iter().rposition(|event| event["event"] == "asked")?;
    events[asked + 1..].iter().find_map(|event| match event["event"].as_str()? {
        "ended" if history["state"] == "denied" => Some(Status::Denied),
        "not_granted" if denials.iter().any(|known| event["why"] == *known) => Some(Status::Denied),
        "not_granted" | "ended" => Some(Status::Failed),
        _ => None,
    })
}

/// The person brings the address back.
async fn paste(config: &Config, body: String, how: &Arguments, until: Instant) -> Result<Ended, Failure> {
    let call = Call::new(Method::POST, "/v1/logins").json(Bytes::from(body));
    let started = ask_running(config, call).await?.ok_or_else(nobody_runs)?;
    let (consent, key) = (text(&started, "consent_id"), Zeroizing::new(text(&started, "key")));
    send_to(&text(&started, "authorize_url"), how);
    let wanted = text(&started, "redirect_uri");
    out::remark(&format!(
        "Your browser will end at an address that begins with {wanted}\nand that it cannot open. Paste all of it here:\n"
    ));
    for _ in 0..TRIES {
        let line = timeout_at(until, read_line()).await.map_err(|_| late(&consent))??;
        let body = Zeroizing::new(json!({ "url": line.trim(), "key": *key }).to_string());
        let answer = hand_over(config, &body, until).await?.ok_or_else(|| late(&consent))?;
        match answer.status {
            StatusCode::OK => {
                let status = match answer.json()["status"].as_str() {
                    Some("granted") => Status::Granted,
                    Some("denied") => Status::Denied,
                    Some(_) | None => Status::Failed,
                };
                return Ok(Ended { consent, status });
            }
            StatusCode::UNPROCESSABLE_ENTITY | StatusCode::NOT_FOUND => {
                let told = answer.json();
                out::complain(&format!("{}; try again:", told["detail"].as_str().unwrap_or("it is refused")));
            }
            _ => return Err(refused(&answer)),
        }
    }
    Err(Failure::Other("none of these addresses finishes the login; begin anew".to_owned()))
}

/// Gives the address to the process, again while the bank or the store is away. `None`: the time is up.
async fn hand_over(config: &Config, body: &str, until: Instant) -> Result<Option<Answer>, Failure> {
    loop {
        let call = Call::new(Method::POST, "/v1/logins/return").json(Bytes::copy_from_slice(body.as_bytes()));
        let answer = call_running(config, call.within(EXCHANGING)).await?.ok_or_else(nobody_runs)?;
        match answer.status {
            StatusCode::ACCEPTED | StatusCode::SERVICE_UNAVAILABLE if Instant::now() < until => sleep(PAUSE).await,
            StatusCode::ACCEPTED | StatusCode::SERVICE_UNAVAILABLE => return Ok(None),
            _ => return Ok(Some(answer)),
        }
    }
}

/// A line of standard input, of bounded length. It is read on a thread that nobody waits for at the end.
async fn read_line() -> Result<Zeroizing<String>, Failure> {
    let (tell, told) = oneshot::channel();
    std::thread::spawn(move || {
        let mut line = Zeroizing::new(String::new());
        let read = stdin().lock().take(LONGEST_LINE).read_line(&mut line);
        // Whoever asked may have given up.
        let _ = tell.send(read.map(|_| line));
    });
    let gone = || Failure::Other("standard input cannot be read".to_owned());
    let line = told.await.map_err(|_| gone())?.map_err(|_| gone())?;
    if line.is_empty() {
        Err(Failure::Other("standard input ended before an address was pasted".to_owned()))
    } else {
        Ok(line)
    }
}

fn send_to(url: &str, how: &Arguments) {
    out::remark(&format!("Consent at the bank in your browser:\n\n  {url}\n\n"));
    let chosen = std::env::var("BROWSER").ok();
    if !how.no_browser && !browser::open(url, chosen.as_deref()) {
        out::remark("No browser could be opened; open the address yourself.\n");
    }
}

fn text(view: &Value, name: &str) -> String {
    view[name].as_str().unwrap_or_default().to_owned()
}

fn nobody_runs() -> Failure {
    Failure::Unavailable("no process runs with this configuration; start it with `consentry run`".to_owned())
}

fn late(consent: &str) -> Failure {
    Failure::Unavailable(format!("{consent}: nobody came back from the bank in time"))
}

impl Ended {
    fn tell(self, json: bool) -> Result<(), Failure> {
        let Self { consent, status } = self;
        let (word, said) = match status {
            Status::Granted => ("granted", Ok(())),
            Status::Denied => ("denied", Err(Failure::Other(format!("{consent}: the consent was denied at the bank")))),
            Status::Failed => {
                let why = format!("`consentry consent why {consent}` says why");
                ("failed", Err(Failure::Other(format!("{consent}: it came to nothing; {why}"))))
            }
        };
        if json {
            out::say_json(&json!({ "consent_id": consent, "status": word }));
        } else if said.is_ok() {
            out::say(&format!("{consent} is active"));
        }
        said
    }
}

/// How often the process is asked how it stands.
const PAUSE: Duration = Duration::from_millis(500);
/// As long as a process may take to exchange a code before it says that it is at it.
const EXCHANGING: Duration = Duration::from_secs(35);
/// How many addresses may be pasted.
const TRIES: usize = 3;
/// Bytes.
const LONGEST_LINE: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn word(history: &Value, before: &str) -> Option<&'static str> {
        status_of(history, before, &["access_denied".to_owned()]).map(|status| match status {
            Status::Granted => "granted",
            Status::Denied => "denied",
            Status::Failed => "failed",
        })
    }

    #[test]
    fn a_history_tells_how_the_last_attempt_ended_and_not_the_one_before() {
        let history = |state: &str, grant: &str, generation: u64, events: &[(&str, &str)]| {
            let events: Vec<_> = events.iter().map(|(event, why)| json!({ "event": event, "why": why })).collect();
            json!({ "state": state, "grant": grant, "generation": generation, "events": events })
        };
        let rows = [
            (history("pending", "a", 0, &[("asked", "")]), "a.0", None),
            (history("active", "a", 1, &[("asked", ""), ("seeded", "")]), "a.0", Some("granted")),
            (history("denied", "a", 0, &[("asked", ""), ("ended", "access_denied")]), "a.0", Some("denied")),
            (history("pending", "a", 0, &[("asked", ""), ("not_granted", "no_answer")]), "a.0", Some("failed")),
            (history("active", "a", 7, &[("asked", "")]), "a.7", None),
            (history("active", "a", 8, &[("asked", ""), ("committed", "")]), "a.7", None),
            (history("active", "a", 7, &[("not_granted", "x"), ("asked", "")]), "a.7", None),
            (history("active", "a", 7, &[("asked", ""), ("not_granted", "access_denied")]), "a.7", Some("denied")),
            (history("active", "b", 1, &[("asked", ""), ("replaced", "")]), "a.7", Some("granted")),
            (history("active", "a", 1, &[]), "a.0", Some("granted")),
        ];
        for (history, before, wanted) in rows {
            assert_eq!(word(&history, before), wanted, "{history}");
        }
    }
}
