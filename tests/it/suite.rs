//! Tests that run against every store.
//!
//! A test is a function of a bench; `suite!` names those of its file, or those of several files by theirs.

macro_rules! suite {
    ($($test:ident)*) => {
        suite! { @ $($test super::$test,)* }
    };
    ($($file:ident { $($test:ident)* })*) => {
        suite! { @ $($($test super::$file::$test,)*)* }
    };
    (@ $($name:ident $test:path,)*) => {
        mod embedded {
            $(#[tokio::test]
            async fn $name() {
                let bench = crate::support::bench::Embedded::start();
                $test(&bench).await;
            })*
        }

        mod redis {
            $(#[tokio::test]
            async fn $name() {
                let bench = crate::support::bench::Redis::start().await;
                $test(&bench).await;
            })*
        }

        // Several servers take seconds to find each other, so they do it once for all.
        mod sentinel {
            #[tokio::test]
            async fn every_test() {
                let bench = crate::support::bench::Watched::start().await;
                $(Box::pin($test(&bench)).await;)*
            }
        }

        mod cluster {
            #[tokio::test]
            async fn every_test() {
                let bench = crate::support::bench::Clustered::start().await;
                $(Box::pin($test(&bench)).await;)*
            }
        }
    };
}
