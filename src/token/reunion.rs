//! What this process tells a store that came back.
//!
//! A store that fails over, or restarts, may have forgotten its last writes. Before it grants a lease again every process
//! tells it which refresh tokens it is spending at the moment, and looks whether what it has seen lately still stands. The
//! rest of what is remembered is looked at behind that, without haste.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::interval;

use super::Core;
use super::flight::Flights;
use super::setback::Watch;
use crate::oauth::TokenEndpoint;
use crate::simulation;
use crate::store::{Occasion, Store, StoreError};
use crate::words::clock::Clock;

/// How far back a store is taken to have forgotten before anybody has looked. A disk lags by a second or two, and a
/// replica that is further behind than this is not promoted by anybody in their senses.
const LATELY: Duration = Duration::from_secs(300);
/// How many records are looked at at once.
const WIDTH: usize = 16;
/// Between two records of the rest.
const UNHURRIED: Duration = Duration::from_millis(5);

/// Runs for as long as it is polled.
pub(super) async fn run<S: Store, E: TokenEndpoint, C: Clock>(core: &Arc<Core<S, E, C>>) {
    let watch = Arc::new(Watch::begin(core));
    let known = watch.known();
    let attend = |occasion| attend(Arc::clone(core), Arc::clone(&watch), occasion);
    core.store.reunite(&core.process, core.timing.pace(), known, attend).await;
}

/// Whether the store is the one that was known comes first: what an old backup brings back must not be spent, and putting
/// back what is remembered takes a while.
async fn attend<S: Store, E: TokenEndpoint, C: Clock>(
    core: Arc<Core<S, E, C>>,
    watch: Arc<Watch>,
    occasion: Occasion,
) -> Result<(), StoreError> {
    match occasion {
        Occasion::Met(arrivals) => {
            watch.meet(&core, &arrivals).await?;
            retell(core).await
        }
        Occasion::Beat { before, after } => watch.beat(&core, &before, after).await,
    }
}

/// Tells the store everything once. An error: it has to be told all of it again.
pub(super) async fn retell<S: Store, E: TokenEndpoint, C: Clock>(core: Arc<Core<S, E, C>>) -> Result<(), StoreError> {
    let spendings = core.spendings.all();
    let away = core.link.last_heard(core.clock.boot());
    let recent = core.memories.seen_within(Some(LATELY + away), core.clock.boot());
    tracing::debug!(
        spending = spendings.len(),
        records = recent.len(),
        "Telling the token store what it may have forgotten."
    );
    at_once(spendings, |spending| {
        let core = Arc::clone(&core);
        async move { spending.reassert(&core.store, core.timing.armed_lease).await.map(drop) }
    })
    .await?;
    at_once(recent, |(key, memory)| {
        let core = Arc::clone(&core);
        async move { core.confirm(&key, &memory).await }
    })
    .await?;
    look_through_the_rest(core);
    Ok(())
}

/// Looks at everything that is remembered, a little at a time. What fails is looked at when it is asked for.
fn look_through_the_rest<S: Store, E: TokenEndpoint, C: Clock>(core: Arc<Core<S, E, C>>) {
    Flights::detach_idle(async move {
        let mut pace = interval(UNHURRIED);
        for (key, memory) in core.memories.seen_within(None, core.clock.boot()) {
            pace.tick().await;
            if core.confirm(&key, &memory).await.is_err() {
                core.count_store_error("confirm");
            }
        }
    });
}

/// Does `work` for every item, a few at a time. The first error ends it.
async fn at_once<T, F>(items: Vec<T>, work: impl Fn(T) -> F) -> Result<(), StoreError>
where
    T: Send + 'static,
    F: Future<Output = Result<(), StoreError>> + Send + 'static,
{
    let mut items = items.into_iter();
    let mut under_way = JoinSet::new();
    for item in items.by_ref().take(WIDTH) {
        under_way.spawn(simulation::task(work(item)));
    }
    while let Some(done) = under_way.join_next().await {
        done.unwrap_or_else(|_| Err(StoreError::Unavailable("a look at a record was cut short".to_owned())))?;
        if let Some(item) = items.next() {
            under_way.spawn(simulation::task(work(item)));
        }
    }
    Ok(())
}
