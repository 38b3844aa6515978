//! Certificates whose files change while the program runs, and the round that looks at them and at secrets.
//!
//! Whoever renews certificates writes two files, one after the other, or swaps a link to both; Kubernetes does the latter
//! a minute or so after a secret has changed. The files are read again every half a minute. A pair that fits together and
//! whose dates hold is shown from the next handshake on; with any other the one that was goes on, and an alarm says so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::fault::YamlPath;
use super::parse::read_bounded;
pub use super::secret_renewal::SecretRenewal;
use crate::net::tls::{Identity, Renewed};
use crate::words::clock::{Clock, WallTime};
use crate::words::metrics::{CertificateLabels, Metrics, SecretLabels};
use crate::words::pace::paced;

/// A certificate and its key, from two files.
#[derive(Debug)]
pub struct Renewal {
    /// Where the configuration names them.
    pub(super) path: YamlPath,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) identity: Identity,
    /// What is wrong with the files, as it was told last.
    pub(super) told: Option<String>,
}

/// How often the files are read.
const EVERY: Duration = Duration::from_secs(30);

/// What is read again.
#[derive(Debug)]
pub enum Watched {
    /// A certificate and its key.
    Certificate(Renewal),
    /// A secret, or a key to sign with.
    Secret(SecretRenewal),
}

impl Watched {
    /// Where the configuration names it.
    pub(super) fn path(&self) -> &YamlPath {
        match self {
            Self::Certificate(renewal) => &renewal.path,
            Self::Secret(renewal) => renewal.path(),
        }
    }

    /// The files that it is in.
    pub(super) fn files(&self) -> Vec<&Path> {
        match self {
            Self::Certificate(renewal) => vec![&renewal.certificate, &renewal.key],
            Self::Secret(renewal) => vec![renewal.file()],
        }
    }
}

/// Keeps what is watched up to date for as long as it is polled. What comes through `more` takes the place of what came
/// that way before, and stands beside what was watched from the start.
pub async fn watch<C: Clock>(first: Vec<Watched>, mut more: mpsc::Receiver<Vec<Watched>>, clock: C, metrics: Metrics) {
    let count = first.len();
    let mut renewals = first;
    loop {
        tokio::select! {
            Some(others) = more.recv() => {
                renewals.truncate(count);
                renewals.extend(others);
            }
            () = sleep(paced(EVERY)) => {}
        }
        let now = clock.wall();
        let looking = spawn_blocking(move || {
            for renewal in &mut renewals {
                match renewal {
                    Watched::Certificate(renewal) => renewal.look(now),
                    Watched::Secret(renewal) => renewal.look(),
                }
            }
            renewals
        });
        let Ok(looked) = looking.await else { return };
        renewals = looked;
        tell(&renewals, &metrics);
    }
}

/// A certificate may be watched twice, for two configurations that were in use one after the other.
fn tell(renewals: &[Watched], metrics: &Metrics) {
    let (mut certificates, mut secrets) = (BTreeMap::new(), BTreeMap::new());
    for renewal in renewals {
        let name = renewal.path().to_string();
        match renewal {
            Watched::Certificate(renewal) => *certificates.entry(name).or_insert(false) |= renewal.told.is_some(),
            Watched::Secret(renewal) => *secrets.entry(name).or_insert(false) |= renewal.is_refused(),
        }
    }
    for (certificate, refused) in certificates {
        metrics.certificates_refused.get_or_create(&CertificateLabels { certificate }).set(i64::from(refused));
    }
    for (secret, refused) in secrets {
        metrics.secrets_refused.get_or_create(&SecretLabels { secret }).set(i64::from(refused));
    }
}

impl Renewal {
    /// Reads both files, and takes over what is in them if it can be used.
    fn look(&mut self, now: WallTime) {
        match self.read(now) {
            Ok(Renewed::Unchanged) => self.told = None,
            Ok(Renewed::Replaced) => {
                self.told = None;
                let thumbprint = self.identity.thumbprint();
                tracing::info!(certificate = %self.path, thumbprint, "A certificate was renewed.");
            }
            Err(why) => {
                if self.told.as_ref() != Some(&why) {
                    tracing::error!(certificate = %self.path, why, "A certificate could not be renewed: the old one goes on.");
                }
                self.told = Some(why);
            }
        }
    }

    fn read(&self, now: WallTime) -> Result<Renewed, String> {
        let bytes = |file: &PathBuf| match read_bounded(file) {
            Ok((bytes, _)) => Ok(bytes),
            Err(error) => Err(format!("the file {} cannot be read: {}", file.display(), error.kind())),
        };
        let (certificate, key) = (bytes(&self.certificate)?, bytes(&self.key)?);
        self.identity.renew(&certificate, &key, now).map_err(|error| error.to_string())
    }
}

#[cfg(all(test, feature = "sandbox"))]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use std::fs;

    fn pair(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        change(&mut params);
        (params.self_signed(&key).expect("signs").pem(), key.serialize_pem())
    }

    /// The files hold `first` and are being watched.
    fn watched(home: &tempfile::TempDir, first: &(String, String)) -> Renewal {
        let path = YamlPath::default().key("providers").key("bank").key("client_auth");
        let (certificate, key) = (home.path().join("tls.crt"), home.path().join("tls.key"));
        let identity = Identity::from_pem(first.0.as_bytes(), first.1.as_bytes()).expect("fits");
        let renewal = Renewal { path, certificate, key, identity, told: None };
        write(&renewal, first);
        renewal
    }

    fn write(renewal: &Renewal, pair: &(String, String)) {
        fs::write(&renewal.certificate, &pair.0).expect("writes");
        fs::write(&renewal.key, &pair.1).expect("writes");
    }

    const NOW: WallTime = WallTime::from_millis(1_795_000_000_000);

    #[test]
    fn a_new_pair_is_shown_by_every_clone() {
        let (home, first) = (tempfile::tempdir().expect("a directory"), pair(|_| {}));
        let mut renewal = watched(&home, &first);
        let shown = renewal.identity.clone();
        let before = shown.thumbprint();
        renewal.look(NOW);
        assert_eq!((shown.thumbprint(), renewal.told.clone()), (before.clone(), None), "nothing has changed");
        write(&renewal, &pair(|_| {}));
        renewal.look(NOW);
        assert_ne!(shown.thumbprint(), before);
        assert_eq!(renewal.told, None);
    }

    #[test]
    fn the_old_pair_goes_on_until_the_new_one_is_whole_and_valid() {
        let (home, first) = (tempfile::tempdir().expect("a directory"), pair(|_| {}));
        let mut renewal = watched(&home, &first);
        let before = renewal.identity.thumbprint();
        let new = pair(|_| {});
        let past = pair(|params| params.not_after = date_time_ymd(2021, 1, 1));
        let future = pair(|params| params.not_before = date_time_ymd(2200, 1, 1));
        let cut = (new.0[..200].to_owned(), first.1.clone());
        let cases = [
            (&cut, "the certificate chain is not valid PEM"),
            (
                &(new.0.clone(), first.1.clone()),
                "the private key does not belong to the first certificate of the chain",
            ),
            (&(new.0.clone(), String::new()), "the private key file holds no unencrypted private key"),
            (&past, "the first certificate of the chain is not valid today"),
            (&future, "the first certificate of the chain is not valid today"),
        ];
        for (files, why) in cases {
            write(&renewal, files);
            renewal.look(NOW);
            assert_eq!((renewal.told.as_deref(), renewal.identity.thumbprint()), (Some(why), before.clone()));
        }
        fs::remove_file(&renewal.key).expect("removes");
        renewal.look(NOW);
        assert!(
            renewal.told.as_deref().is_some_and(|why| why.contains("tls.key cannot be read")),
            "{:?}",
            renewal.told
        );
        write(&renewal, &new);
        renewal.look(NOW);
        assert_eq!(renewal.told, None);
        assert_ne!(renewal.identity.thumbprint(), before);
    }
}
