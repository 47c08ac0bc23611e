//! The command line: what can be asked for. Each command is a small file; what it needs of the settings it is given.

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::config;

pub mod demo;
pub mod healthcheck;
pub mod migrate;
pub mod open_files;
pub mod openapi;
pub mod output;
pub mod seed;
pub mod serve;
pub mod token;

/// What a command comes to.
pub type Done = Result<(), Box<dyn std::error::Error>>;

/// How a command logs. The demonstration has the terminal to itself: unless a level is asked for, only warnings are logged.
pub fn log_settings(task: &Task, loaded: &config::Loaded) -> config::LogSettings {
    let mut log = loaded.settings.log.clone();
    let by_default = |o: &config::Origin| o.key == "log_level" && o.source == config::Source::Default;
    if matches!(task, Task::Demo { .. }) && loaded.origins.iter().any(by_default) {
        "warn".clone_into(&mut log.filter);
    }
    log
}

/// Says on standard error why a command failed; the exit code says that it did.
pub fn fail(error: &(impl Display + ?Sized)) -> ExitCode {
    for line in error.to_string().lines() {
        eprintln!("usher: {line}");
    }
    ExitCode::FAILURE
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Run the service.
    Serve,
    /// Bring the database's schema up to date.
    Migrate,
    /// Put the load-test catalogue into the ledger.
    Seed {
        /// Where the ids go; `None` = standard output.
        out: Option<PathBuf>,
    },
    /// Issue user tokens.
    Token {
        /// Whose, and how many.
        options: token::Options,
        /// Where they go; `None` = standard output.
        out: Option<PathBuf>,
    },
    /// Write the OpenAPI document.
    OpenApi {
        /// Where it goes; `None` = standard output.
        out: Option<PathBuf>,
    },
    /// Ask a running service how it is.
    Healthcheck(healthcheck::Options),
    /// Run the service with a sample event and a simulated crowd.
    Demo {
        /// Visitors in the crowd.
        visitors: u32,
        /// End when the crowd is through, rather than keep serving.
        once: bool,
    },
}

/// The whole command line. Settings are flags of every command.
pub fn command() -> Command {
    Command::new("usher")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A virtual queue in front of a booking system")
        .args(config::flags())
        .subcommand(Command::new("serve").about("Run the service (the default)"))
        .subcommand(Command::new("migrate").about("Bring the database's schema up to date, and end"))
        .subcommand(Command::new("seed").about("Put the load-test catalogue into the ledger").arg(out("the ids")))
        .subcommand(token_command())
        .subcommand(Command::new("openapi").about("Write the OpenAPI document").arg(out("it")))
        .subcommand(healthcheck_command())
        .subcommand(
            Command::new("demo")
                .about("Run the service with a sample event and a simulated crowd")
                .arg(
                    number("visitors", "300", "visitors in the crowd")
                        .value_parser(value_parser!(u32).range(1..=100_000)),
                )
                .arg(switch("once", "end when the crowd is through; non-zero if anything went wrong")),
        )
}

fn token_command() -> Command {
    Command::new("token")
        .about("Issue user tokens for load tests, as JSON")
        .arg(number("count", "1", "how many").value_parser(value_parser!(u32).range(1..=1_000_000)))
        .arg(text("prefix", "what the visitors' ids begin with; their number follows").default_value("load"))
        .arg(text("user", "the visitor's id, for a single token").conflicts_with_all(["count", "prefix"]))
        .arg(
            number("ttl", "86400", "seconds that they are good for")
                .value_parser(value_parser!(u64).range(1..=31_536_000)),
        )
        .arg(out("them"))
}

fn healthcheck_command() -> Command {
    Command::new("healthcheck")
        .about("Ask the service at the listen address how it is; exit code 0 if well")
        .arg(switch("ready", "ask whether its stores are reachable too"))
        .arg(
            number("timeout-ms", "2000", "longest wait, in milliseconds")
                .value_parser(value_parser!(u64).range(1..=60_000)),
        )
}

fn out(what: &str) -> Arg {
    let help = format!("file to write {what} to; without it standard output");
    Arg::new("out").long("out").value_name("FILE").help(help).value_parser(value_parser!(PathBuf))
}

fn text(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("TEXT").help(help)
}

fn number(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("N").default_value(default).help(help)
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// What was asked for; [`Task::Serve`] where nothing was.
pub fn task(matches: &ArgMatches) -> Task {
    match matches.subcommand() {
        Some(("migrate", _)) => Task::Migrate,
        Some(("seed", of)) => Task::Seed { out: of.get_one("out").cloned() },
        Some(("openapi", of)) => Task::OpenApi { out: of.get_one("out").cloned() },
        Some(("token", of)) => {
            let who = match of.get_one::<String>("user") {
                Some(user) => token::Who::One(user.clone()),
                None => token::Who::Many {
                    prefix: of.get_one("prefix").cloned().unwrap_or_default(),
                    count: of.get_one("count").copied().unwrap_or_default(),
                },
            };
            let ttl = Duration::from_secs(of.get_one("ttl").copied().unwrap_or_default());
            Task::Token { options: token::Options { who, ttl }, out: of.get_one("out").cloned() }
        }
        Some(("healthcheck", of)) => Task::Healthcheck(healthcheck::Options {
            ready: of.get_flag("ready"),
            timeout: Duration::from_millis(of.get_one("timeout-ms").copied().unwrap_or_default()),
        }),
        Some(("demo", of)) => {
            Task::Demo { visitors: of.get_one("visitors").copied().unwrap_or_default(), once: of.get_flag("once") }
        }
        _ => Task::Serve,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(args: &[&str]) -> Task {
        task(&command().try_get_matches_from([&["usher"], args].concat()).unwrap_or_else(|e| panic!("{e}")))
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn each_command_is_what_it_says() {
        assert_eq!(asked(&[]), Task::Serve);
        assert_eq!(asked(&["serve", "--listen", "127.0.0.1:0"]), Task::Serve);
        assert_eq!(asked(&["migrate"]), Task::Migrate);
        assert_eq!(asked(&["seed", "--out", "ids.json"]), Task::Seed { out: Some("ids.json".into()) });
        assert_eq!(asked(&["openapi"]), Task::OpenApi { out: None });
        assert_eq!(asked(&["demo"]), Task::Demo { visitors: 300, once: false });
        assert_eq!(asked(&["demo", "--once", "--visitors", "20"]), Task::Demo { visitors: 20, once: true });
        let Task::Healthcheck(options) = asked(&["healthcheck", "--ready"]) else { panic!("another command") };
        assert_eq!(options, healthcheck::Options { ready: true, timeout: Duration::from_secs(2) });
        let Task::Token { options, out: None } = asked(&["token", "--user", "u-1"]) else { panic!("another command") };
        assert_eq!(options.who, token::Who::One("u-1".to_owned()));
        let Task::Token { options, .. } = asked(&["token", "--count", "10000"]) else { panic!("another command") };
        assert_eq!(options.who, token::Who::Many { prefix: "load".to_owned(), count: 10_000 });
        assert_eq!(options.ttl, Duration::from_hours(24));
    }

    #[test]
    fn what_is_not_there_is_refused() {
        for args in [&["sevre"][..], &["--lissten", "x"], &["demo", "--visitors", "0"], &["token", "--count", "-1"]] {
            assert!(command().try_get_matches_from([&["usher"], args].concat()).is_err(), "{args:?}");
        }
    }

    #[test]
    fn settings_can_be_given_before_and_after_the_command() {
        for args in
            [&["--log-level", "DEBUG", "serve"][..], &["serve", "--log-level", "DEBUG"], &["--log-level", "DEBUG"]]
        {
            let matches = command().try_get_matches_from([&["usher"], args].concat()).expect("a command line");
            let loaded = config::load(&matches, std::iter::empty::<(String, String)>()).expect("legal");
            assert_eq!(loaded.settings.log.filter, "debug", "{args:?}");
        }
    }
}
