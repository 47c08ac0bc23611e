//! What a setting's value may look like, and how it may be shown.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::network::Network;
use super::secret::{MASK, mask_url};

/// The type of a setting. Every kind reads its value from text, so that flags, variables and the file share one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `address:port`.
    Listen,
    /// A whole number from `.0` to `.1`.
    Integer(u64, u64),
    /// `true` or `false`.
    Bool,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// 1 to 200 characters, none of them a control character.
    Text,
    /// 1 to 64 characters from `[A-Za-z0-9._-]`.
    Word,
    /// A path of a file or directory.
    Path,
    /// A URL of one of these schemes; its password is a secret.
    Url(&'static [&'static str]),
    /// One or several such URLs, separated by commas.
    Urls(&'static [&'static str]),
    /// A key of at least so many bytes.
    Key(usize),
    /// A bearer token of at least so many visible ASCII characters.
    Token(usize),
    /// The name of a request header.
    Header,
    /// Address ranges, separated by commas.
    Networks,
    /// Web origins, separated by commas.
    Origins,
    /// A log level, or tracing directives, separated by commas.
    Filter,
}

/// Headers that mean something else already.
const TAKEN_HEADERS: &[&str] = &[
    "authorization",
    "cookie",
    "host",
    "content-type",
    "content-length",
    "x-queue-ticket",
    "x-queue-pass",
    "x-idempotency-key",
    "idempotency-key",
    "x-forwarded-for",
];

const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

impl Kind {
    /// Whether no part of the value may ever be shown.
    pub const fn is_secret(self) -> bool {
        matches!(self, Self::Key(_) | Self::Token(_))
    }

    /// Whether the value is written without quotes in the file.
    pub const fn is_bare(self) -> bool {
        matches!(self, Self::Integer(..) | Self::Bool)
    }

    /// The value as it may be shown.
    pub fn show(self, value: &str) -> String {
        match self {
            Self::Key(_) | Self::Token(_) => MASK.to_owned(),
            Self::Url(_) => mask_url(value),
            Self::Urls(schemes) => urls(value, schemes).map(mask_url).collect::<Vec<_>>().join(","),
            _ => value.to_owned(),
        }
    }

    /// What is asked for, in words.
    pub fn describe(self) -> String {
        match self {
            Self::Listen => "an address and a port such as 127.0.0.1:8080".to_owned(),
            Self::Integer(least, most) => format!("a whole number from {least} to {most}"),
            Self::Bool => "true or false".to_owned(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Text => "1 to 200 characters".to_owned(),
            Self::Word => "1 to 64 characters from [A-Za-z0-9._-]".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Url(schemes) => format!("a URL that begins with {}", schemes.join(" or ")),
            Self::Urls(schemes) => {
                format!("a URL that begins with {}, or several, separated by commas", schemes.join(" or "))
            }
            Self::Key(least) => format!("a secret of at least {least} bytes without white space around it"),
            Self::Token(least) => format!("at least {least} visible ASCII characters"),
            Self::Header => "the name of a request header that has no other meaning here".to_owned(),
            Self::Networks => "IP addresses or ranges such as 10.0.0.0/8, separated by commas".to_owned(),
            Self::Origins => "origins such as https://tickets.example.com, separated by commas".to_owned(),
            Self::Filter => {
                "off, error, warn, info, debug or trace, or directives such as info,usher::engine=debug".to_owned()
            }
        }
    }

    /// Checks a value that is not empty, and says what is asked for when it is something else.
    ///
    /// # Errors
    /// The sentence's end after "must be". It never repeats the value.
    pub fn check(self, value: &str) -> Result<(), String> {
        if self.accepts(value) { Ok(()) } else { Err(self.describe()) }
    }

    fn accepts(self, value: &str) -> bool {
        match self {
            Self::Listen => parse_listen(value).is_some(),
            Self::Integer(least, most) => value.parse::<u64>().is_ok_and(|n| (least..=most).contains(&n)),
            Self::Bool => matches!(value, "true" | "false"),
            Self::Choice(words) => words.contains(&value.to_ascii_lowercase().as_str()),
            Self::Text => value.chars().count() <= 200 && !value.chars().any(char::is_control),
            Self::Word => value.len() <= 64 && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)),
            Self::Path => !value.contains('\0'),
            Self::Url(schemes) => {
                !value.contains(|c: char| c.is_whitespace() || c.is_control())
                    && schemes.iter().any(|scheme| value.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
            }
            Self::Urls(schemes) => {
                // A comma where no password is: the scheme of what comes behind it was left out.
                let whole = |url: &str| url.rsplit('@').next().is_some_and(|host| !host.contains(','));
                urls(value, schemes).all(|url| Self::Url(schemes).accepts(url) && whole(url))
            }
            Self::Key(least) => value.len() >= least && value.trim() == value,
            Self::Token(least) => value.len() >= least && value.bytes().all(|b| b.is_ascii_graphic()),
            Self::Header => {
                value.len() <= 64
                    && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
                    && !TAKEN_HEADERS.contains(&value.to_ascii_lowercase().as_str())
            }
            Self::Networks => items(value).all(|item| Network::parse(item).is_ok()),
            Self::Origins => items(value).all(is_origin),
            Self::Filter => parse_filter(value).is_some(),
        }
    }
}

/// The parts of a list: separated by commas, white space around them dropped.
pub(super) fn items(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim)
}

/// The URLs of a list. A comma is part of a URL (of its password, say) unless one of the schemes comes behind it.
pub(super) fn urls<'a>(value: &'a str, schemes: &'static [&'static str]) -> impl Iterator<Item = &'a str> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let list = rest.take()?;
        let ends =
            |(at, _): &(usize, &str)| schemes.iter().any(|scheme| list[at + 1..].trim_start().starts_with(scheme));
        let Some((at, _)) = list.match_indices(',').find(ends) else { return Some(list.trim()) };
        rest = Some(&list[at + 1..]);
        Some(list[..at].trim())
    })
}

/// Reads an address to listen on. `localhost` stands for 127.0.0.1, so that no name has to be looked up.
pub(super) fn parse_listen(value: &str) -> Option<SocketAddr> {
    value.parse().ok().or_else(|| {
        let port = value.strip_prefix("localhost:")?.parse().ok()?;
        Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    })
}

fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|h| !h.is_empty() && h.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b)))
}

/// Reads a log filter, levels in any letter case, and gives it back in lower case.
///
/// A lone word must be a level: tracing would take a misspelt one (`inof`) for the name of a module and log nothing else.
pub(super) fn parse_filter(value: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in items(value) {
        let (target, level) = part.rsplit_once('=').map_or((None, part), |(target, level)| (Some(target), level));
        let level = level.trim().to_ascii_lowercase();
        let level = if level == "warning" { "warn" } else { level.as_str() };
        if !LEVELS.contains(&level) || target.is_some_and(|t| t.trim().is_empty()) {
            return None;
        }
        parts.push(target.map_or_else(|| level.to_owned(), |t| format!("{}={level}", t.trim())));
    }
    let filter = parts.join(",");
    tracing_subscriber::EnvFilter::builder().parse(&filter).ok().map(|_| filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_in_any_letter_case() {
        for (text, filter) in [
            ("info", "info"),
            ("INFO", "info"),
            ("Warning", "warn"),
            ("Info, usher::engine=DEBUG", "info,usher::engine=debug"),
            ("off", "off"),
        ] {
            assert_eq!(parse_filter(text).as_deref(), Some(filter), "{text}");
        }
        for bad in ["", "inof", "info,", "usher=loud", "=debug", "info usher", "5"] {
            assert_eq!(parse_filter(bad), None, "{bad}");
        }
    }

    #[test]
    fn each_kind_takes_what_it_should() {
        let cases: &[(Kind, &[&str], &[&str])] = &[
            (
                Kind::Listen,
                &["127.0.0.1:0", "[::]:80", "localhost:8080"],
                &["8080", ":8080", "host:1", "1.2.3.4:70000"],
            ),
            (Kind::Integer(20, 1000), &["20", "1000"], &["19", "1001", "-20", "1e2", "20.5", " 20", "1_000"]),
            (Kind::Bool, &["true", "false"], &["yes", "1", "TRUE"]),
            (Kind::Choice(&["text", "json"]), &["text", "JSON"], &["xml"]),
            (Kind::Word, &["usher", "a.b-c_9"], &["a b", "a:b", "é"]),
            (
                Kind::Url(&["redis://", "rediss://"]),
                &["redis://h", "rediss://u:p@h:1/0"],
                &["redis://", "http://h", "redis://a b"],
            ),
            (
                Kind::Urls(&["redis://", "rediss://"]),
                &["redis://h", "redis://a:1, rediss://b:2", "redis://u:p,q@a,redis://b"],
                &["redis://a,", "redis://a,http://b", "redis://,redis://b", "a:1,b:2"],
            ),
            (Kind::Token(4), &["abcd", "!~@#"], &["abc", "ab cd", "abcdé"]),
            (Kind::Header, &["X-User-ID"], &["Authorization", "x-queue-ticket", "a:b", "a b"]),
            (Kind::Networks, &["10.0.0.0/8, ::1"], &["10.0.0.0/8,", "proxy"]),
            (
                Kind::Origins,
                &["https://a.example, http://localhost:3000"],
                &["*", "https://a/b", "a.example", "https://"],
            ),
        ];
        for (kind, good, bad) in cases {
            for value in *good {
                assert_eq!(kind.check(value), Ok(()), "{kind:?} {value:?}");
            }
            for value in *bad {
                assert!(kind.check(value).is_err(), "{kind:?} {value:?}");
            }
        }
        let list = "redis://u:p,q@a,redis://:secret@b/0";
        assert_eq!(urls(list, &["redis://"]).collect::<Vec<_>>(), ["redis://u:p,q@a", "redis://:secret@b/0"]);
        assert_eq!(Kind::Urls(&["redis://"]).show(list), "redis://u:***@a,redis://:***@b/0");
        let key = Kind::Key(32);
        assert!(key.check(&"k".repeat(32)).is_ok() && key.check(&"k".repeat(31)).is_err());
        assert!(key.check(&format!("{}\n", "k".repeat(32))).is_err(), "a line end that came along with a file");
    }
}
