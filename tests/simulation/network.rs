//! Connections between processes and servers, with what befalls connections.
//!
//! Bytes arrive in order and late, or never. A route that is cut holds back what is written until it is whole again, as
//! TCP's repetitions do; what a client wrote before it gave up arrives all the same. A connection may be reset before or
//! after a request arrives, and either direction may fall silent for good.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::chance::Chance;

/// The way from one replica to one server, in both directions.
#[derive(Debug)]
pub(crate) struct Route {
    state: Mutex<RouteState>,
}

#[derive(Debug)]
struct RouteState {
    cut: bool,
    rates: Rates,
    chance: Chance,
    waiting: Vec<Waker>,
    pipes: Vec<Weak<Mutex<Pipe>>>,
}

/// How often what befalls a request, per mille, and how long bytes are under way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rates {
    /// The connection is reset and the request lost.
    pub(crate) request_reset: u64,
    /// The request vanishes, and the connection is silent from then on.
    pub(crate) request_lost: u64,
    /// The request arrives, and the connection is reset when it is answered.
    pub(crate) reply_reset: u64,
    /// The request arrives, and the answer vanishes.
    pub(crate) reply_lost: u64,
    /// Bytes take long.
    pub(crate) slow: u64,
    /// A connection is refused.
    pub(crate) refused: u64,
}

impl Rates {
    pub(crate) const fn all(each: u64) -> Self {
        Self {
            request_reset: each,
            request_lost: each,
            reply_reset: each,
            reply_lost: each,
            slow: each * 2,
            refused: each,
        }
    }
}

impl Route {
    pub(crate) fn new(chance: Chance) -> Arc<Self> {
        let state = RouteState { cut: false, rates: Rates::default(), chance, waiting: Vec::new(), pipes: Vec::new() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, RouteState> {
        self.state.lock().expect("one thread")
    }

    pub(crate) fn set_rates(&self, rates: Rates) {
        self.state().rates = rates;
    }

    pub(crate) fn set_cut(&self, cut: bool) {
        let mut state = self.state();
        state.cut = cut;
        state.waiting.drain(..).for_each(Waker::wake);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.state().cut
    }

    /// Breaks every connection on this route.
    pub(crate) fn reset_all(&self) {
        let pipes: Vec<_> = self.state().pipes.drain(..).collect();
        pipes.iter().filter_map(Weak::upgrade).for_each(|pipe| lock(&pipe).fail());
    }

    /// Two ends of a new connection, the client's first.
    pub(crate) fn connect(self: &Arc<Self>) -> (Line, Line) {
        let pipe = || Arc::new(Mutex::new(Pipe { last: Instant::now(), ..Pipe::default() }));
        let (up, down) = (pipe(), pipe());
        let mut state = self.state();
        state.pipes.retain(|pipe| pipe.strong_count() > 0);
        state.pipes.extend([Arc::downgrade(&up), Arc::downgrade(&down)]);
        let line = |read: &Arc<Mutex<Pipe>>, write: &Arc<Mutex<Pipe>>, client| Line {
            read: Arc::clone(read),
            write: Arc::clone(write),
            route: Arc::clone(self),
            client,
            sleep: None,
        };
        (line(&down, &up, true), line(&up, &down, false))
    }

    /// How long connecting takes, or that it is refused.
    pub(crate) fn knock(&self) -> Option<Duration> {
        let mut state = self.state();
        let refused = state.rates.refused;
        (!state.chance.happens(refused)).then(|| state.chance.micros(200..3_000))
    }
}

/// What became of what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The other end has read all of it.
    Whole,
    /// The other end gave up the connection.
    Refused,
    /// The network did not bring it.
    Lost,
}

/// One direction of a connection.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "what befalls one direction of a connection befalls it by itself")]
pub(crate) struct Pipe {
    queue: VecDeque<(Instant, Vec<u8>)>,
    last: Instant,
    ended: bool,
    broken: bool,
    /// Broken by the network and not by an end.
    failed: bool,
    silent: bool,
    written: usize,
    read: usize,
    reset_on_write: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Default for Pipe {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            last: Instant::now(),
            ended: false,
            broken: false,
            failed: false,
            silent: false,
            written: 0,
            read: 0,
            reset_on_write: false,
            reader: None,
            writer: None,
        }
    }
}

impl Pipe {
    fn fail(&mut self) {
        self.failed = true;
        self.reset();
    }

    fn reset(&mut self) {
        self.broken = true;
        self.queue.clear();
        self.wake();
    }

    fn wake(&mut self) {
        for waiting in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waiting.wake();
        }
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Line {
    read: Arc<Mutex<Pipe>>,
    write: Arc<Mutex<Pipe>>,
    route: Arc<Route>,
    client: bool,
    sleep: Option<Pin<Box<Sleep>>>,
}

fn lock(pipe: &Mutex<Pipe>) -> MutexGuard<'_, Pipe> {
    pipe.lock().expect("one thread")
}

impl Line {
    /// Breaks the connection.
    pub(crate) fn reset(&self) {
        lock(&self.read).fail();
        lock(&self.write).fail();
    }

    /// Waits until the other end has read all that was written, or never will. Says what became of it.
    pub(crate) async fn taken(&self) -> Taken {
        std::future::poll_fn(|cx| {
            let mut pipe = lock(&self.write);
            if pipe.written > 0 && pipe.written == pipe.read {
                return Poll::Ready(Taken::Whole);
            }
            if pipe.failed || pipe.silent {
                return Poll::Ready(Taken::Lost);
            }
            if pipe.broken {
                return Poll::Ready(Taken::Refused);
            }
            pipe.writer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The fate of what a client writes, drawn once per write.
    fn befall(&self) -> Option<Duration> {
        let mut state = self.route.state();
        let rates = state.rates;
        if self.client {
            if state.chance.happens(rates.request_reset) {
                drop(state);
                self.reset();
                return None;
            }
            if state.chance.happens(rates.request_lost) {
                lock(&self.write).silent = true;
            }
            if state.chance.happens(rates.reply_reset) {
                lock(&self.read).reset_on_write = true;
            }
            if state.chance.happens(rates.reply_lost) {
                lock(&self.read).silent = true;
            }
        }
        let slow = state.chance.happens(rates.slow);
        Some(if slow { state.chance.millis(50..1_500) } else { state.chance.micros(100..1_200) })
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let due = {
                let mut pipe = lock(&self.read);
                if pipe.broken {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                pipe.reader = Some(cx.waker().clone());
                let mut route = self.route.state();
                if route.cut {
                    route.waiting.push(cx.waker().clone());
                    return Poll::Pending;
                }
                drop(route);
                if pipe.silent {
                    return Poll::Pending;
                }
                let Some((due, bytes)) = pipe.queue.front_mut() else {
                    return if pipe.ended { Poll::Ready(Ok(())) } else { Poll::Pending };
                };
                if *due <= Instant::now() {
                    let fits = bytes.len().min(buffer.remaining());
                    buffer.put_slice(&bytes[..fits]);
                    bytes.drain(..fits);
                    let taken = bytes.is_empty();
                    pipe.read += fits;
                    if taken {
                        pipe.queue.pop_front();
                        pipe.writer.take().into_iter().for_each(Waker::wake);
                    }
                    return Poll::Ready(Ok(()));
                }
                *due
            };
            let mut sleep = Box::pin(sleep_until(due));
            let ready = sleep.as_mut().poll(cx).is_ready();
            self.sleep = Some(sleep);
            if !ready {
                return Poll::Pending;
            }
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let broken = || Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        if lock(&self.write).broken || lock(&self.write).ended {
            return broken();
        }
        if lock(&self.write).reset_on_write {
            self.reset();
            return broken();
        }
        let Some(latency) = self.befall() else { return broken() };
        let mut pipe = lock(&self.write);
        let due = pipe.last.max(Instant::now() + latency);
        pipe.last = due;
        pipe.written += bytes.len();
        pipe.queue.push_back((due, bytes.to_vec()));
        pipe.wake();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = lock(&self.write);
        pipe.ended = true;
        pipe.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut write = lock(&self.write);
        write.ended = true;
        write.wake();
        drop(write);
        // What this end has not read, nobody will; who still writes to it is told.
        lock(&self.read).reset();
    }
}
