//! The logs: where they go and how a line looks.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Loaded, LogFormat, LogSettings};

/// Sends the logs to standard error, so that standard output is a command's own. `auto` writes text on a terminal and JSON
/// elsewhere. Gives `false`, and changes nothing, where the process has a subscriber already (a second call, or a test).
pub fn init(log: &LogSettings) -> bool {
    let is_terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter(log)).with_writer(std::io::stderr);
    let installed = match log.format {
        LogFormat::Text => builder.with_ansi(is_terminal).try_init(),
        LogFormat::Auto if is_terminal => builder.with_ansi(true).try_init(),
        LogFormat::Json | LogFormat::Auto => builder.json().flatten_event(true).try_init(),
    };
    installed.is_ok()
}

/// The settings were checked, so the filter is legal; were it not, `info` is better than silence.
///
/// The server beneath calls every request that it cannot read an error: anybody who sends rubbish could fill the log. It is heard
/// only where the filter names it.
fn filter(log: &LogSettings) -> EnvFilter {
    let quiet = if log.filter.contains(SERVER) { "" } else { &format!(",{SERVER}=off") };
    let filter = format!("{}{quiet}", log.filter);
    EnvFilter::builder().parse(filter).unwrap_or_else(|_| EnvFilter::new("info"))
}

/// What reads the requests.
const SERVER: &str = "actix_http";

/// Logs, once at start, the settings in force with where each came from, and what is risky about them.
pub fn report(loaded: &Loaded) {
    for origin in &loaded.origins {
        tracing::info!(setting = origin.key, value = %origin.shown, source = %origin.source, "setting");
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::from_pairs;

    #[test]
    fn a_second_call_does_no_harm() {
        for level in ["INFO", "Debug", "warn"] {
            for format in ["text", "JSON", "auto"] {
                let log = from_pairs(&[("log_level", level), ("log_format", format)]).expect("legal").log;
                init(&log);
                assert!(!init(&log));
            }
        }
    }

    #[test]
    fn a_filter_keeps_its_directives() {
        let log = from_pairs(&[("log_level", "WARN,usher::engine=Debug")]).expect("legal").log;
        let shown = filter(&log).to_string();
        assert!(shown.contains("warn") && shown.contains("usher::engine=debug"), "{shown}");
        assert!(shown.contains("actix_http=off"), "{shown}");
        let log = from_pairs(&[("log_level", "info,actix_http=error")]).expect("legal").log;
        let shown = filter(&log).to_string();
        assert!(shown.contains("actix_http=error") && !shown.contains("off"), "{shown}");
    }
}
