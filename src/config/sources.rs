//! Where values come from: flags, then `USHER_…` variables, then the file, then the defaults.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::table::{self, Setting};

/// The prefix of every variable.
const PREFIX: &str = "USHER_";
/// Variables of tests and benchmarks, which are not settings.
const NOT_SETTINGS: &[&str] = &["USHER_TEST_", "USHER_BENCH_"];

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A flag on the command line.
    Flag,
    /// An environment variable.
    Environment,
    /// The file.
    File(PathBuf),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Environment => f.write_str("environment"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

impl Source {
    /// The name that the setting has at this source, for a message.
    fn name_of(&self, setting: &Setting) -> String {
        match self {
            Self::Flag => format!("--{}", setting.flag()),
            Self::Environment => setting.variable(),
            Self::File(path) => format!("{} in {}", setting.key, path.display()),
            Self::Default => setting.key.to_owned(),
        }
    }
}

/// One value and where it came from. An empty text is "not set".
#[derive(Debug, Clone)]
pub(super) struct Value {
    pub text: String,
    pub source: Source,
}

/// The value of every setting that some source names, and what is wrong with the sources.
#[derive(Default)]
pub(super) struct Gathered {
    pub values: BTreeMap<&'static str, Value>,
    pub problems: Vec<String>,
}

/// Gathers what the sources say, the most important first.
pub(super) fn gather(
    flags: impl IntoIterator<Item = (String, String)>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Gathered {
    let mut gathered = Gathered::default();
    let mut file = None;
    for (key, text) in flags {
        match table::find(&key) {
            Some(setting) => gathered.take(setting, text, Source::Flag),
            None if key == "config" => file = Some(text),
            None => gathered.problems.push(format!("--{} is not a setting{}", key.replace('_', "-"), near_key(&key))),
        }
    }
    for (name, text) in env {
        if let Some(path) = gathered.variable(&name, text) {
            file = file.or(Some(path));
        }
    }
    if let Some(path) = file.filter(|path| !path.is_empty()) {
        gathered.file(Path::new(&path));
    }
    gathered
}

impl Gathered {
    /// Keeps the value unless a source that comes first has one, after checking it.
    fn take(&mut self, setting: &'static Setting, text: String, source: Source) {
        // White space around a secret is an error that Kind::Key reports; elsewhere it means nothing.
        let text = if setting.kind.is_secret() { text } else { text.trim().to_owned() };
        if !text.is_empty()
            && let Err(wanted) = setting.kind.check(&text)
        {
            let shown =
                if setting.kind.is_secret() { String::new() } else { format!(", not {:?}", setting.kind.show(&text)) };
            self.problems.push(format!("{} must be {wanted}{shown}", source.name_of(setting)));
            return;
        }
        self.values.entry(setting.key).or_insert(Value { text, source });
    }

    /// Takes one environment variable; gives back the path of the file if that is what it says.
    fn variable(&mut self, name: &OsString, text: OsString) -> Option<String> {
        let name = name.to_string_lossy();
        if !name.starts_with(PREFIX) || NOT_SETTINGS.iter().any(|prefix| name.starts_with(prefix)) {
            return None;
        }
        let Ok(text) = text.into_string() else {
            self.problems.push(format!("{name} is not UTF-8 text"));
            return None;
        };
        if name == "USHER_CONFIG" {
            return Some(text).filter(|path| !path.is_empty());
        }
        match table::all().find(|setting| setting.variable() == name) {
            Some(_) if text.trim().is_empty() => {}
            Some(setting) => self.take(setting, text, Source::Environment),
            None if is_service_link(&name, &text) => {}
            None => {
                let key = name[PREFIX.len()..].to_ascii_lowercase();
                let near = near(&key).map(|s| format!(": did you mean {}?", s.variable())).unwrap_or_default();
                self.problems.push(format!("{name} is not a setting{near}"));
            }
        }
        None
    }

    fn file(&mut self, path: &Path) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                self.problems.push(format!("the settings file {} cannot be read: {error}", path.display()));
                return;
            }
        };
        let table = match text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(error) => {
                // Its own display would quote the line, which may hold a secret.
                let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].lines().count().max(1));
                self.problems.push(format!("{} is not TOML at line {line}: {}", path.display(), error.message()));
                return;
            }
        };
        for (key, value) in table {
            let Some(setting) = table::find(&key) else {
                self.problems.push(format!("{key} in {} is not a setting{}", path.display(), near_key(&key)));
                continue;
            };
            match as_text(value) {
                Some(text) => self.take(setting, text, Source::File(path.to_owned())),
                None => self.problems.push(format!(
                    "{key} in {} must be {}: a text, a number, true, false or a list of texts",
                    path.display(),
                    setting.kind.describe()
                )),
            }
        }
    }
}

/// A value of the file as the text that a flag would have.
fn as_text(value: toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(truth) => Some(truth.to_string()),
        toml::Value::Array(items) => {
            let texts: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
            Some(texts?.join(","))
        }
        _ => None,
    }
}

/// Whether a variable was injected for a service whose name begins with `usher`: Kubernetes and container links set
/// `X_SERVICE_HOST`, `X_SERVICE_PORT…` and `X_PORT…` for every service. `USHER_PORT=8080`, set by hand in the hope of moving
/// the listener, is not one of them: it would be passed over without a word.
fn is_service_link(name: &str, text: &str) -> bool {
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme));
    let has_protocol = ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| name.contains(protocol));
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (name.ends_with("_PORT") && is_url)
        || (name.contains("_PORT_") && (is_url || has_protocol))
}

fn near_key(key: &str) -> String {
    near(key).map(|s| format!(": did you mean {}?", s.key)).unwrap_or_default()
}

/// The setting whose key is most like this one, if it is like it at all.
fn near(key: &str) -> Option<&'static Setting> {
    let key = key.replace('-', "_");
    let best = table::all().map(|setting| (distance(&key, setting.key), setting)).min_by_key(|(far, _)| *far);
    best.filter(|(far, setting)| *far <= 1 + setting.key.len() / 4)
        .map(|(_, setting)| setting)
        .or_else(|| (key == "port" || key == "host" || key == "bind").then(|| table::find("listen")).flatten())
}

/// The number of letters to add, drop or change to get from one text to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_finds_its_neighbour() {
        assert_eq!(distance("kitten", "sitting"), 3);
        for (wrong, right) in
            [("lissten", "listen"), ("redis-url", "redis_url"), ("databse_url", "database_url"), ("port", "listen")]
        {
            assert_eq!(near(wrong).map(|s| s.key), Some(right));
        }
        assert!(near("zzzzzzzzzz").is_none());
    }

    #[test]
    fn injected_service_variables_are_told_from_mistakes() {
        for (name, text) in [
            ("USHER_SERVICE_HOST", "10.0.0.1"),
            ("USHER_SERVICE_PORT_HTTP", "80"),
            ("USHER_PORT", "tcp://10.0.0.1:80"),
            ("USHER_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("USHER_REDIS_SERVICE_HOST", "10.0.0.2"),
            ("USHER_REDIS_PORT", "tcp://10.0.0.2:6379"),
            ("USHER_REDIS_PORT_6379_TCP", "tcp://10.0.0.2:6379"),
        ] {
            assert!(is_service_link(name, text), "{name}");
        }
        assert!(!is_service_link("USHER_PORT", "8080"));
        assert!(!is_service_link("USHER_REDIS_PORT", "6379"));
    }
}
