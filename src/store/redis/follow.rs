//! Following the changes: a connection of its own that only listens.
//!
//! A message is a hint and may be lost with the connection, so the follower is told when it is blind. A connection that
//! is dead without saying so is found by asking it for a sign of life every few seconds.

use std::time::Duration;

use redis::{PushInfo, PushKind, Value};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::connection::{Live, server_error};
use super::route::{Route, patient};
use crate::store::contract::{Change, News, StoreError};
use crate::store::keys;
use crate::words::ids::random;

/// How often the connection is asked for a sign of life, and how long it has for it.
const PING_EVERY: Duration = Duration::from_secs(3);
const PING_WAIT: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// More messages than this unread: the follower is too slow, and starts again rather than use memory without end.
const MOST_UNREAD: usize = 4_096;

/// Nobody listens any more.
struct Gone;

pub(super) async fn follow(route: &Route, channel: &str, changes: &mpsc::Sender<Change>) {
    let (mut pause, mut complained) = (FIRST_PAUSE, false);
    loop {
        let listened = tokio::select! {
            biased;
            listened = listen(route, channel, changes) => listened,
            () = changes.closed() => return,
        };
        match listened {
            Ok(Listened::Followed) => (pause, complained) = (FIRST_PAUSE, false),
            Ok(Listened::Unreached) => pause = (pause * 2).min(LONGEST_PAUSE),
            Ok(Listened::Refused(error)) => {
                pause = (pause * 2).min(LONGEST_PAUSE);
                // Said once: it stays so until somebody changes the server's access control list.
                if !std::mem::replace(&mut complained, true) {
                    tracing::error!(%error, channel, "Changes of the token store cannot be followed. Tokens are checked before use.");
                }
            }
            Err(Gone) => return,
        }
        tokio::select! {
            biased;
            () = changes.closed() => return,
            () = sleep(jittered(pause)) => {}
        }
    }
}

/// How far a connection came.
enum Listened {
    /// It followed, and then it ended.
    Followed,
    /// It did not come to following.
    Unreached,
    /// The server said no to following.
    Refused(StoreError),
}

/// Follows on one connection until it ends.
async fn listen(route: &Route, channel: &str, changes: &mpsc::Sender<Change>) -> Result<Listened, Gone> {
    let (sender, mut pushed) = mpsc::channel(MOST_UNREAD);
    // What does not fit is dropped; `messages` sees that and starts again.
    let config = patient(PING_WAIT).set_push_sender(move |push: PushInfo| sender.try_send(push));
    let Ok(mut live) = route.dial_any(config, true).await else { return Ok(Listened::Unreached) };
    let mut subscribe = redis::pipe();
    subscribe.cmd("SUBSCRIBE").arg(channel);
    // The acknowledgement comes as a push, in order with the messages; the reply to the command may come as either.
    match timeout(PING_WAIT, acknowledged(&mut pushed, &mut live, &subscribe)).await {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) | Err(_) => return Ok(Listened::Unreached),
        Ok(Err(refused)) => return Ok(Listened::Refused(refused)),
    }
    tell(changes, Change::Connected).await?;
    let ended = messages(route, &mut live, &mut pushed, changes).await;
    if ended.is_ok() {
        tell(changes, Change::Lost).await?;
    }
    ended.map(|()| Listened::Followed)
}

/// Whether the server took the subscription; an error if it said that it does not.
async fn acknowledged(
    pushed: &mut mpsc::Receiver<PushInfo>,
    live: &mut Live,
    subscribe: &redis::Pipeline,
) -> Result<bool, StoreError> {
    let Ok(replies) = live.send(subscribe, 1).await else { return Ok(false) };
    for reply in &replies {
        if let Value::ServerError(error) = reply {
            return Err(server_error(error.code(), error.details(), "SUBSCRIBE"));
        }
    }
    while let Some(push) = pushed.recv().await {
        if push.kind == PushKind::Subscribe {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Passes messages on until the connection ends, falls silent, or has overrun us.
async fn messages(
    route: &Route,
    live: &mut Live,
    pushed: &mut mpsc::Receiver<PushInfo>,
    changes: &mpsc::Sender<Change>,
) -> Result<(), Gone> {
    loop {
        let overrun = pushed.len() >= MOST_UNREAD;
        let push = match timeout(PING_EVERY, pushed.recv()).await {
            Ok(Some(push)) => push,
            Ok(None) => return Ok(()),
            Err(_) if live.is_finished() || !route.still_hears(live).await => return Ok(()),
            Err(_) => continue,
        };
        match push.kind {
            PushKind::Message => {
                let told = payload(&push).and_then(|message| match keys::parse_change(message) {
                    Some((key, version)) => Some(Change::Moved { key, version }),
                    None => News::parse(message).map(Change::Happened),
                });
                if let Some(change) = told {
                    tell(changes, change).await?;
                }
            }
            PushKind::Disconnection => return Ok(()),
            _ => {}
        }
        if overrun {
            return Ok(());
        }
    }
}

fn payload(push: &PushInfo) -> Option<&str> {
    match push.data.get(1)? {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

async fn tell(changes: &mpsc::Sender<Change>, change: Change) -> Result<(), Gone> {
    changes.send(change).await.map_err(|_| Gone)
}

/// Between a half and the whole of `pause`, so that many replicas do not come back together.
fn jittered(pause: Duration) -> Duration {
    let [byte, ..] = random();
    pause / 2 + pause / 2 * u32::from(byte) / 255
}
