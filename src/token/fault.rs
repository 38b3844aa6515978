//! Named places where a test may stop the program.
//!
//! Only builds with debug assertions have them. `CONSENTRY_FAILPOINTS` names the places, separated by commas; a flight
//! that reaches one stays there, so that the process can be killed at exactly that step.

/// Stays here for ever if this place is named. In a release build, nothing at all.
#[cfg(debug_assertions)]
pub(super) async fn point(name: &str) {
    use std::sync::OnceLock;

    static NAMED: OnceLock<Vec<String>> = OnceLock::new();
    let named = NAMED.get_or_init(|| {
        let names = std::env::var("CONSENTRY_FAILPOINTS").unwrap_or_default();
        names.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
    });
    if named.iter().any(|armed| armed == name) {
        tracing::warn!(name, "Stopped at a failpoint.");
        std::future::pending::<()>().await;
    }
}

#[cfg(not(debug_assertions))]
#[expect(clippy::unused_async, reason = "the same shape as the build that has failpoints")]
pub(super) async fn point(_name: &str) {}
