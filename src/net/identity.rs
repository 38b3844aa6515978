//! Who we are on a connection: a certificate chain with its private key, which may be replaced while it is in use.
//!
//! Certificates of banks' clients live for a year or two, those of a mesh for a day, and a process may live longer. Every
//! clone of an [`Identity`] is the same one: what is renewed is shown by every handshake that begins after it. What was
//! agreed before goes on.

use std::fmt;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage};

use super::tls::{TlsError, thumbprint};
use crate::words::clock::WallTime;
use crate::words::secrets::Renewable;

/// A certificate chain with its private key. Cheap to clone; all clones are renewed together.
#[derive(Clone)]
pub struct Identity(Renewable<CertifiedKey>);

/// What came of new bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// It is the same certificate.
    Unchanged,
    /// Another is shown from here on.
    Replaced,
}

impl Identity {
    /// Reads a certificate chain (leaf first) and its private key, and checks that they belong together.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        Ok(Self(Renewable::new(pair(chain, key)?)))
    }

    /// Shows another certificate from here on, if `chain` and `key` belong together and the certificate's dates hold.
    /// After an error the one that was goes on.
    pub fn renew(&self, chain: &[u8], key: &[u8], now: WallTime) -> Result<Renewed, TlsError> {
        let new = pair(chain, key)?;
        if new.cert == self.current().cert {
            return Ok(Renewed::Unchanged);
        }
        check_dates(&new, now)?;
        self.0.replace(new);
        Ok(Renewed::Replaced)
    }

    /// The `x5t#S256` of the leaf: base64url of the SHA-256 of its DER (RFC 8705 §3.1).
    pub fn thumbprint(&self) -> String {
        self.current().cert.first().map(thumbprint).unwrap_or_default()
    }

    fn current(&self) -> Arc<CertifiedKey> {
        self.0.current()
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.thumbprint())
    }
}

fn pair(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, TlsError> {
    let chain = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| TlsError::CertificateNotPem)?;
    if chain.is_empty() {
        return Err(TlsError::CertificateMissing);
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
        PemError::NoItemsFound => TlsError::KeyMissing,
        _ => TlsError::KeyNotPem,
    })?;
    let key = provider::sign::any_supported_type(&key).map_err(|_| TlsError::KeyUnsupported)?;
    let pair = CertifiedKey::new(chain, key);
    match pair.keys_match() {
        Ok(()) => Ok(pair),
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(TlsError::KeyMismatch),
        Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::KeyUnsupported),
        Err(_) => Err(TlsError::CertificateInvalid),
    }
}

/// Whether the leaf is valid at `now`. webpki looks at that first; that nobody here vouches for it is no matter.
fn check_dates(pair: &CertifiedKey, now: WallTime) -> Result<(), TlsError> {
    let leaf = pair.cert.first().ok_or(TlsError::CertificateMissing)?;
    let leaf = EndEntityCert::try_from(leaf).map_err(|_| TlsError::CertificateInvalid)?;
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_millis(now.as_millis()));
    let algorithms = provider::default_provider().signature_verification_algorithms.all;
    match leaf.verify_for_usage(algorithms, &[], &[], now, KeyUsage::client_auth(), None, None) {
        Err(webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. }) => {
            Err(TlsError::CertificateDates)
        }
        Ok(_) | Err(_) => Ok(()),
    }
}
