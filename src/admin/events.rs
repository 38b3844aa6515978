//! `GET /v1/events`: what happens to consents, as server-sent events (WHATWG HTML, section 9.2).
//!
//! Few may listen at once, each with a bounded buffer. A listener that does not keep up is cut off, and comes back with the
//! name of what it heard last; where what came after that is not known any more, it is told so (`consentry.gap`) and looks at
//! the consents that it cares for. A listener ends with the soft shutdown, and is told that, too (`consentry.end`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{interval_at, timeout};

use super::problem::Refusal;
use super::stream::AdminBody;
use crate::consent::ConsentEvent;
use crate::net::shutdown::Shutdown;
use crate::oauth::TokenEndpoint;
use crate::store::{News, Store};
use crate::token::{Listening, Tokens, Told};
use crate::words::clock::Clock;
use crate::words::metrics::{KindLabels, Metrics};
use crate::words::problem::ProblemType;

/// Who may listen at once.
const MOST_LISTENERS: usize = 16;
/// Frames that wait for a listener's connection, beside those that wait for the listener.
const WAITING: usize = 16;
/// How often a listener hears that it is still connected.
const BEAT: Duration = Duration::from_secs(15);
/// How long a frame may wait for room.
const STALL: Duration = Duration::from_secs(10);
/// The longest name of an event.
const LONGEST_ID: usize = 64;

/// The places there are for listeners, and what ends all of them.
#[derive(Debug)]
pub(super) struct Listeners {
    places: Arc<Semaphore>,
    stop: Shutdown,
}

impl Listeners {
    pub(super) fn new(stop: Shutdown) -> Self {
        Self { places: Arc::new(Semaphore::new(MOST_LISTENERS)), stop }
    }
}

/// Begins to tell.
pub(super) fn listen<S: Store, E: TokenEndpoint, C: Clock>(
    tokens: &Tokens<S, E, C>,
    listeners: &Listeners,
    headers: &HeaderMap,
) -> Result<Response<AdminBody>, Refusal> {
    let Ok(place) = Arc::clone(&listeners.places).try_acquire_owned() else {
        let detail = format!("{MOST_LISTENERS} listen already, and no more may");
        return Err(Refusal::new(ProblemType::Overloaded, detail).retry_after(Duration::from_secs(5)));
    };
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let last = last.filter(|id| !id.is_empty() && id.len() <= LONGEST_ID);
    let listening = tokens.listen(last);
    // Who names an event wants to hear what came after it; who names none wants what comes.
    let gap = headers.contains_key("last-event-id") && !listening.is_whole;
    let (to, frames) = mpsc::channel(WAITING);
    let (stop, metrics) = (listeners.stop.clone(), tokens.metrics().clone());
    tokio::spawn(async move {
        let ended = tell(listening, gap, to, stop).await;
        count(&metrics, ended, place);
    });
    tokens.metrics().event_listeners.inc();
    let mut response = Response::new(AdminBody::Told(frames));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn count(metrics: &Metrics, ended: Ended, place: OwnedSemaphorePermit) {
    drop(place);
    metrics.event_listeners.dec();
    metrics.event_streams.get_or_create(&KindLabels { kind: ended.as_str() }).inc();
}

/// How a listener's stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The listener went away.
    Left,
    /// It did not keep up.
    TooSlow,
    /// The process is ending.
    Draining,
}

impl Ended {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::TooSlow => "too_slow",
            Self::Draining => "draining",
        }
    }
}

async fn tell(listening: Listening, gap: bool, to: mpsc::Sender<Bytes>, stop: Shutdown) -> Ended {
    let ended = run(listening, gap, &to, &stop).await;
    match ended {
        Ended::Left => {}
        Ended::TooSlow | Ended::Draining => {
            // Where there is no room for it, the end of the stream has to say it.
            let _ = to.try_send(frame(None, "consentry.end", &json!({ "reason": ended.as_str() }).to_string()));
        }
    }
    ended
}

async fn run(listening: Listening, gap: bool, to: &mpsc::Sender<Bytes>, stop: &Shutdown) -> Ended {
    let Listening { missed, mut told, .. } = listening;
    // Something at once: then the listener knows that it is connected.
    let mut first = vec![Bytes::from_static(b"retry: 2000\n: consentry\n\n")];
    first.extend(gap.then(missing));
    first.extend(missed.iter().filter_map(|news| event(news)));
    for bytes in first {
        if let Err(ended) = send(to, bytes).await {
            return ended;
        }
    }
    let mut beat = interval_at(tokio::time::Instant::now() + BEAT, BEAT);
    loop {
        let bytes = tokio::select! {
            biased;
            () = stop.soft() => return Ended::Draining,
            () = to.closed() => return Ended::Left,
            news = told.recv() => match news {
                Ok(Told::News(news)) => event(&news),
                Ok(Told::Gap) => Some(missing()),
                Err(RecvError::Lagged(_)) => return Ended::TooSlow,
                Err(RecvError::Closed) => return Ended::Draining,
            },
            _ = beat.tick() => Some(Bytes::from_static(b": beat\n\n")),
        };
        let Some(bytes) = bytes else { continue };
        if let Err(ended) = send(to, bytes).await {
            return ended;
        }
    }
}

async fn send(to: &mpsc::Sender<Bytes>, bytes: Bytes) -> Result<(), Ended> {
    match timeout(STALL, to.send(bytes)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Ended::Left),
        Err(_) => Err(Ended::TooSlow),
    }
}

fn event(news: &News) -> Option<Bytes> {
    let event = ConsentEvent::of(news)?;
    // What is derived of plain fields always is JSON.
    let data = serde_json::to_string(&event).ok()?;
    Some(frame(Some(&event.id), event.kind, &data))
}

/// That events may be missing here.
fn missing() -> Bytes {
    frame(None, "consentry.gap", "{}")
}

/// One event; `data` is one line.
fn frame(id: Option<&str>, kind: &str, data: &str) -> Bytes {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    Bytes::from(format!("{id}event: {kind}\ndata: {data}\n\n"))
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast;

    use super::*;

    fn listening(told: broadcast::Receiver<Told>) -> Listening {
        Listening { missed: Vec::new(), is_whole: true, told }
    }

    #[tokio::test]
    async fn a_listener_that_does_not_keep_up_is_cut_off_and_told_why() {
        let (sender, told) = broadcast::channel(4);
        for _ in 0..9 {
            sender.send(Told::Gap).expect("somebody listens");
        }
        let (to, mut frames) = mpsc::channel(WAITING);
        assert_eq!(tell(listening(told), false, to, Shutdown::new()).await, Ended::TooSlow);
        let mut last = Bytes::new();
        while let Some(bytes) = frames.recv().await {
            last = bytes;
        }
        assert_eq!(last, "event: consentry.end\ndata: {\"reason\":\"too_slow\"}\n\n");
    }

    #[tokio::test]
    async fn a_listener_ends_with_the_process_and_with_its_own_connection() {
        let (_sender, told) = broadcast::channel(4);
        let (to, mut frames) = mpsc::channel(WAITING);
        let stop = Shutdown::new();
        stop.begin();
        assert_eq!(tell(listening(told), true, to, stop).await, Ended::Draining);
        let mut all = Vec::new();
        while let Some(bytes) = frames.recv().await {
            all.extend_from_slice(&bytes);
        }
        let text = String::from_utf8(all).expect("text");
        assert!(text.starts_with("retry: 2000\n") && text.contains("event: consentry.gap\n"), "{text}");
        assert!(text.ends_with("event: consentry.end\ndata: {\"reason\":\"draining\"}\n\n"), "{text}");

        let (_sender, told) = broadcast::channel(4);
        let (to, frames) = mpsc::channel(WAITING);
        drop(frames);
        assert_eq!(tell(listening(told), false, to, Shutdown::new()).await, Ended::Left);
    }
}
