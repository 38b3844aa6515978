//! One instance of a subject: started, called through, stopped and killed, and nothing known of its inside.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::bank::{Bank, Granted, TOKENS};
use crate::subject::{Act, Subject, filled};
use crate::support::client::{App, request};
use crate::support::program::Program;
use crate::support::redis::free_port;

/// How long a subject may take to start.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

pub(crate) struct Instance {
    subject: Subject,
    places: HashMap<String, String>,
    home: tempfile::TempDir,
    program: Option<Program>,
    /// What earlier processes of it have said.
    said: String,
    app: App,
}

/// What an app was told.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// The status; 0 where no answer came.
    pub(crate) status: u16,
    /// Whether it held a token.
    pub(crate) token_shown: bool,
}

impl Instance {
    /// Starts an instance before this bank and, if it uses one, the Redis on this port.
    pub(crate) async fn start(subject: &Subject, bank: &Bank, redis_port: u16) -> Result<Self, String> {
        let home = tempfile::tempdir().map_err(|error| error.to_string())?;
        std::fs::write(home.path().join("ca.pem"), &bank.ca_pem).map_err(|error| error.to_string())?;
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        let places = HashMap::from([
            ("home", path(home.path().to_owned())),
            ("ca_file", path(home.path().join("ca.pem"))),
            ("token_endpoint", bank.token_endpoint()),
            ("api", bank.api()),
            ("redis_url", format!("redis://127.0.0.1:{redis_port}/0")),
            ("redis_port", redis_port.to_string()),
            ("consentry", env!("CARGO_BIN_EXE_consentry").to_owned()),
            ("suite", path(std::env::current_exe().map_err(|error| error.to_string())?)),
        ]);
        let places = places.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let mut instance =
            Self { subject: subject.clone(), places, home, program: None, said: String::new(), app: App::new() };
        instance.write_files()?;
        instance.start_again().await?;
        Ok(instance)
    }

    /// Starts its next process, in the directory that the last one has left.
    pub(crate) async fn start_again(&mut self) -> Result<(), String> {
        let words: Vec<_> = self.subject.start.clone().iter().map(|word| self.filled(word)).collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(self.home.path()).stdin(Stdio::null());
        command.env_remove("RUST_LOG");
        for (name, value) in self.subject.environment.clone() {
            command.env(name, self.filled(&value));
        }
        self.program = Some(Program::try_start(command).map_err(|error| format!("{}: {error}", words[0]))?);
        let deadline = Instant::now() + STARTS_WITHIN;
        while !self.is_ready().await {
            if self.program.as_mut().is_some_and(Program::has_ended) {
                return Err(format!("it ended at once and said: {}", last_lines(&self.output())));
            }
            if Instant::now() > deadline {
                return Err(format!("it was not ready within a minute and said: {}", last_lines(&self.output())));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    fn write_files(&mut self) -> Result<(), String> {
        for (name, text) in self.subject.files.clone() {
            let (path, text) = (self.home.path().join(&name), self.filled(&text));
            let written = std::fs::write(&path, text)
                .and_then(|()| std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)));
            written.map_err(|error| format!("{name}: {error}"))?;
        }
        Ok(())
    }

    async fn is_ready(&mut self) -> bool {
        if let Some(url) = self.subject.ready.clone() {
            let url = self.filled(&url);
            let answer = self.app.try_send(request(Method::GET, &url, &[], Bytes::new())).await;
            answer.is_ok_and(|answer| answer.status.is_success())
        } else {
            let port = self.filled("{port}").parse().expect("a port is a number");
            TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        }
    }

    /// Gives it a consent whose access token lives for so many seconds yet.
    pub(crate) async fn seed(&mut self, consent: &str, granted: &Granted, seconds: u64) -> Result<(), String> {
        let mut places = of_consent(consent);
        places.insert("access_token".into(), granted.access.clone());
        places.insert("refresh_token".into(), granted.refresh.clone());
        places.insert("expires_in".into(), seconds.to_string());
        let seed = self.subject.seed.clone();
        self.act(&seed, &places).await.map_err(|error| format!("it took no consent: {error}"))
    }

    /// Has the refresh token tried again that the bank refused.
    pub(crate) async fn revive(&mut self, consent: &str) -> Option<Result<(), String>> {
        let (revive, places) = (self.subject.revive.clone()?, of_consent(consent));
        Some(self.act(&revive, &places).await)
    }

    async fn act(&mut self, act: &Act, places: &HashMap<String, String>) -> Result<(), String> {
        match act {
            Act::Request(wanted) => {
                let method = wanted.method.parse().map_err(|_| format!("{} is no method", wanted.method))?;
                let headers: Vec<_> = wanted
                    .headers
                    .iter()
                    .map(|(name, value)| (name.as_str(), self.filled_with(value, places)))
                    .collect();
                let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let (url, body) = (self.filled_with(&wanted.url, places), self.filled_with(&wanted.body, places));
                let answer = self.app.try_send(request(method, &url, &headers, Bytes::from(body))).await?;
                let said = String::from_utf8_lossy(&answer.body).into_owned();
                answer.status.is_success().then_some(()).ok_or_else(|| format!("{} {said}", answer.status))
            }
            Act::Command { command } => {
                let words: Vec<_> = command.iter().map(|word| self.filled_with(word, places)).collect();
                let (program, arguments) = words.split_first().ok_or("a command is needed")?;
                let mut command = Command::new(program);
                command.args(arguments).current_dir(self.home.path()).stdin(Stdio::null());
                let done = tokio::task::spawn_blocking(move || command.output()).await;
                let done = done.map_err(|error| error.to_string())?.map_err(|error| format!("{program}: {error}"))?;
                let said = String::from_utf8_lossy(&done.stderr).into_owned();
                done.status.success().then_some(()).ok_or_else(|| format!("{}: {said}", done.status))
            }
        }
    }

    /// A call of an app, which may be made beside this.
    pub(crate) fn call(&mut self, consent: &str) -> impl Future<Output = Told> + Send + 'static {
        let (app, url, header) = (self.app.clone(), self.call_url(consent), self.subject.call.header.clone());
        let consent = consent.to_owned();
        async move {
            match app.try_send(request(Method::GET, &url, &[(&header, &consent)], Bytes::new())).await {
                Ok(answer) => Told {
                    status: answer.status.as_u16(),
                    token_shown: format!("{:?}{}", answer.headers, String::from_utf8_lossy(&answer.body))
                        .contains(TOKENS),
                },
                Err(_) => Told { status: 0, token_shown: false },
            }
        }
    }

    /// A call whose app goes away as soon as the stream that is given back is dropped.
    pub(crate) async fn call_and_leave(&mut self, consent: &str) -> Result<TcpStream, String> {
        let url: http::Uri = self.call_url(consent).parse().map_err(|error| format!("call.url: {error}"))?;
        let (authority, header) = (url.authority().ok_or("call.url: no host")?, &self.subject.call.header);
        let target = url.path_and_query().map_or("/", |target| target.as_str());
        let head = format!("GET {target} HTTP/1.1\r\nHost: {authority}\r\n{header}: {consent}\r\n\r\n");
        let mut stream = TcpStream::connect(authority.as_str()).await.map_err(|error| error.to_string())?;
        stream.write_all(head.as_bytes()).await.map_err(|error| error.to_string())?;
        Ok(stream)
    }

    fn call_url(&mut self, consent: &str) -> String {
        let (url, places) = (self.subject.call.url.clone(), of_consent(consent));
        self.filled_with(&url, &places)
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut program) = self.program.take() {
            program.kill();
            self.said.push_str(&program.output());
        }
    }

    /// SIGSTOP, SIGCONT or SIGTERM.
    pub(crate) fn signal(&self, name: &str) {
        if let Some(program) = &self.program {
            program.signal(name);
        }
    }

    /// Waits for its end after a SIGTERM, and kills it if it does not come.
    pub(crate) async fn until_ended(&mut self, within: Duration) {
        let deadline = Instant::now() + within;
        while self.program.as_mut().is_some_and(|program| !program.has_ended()) && Instant::now() < deadline {
            sleep(Duration::from_millis(20)).await;
        }
        self.kill();
    }

    /// All that it has said.
    pub(crate) fn output(&self) -> String {
        self.said.clone() + &self.program.as_ref().map(Program::output).unwrap_or_default()
    }

    fn filled(&mut self, text: &str) -> String {
        self.filled_with(text, &HashMap::new())
    }

    /// Fills in the places of a text. Each port that is named is a free one, the same for all processes of this instance.
    fn filled_with(&mut self, text: &str, more: &HashMap<String, String>) -> String {
        filled(text, |name| {
            if let Some(value) = more.get(name).or_else(|| self.places.get(name)) {
                return Some(value.clone());
            }
            (name == "port" || name.starts_with("port_"))
                .then(|| self.places.entry(name.to_owned()).or_insert_with(|| free_port().to_string()).clone())
        })
    }
}

fn of_consent(consent: &str) -> HashMap<String, String> {
    HashMap::from([("consent".to_owned(), consent.to_owned())])
}

/// The end of what a program has said, for a table's cell.
fn last_lines(output: &str) -> String {
    let lines: Vec<_> = output.lines().collect();
    lines[lines.len().saturating_sub(3)..].join(" / ")
}
