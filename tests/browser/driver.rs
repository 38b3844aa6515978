//! Chromium without a window, through chromedriver: `WebDriver` (W3C) over plain HTTP.
//!
//! It is a dozen commands of one protocol, so the client is here and not a crate. Chromium is told to take its orders over a
//! pipe: it ends with the driver, however the test ends.

use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};

use crate::support::client::App;
use crate::support::program::Program;

/// One chromedriver. What it and its browsers write is in a directory of its own.
pub(crate) struct Driver {
    program: Program,
    url: String,
    app: App,
    home: tempfile::TempDir,
}

/// A browser with a profile of its own, and the one window it has.
pub(crate) struct Window {
    app: App,
    session: String,
}

/// Keys by the code points that `WebDriver` has for them (§17.4.2).
pub(crate) const TAB: char = '\u{E004}';
pub(crate) const ENTER: char = '\u{E007}';
pub(crate) const SPACE: char = ' ';
pub(crate) const DOWN: char = '\u{E015}';

impl Driver {
    pub(crate) async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").env("TMPDIR", home.path()).env("HOME", home.path());
        let mut program = Program::try_start(command)
            .unwrap_or_else(|error| panic!("chromedriver does not start (Debian: chromium-driver): {error}"));
        let port: u16 = program
            .said("its port", |output| {
                let rest = output.split_once("started successfully on port ")?.1;
                rest.split_once('.')?.0.parse().ok()
            })
            .await;
        Self { program, url: format!("http://127.0.0.1:{port}"), app: App::new(), home }
    }

    /// A browser that asks for pages in this language. A command after which a page is loaded ends when it is there.
    pub(crate) async fn open(&self, language: &str) -> Window {
        self.open_with(language, "normal").await
    }

    /// A browser whose commands wait for no page.
    pub(crate) async fn open_hasty(&self, language: &str) -> Window {
        self.open_with(language, "none").await
    }

    async fn open_with(&self, language: &str, page_load_strategy: &str) -> Window {
        let profile = tempfile::tempdir_in(self.home.path()).unwrap().keep();
        let mut arguments = [
            "--headless=new",
            "--remote-debugging-pipe",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--no-first-run",
            "--hide-scrollbars",
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.push(format!("--user-data-dir={}", profile.display()));
        arguments.push(format!("--accept-lang={language}"));
        // Chromium's own sandbox does not run as root, as tests in a container do.
        if rustix::process::getuid().is_root() {
            arguments.push("--no-sandbox".to_owned());
        }
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "pageLoadStrategy": page_load_strategy,
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let url = format!("{}/session", self.url);
        let answer = self.app.json(Method::POST, &url, &[], &wanted).await;
        let opened = &answer.json()["value"];
        let id = opened["sessionId"].as_str().unwrap_or_else(|| panic!("no browser: {opened}"));
        Window { app: self.app.clone(), session: format!("{url}/{id}") }
    }
}

impl Drop for Driver {
    /// Browsers that a test has left open write until they have noticed that the driver is gone.
    fn drop(&mut self) {
        self.program.kill();
        for _ in 0..100 {
            if std::fs::remove_dir_all(self.home.path()).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Window {
    pub(crate) async fn goto(&self, url: &str) {
        self.post("/url", json!({ "url": url })).await;
    }

    pub(crate) async fn reload(&self) {
        self.post("/refresh", json!({})).await;
    }

    pub(crate) async fn url(&self) -> String {
        self.told(Method::GET, "/url", &Value::Null).await.unwrap().as_str().unwrap().to_owned()
    }

    pub(crate) async fn forget_cookies(&self) {
        self.told(Method::DELETE, "/cookie", &Value::Null).await.unwrap();
    }

    /// What a function with this body returns in the page.
    pub(crate) async fn run(&self, body: &str, arguments: Value) -> Value {
        self.try_run(body, arguments).await.unwrap_or_else(|error| panic!("{body}: {error}"))
    }

    /// The same where the page may be on its way out.
    pub(crate) async fn try_run(&self, body: &str, arguments: Value) -> Result<Value, String> {
        self.told(Method::POST, "/execute/sync", &json!({ "script": body, "args": arguments })).await
    }

    /// Presses keys, one after the other.
    pub(crate) async fn press(&self, keys: impl IntoIterator<Item = char>) {
        let strokes =
            keys.into_iter().flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key})));
        let strokes: Vec<_> = strokes.collect();
        self.post("/actions", json!({"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]})).await;
    }

    /// A command of the Chrome `DevTools` protocol.
    pub(crate) async fn tune(&self, command: &str, parameters: Value) -> Value {
        self.post("/goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await
    }

    /// The lines of the console since it was last asked.
    pub(crate) async fn console(&self) -> Vec<Value> {
        self.post("/se/log", json!({"type": "browser"})).await.as_array().unwrap().clone()
    }

    /// A second window of the same browser, with its cookies. Commands go to that one from now on; answers with the name
    /// of the first.
    pub(crate) async fn open_another(&self) -> String {
        let first = self.told(Method::GET, "/window", &Value::Null).await.unwrap();
        let second = self.post("/window/new", json!({"type": "window"})).await["handle"].clone();
        self.turn_to(second.as_str().unwrap()).await;
        first.as_str().unwrap().to_owned()
    }

    pub(crate) async fn turn_to(&self, window: &str) {
        self.post("/window", json!({ "handle": window })).await;
    }

    /// All of the page, as PNG.
    pub(crate) async fn picture(&self) -> Vec<u8> {
        let taken = self.tune("Page.captureScreenshot", json!({"format": "png"})).await;
        STANDARD.decode(taken["data"].as_str().unwrap()).unwrap()
    }

    /// Ends the browser.
    pub(crate) async fn close(self) {
        self.told(Method::DELETE, "", &Value::Null).await.unwrap();
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.told(Method::POST, path, &body).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    async fn told(&self, method: Method, path: &str, body: &Value) -> Result<Value, String> {
        let url = format!("{}{path}", self.session);
        let answer = if *body == Value::Null {
            self.app.send(crate::support::client::request(method, &url, &[], bytes::Bytes::new())).await
        } else {
            self.app.json(method, &url, &[], body).await
        };
        let mut told = answer.json();
        if answer.status.is_success() { Ok(told["value"].take()) } else { Err(told["value"]["message"].to_string()) }
    }
}
