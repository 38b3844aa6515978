//! The metrics' registry.

use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::words::metrics::Metrics;

/// Makes the registry and every metric in it, all named `consentry_…`. Beside those of [`Metrics`] there is
/// `consentry_build_info`, always 1, whose label is the version.
pub fn registry() -> (Registry, Metrics) {
    let mut registry = Registry::with_prefix("consentry");
    registry.register("build", "Which build this is", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
    let metrics = Metrics::new(&mut registry);
    (registry, metrics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_named_after_the_program_and_says_which_build_it_is() {
        let (registry, metrics) = registry();
        metrics.store_connected.set(1);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let build = format!("consentry_build_info{{version=\"{}\"}} 1\n", env!("CARGO_PKG_VERSION"));
        assert!(text.contains(&build), "{text}");
        assert!(text.contains("consentry_store_connected 1\n"), "{text}");
        assert!(text.ends_with("# EOF\n"));
        let foreign = text.lines().find(|line| !line.starts_with("consentry_") && !line.starts_with('#'));
        assert_eq!(foreign, None);
    }
}
