//! Trusts a server's certificate that is itself among the trusted ones.
//!
//! Whoever runs a server of his own often makes one self-signed certificate, marked as an authority, shows it, and hands
//! it to his clients as the one to trust. A path from an end entity to an authority does not exist there, so webpki refuses
//! it. What is asked instead is that it is the very certificate, that its dates hold, and that it names the server.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::tls::TlsError;

/// Verifies by webpki, and takes one of `pinned` for what it is.
#[derive(Debug)]
pub(super) struct PinnedVerifier {
    paths: Arc<WebPkiServerVerifier>,
    pinned: Vec<CertificateDer<'static>>,
}

impl PinnedVerifier {
    /// Trusts what descends from `roots`, and each of `pinned` as a server's own certificate.
    pub(super) fn new(
        roots: RootCertStore,
        pinned: Vec<CertificateDer<'static>>,
        crypto: Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let paths = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), crypto);
        Ok(Self { paths: paths.build().map_err(|_| TlsError::RootsEmpty)?, pinned })
    }
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.paths.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(error) if is_an_authority(&error) && self.pinned.contains(end_entity) => {
                // webpki looks at the dates before it looks at what a certificate may be used for, and at the name after.
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.paths.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.paths.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.paths.supported_verify_schemes()
    }
}

/// Whether a certificate was refused only because it is an authority's.
fn is_an_authority(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

#[cfg(all(test, feature = "sandbox"))]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
    use rustls::crypto::aws_lc_rs::default_provider;

    fn authority(change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        params.self_signed(&KeyPair::generate().expect("a key")).expect("signs").into()
    }

    fn verdict(
        trusted: &CertificateDer<'static>,
        shown: &CertificateDer<'static>,
        name: &'static str,
    ) -> Option<Error> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.clone()).expect("readable");
        let verifier =
            PinnedVerifier::new(roots, vec![trusted.clone()], Arc::new(default_provider())).expect("one root");
        let name = ServerName::try_from(name).expect("a name");
        verifier.verify_server_cert(shown, &[], &name, &[], UnixTime::now()).err()
    }

    #[test]
    fn a_server_may_show_the_very_certificate_that_is_trusted() {
        let own = authority(|_| {});
        assert_eq!(verdict(&own, &own, "localhost"), None);
    }

    #[test]
    fn another_authority_of_the_same_name_may_not() {
        let error = verdict(&authority(|_| {}), &authority(|_| {}), "localhost").expect("refused");
        assert!(is_an_authority(&error), "{error:?}");
    }

    #[test]
    fn it_has_to_name_the_server() {
        let own = authority(|_| {});
        let error = verdict(&own, &own, "bank.example").expect("refused");
        assert!(
            matches!(error, Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. })),
            "{error:?}"
        );
    }

    #[test]
    fn its_dates_have_to_hold() {
        let past = authority(|params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        });
        let error = verdict(&past, &past, "localhost").expect("refused");
        assert!(matches!(error, Error::InvalidCertificate(CertificateError::ExpiredContext { .. })), "{error:?}");
    }
}
