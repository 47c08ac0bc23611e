//! `usher migrate`: brings the ledger's tables up to date. `usher serve` does so too; this is for those who migrate first.

use super::Done;
use crate::config::Settings;

/// Runs the command.
///
/// # Errors
/// When the ledger cannot be reached, or a migration fails.
pub async fn run(settings: &Settings) -> Done {
    crate::app::open_ledger(settings).await?;
    println!("The ledger is up to date.");
    Ok(())
}
