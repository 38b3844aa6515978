//! What the keeper of tokens has to be told.

use std::collections::BTreeMap;

use crate::words::bank::BankBehaviour;
use crate::words::ids::ProviderId;

/// The bounds of the token cache and of refreshing, and what is known of each provider.
#[derive(Clone, Debug)]
pub struct TokenSettings {
    /// Every provider of the configuration.
    pub providers: BTreeMap<ProviderId, ProviderSettings>,
    /// Consents whose token set is kept in memory.
    pub cache_capacity: usize,
    /// Refreshes under way or waiting for their turn in this process.
    pub max_flights: usize,
}

impl TokenSettings {
    /// The cache's size unless the operator says otherwise.
    pub const CACHE_CAPACITY: usize = 1_000_000;
    /// The bound on flights unless the operator says otherwise.
    pub const MAX_FLIGHTS: usize = 100_000;
}

/// What is known of one provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderSettings {
    /// How the bank behaves.
    pub behaviour: BankBehaviour,
    /// The name the bank knows us by; sealed tokens are bound to it.
    pub client_id: String,
    /// Token requests at once, over all replicas.
    pub max_in_flight: usize,
    /// Token requests within any second, over all replicas.
    pub max_per_second: usize,
}

impl ProviderSettings {
    /// Token requests at once unless the operator says otherwise.
    pub const MAX_IN_FLIGHT: usize = 8;
    /// Token requests within any second unless the operator says otherwise.
    pub const MAX_PER_SECOND: usize = 20;
}
