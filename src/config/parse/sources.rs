//! What is not in the file itself: secrets, certificates and keys, from files beside it or from the environment.
//!
//! A secret file may end in line breaks, which are not part of the secret. One that every user of the machine may read
//! is a warning and no fault: a Kubernetes volume of secrets looks like that by default.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use zeroize::{Zeroize as _, Zeroizing};

use crate::config::fault::At;
use crate::config::raw::RawSource;
use crate::config::renewal::{Renewal, Watched};
use crate::config::secret_renewal::{Secret, SecretRenewal};
use crate::net::tls::{self, Identity, Roots};
use crate::words::secrets::{ClientSecret, Renewable};
use crate::words::signing::SigningKey;

/// Larger than any certificate chain or secret.
const MOST_BYTES: u64 = 64 * 1024;

/// Where relative paths begin, and what the environment is.
pub(in crate::config) struct Sources<'e> {
    folder: PathBuf,
    env: &'e dyn Fn(&str) -> Option<String>,
    files: RefCell<Vec<PathBuf>>,
    renewals: RefCell<Vec<Watched>>,
}

pub(in crate::config) type Bytes = Zeroizing<Vec<u8>>;

/// How closely a file is to be guarded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guard {
    /// It is public, as certificates are.
    Open,
    /// Nobody else should read it.
    Closed,
}

impl<'e> Sources<'e> {
    /// Files are looked for in `folder`, variables asked of `env`.
    pub(in crate::config) fn new(folder: &Path, env: &'e dyn Fn(&str) -> Option<String>) -> Self {
        Self { folder: folder.to_owned(), env, files: RefCell::default(), renewals: RefCell::default() }
    }

    /// Every file that was read, to be watched for changes.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files = self.files.borrow().clone();
        files.sort();
        files.dedup();
        files
    }

    /// Every certificate, secret and key of our clients that was read from files, to be read again while it is in use.
    pub(super) fn renewals(&self) -> Vec<Watched> {
        self.renewals.take()
    }

    /// A secret as text.
    pub(super) fn secret(&self, source: Option<&RawSource>, at: &At<'_>) -> Option<Box<str>> {
        let bytes = self.bytes(at.need(source)?, at, Guard::Closed)?;
        match text_of(&bytes) {
            Ok(text) => Some(text.into()),
            Err(why) => {
                at.fault(why);
                None
            }
        }
    }

    /// The secret of our client, which is renewed when its file changes.
    pub(super) fn client_secret(&self, source: Option<&RawSource>, at: &At<'_>) -> Option<Renewable<ClientSecret>> {
        let secret = Renewable::new(ClientSecret::new(self.secret(source, at)?));
        self.watch_secret(source, at, Secret::Client(secret.clone()));
        Some(secret)
    }

    /// A key to sign with, which is renewed when its file changes.
    pub(super) fn signing_key(&self, source: Option<&RawSource>, at: &At<'_>) -> Option<Renewable<SigningKey>> {
        let pem = self.bytes(at.need(source)?, at, Guard::Closed)?;
        let key = Renewable::new(at.take(SigningKey::from_pem(&pem))?);
        self.watch_secret(source, at, Secret::Signing(key.clone()));
        Some(key)
    }

    fn watch_secret(&self, source: Option<&RawSource>, at: &At<'_>, secret: Secret) {
        if let Some(file) = source.and_then(|source| source.file.as_deref()) {
            let renewal = SecretRenewal::new(at.path().clone(), self.path(file), secret);
            self.renewals.borrow_mut().push(Watched::Secret(renewal));
        }
    }

    /// A certificate chain and its key, which is renewed when its files change.
    pub(super) fn identity(
        &self,
        certificate: Option<&RawSource>,
        key: Option<&RawSource>,
        at: &At<'_>,
    ) -> Option<Identity> {
        let (chain_pem, key_pem) = self.pem(certificate, key, at)?;
        let identity = at.take(Identity::from_pem(&chain_pem, &key_pem))?;
        let file = |source: Option<&RawSource>| source?.file.as_deref().map(|file| self.path(file));
        if let (Some(certificate), Some(key)) = (file(certificate), file(key)) {
            let renewal = Renewal { path: at.path().clone(), certificate, key, identity: identity.clone(), told: None };
            self.renewals.borrow_mut().push(Watched::Certificate(renewal));
        }
        Some(identity)
    }

    /// The same as PEM, for whoever reads it once more. It is known to be good.
    pub(super) fn identity_pem(
        &self,
        certificate: Option<&RawSource>,
        key: Option<&RawSource>,
        at: &At<'_>,
    ) -> Option<(Vec<u8>, Bytes)> {
        let (mut certificate, key) = self.pem(certificate, key, at)?;
        at.take(Identity::from_pem(&certificate, &key))?;
        Some((std::mem::take(&mut *certificate), key))
    }

    fn pem(&self, certificate: Option<&RawSource>, key: Option<&RawSource>, at: &At<'_>) -> Option<(Bytes, Bytes)> {
        let (certificate_at, key_at) = (at.key("certificate"), at.key("key"));
        let certificate = certificate_at.need(certificate).and_then(|it| self.bytes(it, &certificate_at, Guard::Open));
        let key = key_at.need(key).and_then(|it| self.bytes(it, &key_at, Guard::Closed));
        Some((certificate?, key?))
    }

    /// Trusted certificates in PEM; without a file the machine's own.
    pub(super) fn roots(&self, file: Option<&str>, at: &At<'_>) -> Option<Roots> {
        let Some(file) = file else { return Some(Roots::System) };
        let mut pem = self.file(file, at, Guard::Open)?;
        let roots = Roots::Pem(std::mem::take(&mut *pem));
        at.take(tls::client_config(&roots, None, &[]))?;
        Some(roots)
    }

    /// A path of the file, relative to the file's own folder.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// What this machine is called, where it says so.
    pub(super) fn host_name(&self) -> Option<String> {
        let files = ["/proc/sys/kernel/hostname", "/etc/hostname"];
        let read = |file: &&str| std::fs::read_to_string(file).ok().map(|name| name.trim().to_owned());
        (self.env)("HOSTNAME").or_else(|| files.iter().find_map(read)).filter(|name| !name.is_empty())
    }

    fn bytes(&self, source: &RawSource, at: &At<'_>, guard: Guard) -> Option<Bytes> {
        match (source.file.as_deref(), source.env.as_deref()) {
            (Some(file), None) => self.file(file, &at.key("file"), guard),
            (None, Some(name)) => self.variable(name, &at.key("env")),
            (Some(_), Some(_)) => {
                at.fault("it names a file and a variable; which one is meant?");
                None
            }
            (None, None) => {
                at.fault("it has to be {file: path} or {env: NAME}");
                None
            }
        }
    }

    fn variable(&self, name: &str, at: &At<'_>) -> Option<Bytes> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.is_empty() || !name.bytes().all(allowed) {
            // The text is not repeated: somebody may have put the secret here.
            at.fault("it is not the name of an environment variable (A-Z a-z 0-9 _)");
            return None;
        }
        match (self.env)(name) {
            Some(mut value) if value.trim().is_empty() => {
                value.zeroize();
                at.fault(format_args!("the environment variable {name} is empty"));
                None
            }
            Some(value) => Some(Zeroizing::new(value.into_bytes())),
            None => {
                at.fault(format_args!("the environment variable {name} is not set"));
                None
            }
        }
    }

    fn file(&self, name: &str, at: &At<'_>, guard: Guard) -> Option<Bytes> {
        if name.is_empty() || name.contains(['\n', '\r']) {
            at.fault("it is not the path of a file");
            return None;
        }
        let path = self.path(name);
        let (bytes, mode) = match read_bounded(&path) {
            Ok(read) => read,
            Err(error) => {
                at.fault(format_args!("the file {name} {}", why_unreadable(&error)));
                return None;
            }
        };
        if bytes.len() as u64 > MOST_BYTES {
            at.fault(format_args!("the file {name} is larger than {} KiB", MOST_BYTES / 1024));
            return None;
        }
        if bytes.is_empty() {
            at.fault(format_args!("the file {name} is empty"));
            return None;
        }
        if guard == Guard::Closed && mode & 0o004 != 0 {
            at.warn(format_args!("every user of this machine may read the file {name}; take that away with chmod o-r"));
        }
        self.files.borrow_mut().push(path);
        Some(bytes)
    }
}

/// The text of a secret, without the line's end that editors put behind it.
pub(in crate::config) fn text_of(bytes: &[u8]) -> Result<&str, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text (UTF-8)")?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.trim().is_empty() { Err("it is empty") } else { Ok(text) }
}

/// The bytes of a file that is read again; what is wrong with it is said without them.
pub(in crate::config) fn read_again(path: &Path) -> Result<Bytes, String> {
    let name = path.display();
    match read_bounded(path) {
        Ok((bytes, _)) if bytes.len() as u64 > MOST_BYTES => {
            Err(format!("the file {name} is larger than {} KiB", MOST_BYTES / 1024))
        }
        Ok((bytes, _)) => Ok(bytes),
        Err(error) => Err(format!("the file {name} {}", why_unreadable(&error))),
    }
}

/// At most one byte more than is allowed, and the file's mode.
pub(in crate::config) fn read_bounded(path: &Path) -> io::Result<(Bytes, u32)> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::IsADirectory.into()); // Opening a named pipe would wait for a writer.
    }
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    Ok((bytes, mode))
}

fn why_unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "is not there".to_owned(),
        io::ErrorKind::PermissionDenied => "may not be read by this user".to_owned(),
        io::ErrorKind::IsADirectory => "is not a file".to_owned(),
        other => format!("cannot be read: {other}"),
    }
}
