//! A link to a server that can break in every way a network does, at a moment of the test's choosing.
//!
//! It stands between a replica and Redis, a Redis and its replica, or a replica and a bank, whose TLS passes through.
//! Each direction has a [`Flow`] that can be changed while connections are open. A [`Trap`] waits for a request that
//! holds certain bytes and breaks the connection on it there. What passes is counted.

use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toward {
    Server,
    Client,
}

/// What becomes of the bytes of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// They arrive.
    Pass,
    /// They arrive so much later.
    Delay(Duration),
    /// They arrive so many at a time, with a pause after each piece.
    Drip(usize, Duration),
    /// They are taken and thrown away, and nobody hangs up.
    Swallow,
    /// They are not taken: they arrive when this ends.
    Hold,
    /// Of each connection so many more arrive, then it is reset.
    Truncate(usize),
    /// The other side is told that this is the end, and may still speak itself.
    HalfClose,
    /// Whatever comes, the connection is reset.
    Reset,
}

/// What happens at a request that holds certain bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trap {
    /// It does not arrive; the connection ends.
    CutRequest,
    /// It arrives; its reply does not, and the connection ends.
    CutReply,
    /// It arrives; from there on nothing comes back on this connection, and nobody hangs up.
    Mute,
}

pub(crate) struct Link {
    port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    server: AtomicU16,
    flows: [watch::Sender<Flow>; 2],
    passed: [AtomicU64; 2],
    swallowed: [AtomicU64; 2],
    opened: AtomicUsize,
    severed: watch::Sender<u64>,
    cuts: AtomicUsize,
    traps: Mutex<Vec<Set>>,
}

/// A trap that is set.
struct Set {
    needle: Vec<u8>,
    trap: Trap,
    times: usize,
}

/// What one connection has run into.
#[derive(Default)]
struct Caught {
    cut_reply: std::sync::atomic::AtomicBool,
    mute: std::sync::atomic::AtomicBool,
}

/// How one direction of a connection ended.
enum End {
    /// As a connection should: the other direction may go on.
    Closed,
    /// At once, both ways, without a word.
    Dropped,
    /// At once, both ways, with a reset.
    Reset,
}

impl Link {
    /// Listens on a port of its own and passes everything on to this port of the machine.
    pub(crate) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            server: AtomicU16::new(server),
            flows: [watch::Sender::new(Flow::Pass), watch::Sender::new(Flow::Pass)],
            passed: Default::default(),
            swallowed: Default::default(),
            opened: AtomicUsize::new(0),
            severed: watch::Sender::new(0),
            cuts: AtomicUsize::new(0),
            traps: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                accepting.opened.fetch_add(1, Ordering::SeqCst);
                let server = accepting.server.load(Ordering::SeqCst);
                let shared = Arc::clone(&accepting);
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
                    connect(client, server, &shared).await;
                });
            }
        });
        Self { port, shared, task }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From here on new connections go to this port; those that are open stay where they are.
    pub(crate) fn lead_to(&self, server: u16) {
        self.shared.server.store(server, Ordering::SeqCst);
    }

    /// What becomes of a direction from here on, on open connections and new ones.
    pub(crate) fn set(&self, toward: Toward, flow: Flow) {
        self.shared.flows[toward as usize].send_replace(flow);
    }

    /// Both directions.
    pub(crate) fn set_both(&self, flow: Flow) {
        self.set(Toward::Server, flow);
        self.set(Toward::Client, flow);
    }

    /// Resets every connection that is open.
    pub(crate) fn sever(&self) {
        self.shared.severed.send_modify(|times| *times += 1);
    }

    /// The next so many replies are swallowed, each together with its connection.
    pub(crate) fn cut_replies(&self, count: usize) {
        self.shared.cuts.store(count, Ordering::SeqCst);
    }

    /// How many cuts have not happened yet.
    pub(crate) fn cuts_left(&self) -> usize {
        self.shared.cuts.load(Ordering::SeqCst)
    }

    /// Sets a trap for the next so many requests that hold these bytes.
    pub(crate) fn trap(&self, needle: &str, trap: Trap, times: usize) {
        self.shared.traps.lock().unwrap().push(Set { needle: needle.as_bytes().to_vec(), trap, times });
    }

    /// How many requests are still to run into a trap.
    pub(crate) fn traps_left(&self) -> usize {
        self.shared.traps.lock().unwrap().iter().map(|set| set.times).sum()
    }

    /// Takes all traps away.
    pub(crate) fn clear_traps(&self) {
        self.shared.traps.lock().unwrap().clear();
    }

    /// Bytes that have arrived.
    pub(crate) fn passed(&self, toward: Toward) -> u64 {
        self.shared.passed[toward as usize].load(Ordering::SeqCst)
    }

    /// Bytes that were thrown away.
    pub(crate) fn swallowed(&self, toward: Toward) -> u64 {
        self.shared.swallowed[toward as usize].load(Ordering::SeqCst)
    }

    /// Connections so far.
    pub(crate) fn opened(&self) -> usize {
        self.shared.opened.load(Ordering::SeqCst)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
        self.sever();
    }
}

async fn connect(client: TcpStream, server: TcpStream, shared: &Shared) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let mut severed = shared.severed.subscribe();
    let caught = Caught::default();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let reset = {
        let mut requests = std::pin::pin!(pump(Toward::Server, &mut from_client, &mut to_server, shared, &caught));
        let mut replies = std::pin::pin!(pump(Toward::Client, &mut from_server, &mut to_client, shared, &caught));
        let (mut asking, mut answering) = (true, true);
        loop {
            let end = tokio::select! {
                end = &mut requests, if asking => { asking = false; end }
                end = &mut replies, if answering => { answering = false; end }
                _ = severed.changed() => End::Reset,
            };
            match end {
                End::Closed if asking || answering => {}
                End::Closed | End::Dropped => break false,
                End::Reset => break true,
            }
        }
    };
    if reset {
        for stream in [from_client.as_ref(), from_server.as_ref()] {
            let _ = stream.set_zero_linger();
        }
    }
}

async fn pump(
    toward: Toward,
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    shared: &Shared,
    caught: &Caught,
) -> End {
    let mut flow = shared.flows[toward as usize].subscribe();
    let (passed, swallowed) = (&shared.passed[toward as usize], &shared.swallowed[toward as usize]);
    let mut buffer = vec![0; 65_536];
    let mut left = None;
    loop {
        let held = |flow: &Flow| *flow != Flow::Hold;
        let now = *match flow.wait_for(held).await {
            Ok(flow) => flow,
            Err(_) => return End::Dropped,
        };
        if now == Flow::HalfClose {
            let _ = to.shutdown().await;
            return End::Closed;
        }
        let length = tokio::select! {
            read = from.read(&mut buffer) => match read {
                Ok(0) => {
                    let _ = to.shutdown().await;
                    return End::Closed;
                }
                Ok(length) => length,
                Err(_) => return End::Reset,
            },
            _ = flow.changed() => continue,
        };
        let bytes = &buffer[..length];
        if let Some(end) = spring(toward, bytes, shared, caught) {
            match end {
                Sprung::Cut => return End::Dropped,
                Sprung::Swallowed => {
                    swallowed.fetch_add(length as u64, Ordering::SeqCst);
                    continue;
                }
            }
        }
        let now = *flow.borrow_and_update();
        let count = |length: usize| passed.fetch_add(length as u64, Ordering::SeqCst);
        let written = match now {
            Flow::Pass | Flow::HalfClose | Flow::Hold => to.write_all(bytes).await,
            Flow::Delay(time) => {
                sleep(time).await;
                to.write_all(bytes).await
            }
            Flow::Drip(most, pause) => drip(to, bytes, most, pause).await,
            Flow::Swallow => {
                swallowed.fetch_add(length as u64, Ordering::SeqCst);
                continue;
            }
            Flow::Truncate(at) => {
                let rest = left.get_or_insert(at);
                let length = length.min(*rest);
                *rest -= length;
                let ended = *rest == 0;
                let written = to.write_all(&bytes[..length]).await;
                count(length);
                if ended {
                    // What was written arrives before the end does.
                    let _ = to.flush().await;
                    sleep(Duration::from_millis(20)).await;
                    return End::Reset;
                }
                if written.is_err() {
                    return End::Reset;
                }
                continue;
            }
            Flow::Reset => return End::Reset,
        };
        if written.is_err() {
            return End::Reset;
        }
        count(length);
    }
}

async fn drip(to: &mut OwnedWriteHalf, bytes: &[u8], most: usize, pause: Duration) -> std::io::Result<()> {
    for piece in bytes.chunks(most) {
        to.write_all(piece).await?;
        sleep(pause).await;
    }
    Ok(())
}

enum Sprung {
    Cut,
    Swallowed,
}

/// What these bytes have run into.
fn spring(toward: Toward, bytes: &[u8], shared: &Shared, caught: &Caught) -> Option<Sprung> {
    match toward {
        Toward::Server => {
            let mut traps = shared.traps.lock().unwrap();
            let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
            let set = traps.iter_mut().find(|set| set.times > 0 && holds(&set.needle))?;
            set.times -= 1;
            match set.trap {
                Trap::CutRequest => return Some(Sprung::Cut),
                Trap::CutReply => caught.cut_reply.store(true, Ordering::SeqCst),
                Trap::Mute => caught.mute.store(true, Ordering::SeqCst),
            }
            None
        }
        Toward::Client => {
            let counted = || shared.cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            if caught.cut_reply.load(Ordering::SeqCst) || counted().is_ok() {
                return Some(Sprung::Cut);
            }
            caught.mute.load(Ordering::SeqCst).then_some(Sprung::Swallowed)
        }
    }
}
