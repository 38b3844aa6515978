//! How many connections there are, and how many each caller has.
//!
//! A caller is an address, or a user on a unix socket. Apps on this machine that come over TCP all share its address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::bind::PeerAddress;

/// Room for connections.
#[derive(Clone, Debug)]
pub(super) struct Room {
    /// One slot for each connection.
    pub(super) slots: Arc<Semaphore>,
    /// `None` where one caller may have them all.
    pub(super) callers: Option<Callers>,
}

impl Room {
    /// For so many connections, and so many of each caller.
    pub(super) fn new(connections: usize, per_caller: Option<usize>) -> Self {
        Self { slots: Arc::new(Semaphore::new(connections.max(1))), callers: per_caller.map(Callers::new) }
    }
}

/// The connections of every caller, with a limit for each.
#[derive(Clone, Debug)]
pub(super) struct Callers {
    most: usize,
    open: Arc<Mutex<HashMap<Caller, usize>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Caller {
    Address(IpAddr),
    User(Option<u32>),
}

/// One connection's place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    caller: Caller,
    callers: Callers,
}

impl Callers {
    /// At most `most` connections for each.
    pub(super) fn new(most: usize) -> Self {
        Self { most, open: Arc::default() }
    }

    /// A place for a connection from there; `None` where this caller has as many as it may.
    pub(super) fn place(&self, from: PeerAddress) -> Option<Place> {
        let caller = match from {
            PeerAddress::Tcp(address) => Caller::Address(address.ip().to_canonical()),
            PeerAddress::Unix { uid } => Caller::User(uid),
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(caller).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place { caller, callers: self.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.callers.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.caller) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(address: &str) -> PeerAddress {
        PeerAddress::Tcp(address.parse().expect("an address"))
    }

    #[test]
    fn each_caller_has_its_own_places_and_gets_them_back() {
        let callers = Callers::new(2);
        let first = callers.place(tcp("127.0.0.1:1"));
        let second = callers.place(tcp("[::ffff:127.0.0.1]:2"));
        assert!(first.is_some() && second.is_some());
        assert!(callers.place(tcp("127.0.0.1:3")).is_none(), "one address, however it is written");
        let other = callers.place(tcp("127.0.0.2:1"));
        let users =
            [callers.place(PeerAddress::Unix { uid: Some(1) }), callers.place(PeerAddress::Unix { uid: Some(2) })];
        assert!(other.is_some() && users.iter().all(Option::is_some));
        drop(first);
        assert!(callers.place(tcp("127.0.0.1:4")).is_some());
        drop((second, other, users));
        assert!(callers.open.lock().expect("no panic").is_empty(), "nothing is kept of callers that are gone");
    }
}
