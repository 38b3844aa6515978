//! Secrets and keys of our clients whose files change while the program runs.
//!
//! A bank that gives a new secret mostly takes the old one for a while, so nobody has to restart anything. What is taken over
//! was read twice with a moment between, so that a file which is just being written is not taken for a secret. What cannot be
//! a secret or a key is not taken over: the one that was goes on, and an alarm says so.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::fault::YamlPath;
use super::parse::{read_again, text_of};
use crate::words::secrets::{ClientSecret, Renewable};
use crate::words::signing::SigningKey;

/// A secret or a key from a file.
#[derive(Debug)]
pub struct SecretRenewal {
    /// Where the configuration names it.
    path: YamlPath,
    file: PathBuf,
    secret: Secret,
    /// What is wrong with the file, as it was told last.
    told: Option<String>,
}

/// What is renewed.
#[derive(Debug)]
pub(super) enum Secret {
    /// A client secret.
    Client(Renewable<ClientSecret>),
    /// A key to sign with.
    Signing(Renewable<SigningKey>),
}

/// What a look at a file came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// It holds what is in use, or is being written at this moment.
    Unchanged,
    /// Another is in use from here on.
    Replaced,
}

/// Between the two times that a new content is read.
const A_MOMENT: Duration = Duration::from_millis(250);

impl SecretRenewal {
    pub(super) fn new(path: YamlPath, file: PathBuf, secret: Secret) -> Self {
        Self { path, file, secret, told: None }
    }

    /// Where the configuration names it.
    pub(super) const fn path(&self) -> &YamlPath {
        &self.path
    }

    /// Where it is.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Whether its file holds nothing that can be used.
    pub(super) const fn is_refused(&self) -> bool {
        self.told.is_some()
    }

    /// Reads the file, and takes over what is in it if it can be used.
    pub(super) fn look(&mut self) {
        match self.read() {
            Ok(Look::Unchanged) => self.told = None,
            Ok(Look::Replaced) => {
                self.told = None;
                tracing::info!(secret = %self.path, "A secret was renewed.");
            }
            Err(why) => {
                if self.told.as_ref() != Some(&why) {
                    tracing::error!(secret = %self.path, why, "A secret could not be renewed: the old one goes on.");
                }
                self.told = Some(why);
            }
        }
    }

    fn read(&self) -> Result<Look, String> {
        let bytes = read_again(&self.file)?;
        let is_new = match &self.secret {
            Secret::Client(secret) => !secret.current().is(text_of(&bytes)?),
            Secret::Signing(key) => {
                let new = SigningKey::from_pem(&bytes).map_err(|error| error.to_string())?;
                new.public() != key.current().public()
            }
        };
        if !is_new {
            return Ok(Look::Unchanged);
        }
        thread::sleep(A_MOMENT);
        if *read_again(&self.file)? != *bytes {
            return Ok(Look::Unchanged);
        }
        match &self.secret {
            Secret::Client(secret) => secret.replace(ClientSecret::new(text_of(&bytes)?)),
            Secret::Signing(key) => {
                key.replace(SigningKey::from_pem(&bytes).map_err(|error| error.to_string())?);
            }
        }
        Ok(Look::Replaced)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::words::signing::tests::keys;

    fn path() -> YamlPath {
        YamlPath::default().key("providers").key("bank").key("client_auth").key("secret")
    }

    #[test]
    fn a_new_secret_is_used_by_every_clone_and_a_broken_one_by_none() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("secret");
        let secret = Renewable::new(ClientSecret::new("CANARY-one"));
        let used = secret.clone();
        fs::write(&file, "CANARY-one\n").expect("writes");
        let mut renewal = SecretRenewal::new(path(), file.clone(), Secret::Client(secret));
        assert_eq!(renewal.read(), Ok(Look::Unchanged), "the end of the line is no part of it");
        let too_large = "x".repeat(65 * 1024);
        for (content, why) in
            [("", "it is empty"), (" \n", "it is empty"), (too_large.as_str(), "is larger than 64 KiB")]
        {
            fs::write(&file, content).expect("writes");
            renewal.look();
            assert!(renewal.told.as_ref().is_some_and(|told| told.ends_with(why)), "{:?}", renewal.told);
            assert!(renewal.is_refused() && used.current().is("CANARY-one"));
        }
        fs::write(&file, [0xff, 0xfe]).expect("writes");
        renewal.look();
        assert_eq!(renewal.told.as_deref(), Some("it is not text (UTF-8)"));
        fs::remove_file(&file).expect("removes");
        renewal.look();
        assert!(renewal.told.as_ref().is_some_and(|told| told.ends_with("secret is not there")), "{:?}", renewal.told);
        fs::write(&file, "CANARY-two").expect("writes");
        renewal.look();
        assert!(!renewal.is_refused() && used.current().is("CANARY-two"));
        assert!(!format!("{renewal:?}").contains("CANARY"));
    }

    #[test]
    fn a_signing_key_is_replaced_by_a_whole_one_of_either_kind() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("key");
        let [rsa, p256] = keys();
        let key = Renewable::new(SigningKey::from_pem(p256.as_bytes()).expect("a key"));
        let used = key.clone();
        let mut renewal = SecretRenewal::new(path(), file.clone(), Secret::Signing(key));
        fs::write(&file, &rsa[..200]).expect("writes");
        renewal.look();
        assert!(renewal.is_refused());
        assert_eq!(used.current().algorithm(), "ES256");
        fs::write(&file, &rsa).expect("writes");
        renewal.look();
        assert!(!renewal.is_refused());
        assert_eq!(used.current().algorithm(), "PS256");
        assert_eq!(renewal.read(), Ok(Look::Unchanged));
    }
}
