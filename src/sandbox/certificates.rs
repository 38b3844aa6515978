//! The certificates of the imitated banks, made anew at every start.
//!
//! One authority signs the banks' server certificates and the client certificate that stands for a TPP's QWAC.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use crate::net::tls::{Identity, TlsError};

/// Why certificates could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The generator refuses, usually because a name is not one.
    #[error("a certificate could not be made")]
    Generate(#[from] rcgen::Error),
    /// What was generated does not fit together.
    #[error("a generated certificate is not usable")]
    Unusable(#[from] TlsError),
}

/// A certificate and its private key, as PEM.
#[derive(Clone)]
pub struct PemPair {
    /// The certificate chain, leaf first.
    pub certificate: String,
    /// The private key, PKCS#8.
    pub key: String,
}

impl PemPair {
    /// The pair as it is used in a TLS configuration.
    pub fn identity(&self) -> Result<Identity, TlsError> {
        Identity::from_pem(self.certificate.as_bytes(), self.key.as_bytes())
    }
}

impl std::fmt::Debug for PemPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PemPair(…)")
    }
}

/// The authority that signs everything here.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new() -> Result<Self, CertificateError> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "consentry sandbox authority");
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    /// One certificate for all the banks' listeners on this machine.
    pub(super) fn server(&self) -> Result<PemPair, CertificateError> {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "consentry sandbox");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    /// A client certificate whose common name is `name`.
    pub(super) fn client(&self, name: &str) -> Result<PemPair, CertificateError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> Result<PemPair, CertificateError> {
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.0)?.pem();
        Ok(PemPair { certificate, key: key.serialize_pem() })
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_is_usable_and_each_is_different() {
        let authority = Authority::new().expect("makes itself");
        let server = authority.server().expect("signs").identity().expect("fits");
        let client = authority.client("TPP_test").expect("signs");
        assert_ne!(client.identity().expect("fits").thumbprint(), server.thumbprint());
        assert!(!format!("{client:?}").contains("PRIVATE"));
    }
}
