//! Tests that run against every store.
//!
//! A test is a function of a bench; `suite!` in its file names those that there are.

macro_rules! suite {
    ($($test:ident)*) => {
        mod embedded {
            $(#[tokio::test]
            async fn $test() {
                let bench = crate::support::bench::Embedded::start();
                super::$test(&bench).await;
            })*
        }

        mod redis {
            $(#[tokio::test]
            async fn $test() {
                let bench = crate::support::bench::Redis::start().await;
                super::$test(&bench).await;
            })*
        }

        // Several servers take seconds to find each other, so they do it once for all.
        mod sentinel {
            #[tokio::test]
            async fn every_test() {
                let bench = crate::support::bench::Watched::start().await;
                $(Box::pin(super::$test(&bench)).await;)*
            }
        }

        mod cluster {
            #[tokio::test]
            async fn every_test() {
                let bench = crate::support::bench::Clustered::start().await;
                $(Box::pin(super::$test(&bench)).await;)*
            }
        }
    };
}
