//! Where a listener listens: a TCP address or a unix socket.
//!
//! A [`Listener`] belongs to no runtime. Each of those that serve it takes an [`Accepting`] end of its own.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixSocket, UnixStream};

use super::callers::Room;

/// An address to listen on: `127.0.0.1:8080`, `[::1]:8080` or `unix:/absolute/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Bind {
    /// A TCP address; port 0 takes any free port.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// Why a text is not an address to listen on, or why it could not be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Neither of the two forms.
    #[error("it is neither an address with a port (127.0.0.1:8080) nor unix: and an absolute path")]
    Unreadable,
    /// A process answers on the socket.
    #[error("another process is listening there")]
    InUse,
    /// The path holds something that is not a socket; it was left alone.
    #[error("the path holds something that is not a socket")]
    NotASocket,
    /// The operating system refused.
    #[error("the operating system refuses to listen there")]
    Refused(#[source] io::Error),
}

impl FromStr for Bind {
    type Err = BindError;

    fn from_str(text: &str) -> Result<Self, BindError> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(PathBuf::from(path))),
            Some(_) => Err(BindError::Unreadable),
            None => text.parse().map(Self::Tcp).map_err(|_| BindError::Unreadable),
        }
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A bound socket. Dropping it stops listening and removes its unix socket, unless another process has put its own
/// there meanwhile.
#[derive(Debug)]
pub struct Listener {
    local: Bind,
    socket: Socket,
    /// Room for connections, for all that serve this listener together.
    pub(super) room: OnceLock<Room>,
}

#[derive(Debug)]
enum Socket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, Inode),
}

/// Bytes that the operating system keeps for a peer that does not take them; Linux takes twice as many, for what it needs besides.
/// Left to itself it keeps megabytes of an answer for each slow reader. Whoever reads large answers is on this machine, where no
/// more is ever under way.
const UNREAD: usize = 256 * 1024;

/// One runtime's end of a listener.
#[derive(Debug)]
pub(super) enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Device and inode number: what a socket's path pointed to when it was bound.
type Inode = (u64, u64);

/// A connection just accepted, with what the operating system says of its other end.
pub(super) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream, Option<u32>),
}

impl Accepted {
    /// Where it comes from.
    pub(super) const fn peer(&self) -> PeerAddress {
        match self {
            Self::Tcp(_, address) => PeerAddress::Tcp(*address),
            Self::Unix(_, uid) => PeerAddress::Unix { uid: *uid },
        }
    }
}

impl Listener {
    /// Listens. A unix socket left behind by a process that has ended is replaced; it is readable and writable by its
    /// user and group (mode 0660) from its first moment.
    pub async fn bind(bind: &Bind) -> Result<Self, BindError> {
        match bind {
            Bind::Tcp(address) => {
                let socket = TcpListener::bind(address).await.map_err(refused)?;
                // Connections have what their listener has.
                set_socket_send_buffer_size(&socket, UNREAD).map_err(|errno| BindError::Refused(errno.into()))?;
                let local = Bind::Tcp(socket.local_addr().map_err(BindError::Refused)?);
                let socket = Socket::Tcp(socket.into_std().map_err(BindError::Refused)?);
                Ok(Self { local, socket, room: OnceLock::new() })
            }
            Bind::Unix(path) => {
                remove_stale(path).await?;
                let (socket, inode) = bind_unix(path).map_err(refused)?;
                let socket = Socket::Unix(socket.into_std().map_err(BindError::Refused)?, inode);
                Ok(Self { local: bind.clone(), socket, room: OnceLock::new() })
            }
        }
    }

    /// Where it listens, with the real port where 0 was asked for.
    pub const fn local(&self) -> &Bind {
        &self.local
    }

    /// An end of it for the runtime this is called on.
    pub(super) fn accepting(&self) -> io::Result<Accepting> {
        match &self.socket {
            Socket::Tcp(socket) => TcpListener::from_std(socket.try_clone()?).map(Accepting::Tcp),
            Socket::Unix(socket, _) => UnixListener::from_std(socket.try_clone()?).map(Accepting::Unix),
        }
    }
}

impl Accepting {
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(socket) => {
                let (stream, address) = socket.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Accepted::Tcp(stream, address))
            }
            Self::Unix(socket) => {
                let (stream, _) = socket.accept().await?;
                let uid = stream.peer_cred().ok().map(|credentials| credentials.uid());
                Ok(Accepted::Unix(stream, uid))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let (Bind::Unix(path), Socket::Unix(_, inode)) = (&self.local, &self.socket)
            && inode_of(path).is_ok_and(|found| found == *inode)
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::debug!(%error, "the unix socket could not be removed");
        }
    }
}

/// Removes a socket on which nothing answers. A path that holds anything else is left alone.
async fn remove_stale(path: &Path) -> Result<(), BindError> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(BindError::Refused(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(BindError::NotASocket),
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(BindError::Refused)
        }
        // A full backlog (WouldBlock) is a process, too: only a refusal proves that there is none.
        Ok(_) | Err(_) => Err(BindError::InUse),
    }
}

fn bind_unix(path: &Path) -> io::Result<(UnixListener, Inode)> {
    const MODE: u32 = 0o660;
    const BACKLOG: u32 = 1024;
    let socket = UnixSocket::new_stream()?;
    // The mode of the descriptor is the most that the file created by bind gets, so there is no moment in which others
    // could connect. The umask may have taken more away, hence the second call.
    let descriptor = std::fs::File::from(socket.as_fd().try_clone_to_owned()?);
    descriptor.set_permissions(std::fs::Permissions::from_mode(MODE))?;
    socket.bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(MODE))?;
    Ok((socket.listen(BACKLOG)?, inode_of(path)?))
}

fn inode_of(path: &Path) -> io::Result<Inode> {
    std::fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

fn refused(error: io::Error) -> BindError {
    match error.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse,
        _ => BindError::Refused(error),
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it comes from.
    pub address: PeerAddress,
    /// The thumbprint (RFC 8705 §3.1) of the verified certificate it showed in the TLS handshake.
    pub certificate: Option<Arc<str>>,
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A process on this machine.
    Unix {
        /// The user it ran as when it connected, where the operating system tells.
        uid: Option<u32>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_written_in_the_same_form() {
        for text in ["127.0.0.1:8080", "[::1]:0", "unix:/run/consentry/proxy.sock"] {
            assert_eq!(text.parse::<Bind>().expect(text).to_string(), text);
        }
        for text in ["", "8080", "localhost:8080", "unix:", "unix:relative", "127.0.0.1"] {
            assert!(matches!(text.parse::<Bind>(), Err(BindError::Unreadable)), "{text}");
        }
    }

    #[tokio::test]
    async fn port_zero_becomes_the_real_port() {
        let any = "127.0.0.1:0".parse().expect("valid");
        let listener = Listener::bind(&any).await.expect("binds");
        assert!(matches!(listener.local(), Bind::Tcp(address) if address.port() != 0));
        let again = Listener::bind(listener.local()).await;
        assert!(matches!(again, Err(BindError::InUse)));
    }

    #[tokio::test]
    async fn a_peer_that_reads_nothing_is_kept_little() {
        let listener = Listener::bind(&"127.0.0.1:0".parse().expect("valid")).await.expect("binds");
        let Bind::Tcp(address) = listener.local() else { panic!("{listener:?}") };
        let _peer = TcpStream::connect(address).await.expect("connects");
        let accepted = listener.accepting().expect("listens").accept().await.expect("one waits");
        let Accepted::Tcp(stream, _) = accepted else { panic!("not TCP") };
        let mut kept = 0;
        while tokio::time::timeout(std::time::Duration::from_millis(300), stream.writable()).await.is_ok() {
            kept += stream.try_write(&[0; 16 * 1024]).unwrap_or_default();
        }
        assert!(kept < 4 * UNREAD, "{kept}");
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("binds"));
        assert!(path.exists(), "std leaves its socket behind");
        let bind = Bind::Unix(path.clone());
        let listener = Listener::bind(&bind).await.expect("replaces it");
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        assert!(matches!(Listener::bind(&bind).await, Err(BindError::InUse)));
        drop(listener);
        assert!(!path.exists(), "ours is removed");
    }

    #[tokio::test]
    async fn a_file_in_the_way_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notes.txt");
        std::fs::write(&path, "keep me").expect("written");
        let refused = Listener::bind(&Bind::Unix(path.clone())).await;
        assert!(matches!(refused, Err(BindError::NotASocket)));
        assert_eq!(std::fs::read_to_string(&path).expect("still there"), "keep me");
    }

    #[tokio::test]
    async fn a_listener_leaves_the_socket_of_its_successor() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s");
        let bind = Bind::Unix(path.clone());
        let first = Listener::bind(&bind).await.expect("binds");
        std::fs::rename(&path, folder.path().join("moved")).expect("moved away");
        let second = Listener::bind(&bind).await.expect("binds");
        drop(first);
        assert!(path.exists(), "the second one's socket stays");
        drop(second);
        assert!(!path.exists());
    }
}
