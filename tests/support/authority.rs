//! Certificates for servers and clients of one test.

/// A certificate authority of one test.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "test authority");
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = parameters.self_signed(&key).unwrap().pem();
        Self { pem, issuer: rcgen::Issuer::new(parameters, key) }
    }

    /// A certificate for `name` and its key, both in PEM.
    pub(crate) fn issue(&self, name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        (parameters.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// A directory with what a server is started with: `ca.pem`, `server.pem` and `server.key`.
    pub(crate) fn server_files(&self, name: &str) -> tempfile::TempDir {
        let files = tempfile::tempdir().unwrap();
        let (certificate, key) = self.issue(name);
        for (file, text) in [("ca.pem", &self.pem), ("server.pem", &certificate), ("server.key", &key)] {
            std::fs::write(files.path().join(file), text).unwrap();
        }
        files
    }
}
