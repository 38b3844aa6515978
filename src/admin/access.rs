//! Who may write.
//!
//! Whoever reaches the listener is on this machine, which on a developer's machine includes every web page and in a pod
//! every container. So writing takes the admin key, or a unix socket and the user this process runs as.

use http::{HeaderMap, header};

use super::problem::{AdminProblem, Refusal};
use crate::net::serve::{Peer, PeerAddress};
use crate::words::secrets::AdminKey;

/// Whether writing takes credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// It does.
    Guarded,
    /// It does not. Only for a demonstration, with banks that are imitated.
    Open,
}

/// Lets write or does not.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) writes: Writes,
    pub(super) key: Option<AdminKey>,
    /// The user this process runs as.
    pub(super) own_uid: u32,
}

impl Access {
    pub(super) fn new(writes: Writes, key: Option<AdminKey>) -> Self {
        // An empty key would be known to everybody.
        let key = key.filter(|key| !key.expose().is_empty());
        Self { writes, key, own_uid: rustix::process::geteuid().as_raw() }
    }

    /// Whether a request with these headers from this peer may write.
    pub(super) fn check_write(&self, headers: &HeaderMap, peer: Option<&Peer>) -> Result<(), Refusal> {
        if self.writes == Writes::Open || peer.is_some_and(|peer| self.is_trusted(peer.address)) {
            return Ok(());
        }
        let Some(key) = &self.key else {
            let detail = "no admin key is configured, so only this user or root may write, through a unix socket";
            return Err(Refusal::new(AdminProblem::WriteForbidden, detail));
        };
        let mut lines = headers.get_all(header::AUTHORIZATION).iter();
        let detail = match (lines.next(), lines.next()) {
            (Some(line), None) => match bearer(line.as_bytes()) {
                Some(presented) if key.matches(presented) => return Ok(()),
                Some(_) => "this is not the admin key",
                None => "the Authorization header has to be Bearer and the admin key",
            },
            (None, _) => "the Authorization header is missing; it has to be Bearer and the admin key",
            (Some(_), Some(_)) => "there is more than one Authorization header",
        };
        Err(Refusal::new(AdminProblem::CredentialsNeeded, detail))
    }

    fn is_trusted(&self, peer: PeerAddress) -> bool {
        match peer {
            PeerAddress::Unix { uid } => uid.is_some_and(|uid| uid == ROOT || uid == self.own_uid),
            PeerAddress::Tcp(_) => false,
        }
    }
}

/// What follows `Bearer`, in any case (RFC 9110 §11.1), and spaces.
fn bearer(credentials: &[u8]) -> Option<&[u8]> {
    let (scheme, presented) = credentials.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| presented.trim_ascii_start())
}

const ROOT: u32 = 0;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn access(writes: Writes, key: Option<&str>) -> Access {
        Access { writes, key: key.map(AdminKey::new), own_uid: 1_000 }
    }

    fn headers(lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|line| (header::AUTHORIZATION, HeaderValue::from_static(line))).collect()
    }

    fn unix(uid: Option<u32>) -> Peer {
        Peer { address: PeerAddress::Unix { uid }, certificate: None }
    }

    fn status(outcome: Result<(), Refusal>) -> u16 {
        outcome.err().map_or(200, |refusal| refusal.into_response().status().as_u16())
    }

    #[test]
    fn the_key_lets_write_and_nothing_like_it_does() {
        let access = access(Writes::Guarded, Some("s3cret"));
        for good in ["Bearer s3cret", "bearer s3cret", "BEARER   s3cret"] {
            assert_eq!(status(access.check_write(&headers(&[good]), None)), 200, "{good}");
        }
        for bad in ["Bearer s3cre", "Bearer s3crett", "Bearer ", "Bearer", "Bearers3cret", "Basic s3cret", "s3cret", ""]
        {
            assert_eq!(status(access.check_write(&headers(&[bad]), None)), 401, "{bad}");
        }
        assert_eq!(status(access.check_write(&headers(&["Bearer s3cret", "Bearer s3cret"]), None)), 401);
        assert_eq!(status(access.check_write(&HeaderMap::new(), None)), 401);
    }

    #[test]
    fn on_a_unix_socket_this_user_and_root_need_no_key() {
        let tcp = Peer { address: PeerAddress::Tcp(([127, 0, 0, 1], 1).into()), certificate: None };
        for (key, refused) in [(Some("k"), 401), (None, 403)] {
            let access = access(Writes::Guarded, key);
            let rows = [
                (unix(Some(1_000)), 200),
                (unix(Some(0)), 200),
                (unix(Some(1_001)), refused),
                (unix(None), refused),
                (tcp.clone(), refused),
            ];
            for (peer, wanted) in rows {
                assert_eq!(status(access.check_write(&HeaderMap::new(), Some(&peer))), wanted, "{peer:?} {key:?}");
            }
        }
    }

    #[test]
    fn a_demonstration_lets_everybody_write() {
        assert_eq!(status(access(Writes::Open, None).check_write(&HeaderMap::new(), None)), 200);
    }

    #[test]
    fn an_empty_key_is_no_key() {
        let access = Access::new(Writes::Guarded, Some(AdminKey::new("")));
        for line in ["Bearer ", "Bearer  ", "Bearer x"] {
            assert_eq!(status(access.check_write(&headers(&[line]), None)), 403, "{line:?}");
        }
    }
}
