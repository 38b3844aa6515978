//! The real binary as a process: its output kept, its life bounded by the test's.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

/// How long a program may take to say something on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Program {
    child: Child,
    output: Arc<Mutex<String>>,
}

/// A command of the binary under test, with nothing of the test's environment that it reads.
pub(crate) fn consentry() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_consentry"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CONSENTRY_") || matches!(&*name, "RUST_LOG" | "NO_COLOR") {
            command.env_remove(&*name);
        }
    }
    command.stdin(Stdio::null());
    command
}

impl Program {
    /// Starts it; what it writes to either stream is kept.
    pub(crate) fn start(command: Command) -> Self {
        Self::try_start(command).unwrap()
    }

    /// The same for a program that may not be there.
    pub(crate) fn try_start(mut command: Command) -> std::io::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let output = Arc::<Mutex<String>>::default();
        keep(child.stdout.take().unwrap(), &output);
        keep(child.stderr.take().unwrap(), &output);
        Ok(Self { child, output })
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until its output satisfies a condition, and gives what that found.
    pub(crate) async fn said<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = find(&self.output()) {
                return found;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                // What it wrote last may still be on its way here, until both streams have ended.
                while Arc::strong_count(&self.output) > 1 && Instant::now() < deadline {
                    sleep(Duration::from_millis(5)).await;
                }
                return find(&self.output())
                    .unwrap_or_else(|| panic!("it ended with {status} before it said {what}:\n{}", self.output()));
            }
            assert!(Instant::now() < deadline, "it never said {what}:\n{}", self.output());
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// The fields of the first JSON log line with this message.
    pub(crate) async fn logged(&mut self, message: &str) -> Value {
        let find = |output: &str| {
            output
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .find(|line| line["message"] == message)
        };
        self.said(message, find).await
    }

    /// Types a line, where its standard input is a pipe.
    pub(crate) fn type_line(&mut self, line: &str) {
        use std::io::Write as _;
        let input = self.child.stdin.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, or another signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it did not end:\n{}", self.output());
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Resident memory of its own in KiB, by the kernel's account: what it has asked for, and none of the program's code.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

fn keep(stream: impl Read + Send + 'static, output: &Arc<Mutex<String>>) {
    let output = Arc::clone(output);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut output = output.lock().unwrap();
            output.push_str(&line);
            output.push('\n');
        }
    });
}
