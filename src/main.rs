//! The `usher` binary: reads the command line and the settings, and hands over to the command.

use std::process::ExitCode;

use usher::cli::{self, Task};
use usher::{config, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let matches = cli::command().get_matches();
    let loaded = match config::load(&matches, std::env::vars_os()) {
        Ok(loaded) => loaded,
        Err(error) => return cli::fail(&error),
    };
    let settings = &loaded.settings;
    let task = cli::task(&matches);
    telemetry::init(&cli::log_settings(&task, &loaded));
    let done = match task {
        Task::Serve => cli::serve::run(&loaded).await,
        Task::Demo { visitors, once } => cli::demo::run(&loaded, visitors, once).await,
        Task::Migrate => cli::migrate::run(settings).await,
        Task::Seed { out } => cli::seed::run(settings, out.as_deref()).await,
        Task::Token { options, out } => cli::token::run(settings, &options, out.as_deref()),
        Task::OpenApi { out } => cli::openapi::run(out.as_deref()),
        Task::Healthcheck(options) => cli::healthcheck::run(settings, options),
    };
    done.map_or_else(|error| cli::fail(error.as_ref()), |()| ExitCode::SUCCESS)
}
