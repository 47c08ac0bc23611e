//! The one table of settings. Flags, variables, keys of the file, the commented default file and the reference are all
//! made from it.

use super::kind::Kind;

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its key in the file.
    pub key: &'static str,
    /// What it is when nobody says; empty = not set.
    pub default: &'static str,
    /// Its type.
    pub kind: Kind,
    /// What it does, in one line.
    pub help: &'static str,
}

impl Setting {
    /// Its flag without the dashes: `redis-url`.
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// Its environment variable: `USHER_REDIS_URL`.
    pub fn variable(&self) -> String {
        format!("USHER_{}", self.key.to_ascii_uppercase())
    }
}

/// Settings that belong together.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// Its heading.
    pub title: &'static str,
    /// Its settings.
    pub settings: &'static [Setting],
}

const fn setting(key: &'static str, default: &'static str, kind: Kind, help: &'static str) -> Setting {
    Setting { key, default, kind, help }
}

/// The shortest key that HMAC-SHA256 is used with, in bytes.
const KEY: Kind = Kind::Key(32);

/// The schemes of Redis URLs.
pub(super) const REDIS: &[&str] = &["redis://", "rediss://"];

/// Every setting, in the order in which they are shown.
pub const GROUPS: &[Group] = &[
    Group {
        title: "The server",
        settings: &[
            setting("listen", "127.0.0.1:8080", Kind::Listen, "address and port to listen on; port 0 takes a free one"),
            setting("workers", "0", Kind::Integer(0, 1_024), "worker threads; 0 = one a core"),
            setting(
                "max_connections",
                "25000",
                Kind::Integer(1, 1_000_000),
                "most open connections of this process; the last eighth is for bookings and operators",
            ),
            setting(
                "max_streams",
                "10000",
                Kind::Integer(0, 1_000_000),
                "most open position streams of this process; beyond it 503",
            ),
            setting("max_body_bytes", "65536", Kind::Integer(1_024, 16_777_216), "largest request body, in bytes"),
            setting(
                "max_pending",
                "8192",
                Kind::Integer(16, 1_000_000),
                "most requests that wait for one batch; beyond it 503",
            ),
            setting("trusted_proxies", "", Kind::Networks, "proxies whose X-Forwarded-For is believed"),
            setting("cors_origins", "", Kind::Origins, "web origins that may call from a browser"),
            setting("cookie_secure", "false", Kind::Bool, "whether the ticket cookie is sent over HTTPS only"),
        ],
    },
    Group {
        title: "Stores",
        settings: &[
            setting("data_dir", "./usher-data", Kind::Path, "directory of the embedded ledger and of generated keys"),
            setting(
                "redis_url",
                "",
                Kind::Urls(REDIS),
                "Redis that instances share, or its Sentinels, or nodes of the Cluster; not set = queue in process",
            ),
            setting(
                "redis_mode",
                "single",
                Kind::Choice(&["single", "sentinel", "cluster"]),
                "what redis_url leads to; user, password and database of the first URL are those of the master",
            ),
            setting("redis_sentinel_master", "mymaster", Kind::Text, "name that the Sentinels know the master by"),
            setting(
                "redis_sentinel_password",
                "",
                Kind::Key(1),
                "password of the Sentinels themselves; not set = none",
            ),
            setting("redis_prefix", "usher", Kind::Word, "what every key in Redis begins with"),
            setting("redis_pool_size", "4", Kind::Integer(1, 1_000), "connections to Redis"),
            setting(
                "redis_timeout_ms",
                "1000",
                Kind::Integer(50, 60_000),
                "longest wait for an answer of Redis, in milliseconds",
            ),
            setting(
                "redis_allow_eviction",
                "false",
                Kind::Bool,
                "start even if Redis may evict keys, and with them the line",
            ),
            setting(
                "database_url",
                "",
                Kind::Url(&["postgres://", "postgresql://"]),
                "Postgres ledger; not set = SQLite in data_dir",
            ),
            setting("database_pool_size", "10", Kind::Integer(1, 1_000), "connections to the database"),
            setting(
                "database_timeout_ms",
                "5000",
                Kind::Integer(100, 60_000),
                "longest wait for the database, in milliseconds",
            ),
        ],
    },
    Group {
        title: "Who is calling",
        settings: &[
            setting(
                "auth",
                "",
                Kind::Choice(&["required", "optional"]),
                "whether visitors must be known; not set = required if there is a way to know them",
            ),
            setting("auth_jwt_secret", "", KEY, "key of HS256 user tokens"),
            setting(
                "auth_public_key",
                "",
                Kind::Path,
                "PEM or JWKS file of the keys of user tokens: RS256, ES256, EdDSA",
            ),
            setting("auth_audience", "", Kind::Text, "audience that user tokens must have"),
            setting("auth_issuer", "", Kind::Text, "issuer that user tokens must have"),
            setting("auth_trusted_header", "", Kind::Header, "header in which a gateway passes on the visitor's id"),
            setting(
                "admin_token",
                "",
                Kind::Token(16),
                "bearer token of operators; not set = a random one, printed at start",
            ),
        ],
    },
    Group {
        title: "Tickets and passes",
        settings: &[
            setting("ticket_secret", "", KEY, "key of queue tickets; not set = a generated one in data_dir"),
            setting(
                "pass_private_key",
                "",
                Kind::Path,
                "PKCS#8 PEM file of the Ed25519 key that signs passes; not set = a generated one in data_dir",
            ),
            setting("pass_secret", "", KEY, "key of HS256 passes, in place of EdDSA"),
            setting("pass_issuer", "usher", Kind::Text, "issuer of passes"),
        ],
    },
    Group {
        title: "Pace and limits",
        settings: &[
            setting(
                "release_interval_ms",
                "100",
                Kind::Integer(20, 1_000),
                "time between two releases, in milliseconds",
            ),
            setting(
                "recovery_ms",
                "10000",
                Kind::Integer(0, 600_000),
                "time in which nobody is let in after a store lost its line, so that those who wait are back first, in milliseconds",
            ),
            setting(
                "drain_ms",
                "3000",
                Kind::Integer(0, 30_000),
                "time after a stop signal in which an instance still serves, with /ready at 503, so that a balancer leaves it out first; only with redis_url, in milliseconds",
            ),
            setting(
                "rate_limit_per_visitor",
                "50",
                Kind::Integer(0, 1_000_000),
                "requests a second of one visitor; 0 = no limit",
            ),
            setting("rate_limit_visitor_burst", "100", Kind::Integer(1, 1_000_000), "requests of one visitor at once"),
            setting(
                "rate_limit_per_address",
                "0",
                Kind::Integer(0, 1_000_000),
                "requests a second of one client address without identity; 0 = no limit",
            ),
            setting(
                "rate_limit_address_burst",
                "200",
                Kind::Integer(1, 1_000_000),
                "requests of one client address at once",
            ),
        ],
    },
    Group {
        title: "Logs",
        settings: &[
            setting("log_level", "info", Kind::Filter, "level in any letter case, or tracing directives"),
            setting(
                "log_format",
                "auto",
                Kind::Choice(&["auto", "text", "json"]),
                "auto = text on a terminal, else json",
            ),
        ],
    },
];

/// Every setting, without the headings.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    GROUPS.iter().flat_map(|group| group.settings)
}

/// The setting of this key.
pub fn find(key: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.key == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_unique_and_defaults_are_legal() {
        let mut seen = std::collections::HashSet::new();
        for setting in all() {
            assert!(seen.insert(setting.key), "{} is there twice", setting.key);
            assert!(setting.key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", setting.key);
            assert!(setting.default.is_empty() || setting.kind.check(setting.default).is_ok(), "{}", setting.key);
            assert!(setting.default.is_empty() || !setting.kind.is_secret(), "{} has a secret as default", setting.key);
        }
    }
}
