//! The commented default file and the reference of settings, made from the table.

use std::fmt::Write;

use super::table::{GROUPS, Setting};

/// The default file: every key, commented out, with its default and its limits. Kept at `docs/config.default.toml`.
pub fn default_file() -> String {
    let mut text = String::from(
        "# Usher's settings. Every key is here with its default; remove the # to set it.\n\
         # A flag (--redis-url) comes before a variable (USHER_REDIS_URL), a variable before this file.\n\
         # Start with --config PATH or USHER_CONFIG=PATH. Made from the table in src/config/table.rs.\n",
    );
    for group in GROUPS {
        let _ = write!(text, "\n# --- {} ---\n", group.title);
        for setting in group.settings {
            let _ = write!(
                text,
                "\n# {}.\n# {}.\n# {} = {}\n",
                capital(setting.help),
                capital(&setting.kind.describe()),
                setting.key,
                literal(setting)
            );
        }
    }
    text
}

/// The reference as Markdown tables. Kept at `docs/settings.md`.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Settings\n\n\
         Every setting is a flag, an environment variable and a key of a TOML file (`--config PATH` or `USHER_CONFIG`), in that\n\
         order of precedence. An empty variable counts as not set. An unknown variable `USHER_…`, an unknown key or a bad value stops\n\
         the start with a message that names it. The settings in force, each with where it came from, are logged at start; secrets\n\
         are masked. This page is made from the table in `src/config/table.rs`.\n",
    );
    for group in GROUPS {
        let _ = write!(
            text,
            "\n## {}\n\n| flag | variable | default | what it is |\n| --- | --- | --- | --- |\n",
            group.title
        );
        for setting in group.settings {
            let default = match setting.default {
                "" => "not set".to_owned(),
                value => format!("`{value}`"),
            };
            let _ = writeln!(
                text,
                "| `--{}` | `{}` | {default} | {}. {}.{} |",
                setting.flag(),
                setting.variable(),
                capital(setting.help),
                capital(&setting.kind.describe()),
                if setting.kind.is_secret() { " A secret." } else { "" },
            );
        }
    }
    text
}

fn literal(setting: &Setting) -> String {
    if setting.kind.is_bare() { setting.default.to_owned() } else { format!("\"{}\"", setting.default) }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares a committed file with what the table says; `USHER_TEST_WRITE_DOCS=1` writes it anew.
    fn same_as_committed(name: &str, made: &str) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
        if std::env::var_os("USHER_TEST_WRITE_DOCS").is_some() {
            std::fs::write(&path, made).expect("docs can be written");
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == made, "docs/{name} differs from the table: run the tests with USHER_TEST_WRITE_DOCS=1");
    }

    #[test]
    fn the_committed_documents_are_those_of_the_table() {
        same_as_committed("config.default.toml", &default_file());
        same_as_committed("settings.md", &markdown());
    }

    #[test]
    fn the_default_file_with_every_key_set_is_a_legal_file() {
        let uncommented: String = default_file()
            .lines()
            .filter_map(|line| line.strip_prefix("# "))
            .filter(|line| super::super::table::all().any(|s| line.starts_with(&format!("{} = ", s.key))))
            .collect::<Vec<_>>()
            .join("\n");
        let table: toml::Table = uncommented.parse().expect("TOML");
        assert_eq!(table.len(), super::super::table::all().count());
    }
}
