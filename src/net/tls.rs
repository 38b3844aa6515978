//! TLS configurations from PEM bytes.
//!
//! One cryptography provider (aws-lc-rs) is named in every configuration: a process-wide default could be set by any
//! crate, or by none. Errors say which of the parts is wrong and never carry a byte of it.

use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

pub use super::identity::{Identity, Renewed};
use super::pinned::PinnedVerifier;

/// Which of the parts of a TLS configuration is wrong.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM, or broken off in the middle of a section.
    #[error("the certificate chain is not valid PEM")]
    CertificateNotPem,
    /// PEM without a `CERTIFICATE` section.
    #[error("the certificate chain holds no certificate")]
    CertificateMissing,
    /// The first certificate cannot be read as X.509.
    #[error("the first certificate of the chain is not a readable X.509 certificate")]
    CertificateInvalid,
    /// Not PEM, or broken off in the middle of a section.
    #[error("the private key is not valid PEM")]
    KeyNotPem,
    /// PEM without an unencrypted PKCS#8, PKCS#1 or SEC1 section.
    #[error("the private key file holds no unencrypted private key")]
    KeyMissing,
    /// A key of a kind, size or curve that is not supported, or damaged.
    #[error("the private key is damaged or of a kind that is not supported")]
    KeyUnsupported,
    /// Certificate and key are each fine and do not belong together.
    #[error("the private key does not belong to the first certificate of the chain")]
    KeyMismatch,
    /// A certificate whose time has not come, or is over. Only looked at where one is renewed.
    #[error("the first certificate of the chain is not valid today")]
    CertificateDates,
    /// Not PEM, or broken off in the middle of a section.
    #[error("the trusted certificates are not valid PEM")]
    RootsNotPem,
    /// No trust anchor at all.
    #[error("there is no usable trusted certificate")]
    RootsEmpty,
    /// rustls refuses the combination.
    #[error("the TLS settings do not fit together")]
    Settings(#[source] rustls::Error),
}

/// The `x5t#S256` of a certificate: base64url of the SHA-256 of its DER (RFC 8705 §3.1).
pub fn thumbprint(certificate: &CertificateDer<'_>) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, certificate).as_ref())
}

/// Whom the other side's certificate must descend from. A server's may also be one of these itself.
#[derive(Clone, Debug)]
pub enum Roots {
    /// The machine's own list. Entries of it that cannot be read are skipped.
    System,
    /// These certificates, as PEM, and no others.
    Pem(Vec<u8>),
}

/// What a server asks of its clients.
#[derive(Clone, Debug)]
pub enum ClientAuth {
    /// No certificate is asked for.
    Off,
    /// A certificate may be absent; one that is presented must descend from these.
    Optional(Roots),
    /// Without a certificate that descends from these the handshake fails.
    Required(Roots),
}

/// The client's side: whom to trust, who we are if the server asks, and the ALPN protocols offered, best first.
pub fn client_config(
    roots: &Roots,
    identity: Option<&Identity>,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(crypto())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Settings)?;
    let builder = match roots {
        Roots::System => builder.with_root_certificates(root_store(roots)?),
        Roots::Pem(pem) => {
            let verifier = PinnedVerifier::new(root_store(roots)?, certificates(pem)?, crypto())?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(identity.clone())),
        None => builder.with_no_client_auth(),
    };
    if identity.is_some() {
        // A resumed session would go on under the certificate that it began with.
        config.resumption = Resumption::disabled();
    }
    config.alpn_protocols = owned(alpn);
    Ok(Arc::new(config))
}

/// The server's side: who we are, whether clients must show a certificate, and the ALPN protocols accepted, best first.
pub fn server_config(identity: &Identity, clients: &ClientAuth, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(crypto())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Settings)?;
    let verifier = |roots: &Roots| -> Result<_, TlsError> {
        let store = Arc::new(root_store(roots)?);
        Ok(WebPkiClientVerifier::builder_with_provider(store, crypto()))
    };
    let refused = |_| TlsError::RootsEmpty;
    let builder = match clients {
        ClientAuth::Off => builder.with_no_client_auth(),
        ClientAuth::Optional(roots) => {
            builder.with_client_cert_verifier(verifier(roots)?.allow_unauthenticated().build().map_err(refused)?)
        }
        ClientAuth::Required(roots) => builder.with_client_cert_verifier(verifier(roots)?.build().map_err(refused)?),
    };
    let mut config = builder.with_cert_resolver(Arc::new(identity.clone()));
    config.alpn_protocols = owned(alpn);
    Ok(Arc::new(config))
}

fn root_store(roots: &Roots) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::System => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Roots::Pem(pem) => {
            for certificate in certificates(pem)? {
                store.add(certificate).map_err(|_| TlsError::RootsNotPem)?;
            }
        }
    }
    if store.is_empty() { Err(TlsError::RootsEmpty) } else { Ok(store) }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| TlsError::RootsNotPem)
}

fn crypto() -> Arc<CryptoProvider> {
    Arc::new(provider::default_provider())
}

fn owned(alpn: &[&[u8]]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.to_vec()).collect()
}

#[cfg(all(test, feature = "sandbox"))]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn pair() -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        (params.self_signed(&key).expect("signs").pem(), key.serialize_pem())
    }

    fn refusal(chain: &str, key: &str) -> TlsError {
        Identity::from_pem(chain.as_bytes(), key.as_bytes()).expect_err("refused")
    }

    #[test]
    fn a_chain_and_its_key_make_an_identity_with_a_thumbprint() {
        let (chain, key) = pair();
        let identity = Identity::from_pem(chain.as_bytes(), key.as_bytes()).expect("they match");
        assert_eq!(identity.thumbprint().len(), 43);
        let config = client_config(&Roots::Pem(chain.into()), Some(&identity), &[b"http/1.1"]);
        assert_eq!(config.expect("valid").alpn_protocols, [b"http/1.1"]);
    }

    #[test]
    fn the_part_that_is_wrong_is_named() {
        let (chain, key) = pair();
        let (_, other_key) = pair();
        assert!(matches!(refusal(&chain, &other_key), TlsError::KeyMismatch));
        assert!(matches!(refusal("", &key), TlsError::CertificateMissing));
        assert!(matches!(refusal(&key, &chain), TlsError::CertificateMissing));
        assert!(matches!(refusal(&chain[..200], &key), TlsError::CertificateNotPem));
        assert!(matches!(refusal(&chain, ""), TlsError::KeyMissing));
        assert!(matches!(refusal(&chain, &chain), TlsError::KeyMissing));
        assert!(matches!(refusal(&chain, &key[..100]), TlsError::KeyNotPem));
        let nonsense = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(matches!(refusal(&chain, nonsense), TlsError::KeyUnsupported));
        let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(refusal(nonsense, &key), TlsError::CertificateInvalid));
    }

    #[test]
    fn no_roots_are_an_error_and_not_trust_in_nobody() {
        let empty = client_config(&Roots::Pem(Vec::new()), None, &[]);
        assert!(matches!(empty, Err(TlsError::RootsEmpty)));
        let broken = client_config(&Roots::Pem(b"-----BEGIN CERTIFICATE-----\n".to_vec()), None, &[]);
        assert!(matches!(broken, Err(TlsError::RootsNotPem)));
    }

    #[test]
    fn no_text_of_a_key_is_in_an_error_or_in_debug() {
        let (chain, key) = pair();
        let cut = &key[..100];
        let body = key.lines().nth(1).expect("a PEM body");
        let shown = format!("{:?} {}", refusal(&chain, cut), refusal(&chain, cut));
        let identity = Identity::from_pem(chain.as_bytes(), key.as_bytes()).expect("they match");
        assert!(!shown.contains(&body[..20]) && !format!("{identity:?}").contains(&body[..20]));
    }
}
