//! The consents that calls are made with: always as many, a new one for each that was lost.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::chance::Chance;

/// Of our id and the bank's.
#[derive(Clone, Debug)]
pub(crate) struct Consent {
    pub(crate) id: String,
    pub(crate) bank_id: String,
}

#[derive(Debug, Default)]
pub(crate) struct Pool {
    living: Mutex<Vec<Consent>>,
    lost: Mutex<BTreeMap<String, Consent>>,
}

impl Pool {
    pub(crate) fn add(&self, consent: Consent) {
        self.living.lock().unwrap().push(consent);
    }

    pub(crate) fn any(&self, chance: &mut Chance) -> Option<Consent> {
        let living = self.living.lock().unwrap();
        living.get(chance.below(living.len())).cloned()
    }

    pub(crate) fn living(&self) -> Vec<Consent> {
        self.living.lock().unwrap().clone()
    }

    pub(crate) fn lost(&self) -> Vec<Consent> {
        self.lost.lock().unwrap().values().cloned().collect()
    }

    /// A call was told that the customer has to consent again.
    pub(crate) fn lose(&self, consent: &Consent) {
        self.living.lock().unwrap().retain(|known| known.id != consent.id);
        self.lost.lock().unwrap().insert(consent.id.clone(), consent.clone());
    }
}
