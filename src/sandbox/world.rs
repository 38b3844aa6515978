//! What all listeners of the sandbox share. Every lock is held for one step and never across an await.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::abn_amro::ledger::Ledger;
use super::assertions::Seen;
use super::endpoints::Endpoints;
use super::faults::{Fault, Faults, Occasion};
use super::journal::{Journal, TokenRequest};
use super::norsk_gjeld::register::Register;
use super::settings::{AbnAmroKnobs, NorskGjeldKnobs, SandboxSettings};

/// The state of both banks.
pub(super) struct World<C> {
    pub(super) clock: C,
    pub(super) settings: SandboxSettings,
    pub(super) endpoints: Endpoints,
    /// The thumbprints of the certificates that belong to ABN AMRO's client.
    pub(super) client_thumbprints: [String; 2],
    pub(super) abn_amro_knobs: Mutex<AbnAmroKnobs>,
    pub(super) abn_amro: Mutex<Ledger>,
    pub(super) norsk_gjeld_knobs: Mutex<NorskGjeldKnobs>,
    pub(super) norsk_gjeld: Mutex<Register>,
    pub(super) faults: Mutex<Faults>,
    pub(super) journal: Mutex<Journal>,
    /// The assertions that its client has used up.
    pub(super) assertions: Mutex<Seen>,
}

impl<C> World<C> {
    pub(super) fn new(
        clock: C,
        settings: SandboxSettings,
        endpoints: Endpoints,
        client_thumbprints: [String; 2],
    ) -> Self {
        Self {
            clock,
            abn_amro_knobs: Mutex::new(settings.abn_amro.clone()),
            norsk_gjeld_knobs: Mutex::new(settings.norsk_gjeld.clone()),
            settings,
            endpoints,
            client_thumbprints,
            abn_amro: Mutex::default(),
            norsk_gjeld: Mutex::default(),
            faults: Mutex::default(),
            journal: Mutex::default(),
            assertions: Mutex::default(),
        }
    }

    /// What goes wrong with this request. Takes the lock on the faults alone, the last in any order of locks.
    pub(super) fn strike(&self, occasion: &Occasion<'_>) -> Option<Fault> {
        lock(&self.faults).strike(occasion)
    }

    pub(super) fn write(&self, request: TokenRequest) {
        lock(&self.journal).write(request);
    }
}

/// A panic elsewhere leaves whole values behind: every step under these locks is plain arithmetic on maps.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<C> std::fmt::Debug for World<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("endpoints", &self.endpoints.control).finish_non_exhaustive()
    }
}
