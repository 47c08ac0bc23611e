//! What must hold between settings, and what is legal but risky.

use std::collections::BTreeMap;

use super::settings::{RedisMode, Settings};
use super::sources::{Source, Value};
use super::table;

/// What must hold between settings. Every broken rule is named, so that one start tells all.
pub(super) fn problems(settings: &Settings, values: &BTreeMap<&'static str, Value>) -> Vec<String> {
    let mut problems = Vec::new();
    for setting in table::all() {
        // A text that was emptied on purpose is fine only where "not set" means something.
        let emptied = values.get(setting.key).is_some_and(|value| value.text.is_empty());
        if emptied && !setting.default.is_empty() {
            problems.push(format!("{} must be {}; it is empty", setting.key, setting.kind.describe()));
        }
    }
    if settings.redis.is_some() {
        let missing: Vec<&str> = [
            (settings.database.is_none(), "database_url"),
            (settings.ticket_secret.is_none(), "ticket_secret"),
            (settings.pass.private_key.is_none() && settings.pass.secret.is_none(), "pass_private_key or pass_secret"),
            (settings.admin_token.is_none(), "admin_token"),
        ]
        .into_iter()
        .filter_map(|(is_missing, key)| is_missing.then_some(key))
        .collect();
        if !missing.is_empty() {
            problems.push(format!(
                "with redis_url set, instances must share what one alone would generate; not set: {}",
                missing.join(", ")
            ));
        }
    }
    if let Some(redis) = &settings.redis
        && redis.mode == RedisMode::Single
        && !redis.others.is_empty()
    {
        problems.push("redis_url holds several URLs: set redis_mode to sentinel or cluster".to_owned());
    }
    for (one, other, both) in [
        ("pass_private_key", "pass_secret", settings.pass.private_key.is_some() && settings.pass.secret.is_some()),
        (
            "auth_public_key",
            "auth_jwt_secret",
            settings.auth.public_key.is_some() && settings.auth.jwt_secret.is_some(),
        ),
    ] {
        if both {
            problems.push(format!("{one} and {other} are both set: keep one, so that one algorithm is accepted"));
        }
    }
    if settings.auth.required && !settings.auth.knows_visitors() {
        problems.push(
            "auth is required, but nothing says how to know a visitor: set auth_jwt_secret, auth_public_key or \
             auth_trusted_header"
                .to_owned(),
        );
    }
    let has_key = settings.auth.jwt_secret.is_some() || settings.auth.public_key.is_some();
    for (key, value) in [("auth_audience", &settings.auth.audience), ("auth_issuer", &settings.auth.issuer)] {
        if value.is_some() && !has_key {
            problems
                .push(format!("{key} is set, but neither auth_jwt_secret nor auth_public_key: it would check nothing"));
        }
    }
    let secrets = [
        ("auth_jwt_secret", &settings.auth.jwt_secret),
        ("pass_secret", &settings.pass.secret),
        ("ticket_secret", &settings.ticket_secret),
        ("admin_token", &settings.admin_token),
    ];
    for (at, (key, secret)) in secrets.iter().enumerate() {
        for (other, same) in &secrets[at + 1..] {
            if secret.is_some() && secret == same {
                problems.push(format!("{key} and {other} are the same: whoever knows one could forge the other"));
            }
        }
    }
    problems
}

/// What is legal but risky.
pub(super) fn warnings(settings: &Settings, values: &BTreeMap<&'static str, Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |when: bool, text: String| {
        if when {
            warnings.push(text);
        }
    };
    if let Some(header) = &settings.auth.trusted_header {
        warn(
            true,
            format!(
                "auth_trusted_header is ON: whoever reaches this port directly can be any visitor by sending {header}. \
                 Let only the gateway reach it, and let the gateway drop the header from outside"
            ),
        );
    }
    warn(
        !settings.auth.required && settings.limits.address.is_none(),
        "anonymous visitors may join without a limit for each address (rate_limit_per_address): one client can fill the \
         line"
            .to_owned(),
    );
    warn(
        settings.limits.address.is_some() && settings.http.trusted_proxies.is_empty(),
        "rate_limit_per_address is set and trusted_proxies is not: behind a proxy all visitors count as one address"
            .to_owned(),
    );
    warn(
        settings.http.trusted_proxies.iter().any(super::Network::is_everyone),
        "trusted_proxies holds every address: any client can choose the address it is counted under".to_owned(),
    );
    warn(
        settings.redis.as_ref().is_some_and(|redis| redis.allow_eviction),
        "redis_allow_eviction is on: Redis may drop the line when its memory is full".to_owned(),
    );
    warn(
        settings.redis.is_none() && settings.database.is_some(),
        "database_url is set and redis_url is not: the queue lives in this process, so run one instance only"
            .to_owned(),
    );
    warn(
        settings.http.max_streams > settings.http.ample_connections(),
        "max_streams is above three quarters of max_connections: open streams can keep the crowd's other requests out"
            .to_owned(),
    );
    for setting in table::all().filter(|setting| setting.kind.is_secret()) {
        let by_flag = values.get(setting.key).is_some_and(|v| v.source == Source::Flag && !v.text.is_empty());
        warn(
            by_flag,
            format!(
                "--{} shows the secret to everyone who can list processes: use {}",
                setting.flag(),
                setting.variable()
            ),
        );
    }
    warnings
}
