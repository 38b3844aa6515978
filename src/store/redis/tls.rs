//! TLS to the server, with the one crypto library of this program and with roots that the operator chooses.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::settings::RedisSettings;

/// Why the TLS settings are unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsSettingsError {
    /// The host is no name or address that a certificate can be for.
    #[error("the host is not a name that a certificate can be for")]
    ServerName,
    /// No certificate authority could be read.
    #[error("no certificate authority could be read")]
    NoRoots,
    /// The client certificate or its key could not be read, or they do not belong together.
    #[error("the client certificate and its key cannot be used")]
    ClientIdentity,
}

pub(super) fn connector(settings: &RedisSettings) -> Result<TlsConnector, TlsSettingsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| TlsSettingsError::NoRoots)?
        .with_root_certificates(roots(settings.ca_pem.as_deref())?);
    let config = match &settings.client_identity {
        Some(identity) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&identity.certificate_pem).collect();
            let chain = chain.map_err(|_| TlsSettingsError::ClientIdentity)?;
            let key = PrivateKeyDer::from_pem_slice(&identity.key_pem).map_err(|_| TlsSettingsError::ClientIdentity)?;
            builder.with_client_auth_cert(chain, key).map_err(|_| TlsSettingsError::ClientIdentity)?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn roots(ca_pem: Option<&[u8]>) -> Result<RootCertStore, TlsSettingsError> {
    let mut roots = RootCertStore::empty();
    match ca_pem {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|_| TlsSettingsError::NoRoots)?;
                roots.add(certificate).map_err(|_| TlsSettingsError::NoRoots)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() { Err(TlsSettingsError::NoRoots) } else { Ok(roots) }
}
