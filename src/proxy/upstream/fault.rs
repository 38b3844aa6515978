//! Why there is no answer of the bank, read from what HTTP, TLS and the operating system say.

use std::error::Error as StdError;
use std::io;

use crate::net::names::PrivateAddress;
use crate::proxy::body::BodyFault;

/// Why there is no answer of the bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::proxy) enum UpstreamFault {
    /// No connection; nothing was sent.
    #[error("no connection to the bank's API: {0}")]
    Unreachable(NoConnection),
    /// The head of an answer did not come in time.
    #[error("the bank's API did not answer in time")]
    Timeout,
    /// What came is not an answer that can be passed on.
    #[error("the bank's API answered with something that is not acceptable HTTP: {0}")]
    Protocol(&'static str),
    /// The connection ended after the request was sent, or part of it, and before an answer.
    #[error("the connection to the bank's API ended before an answer came")]
    Lost,
    /// The app's own body failed, so the request was broken off.
    #[error(transparent)]
    Body(BodyFault),
}

/// Why no connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::proxy) enum NoConnection {
    /// The resolver knows no address, or did not answer.
    #[error("its name cannot be resolved")]
    Name,
    /// It leads to a private address alone, and this bank is not to be found there.
    #[error("its name leads to a private address, which is refused")]
    Private,
    /// Nobody listens there.
    #[error("the connection was refused")]
    Refused,
    /// Name resolution, TCP and TLS together took longer than allowed.
    #[error("connecting took too long")]
    TimedOut,
    /// One of the certificates, or another part of TLS, is not accepted by one of the sides.
    #[error("the TLS handshake failed")]
    Tls,
    /// Any other reason.
    #[error("connecting failed")]
    Other,
}

/// What an error of a connection that was made means.
pub(super) fn classify(error: &hyper::Error) -> UpstreamFault {
    // In TLS 1.3 a server refuses our certificate after the handshake seems complete: the first thing read is its alert.
    // It comes before any HTTP, so the request was not processed.
    if find::<rustls::Error>(error).is_some_and(|error| matches!(error, rustls::Error::AlertReceived(_))) {
        return UpstreamFault::Unreachable(NoConnection::Tls);
    }
    if error.is_parse_too_large() {
        UpstreamFault::Protocol("its head is too large")
    } else if error.is_parse() {
        UpstreamFault::Protocol("it cannot be parsed")
    } else if error.is_user() {
        UpstreamFault::Body(BodyFault::Broken)
    } else {
        UpstreamFault::Lost
    }
}

/// What an error of the connector means.
pub(super) fn refused(error: &(dyn StdError + 'static)) -> NoConnection {
    if find::<rustls::Error>(error).is_some() {
        return NoConnection::Tls;
    }
    if find::<PrivateAddress>(error).is_some() {
        return NoConnection::Private;
    }
    // The connector says in words alone that it was the name.
    if error.to_string().starts_with("dns error") {
        return NoConnection::Name;
    }
    match find::<io::Error>(error).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => NoConnection::Refused,
        Some(io::ErrorKind::TimedOut) => NoConnection::TimedOut,
        Some(_) | None => NoConnection::Other,
    }
}

/// The first error of this type among an error and its causes, those wrapped in an I/O error included.
fn find<'e, E: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e E> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<E>() {
            return Some(found);
        }
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_found_inside_an_io_error() {
        let error = io::Error::other(io::Error::other(rustls::Error::DecryptError));
        assert_eq!(refused(&error), NoConnection::Tls);
        assert!(find::<hyper::Error>(&error).is_none());
    }

    #[test]
    fn the_operating_system_s_word_is_found_inside_an_error() {
        for (kind, told) in [
            (io::ErrorKind::ConnectionRefused, NoConnection::Refused),
            (io::ErrorKind::TimedOut, NoConnection::TimedOut),
            (io::ErrorKind::NotFound, NoConnection::Other),
        ] {
            assert_eq!(refused(&io::Error::from(kind)), told);
        }
    }
}
