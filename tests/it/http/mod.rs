//! The HTTP contract, black box, on every set-up.

/// Expands each case to one test for each set-up. A case that is not listed is dead code, which the lints refuse.
macro_rules! on_every_setup {
    ($($case:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case($crate::support::usher::Setup::Embedded).await;
            })*
        }
        mod one_instance {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case($crate::support::usher::Setup::Scaled(1)).await;
            })*
        }
        mod two_instances {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case($crate::support::usher::Setup::Scaled(2)).await;
            })*
        }
    };
}

mod callers;
mod desk;
mod errors;
mod full;
mod hostile;
mod inventory;
mod line;
mod memory;
mod operators;
mod passes;
mod presence;
mod rate;
mod recovery;
mod reserving;
mod set_back;
mod shapes;
mod sold_out;
mod stalls;
mod stream;
