//! The settings, typed and grouped.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::kind::{items, parse_filter, parse_listen, urls};
use super::network::Network;
use super::secret::Secret;
use super::sources::Value;
use super::table;

/// The settings in force.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The server.
    pub http: HttpSettings,
    /// Directory of the embedded ledger and of generated keys.
    pub data_dir: PathBuf,
    /// Redis, if instances share one; `None` = the queue lives in process.
    pub redis: Option<RedisSettings>,
    /// Postgres; `None` = SQLite in [`Settings::data_dir`].
    pub database: Option<DatabaseSettings>,
    /// Longest wait for the ledger, whichever it is.
    pub database_timeout: Duration,
    /// How visitors are known.
    pub auth: AuthSettings,
    /// The operators' bearer token; `None` = a random one is made at start.
    pub admin_token: Option<Secret>,
    /// The key of queue tickets; `None` = a generated one is kept in the data directory.
    pub ticket_secret: Option<Secret>,
    /// How passes are signed.
    pub pass: PassSettings,
    /// Time between two releases.
    pub release_interval: Duration,
    /// How long nobody is let in after a store lost its line.
    pub recovery: Duration,
    /// How long an instance still serves after a stop signal.
    pub drain: Duration,
    /// Request rates.
    pub limits: LimitSettings,
    /// The logs.
    pub log: LogSettings,
}

/// The server.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Worker threads; 0 = one a core.
    pub workers: usize,
    /// Most open connections of the process, over all workers.
    pub max_connections: usize,
    /// Most open position streams of the process.
    pub max_streams: usize,
    /// Largest request body, in bytes.
    pub max_body_bytes: usize,
    /// Most requests that wait for one batch (of joins, lookups, reservations, …).
    pub max_pending: usize,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Web origins that may call from a browser.
    pub cors_origins: Vec<String>,
    /// Whether the ticket cookie is marked `Secure`.
    pub cookie_secure: bool,
}

impl HttpSettings {
    /// How many connections may be open before they count as scarce: three quarters.
    pub const fn ample_connections(&self) -> usize {
        self.max_connections - self.max_connections / 4
    }

    /// How many may be open before the crowd is turned away: seven eighths. The rest is for those who book or operate.
    pub const fn crowd_connections(&self) -> usize {
        self.max_connections - self.max_connections / 8
    }

    /// Whether `X-Forwarded-For` of this peer is believed.
    pub fn trusts(&self, peer: std::net::IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(peer))
    }
}

/// Redis.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// Where it is; holds the password.
    pub url: Secret,
    /// The other Sentinels, or nodes of the Cluster.
    pub others: Vec<Secret>,
    /// What the URLs lead to.
    pub mode: RedisMode,
    /// The name that the Sentinels know the master by.
    pub sentinel_master: String,
    /// The password of the Sentinels themselves.
    pub sentinel_password: Option<Secret>,
    /// What every key begins with.
    pub prefix: String,
    /// Connections.
    pub pool_size: u32,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Start even if keys may be evicted.
    pub allow_eviction: bool,
}

/// What the URLs of Redis lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisMode {
    /// One server.
    Single,
    /// Sentinels, who say which server is the master.
    Sentinel,
    /// Nodes of a Cluster.
    Cluster,
}

/// Postgres.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// Where it is; holds the password.
    pub url: Secret,
    /// Connections.
    pub pool_size: u32,
}

/// How visitors are known.
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// Whether a visitor without a token is turned away. Without one, join mints an identity.
    pub required: bool,
    /// Key of HS256 user tokens.
    pub jwt_secret: Option<Secret>,
    /// PEM or JWKS file of the keys of user tokens.
    pub public_key: Option<PathBuf>,
    /// Audience that user tokens must have.
    pub audience: Option<String>,
    /// Issuer that user tokens must have.
    pub issuer: Option<String>,
    /// Header (in lower case) in which a gateway passes on the visitor's id.
    pub trusted_header: Option<String>,
}

/// How passes are signed: with the private key, else the secret, else a generated Ed25519 key.
#[derive(Debug, Clone)]
pub struct PassSettings {
    /// PKCS#8 PEM file of an Ed25519 key.
    pub private_key: Option<PathBuf>,
    /// Key of HS256 passes.
    pub secret: Option<Secret>,
    /// The `iss` of passes.
    pub issuer: String,
}

/// Request rates.
#[derive(Debug, Clone, Copy)]
pub struct LimitSettings {
    /// Of each known visitor; `None` = no limit.
    pub visitor: Option<Rate>,
    /// Of each client address without identity; `None` = no limit.
    pub address: Option<Rate>,
}

/// A request rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second, at least 1.
    pub per_second: u32,
    /// Requests at once, at least 1.
    pub burst: u32,
}

/// The logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// A tracing filter, in lower case.
    pub filter: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Reads checked values as the types that [`Settings`] has. Every text was checked by its kind, so the fallbacks below are
/// never taken; a test goes through all of them.
struct Reader<'a> {
    values: &'a BTreeMap<&'static str, Value>,
}

impl<'a> Reader<'a> {
    fn text(&self, key: &'static str) -> Option<&'a str> {
        let value = self.values.get(key).map(|value| value.text.as_str());
        let text = value.or_else(|| table::find(key).map(|setting| setting.default)).unwrap_or_default();
        (!text.is_empty()).then_some(text)
    }

    fn owned(&self, key: &'static str) -> Option<String> {
        self.text(key).map(str::to_owned)
    }

    fn word(&self, key: &'static str) -> String {
        self.text(key).unwrap_or_default().to_ascii_lowercase()
    }

    fn secret(&self, key: &'static str) -> Option<Secret> {
        self.text(key).map(Secret::new)
    }

    /// The first URL of Redis, and the others.
    fn redis(&self) -> Option<(Secret, Vec<Secret>)> {
        let mut all = urls(self.text("redis_url")?, table::REDIS).map(Secret::new);
        Some((all.next()?, all.collect()))
    }

    fn path(&self, key: &'static str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    fn number<T: std::str::FromStr + Default>(&self, key: &'static str) -> T {
        self.text(key).and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    fn truth(&self, key: &'static str) -> bool {
        self.text(key) == Some("true")
    }

    fn millis(&self, key: &'static str) -> Duration {
        Duration::from_millis(self.number(key))
    }

    fn list(&self, key: &'static str) -> impl Iterator<Item = &'a str> {
        self.text(key).into_iter().flat_map(items)
    }

    fn rate(&self, per_second: &'static str, burst: &'static str) -> Option<Rate> {
        let per_second = self.number(per_second);
        (per_second > 0).then(|| Rate { per_second, burst: self.number(burst) })
    }
}

impl Settings {
    pub(super) fn read(values: &BTreeMap<&'static str, Value>) -> Self {
        let from = Reader { values };
        Self {
            http: HttpSettings {
                listen: from
                    .text("listen")
                    .and_then(parse_listen)
                    .unwrap_or(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 8080)),
                workers: from.number("workers"),
                max_connections: from.number("max_connections"),
                max_streams: from.number("max_streams"),
                max_body_bytes: from.number("max_body_bytes"),
                max_pending: from.number("max_pending"),
                trusted_proxies: from.list("trusted_proxies").filter_map(|text| Network::parse(text).ok()).collect(),
                cors_origins: from.list("cors_origins").map(str::to_owned).collect(),
                cookie_secure: from.truth("cookie_secure"),
            },
            data_dir: from.path("data_dir").unwrap_or_default(),
            redis: from.redis().map(|(url, others)| RedisSettings {
                url,
                others,
                mode: match from.word("redis_mode").as_str() {
                    "sentinel" => RedisMode::Sentinel,
                    "cluster" => RedisMode::Cluster,
                    _ => RedisMode::Single,
                },
                sentinel_master: from.owned("redis_sentinel_master").unwrap_or_default(),
                sentinel_password: from.secret("redis_sentinel_password"),
                prefix: from.owned("redis_prefix").unwrap_or_default(),
                pool_size: from.number("redis_pool_size"),
                timeout: from.millis("redis_timeout_ms"),
                allow_eviction: from.truth("redis_allow_eviction"),
            }),
            database: from
                .secret("database_url")
                .map(|url| DatabaseSettings { url, pool_size: from.number("database_pool_size") }),
            database_timeout: from.millis("database_timeout_ms"),
            auth: auth(&from),
            admin_token: from.secret("admin_token"),
            ticket_secret: from.secret("ticket_secret"),
            pass: PassSettings {
                private_key: from.path("pass_private_key"),
                secret: from.secret("pass_secret"),
                issuer: from.owned("pass_issuer").unwrap_or_default(),
            },
            release_interval: from.millis("release_interval_ms"),
            recovery: from.millis("recovery_ms"),
            drain: from.millis("drain_ms"),
            limits: LimitSettings {
                visitor: from.rate("rate_limit_per_visitor", "rate_limit_visitor_burst"),
                address: from.rate("rate_limit_per_address", "rate_limit_address_burst"),
            },
            log: LogSettings {
                filter: from.text("log_level").and_then(parse_filter).unwrap_or_else(|| "info".to_owned()),
                format: match from.word("log_format").as_str() {
                    "text" => LogFormat::Text,
                    "json" => LogFormat::Json,
                    _ => LogFormat::Auto,
                },
            },
        }
    }
}

fn auth(from: &Reader<'_>) -> AuthSettings {
    let mut auth = AuthSettings {
        required: false,
        jwt_secret: from.secret("auth_jwt_secret"),
        public_key: from.path("auth_public_key"),
        audience: from.owned("auth_audience"),
        issuer: from.owned("auth_issuer"),
        trusted_header: from.text("auth_trusted_header").map(str::to_ascii_lowercase),
    };
    auth.required = match from.word("auth").as_str() {
        "" => auth.knows_visitors(),
        word => word == "required",
    };
    auth
}

impl AuthSettings {
    /// Whether there is any way to know a visitor but by their ticket.
    pub const fn knows_visitors(&self) -> bool {
        self.jwt_secret.is_some() || self.public_key.is_some() || self.trusted_header.is_some()
    }
}
