//! A link to a server that can be cut at the worst moment: after a command went through and before its reply came back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub(crate) struct FaultLink {
    port: u16,
    cuts: Arc<AtomicUsize>,
    frozen: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl FaultLink {
    /// Listens on a port of its own and passes everything on to `server`.
    pub(crate) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cuts = Arc::new(AtomicUsize::new(0));
        let frozen = Arc::new(AtomicBool::new(false));
        let (waiting, cold) = (Arc::clone(&cuts), Arc::clone(&frozen));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { continue };
                tokio::spawn(pass_on(client, server, Arc::clone(&waiting), Arc::clone(&cold)));
            }
        });
        Self { port, cuts, frozen, task }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The next so many replies are swallowed, each together with its connection.
    pub(crate) fn cut_replies(&self, count: usize) {
        self.cuts.store(count, Ordering::SeqCst);
    }

    /// From here on nothing comes back, and nobody hangs up.
    pub(crate) fn freeze(&self) {
        self.frozen.store(true, Ordering::SeqCst);
    }

    /// How many cuts have not happened yet.
    pub(crate) fn cuts_left(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for FaultLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass_on(mut client: TcpStream, mut server: TcpStream, cuts: Arc<AtomicUsize>, frozen: Arc<AtomicBool>) {
    let (mut requests, mut replies) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = client.read(&mut requests) => {
                let Ok(length @ 1..) = read else { return };
                if server.write_all(&requests[..length]).await.is_err() { return }
            }
            read = server.read(&mut replies) => {
                let Ok(length @ 1..) = read else { return };
                if frozen.load(Ordering::SeqCst) { continue }
                let cut = cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
                if cut.is_ok() || client.write_all(&replies[..length]).await.is_err() { return }
            }
        }
    }
}
