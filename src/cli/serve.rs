//! `usher serve`: runs the service until it is told to stop.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::{Done, open_files};
use crate::app::Application;
use crate::config::Loaded;
use crate::domain::time::SystemClock;
use crate::telemetry;

/// Runs the command: until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// When the service cannot start, or its server breaks down.
pub async fn run(loaded: &Loaded) -> Done {
    telemetry::report(loaded);
    let mut settings = loaded.settings.clone();
    open_files::fit(&mut settings);
    let application = Application::build(&settings, Arc::new(SystemClock)).await?;
    if let Some(token) = application.generated_admin_token() {
        // On standard output, not in the log: it is shown this once and kept nowhere.
        println!("Admin token of this run (set USHER_ADMIN_TOKEN for one that stays): {}", token.expose());
    }
    let line = if loaded.settings.redis.is_some() { "redis" } else { "in process" };
    let ledger = if loaded.settings.database.is_some() { "postgres" } else { "sqlite" };
    tracing::info!(address = %application.address(), line, ledger, "ready");
    application.run(stop_signal()?).await?;
    tracing::info!("stopped");
    Ok(())
}

/// Done at the first SIGTERM or SIGINT.
///
/// # Errors
/// When the signals cannot be listened for.
pub fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
