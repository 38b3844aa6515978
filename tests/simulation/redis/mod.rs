//! A Redis that speaks to the program's own client and runs its shipping scripts.
//!
//! A primary and up to two replicas. Replication is asynchronous and lags; WAIT says how many replicas have what its
//! connection wrote. The append-only file is synced before each answer or once a second. A server that restarts has what
//! was synced, a replica that is promoted has what had reached it, and a primary that was replaced without knowing goes on
//! answering until it is told, and then says READONLY. `lua` runs the scripts, `resp` is the wire, `node` one server.

mod lua;
pub(crate) mod node;
mod resp;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

use self::lua::{Ground, Script};
use self::node::{Lost, Node, Role, consent_of, stored};
use self::resp::{Command, Reply, take_command};
use crate::chance::Chance;
use crate::machine::NOON;
use crate::network::Line;
use crate::trace::{Pid, Trace, What};

/// When the append-only file is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fsync {
    Always,
    EverySecond,
}

pub(crate) struct Redis {
    fsync: Fsync,
    /// How many replicas the program waits for before it counts a write.
    required: usize,
    /// What becomes of a script's text before it runs: a test may break the protocol here.
    edit: fn(&str) -> String,
    trace: Arc<Trace>,
    progress: Notify,
    state: Mutex<State>,
}

struct State {
    nodes: Vec<Node>,
    primary: usize,
    /// The replica that still talks to the primary that was.
    misled: Option<usize>,
    /// How many streams of writes there were.
    streams: u64,
    seen: BTreeSet<(Pid, usize, u64)>,
    chance: Chance,
}

impl State {
    /// A primary begins a stream of writes of its own, which its replicas follow.
    fn new_stream(&mut self, primary: usize) {
        self.streams += 1;
        let stream = self.streams;
        let follows = |(index, node): &(usize, &mut Node)| *index == primary || node.role == Role::Replica;
        self.nodes.iter_mut().enumerate().filter(follows).for_each(|(_, node)| node.history = stream);
    }
}

/// What a connection is to its server.
struct Session {
    node: usize,
    by: Pid,
    run: u64,
    last_write: u64,
    pushes: mpsc::UnboundedSender<Reply>,
}

impl Redis {
    pub(crate) fn new(
        fsync: Fsync,
        (replicas, required): (usize, usize),
        edit: fn(&str) -> String,
        mut chance: Chance,
        trace: Arc<Trace>,
    ) -> Arc<Self> {
        let mut node = |role| Node::new(role, i64::try_from(chance.among(0..2_000_000)).expect("small") - 1_000_000);
        let mut nodes = vec![node(Role::Primary)];
        nodes.extend((0..replicas).map(|_| node(Role::Replica)));
        let state = Mutex::new(State { nodes, primary: 0, misled: None, streams: 0, seen: BTreeSet::new(), chance });
        let redis = Arc::new(Self { fsync, required, edit, trace, progress: Notify::new(), state });
        for node in 0..=replicas {
            tokio::spawn(Arc::clone(&redis).replicate(node));
        }
        if fsync == Fsync::EverySecond {
            tokio::spawn(Arc::clone(&redis).sync_every_second());
        }
        redis
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("one thread")
    }

    fn say(&self, text: String) {
        self.trace.add(What::Store(text));
    }

    /// The server that a replica of the program reaches by name, if it is up.
    pub(crate) fn reached_by(&self, replica: usize) -> Option<usize> {
        let state = self.state();
        let overtaken = state.nodes.iter().position(|node| node.role == Role::Stale);
        let reached = overtaken.filter(|_| state.misled == Some(replica)).unwrap_or(state.primary);
        state.nodes[reached].up.then_some(reached)
    }

    /// Serves one connection until it ends.
    pub(crate) async fn serve(self: Arc<Self>, node: usize, mut line: Line, by: Pid) {
        let (sender, mut news) = mpsc::unbounded_channel();
        let mut run = self.state().nodes[node].run.subscribe();
        let mut session = Session { node, by, run: *run.borrow_and_update(), last_write: 0, pushes: sender };
        let mut unread = Vec::with_capacity(4_096);
        loop {
            let mut out = Vec::new();
            while let Some(command) = take_command(&mut unread) {
                let Some(replies) = self.answer(&mut session, &command).await else {
                    return line.reset();
                };
                for reply in replies {
                    reply.write(&mut out);
                }
            }
            if !out.is_empty() && line.write_all(&out).await.is_err() {
                return;
            }
            tokio::select! {
                biased;
                _ = run.changed() => return line.reset(),
                Some(push) = news.recv() => {
                    let mut out = Vec::new();
                    push.write(&mut out);
                    if line.write_all(&out).await.is_err() {
                        return;
                    }
                }
                length = line.read_buf(&mut unread) => match length {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                },
            }
        }
    }

    /// What the server says to a command; `None`: it died meanwhile.
    async fn answer(&self, session: &mut Session, command: &Command) -> Option<Vec<Reply>> {
        let word = |index: usize| command.get(index).map(|word| String::from_utf8_lossy(word).into_owned());
        let name = word(0).unwrap_or_default().to_ascii_uppercase();
        let one = |reply| Some(vec![reply]);
        match name.as_str() {
            "PING" => one(Reply::Simple("PONG")),
            "HELLO" => {
                let pair = |name: &str, value| (Reply::text(name), value);
                one(Reply::Map(vec![
                    pair("server", Reply::text("redis")),
                    pair("version", Reply::text("7.0.15")),
                    pair("proto", Reply::Number(3)),
                    pair("mode", Reply::text("standalone")),
                    pair("role", Reply::text("master")),
                ]))
            }
            "SELECT" | "CLIENT" => one(Reply::Simple("OK")),
            "INFO" => one(self.info(session.node)),
            "SUBSCRIBE" => {
                let channel = command.get(1)?.clone();
                self.state().nodes[session.node].subscribers.push((channel.clone(), session.pushes.clone()));
                one(Reply::Push(vec![Reply::text("subscribe"), Reply::Bulk(channel), Reply::Number(1)]))
            }
            "SCRIPT" => {
                let text = word(2)?;
                let digest = redis::Script::new(&text).get_hash().to_owned();
                let script = Script::new((self.edit)(&text));
                self.state().nodes[session.node].scripts.insert(digest.clone(), Arc::new(script));
                one(Reply::text(&digest))
            }
            "EVALSHA" => self.evaluate(session, command).await.map(|reply| vec![reply]),
            "WAIT" => {
                let (wanted, patience) = (word(1)?.parse().ok()?, word(2)?.parse().ok()?);
                one(self.wait(session, wanted, Duration::from_millis(patience)).await)
            }
            other => one(Reply::Error(format!("ERR unknown command '{other}'"))),
        }
    }

    fn info(&self, session: usize) -> Reply {
        let state = self.state();
        let node = &state.nodes[session];
        let role = if node.role == Role::Replica { "slave" } else { "master" };
        let run = *node.run.borrow() * 100 + session as u64;
        Reply::text(&format!(
            "# Server\r\nredis_version:7.0.15\r\nrun_id:{run:040}\r\n# Replication\r\nrole:{role}\r\nmaster_replid:{:040}\r\nmaster_repl_offset:{}\r\n",
            node.history,
            node.offset()
        ))
    }

    async fn evaluate(&self, session: &mut Session, command: &Command) -> Option<Reply> {
        let digest = String::from_utf8_lossy(command.get(1)?).into_owned();
        let keys: usize = std::str::from_utf8(command.get(2)?).ok()?.parse().ok()?;
        let (keys, arguments) = command[3..].split_at(keys);
        let (reply, written, published, pause) = {
            let mut state = self.state();
            let pause = state.chance.micros(300..3_000);
            let node = &mut state.nodes[session.node];
            let Some(script) = node.scripts.get(&digest).cloned() else {
                return Some(Reply::Error("NOSCRIPT No matching script. Please use EVAL.".into()));
            };
            if node.role == Role::Replica && !script.only_reads {
                return Some(Reply::Error("READONLY You can't write against a read only replica.".into()));
            }
            let now = (NOON + self.trace.now()) * 1_000;
            let data = std::mem::take(&mut node.data);
            let ground = Ground { data, now: now.saturating_add_signed(node.skew), ..Ground::default() };
            let (reply, ground) = lua::run(&script, keys, arguments, ground);
            node.data = ground.data;
            let wrote = !ground.touched.is_empty();
            for key in ground.touched {
                self.note_write(node, session, script.step, &key);
                node.record(key);
            }
            (reply, wrote.then(|| node.offset()), ground.published, pause)
        };
        if let Some(offset) = written {
            session.last_write = offset;
            self.progress.notify_waiters();
        }
        if self.fsync == Fsync::Always {
            // Whatever is answered, also to a read, is on the disk first.
            let until = self.state().nodes[session.node].offset();
            sleep(pause).await;
            let mut state = self.state();
            let node = &mut state.nodes[session.node];
            if *node.run.borrow() != session.run {
                return None;
            }
            node.sync_to(until);
        }
        let mut state = self.state();
        self.note_read(session, keys, &mut state);
        let node = &mut state.nodes[session.node];
        for (channel, message) in published {
            let push = Reply::Push(vec![Reply::text("message"), Reply::Bulk(channel.clone()), Reply::Bulk(message)]);
            node.subscribers.retain(|(to, pushes)| *to != channel || pushes.send(push.clone()).is_ok());
        }
        if let Some(offset) = written.filter(|_| self.required == 0) {
            node.acknowledge(offset);
        }
        Some(reply)
    }

    fn note_write(&self, node: &Node, session: &Session, step: &'static str, key: &[u8]) {
        let Some(consent) = consent_of(key) else { return };
        let record = node.data.get(key).map(stored).unwrap_or_default();
        let (server, offset, by) = (session.node, node.offset() + 1, session.by);
        self.trace.add(What::Wrote { server, offset, consent, by, step, record });
    }

    /// What a process has been told of, once.
    fn note_read(&self, session: &Session, keys: &[Vec<u8>], state: &mut State) {
        for key in keys {
            if let (Some(consent), Some(entry)) = (consent_of(key), state.nodes[session.node].data.get(key)) {
                let generation = stored(entry).generation;
                if state.seen.insert((session.by, consent, generation)) {
                    self.trace.add(What::Saw { by: session.by, consent, generation });
                }
            }
        }
    }

    async fn wait(&self, session: &Session, wanted: usize, patience: Duration) -> Reply {
        let having = || {
            let state = self.state();
            if state.nodes[session.node].role != Role::Primary {
                return 0;
            }
            let has = |node: &&Node| node.role == Role::Replica && node.up && node.offset() >= session.last_write;
            state.nodes.iter().filter(has).count()
        };
        let enough = async {
            loop {
                let progress = self.progress.notified();
                if having() >= wanted {
                    return;
                }
                progress.await;
            }
        };
        let _ = timeout(patience, enough).await;
        let having = having();
        if having >= self.required {
            self.state().nodes[session.node].acknowledge(session.last_write);
        }
        Reply::Number(i64::try_from(having).unwrap_or(i64::MAX))
    }

    /// Brings `node` what its primary has, a little later, for ever.
    async fn replicate(self: Arc<Self>, node: usize) {
        loop {
            let progress = self.progress.notified();
            let behind = |state: &State| {
                let (primary, own) = (&state.nodes[state.primary], &state.nodes[node]);
                own.role == Role::Replica && own.up && own.linked && primary.up && own.offset() < primary.offset()
            };
            if !behind(&self.state()) {
                progress.await;
                continue;
            }
            let lag = {
                let mut state = self.state();
                if state.chance.happens(10) { state.chance.millis(50..900) } else { state.chance.micros(100..1_500) }
            };
            sleep(lag).await;
            let mut state = self.state();
            if behind(&state) {
                let effects = state.nodes[state.primary].effects_after(state.nodes[node].offset()).to_vec();
                state.nodes[node].apply(&effects);
            }
            drop(state);
            self.progress.notify_waiters();
        }
    }

    async fn sync_every_second(self: Arc<Self>) {
        loop {
            sleep(Duration::from_secs(1)).await;
            let until: Vec<_> = self.state().nodes.iter().map(Node::offset).collect();
            let pause = self.state().chance.millis(1..400);
            sleep(pause).await;
            let mut state = self.state();
            state.nodes.iter_mut().zip(until).filter(|(node, _)| node.up).for_each(|(node, until)| {
                node.sync_to(until.min(node.offset()));
            });
        }
    }

    /// The primary's process dies.
    pub(crate) fn crash_primary(&self) {
        let mut state = self.state();
        let primary = state.primary;
        state.nodes[primary].crash();
        drop(state);
        self.say(format!("server {primary} crashes"));
    }

    /// The primary starts again with what is on its disk, and its replicas with what it has.
    pub(crate) fn restart_primary(&self) {
        let mut state = self.state();
        let primary = state.primary;
        let lost = state.nodes[primary].start_from_disk();
        state.new_stream(primary);
        let (data, offset) = (state.nodes[primary].data.clone(), state.nodes[primary].offset());
        state.nodes.iter_mut().filter(|node| node.role == Role::Replica).for_each(|node| {
            node.become_copy(data.clone(), offset);
        });
        drop(state);
        self.say(format!("server {primary} starts from its disk"));
        self.tell_lost(lost);
    }

    pub(crate) fn is_primary_up(&self) -> bool {
        let state = self.state();
        state.nodes[state.primary].up
    }

    /// Promotes a replica: the one that has most, or, if the election goes wrong, the one that has least. The primary is
    /// dead, or `misled`, a replica of the program, goes on talking to it.
    pub(crate) fn fail_over(&self, wrongly: bool, misled: Option<usize>) {
        let mut state = self.state();
        let old = state.primary;
        let candidates = state.nodes.iter().enumerate().filter(|(_, node)| node.role == Role::Replica && node.up);
        let offsets = candidates.map(|(index, node)| (node.offset(), index));
        let Some((offset, new)) = (if wrongly { offsets.min() } else { offsets.max() }) else { return };
        let lost = state.nodes[old].lost_against(offset, &state.nodes[new].data);
        if misled.is_some() {
            state.nodes[old].role = Role::Stale;
            state.misled = misled;
            // The others find the new one.
            state.nodes[old].subscribers.clear();
        } else {
            if state.nodes[old].up {
                state.nodes[old].crash();
            }
            state.nodes[old].role = Role::Replica;
        }
        let data = state.nodes[new].data.clone();
        state.nodes[new].become_copy(data.clone(), offset);
        state.nodes[new].role = Role::Primary;
        state.nodes[new].linked = true;
        state.primary = new;
        state.new_stream(new);
        state.nodes.iter_mut().filter(|node| node.role == Role::Replica && node.up).for_each(|node| {
            node.become_copy(data.clone(), offset);
        });
        drop(state);
        self.say(format!(
            "server {new} is promoted in place of {old}, which is {}",
            if misled.is_some() { "not told" } else { "dead" }
        ));
        self.tell_lost(lost);
        self.progress.notify_waiters();
    }

    /// Every server that is not the primary becomes its replica, and has what it has.
    pub(crate) fn rejoin(&self) {
        let mut state = self.state();
        let primary = state.primary;
        if !state.nodes[primary].up {
            return;
        }
        state.misled = None;
        let (data, offset) = (state.nodes[primary].data.clone(), state.nodes[primary].offset());
        let (mut lost, stream) = (Vec::new(), state.streams);
        for index in (0..state.nodes.len()).filter(|index| *index != primary) {
            let node = &mut state.nodes[index];
            if node.role == Role::Stale {
                let before = node.base;
                lost.extend(node.effects_after(before).iter().filter(|effect| effect.acknowledged).map(|effect| {
                    Lost {
                        key: effect.key.clone(),
                        had: effect.value.clone(),
                        has: data.get(&effect.key).cloned(),
                        acknowledged: true,
                    }
                }));
            }
            node.role = Role::Replica;
            node.up = true;
            node.linked = true;
            node.history = stream;
            node.become_copy(data.clone(), offset);
        }
        drop(state);
        self.say(format!("all servers follow {primary}"));
        self.tell_lost(lost);
        self.progress.notify_waiters();
    }

    /// Cuts or mends replication to one replica.
    pub(crate) fn set_linked(&self, replica: usize, linked: bool) {
        let mut state = self.state();
        let replicas = state.nodes.iter_mut().filter(|node| node.role == Role::Replica);
        if let Some(node) = replicas.into_iter().nth(replica) {
            node.linked = linked;
        }
        drop(state);
        self.say(format!("replication to replica {replica}: {linked}"));
        self.progress.notify_waiters();
    }

    fn tell_lost(&self, lost: Vec<Lost>) {
        for Lost { key, had, has, acknowledged } in lost {
            if let Some(consent) = consent_of(&key) {
                let (had, has) = (had.as_ref().map(stored), has.as_ref().map(stored));
                self.trace.add(What::Forgot { consent, had, has, acknowledged });
            }
        }
    }
}
