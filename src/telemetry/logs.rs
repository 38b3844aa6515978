//! The log: one line an event, to standard error.
//!
//! JSON for machines, text for a person at a terminal. Below `info` other people's code may write out headers and
//! frames, tokens and all, so only this program's own events are ever seen there, whatever the filter says.

use std::io::{self, IsTerminal as _};

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The text is no filter.
    #[error("{from} is not a log filter")]
    Filter {
        /// Where it comes from: a variable of the environment, or the configuration.
        from: &'static str,
        /// What is wrong with it.
        #[source]
        why: ParseError,
    },
    /// The process has a log already.
    #[error("the log is set up already")]
    Twice,
}

/// Sets up the process' log. `filter` is the configuration's; the variables `CONSENTRY_LOG` and `RUST_LOG`, the first
/// that is there and not empty, come before it. `env` gives the environment's variables.
///
/// Lines carry the time by RFC 3339 in UTC. Text is coloured on a terminal, unless `NO_COLOR` is set.
pub fn init(format: LineFormat, filter: &str, env: impl Fn(&str) -> Option<String>) -> Result<(), LogError> {
    let filter = choose(filter, &env)?;
    let terminal = io::stderr().is_terminal();
    let colours = terminal && env("NO_COLOR").is_none_or(|value| value.is_empty());
    subscriber(Line::of(format, terminal, colours), filter, io::stderr).try_init().map_err(|_| LogError::Twice)
}

fn choose(configured: &str, env: impl Fn(&str) -> Option<String>) -> Result<Targets, LogError> {
    let set = |name: &'static str| env(name).filter(|value| !value.trim().is_empty()).map(|value| (name, value));
    let (from, text) = set("CONSENTRY_LOG")
        .or_else(|| set("RUST_LOG"))
        .unwrap_or_else(|| ("the configuration's log level", configured.to_owned()));
    text.parse().map_err(|why| LogError::Filter { from, why })
}

/// A [`LineFormat`] with everything decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Json,
    Text { colours: bool },
}

impl Line {
    const fn of(format: LineFormat, terminal: bool, colours: bool) -> Self {
        match (format, terminal) {
            (LineFormat::Json, _) | (LineFormat::Auto, false) => Self::Json,
            (LineFormat::Text, _) | (LineFormat::Auto, true) => Self::Text { colours },
        }
    }
}

fn subscriber<W>(line: Line, filter: Targets, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = match line {
        Line::Json => fmt::layer().json().flatten_event(true).with_writer(writer).boxed(),
        Line::Text { colours } => fmt::layer().with_ansi(colours).with_writer(writer).boxed(),
    };
    Registry::default().with(filter).with(OwnDetailsOnly).with(lines)
}

/// Lets events below `info` pass only where they are this program's own. Beside a filter both must agree, so no filter
/// can lift it.
struct OwnDetailsOnly;

impl<S: Subscriber> Layer<S> for OwnDetailsOnly {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= Level::INFO || is_own(metadata.target())
    }
}

fn is_own(target: &str) -> bool {
    let rest = target.strip_prefix(env!("CARGO_PKG_NAME"));
    // Records of the `log` crate are registered under this target, and checked under their own when they come.
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::")) || target == "log"
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    /// Collects what is logged.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn logged(line: Line, filter: &str, happening: impl FnOnce()) -> String {
        let lines = Lines::default();
        let subscriber = subscriber(line, filter.parse().unwrap(), lines.clone());
        tracing::subscriber::with_default(subscriber, happening);
        lines.text()
    }

    #[test]
    fn a_json_line_holds_time_level_target_message_and_fields() {
        let text = logged(Line::Json, "info", || tracing::info!(provider = "bank", "Something happened."));
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "Something happened.");
        assert_eq!(line["provider"], "bank");
        assert!(line["target"].as_str().unwrap().starts_with("consentry::telemetry"));
        let time = line["timestamp"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    }

    #[test]
    fn colours_only_where_they_are_asked_for() {
        let happening = || tracing::warn!("x");
        assert!(!logged(Line::Text { colours: false }, "info", happening).contains('\u{1b}'));
        assert!(logged(Line::Text { colours: true }, "info", happening).contains('\u{1b}'));
    }

    #[test]
    fn the_format_follows_the_terminal_unless_it_is_named() {
        let rows = [
            (LineFormat::Auto, true, Line::Text { colours: true }),
            (LineFormat::Auto, false, Line::Json),
            (LineFormat::Json, true, Line::Json),
            (LineFormat::Text, false, Line::Text { colours: false }),
        ];
        for (format, terminal, wanted) in rows {
            assert_eq!(Line::of(format, terminal, terminal), wanted);
        }
    }

    #[test]
    fn the_environment_comes_before_the_configuration() {
        let chosen = |own: &'static str, rust: &'static str| {
            let env = move |name: &str| match name {
                "CONSENTRY_LOG" => Some(own.to_owned()),
                "RUST_LOG" => Some(rust.to_owned()),
                _ => None,
            };
            choose("error", env).map(|filter| filter.to_string())
        };
        assert_eq!(chosen("warn", "debug").unwrap(), "warn");
        assert_eq!(chosen("", "debug").unwrap(), "debug");
        assert_eq!(chosen("", " ").unwrap(), "error");
        let error = chosen("a=b=c", "").unwrap_err();
        assert!(error.to_string().starts_with("CONSENTRY_LOG"), "{error}");
    }

    #[test]
    fn no_filter_shows_the_details_of_other_peoples_code() {
        for filter in ["trace", "hyper=trace,h2=trace,redis=debug,rustls=debug,hyper_util=trace", "[{x}]=trace,trace"] {
            let text = logged(Line::Json, filter, || {
                tracing::trace!(target: "hyper::proto", x = 1, "CANARY");
                tracing::debug!(target: "h2::codec", x = 1, "CANARY");
                tracing::debug!(target: "redis", x = 1, "CANARY");
                tracing::debug!(target: "rustls::client", x = 1, "CANARY");
                tracing::trace!(target: "hyper_util", x = 1, "CANARY");
                tracing::trace!(target: "consentry_imitation", x = 1, "CANARY");
                tracing::warn!(target: "h2::codec", "kept");
                tracing::warn!(target: "redis", "kept");
                tracing::warn!(target: "hyper", "kept");
            });
            assert!(!text.contains("CANARY"), "{filter}: {text}");
        }
        let text = logged(Line::Json, "trace", || {
            tracing::trace!("own trace");
            tracing::info!(target: "h2::codec", "their info");
        });
        assert!(text.contains("own trace") && text.contains("their info"), "{text}");
    }
}
