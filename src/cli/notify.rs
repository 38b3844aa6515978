//! Tells a service manager how this process stands, as `sd_notify(3)` describes: a datagram to the socket that
//! `NOTIFY_SOCKET` names. Without that variable nobody is told.

use std::env;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use tokio::time::sleep;

use crate::admin::Readiness;
use crate::net::shutdown::Shutdown;

/// Tells of readiness, of what it waits for until then, and of the end.
pub(super) async fn tell(readiness: Readiness, shutdown: Shutdown) {
    let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return };
    let manager = match Manager::at(name.as_encoded_bytes()) {
        Ok(manager) => manager,
        Err(error) => {
            tracing::warn!(%error, "NOTIFY_SOCKET names no socket that takes anything.");
            return;
        }
    };
    let mut told = Vec::new();
    while !readiness.is_ready() {
        let missing = readiness.missing();
        if told != missing {
            manager.say(&format!("STATUS=Waiting for: {}", missing.join(", ")));
            told = missing;
        }
        tokio::select! {
            () = shutdown.soft() => break,
            () = sleep(LOOK) => {}
        }
    }
    if readiness.is_ready() {
        manager.say("READY=1\nSTATUS=Ready");
    }
    shutdown.soft().await;
    manager.say("STOPPING=1\nSTATUS=Ending: what is under way finishes first");
}

/// Where the service manager listens.
struct Manager(UnixDatagram);

impl Manager {
    /// A path, or a name in the abstract namespace of Linux behind an `@`.
    fn at(name: &[u8]) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        match name.strip_prefix(b"@") {
            #[cfg(target_os = "linux")]
            Some(name) => {
                use std::os::linux::net::SocketAddrExt as _;
                socket.connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)?;
            }
            #[cfg(not(target_os = "linux"))]
            Some(_) => return Err(io::ErrorKind::Unsupported.into()),
            None => {
                use std::os::unix::ffi::OsStrExt as _;
                socket.connect(std::ffi::OsStr::from_bytes(name))?;
            }
        }
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    /// A manager that does not take it learns nothing; that stops nobody.
    fn say(&self, state: &str) {
        let _ = self.0.send(state.as_bytes());
    }
}

/// How often it is looked whether something has happened.
const LOOK: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_is_told_at_a_path_and_in_the_abstract_namespace() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let listening = UnixDatagram::bind(&path).expect("binds");
        Manager::at(path.as_os_str().as_encoded_bytes()).expect("connects").say("READY=1");
        let mut heard = [0; 64];
        let length = listening.recv(&mut heard).expect("told");
        assert_eq!(&heard[..length], b"READY=1");
        assert!(Manager::at(b"/nowhere/at/all").is_err());

        #[cfg(target_os = "linux")]
        {
            use std::os::linux::net::SocketAddrExt as _;
            let name = format!("consentry-notify-{}", std::process::id());
            let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
            let listening = UnixDatagram::bind_addr(&address).expect("binds");
            Manager::at(format!("@{name}").as_bytes()).expect("connects").say("STOPPING=1");
            let length = listening.recv(&mut heard).expect("told");
            assert_eq!(&heard[..length], b"STOPPING=1");
        }
    }
}
