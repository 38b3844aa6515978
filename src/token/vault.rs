//! Seals and opens the tokens of this installation.
//!
//! A seal is bound to the client registration a token was issued to; this is where a provider's name becomes one.

use std::collections::BTreeMap;

use crate::store::seal::{Binding, Field, Keyring, SealError};
use crate::store::{Sealed, Snapshot};
use crate::words::ids::{Fingerprint, GrantId, ProviderId, TokenKey, Version};
use crate::words::secrets::{AccessToken, CodeVerifier, NotAHeaderValue, RefreshToken};

/// The keyring, and what seals are bound to.
#[derive(Debug)]
pub struct Vault {
    keyring: Keyring,
    prefix: String,
    client_ids: BTreeMap<ProviderId, String>,
}

/// Why a token is not to be had from a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The record names a provider that is not configured.
    #[error("its provider is not configured")]
    UnknownProvider,
    /// The record holds no access token.
    #[error("it holds no access token")]
    Empty,
    /// It does not open.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// What came out cannot be sent.
    #[error("its access token holds a character that a header cannot carry")]
    NotAHeaderValue,
}

impl From<NotAHeaderValue> for VaultError {
    fn from(_: NotAHeaderValue) -> Self {
        Self::NotAHeaderValue
    }
}

impl Vault {
    /// Seals under `prefix`, for these client registrations.
    pub fn new(keyring: Keyring, prefix: String, client_ids: BTreeMap<ProviderId, String>) -> Self {
        Self { keyring, prefix, client_ids }
    }

    /// Seals a token set for `version`.
    pub fn seal(
        &self,
        key: &TokenKey,
        provider: &ProviderId,
        version: Version,
        access: &AccessToken,
        refresh: Option<&RefreshToken>,
    ) -> Result<(Sealed, Option<Sealed>), VaultError> {
        let binding = self.binding(key, provider, version)?;
        let access = self.keyring.seal_access(&binding, access)?;
        let refresh = refresh.map(|refresh| self.keyring.seal_refresh(&binding, refresh)).transpose()?;
        Ok((access, refresh))
    }

    /// Seals a refresh token alone, for `version`.
    pub fn seal_refresh(
        &self,
        key: &TokenKey,
        provider: &ProviderId,
        version: Version,
        refresh: &RefreshToken,
    ) -> Result<Sealed, VaultError> {
        Ok(self.keyring.seal_refresh(&self.binding(key, provider, version)?, refresh)?)
    }

    /// Seals the verifier of an attempt at this grant.
    pub fn seal_verifier(
        &self,
        key: &TokenKey,
        provider: &ProviderId,
        grant: GrantId,
        verifier: &CodeVerifier,
    ) -> Result<Sealed, VaultError> {
        let binding = self.binding(key, provider, Version { grant, generation: 0 })?;
        Ok(self.keyring.seal(&binding, Field::Verifier, verifier.expose().as_bytes())?)
    }

    /// The verifier of an attempt.
    pub fn open_verifier(
        &self,
        key: &TokenKey,
        provider: &ProviderId,
        grant: GrantId,
        sealed: &Sealed,
    ) -> Result<CodeVerifier, VaultError> {
        let binding = self.binding(key, provider, Version { grant, generation: 0 })?;
        let bytes = self.keyring.open(&binding, Field::Verifier, sealed)?;
        Ok(std::str::from_utf8(&bytes).map(CodeVerifier::new).map_err(|_| SealError::Malformed)?)
    }

    /// Seals the body of an answer that could not be read.
    pub fn seal_salvage(
        &self,
        key: &TokenKey,
        provider: &ProviderId,
        version: Version,
        body: &[u8],
    ) -> Result<Sealed, VaultError> {
        Ok(self.keyring.seal(&self.binding(key, provider, version)?, Field::Salvage, body)?)
    }

    /// The access token of a record.
    pub fn open_snapshot(&self, key: &TokenKey, snapshot: &Snapshot) -> Result<AccessToken, VaultError> {
        let sealed = snapshot.access.as_ref().ok_or(VaultError::Empty)?;
        self.open_access(key, &snapshot.provider, snapshot.version, sealed)
    }

    /// An access token sealed for `version`.
    pub fn open_access(
        &self,
        key: &TokenKey,
        provider: &ProviderId,
        version: Version,
        sealed: &Sealed,
    ) -> Result<AccessToken, VaultError> {
        Ok(self.keyring.open_access(&self.binding(key, provider, version)?, sealed)?)
    }

    /// A refresh token of a record, sealed for `version`.
    pub fn open_refresh(
        &self,
        key: &TokenKey,
        snapshot: &Snapshot,
        version: Version,
        sealed: &Sealed,
    ) -> Result<RefreshToken, VaultError> {
        Ok(self.keyring.open_refresh(&self.binding(key, &snapshot.provider, version)?, sealed)?)
    }

    /// The fingerprint of a refresh token issued to our client at `provider`.
    pub fn fingerprint(&self, provider: &ProviderId, refresh: &RefreshToken) -> Result<Fingerprint, VaultError> {
        let client_id = self.client_ids.get(provider).ok_or(VaultError::UnknownProvider)?;
        Ok(refresh.fingerprint(&format!("{}\0{provider}\0{client_id}", self.prefix)))
    }

    fn binding<'a>(
        &'a self,
        key: &'a TokenKey,
        provider: &'a ProviderId,
        version: Version,
    ) -> Result<Binding<'a>, VaultError> {
        let client_id = self.client_ids.get(provider).ok_or(VaultError::UnknownProvider)?;
        Ok(Binding { prefix: &self.prefix, provider, client_id, key, version })
    }
}
