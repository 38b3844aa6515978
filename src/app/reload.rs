//! What of a new configuration a running program takes over.

use tokio::sync::mpsc;

use super::AppProxy;
use crate::config::renewal::Watched;
use crate::proxy::ProxyError;
use crate::proxy::settings::ProxySettings;

/// A handle on what can be replaced while the program runs.
#[derive(Debug)]
pub struct Replaceable {
    pub(super) proxy: AppProxy,
    pub(super) renewals: mpsc::Sender<Vec<Watched>>,
}

impl Replaceable {
    /// Leads calls by these APIs and settings from now on, and keeps the certificates up to date that were read with them.
    /// After an error everything is as before.
    pub async fn replace(&self, proxy: ProxySettings, renewals: Vec<Watched>) -> Result<(), ProxyError> {
        self.proxy.replace(proxy)?;
        // Nobody listens any more in a program that ends.
        let _ending = self.renewals.send(renewals).await;
        Ok(())
    }
}
