//! Settings: one table, four sources (flag, environment, file, default), checked as a whole before anything starts.

mod kind;
mod network;
pub mod reference;
mod rules;
mod secret;
mod settings;
mod sources;
pub mod table;

use std::ffi::OsString;
use std::fmt;

use clap::{Arg, ArgMatches};

pub use kind::Kind;
pub use network::{InvalidNetwork, Network};
pub use secret::{MASK, Secret, mask_url};
pub use settings::{
    AuthSettings, DatabaseSettings, HttpSettings, LimitSettings, LogFormat, LogSettings, PassSettings, Rate, RedisMode,
    RedisSettings, Settings,
};
pub use sources::Source;

/// One line of the report of settings in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The setting.
    pub key: &'static str,
    /// Its value as it may be shown: secrets are masked.
    pub shown: String,
    /// Where it came from.
    pub source: Source,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({})", self.key, self.shown, self.source)
    }
}

/// The settings, and what is to be said of them at start.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings in force.
    pub settings: Settings,
    /// Each setting with where it came from, in the order of the table.
    pub origins: Vec<Origin>,
    /// What is legal but risky.
    pub warnings: Vec<String>,
}

/// Why the settings cannot be used: every problem that was found, each naming its setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

/// The flags of all settings and `--config`, good for every command.
pub fn flags() -> Vec<Arg> {
    let config = Arg::new("config").long("config").value_name("PATH").global(true);
    let mut flags = vec![config.help("TOML file with settings [env: USHER_CONFIG]")];
    for group in table::GROUPS {
        for setting in group.settings {
            let default = if setting.default.is_empty() { "not set" } else { setting.default };
            let flag = Arg::new(setting.key)
                .long(setting.flag())
                .help(format!("{} [default: {default}] [env: {}]", setting.help, setting.variable()))
                .help_heading(group.title)
                .global(true);
            flags.push(match setting.kind {
                // `--cookie-secure` alone is enough; `--cookie-secure=false` takes it back.
                Kind::Bool => flag.num_args(0..=1).require_equals(true).default_missing_value("true"),
                // A value such as `-5` is for us to refuse, by name.
                _ => flag.allow_hyphen_values(true).value_name("VALUE"),
            });
        }
    }
    flags
}

/// Reads the settings: `matches` of a command with [`flags`], the environment, and the file that one of them names.
///
/// # Errors
/// [`ConfigError`] with every unknown name, bad value and broken rule.
pub fn load(
    matches: &ArgMatches,
    env: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>,
) -> Result<Loaded, ConfigError> {
    let keys = std::iter::once("config").chain(table::all().map(|setting| setting.key));
    let given = keys.filter_map(|key| {
        let value = matches.try_get_one::<String>(key).ok().flatten()?;
        Some((key.to_owned(), value.clone()))
    });
    load_pairs(given, env)
}

/// As [`load`], with flags as pairs of key and value.
///
/// # Errors
/// [`ConfigError`] with every unknown name, bad value and broken rule.
pub fn load_pairs(
    flags: impl IntoIterator<Item = (String, String)>,
    env: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>,
) -> Result<Loaded, ConfigError> {
    let gathered = sources::gather(flags, env.into_iter().map(|(name, text)| (name.into(), text.into())));
    let settings = Settings::read(&gathered.values);
    let mut problems = gathered.problems;
    // A value that was refused reads as its default, and a rule about it would only confuse.
    if problems.is_empty() {
        problems = rules::problems(&settings, &gathered.values);
    }
    if !problems.is_empty() {
        return Err(ConfigError(problems));
    }
    let warnings = rules::warnings(&settings, &gathered.values);
    let origins = table::all().map(|setting| origin(setting, gathered.values.get(setting.key), &settings)).collect();
    Ok(Loaded { settings, origins, warnings })
}

/// Settings from pairs of key and value alone, without environment or file: for tests and embedding.
///
/// # Errors
/// [`ConfigError`] with every unknown name, bad value and broken rule.
pub fn from_pairs(pairs: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    load_pairs(pairs, std::iter::empty::<(OsString, OsString)>()).map(|loaded| loaded.settings)
}

fn origin(setting: &table::Setting, value: Option<&sources::Value>, settings: &Settings) -> Origin {
    let text = value.map_or(setting.default, |value| &value.text);
    let shown = match (setting.key, text) {
        ("auth", "") if settings.auth.required => "required".to_owned(),
        ("auth", "") => "optional".to_owned(),
        (_, "") => "not set".to_owned(),
        (_, text) => setting.kind.show(text),
    };
    Origin { key: setting.key, shown, source: value.map_or(Source::Default, |value| value.source.clone()) }
}

#[cfg(test)]
mod tests;
