//! Repeats a step of the store while the store does not answer. Every step may be repeated.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::store::StoreError;

/// Takes some 13 seconds at most, and gives the last error. What is refused or cannot be read is not asked for again.
pub(super) async fn persist<T, F: Future<Output = Result<T, StoreError>>>(
    step: impl Fn() -> F,
) -> Result<T, StoreError> {
    persist_within(PATIENCE, step).await
}

/// [`persist`], where the store may take so long each time.
pub(super) async fn persist_within<T, F: Future<Output = Result<T, StoreError>>>(
    patience: Duration,
    step: impl Fn() -> F,
) -> Result<T, StoreError> {
    let mut pause = FIRST_PAUSE;
    let mut tries = 1;
    loop {
        let error = match timeout(patience, step()).await {
            Ok(Ok(outcome)) => return Ok(outcome),
            Ok(Err(error @ (StoreError::Refused(_) | StoreError::Unreadable(_)))) => return Err(error),
            Ok(Err(error @ (StoreError::Unavailable(_) | StoreError::Reuniting))) => error,
            Err(_) => StoreError::Unavailable("it did not answer in time".to_owned()),
        };
        if tries == TRIES {
            return Err(error);
        }
        tries += 1;
        sleep(pause).await;
        pause *= 4;
    }
}

const TRIES: u32 = 3;
/// How long the store may take each time.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
