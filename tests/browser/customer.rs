//! A customer at a browser without scripts, who has a keyboard and no mouse, and who looks at every page.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::driver::{DOWN, ENTER, TAB, Window};

/// What a page is seen on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Screen {
    Desktop,
    Phone,
}

impl Screen {
    pub(crate) const BOTH: [Self; 2] = [Self::Desktop, Self::Phone];

    const fn size(self) -> (u32, u32) {
        match self {
            Self::Desktop => (1280, 900),
            Self::Phone => (390, 844),
        }
    }

    /// How its pages are coloured, and how else they are looked at.
    const fn schemes(self) -> [&'static str; 2] {
        match self {
            Self::Desktop => ["light", "dark"],
            Self::Phone => ["dark", "light"],
        }
    }
}

/// How long a page may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Keys after which nothing is found any more.
const MANY: usize = 12;

pub(crate) struct Customer {
    pub(crate) window: Window,
    pub(crate) language: &'static str,
    screen: Screen,
    /// The pages that were looked at on each screen.
    seen: RefCell<BTreeSet<String>>,
}

impl Customer {
    pub(crate) async fn new(window: Window, language: &'static str) -> Self {
        let mut customer = Self { window, language, screen: Screen::Desktop, seen: RefCell::default() };
        customer.sit_at(Screen::Desktop).await;
        customer
    }

    pub(crate) async fn sit_at(&mut self, screen: Screen) {
        self.screen = screen;
        self.settle().await;
    }

    async fn settle(&self) {
        let (width, height) = self.screen.size();
        let mobile = matches!(self.screen, Screen::Phone);
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.window.tune("Emulation.setDeviceMetricsOverride", metrics).await;
        // Scripts of pages do not run; those of the test do.
        self.window.tune("Emulation.setScriptExecutionDisabled", json!({"value": true})).await;
    }

    /// Opens an address, which somebody has given to the customer.
    pub(crate) async fn open(&self, url: &str) {
        self.window.goto(url).await;
    }

    /// Looks at the page that is shown, the first time in light and in dark. It has to be in this language and to have this heading.
    pub(crate) async fn sees(&self, language: &str, heading: &str) {
        const SHOWN: &str = "return [document.querySelector('h1')?.textContent, document.body.textContent]";
        let shown = self.window.run(SHOWN, json!([])).await;
        assert_eq!(shown[0], heading, "{}", self.window.url().await);
        let is_new = self.seen.borrow_mut().insert(format!("{:?} {}", self.screen, shown[1]));
        let (width, _) = self.screen.size();
        let [own, other] = self.screen.schemes();
        // It ends as the screen has it: keys are pressed in light on the one, in dark on the other.
        for scheme in is_new.then_some(other).into_iter().chain([own]) {
            let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
            self.window.tune("Emulation.setEmulatedMedia", media).await;
            let faults = self.window.run(include_str!("look.js"), json!([language, width])).await;
            assert_eq!(faults, json!([]), "{heading} on {:?} in {scheme}", self.screen);
            self.keep_picture(heading, scheme).await;
        }
        self.has_no_complaints().await;
    }

    /// Nothing of a page was refused by its policy, nor failed otherwise. That a page came with an error's status, as some of
    /// ours do, is logged as well, and so are troubles of the browser's own first page.
    async fn has_no_complaints(&self) {
        let told = |line: &Value| {
            let text = line["message"].as_str().unwrap_or_default();
            let status = "Failed to load resource: the server responded with a status";
            text.starts_with("chrome://") || (line["source"] == "network" && text.contains(status))
        };
        let lines = self.window.console().await;
        let complaints: Vec<_> = lines.iter().filter(|line| !told(line)).collect();
        assert!(complaints.is_empty(), "{complaints:?}");
    }

    /// Goes on with the Tab key until this has the focus, which has to show at every stop.
    pub(crate) async fn tab_to(&self, name: &str) {
        let mut stops = Vec::new();
        for _ in 0..MANY {
            self.window.press([TAB]).await;
            let stop = self.focus().await;
            if stop.as_deref() == Some(name) {
                return;
            }
            stops.push(stop);
        }
        panic!("the Tab key never comes to {name}, but to {stops:?}");
    }

    /// Among radio buttons, one of which has the focus, goes down to this one.
    pub(crate) async fn choose(&self, name: &str) {
        for _ in 0..MANY {
            if self.focus().await.as_deref() == Some(name) {
                return;
            }
            self.window.press([DOWN]).await;
        }
        panic!("there is no {name} to choose");
    }

    /// Presses a button with Enter.
    pub(crate) async fn press(&self, button: &str) {
        self.press_with(button, ENTER).await;
    }

    /// Presses a button with this key, and waits for the page that follows.
    pub(crate) async fn press_with(&self, button: &str, key: char) {
        self.tab_to(button).await;
        self.window.run("document.documentElement.dataset.left = ''", json!([])).await;
        self.window.press([key]).await;
        self.arrives("not the page that was left").await;
    }

    /// Waits for another page than the one that was marked as left.
    async fn arrives(&self, what: &str) {
        const ARRIVED: &str =
            "return !('left' in document.documentElement.dataset) && document.readyState === 'complete'";
        self.until(what, async || self.window.try_run(ARRIVED, json!([])).await == Ok(json!(true))).await;
    }

    /// A second window of the same browser, on the same screen. Answers with the name of the first.
    pub(crate) async fn open_another(&self) -> String {
        let first = self.window.open_another().await;
        self.settle().await;
        first
    }

    /// The state that the bank's page has come with, as whoever looks over the customer's shoulder reads it.
    pub(crate) async fn state(&self) -> String {
        let url = self.window.url().await;
        url.split("state=").nth(1).unwrap().split('&').next().unwrap().to_owned()
    }

    /// Waits until a heading is shown.
    pub(crate) async fn waits_for(&self, heading: &str) {
        const SHOWN: &str = "return document.querySelector('h1')?.textContent === arguments[0]";
        self.until(heading, async || self.window.try_run(SHOWN, json!([heading])).await == Ok(json!(true))).await;
    }

    pub(crate) async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition().await {
            assert!(Instant::now() < deadline, "never: {what}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// What has the focus.
    async fn focus(&self) -> Option<String> {
        let focus = self.window.run(include_str!("focus.js"), json!([])).await;
        let name = focus["name"].as_str()?;
        let (ring, contrast) = (focus["ring"].as_f64().unwrap(), focus["contrast"].as_f64().unwrap());
        assert!(ring >= 2.0 && contrast >= 3.0 && focus["seen"] == true, "the focus does not show: {focus}");
        Some(name.to_owned())
    }

    /// Where a directory for them is named, every page is kept as it looked.
    async fn keep_picture(&self, heading: &str, scheme: &str) {
        let Some(folder) = std::env::var_os("CONSENTRY_SCREENSHOTS") else { return };
        let (screen, language) = (format!("{:?}", self.screen).to_lowercase(), self.language);
        let name: String = heading.chars().map(|it| if it.is_alphanumeric() { it } else { '-' }).collect();
        let picture = self.window.picture().await;
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(Path::new(&folder).join(format!("{name}.{language}.{screen}.{scheme}.png")), picture).unwrap();
    }
}
