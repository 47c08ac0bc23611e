//! Whether a store is fit to hold the line.

use std::borrow::Cow;
use std::collections::HashMap;

use redis::Value;

use super::{RedisEngine, pool};
use crate::engine::EngineError;

/// The oldest server that has all commands the scripts use, and replicates their effects rather than their text.
const OLDEST: u32 = 7;
/// Percent of `maxmemory` from which on the operator is warned.
const MEMORY_WARNING: u64 = 70;

/// Why a store is not fit.
#[derive(Debug, thiserror::Error)]
pub enum UnfitStore {
    /// The server is too old.
    #[error("the store is version {0}; version {OLDEST} or later is needed")]
    Version(String),
    /// The server may throw away the line when memory runs short.
    #[error("the store's maxmemory-policy is {0}, which may evict the line; set it to noeviction")]
    Eviction(String),
    /// The server did not answer.
    #[error(transparent)]
    Unavailable(#[from] EngineError),
}

impl RedisEngine {
    /// Checks version, eviction policy and memory of the server, from what `INFO` says. Read-only.
    ///
    /// Returns warnings for the log. `allow_eviction` makes an evicting policy one of them.
    ///
    /// # Errors
    /// [`UnfitStore`].
    pub async fn check_store(&self, allow_eviction: bool) -> Result<Vec<String>, UnfitStore> {
        let mut connection = pool::borrow(&self.pool).await?;
        match connection.send(&redis::cmd("INFO")).await {
            // A Cluster: each node has its own.
            Ok(Value::Map(nodes)) => {
                let mut warnings = Vec::new();
                for (_, info) in &nodes {
                    warnings.extend(assess(&text(info)?, allow_eviction)?);
                }
                Ok(warnings)
            }
            Ok(info) => assess(&text(&info)?, allow_eviction),
            Err(error) if error.code() == Some("NOPERM") => {
                Ok(vec!["the store forbids INFO: its version and maxmemory-policy could not be checked".into()])
            }
            Err(error) => Err(EngineError::Unavailable(error.to_string()).into()),
        }
    }
}

fn text(info: &Value) -> Result<Cow<'_, str>, EngineError> {
    match info {
        Value::BulkString(bytes) => Ok(String::from_utf8_lossy(bytes)),
        Value::VerbatimString { text, .. } => Ok(text.into()),
        _ => Err(EngineError::Unavailable("INFO was not answered with a text".into())),
    }
}

/// Judges the text of `INFO`.
fn assess(info: &str, allow_eviction: bool) -> Result<Vec<String>, UnfitStore> {
    let facts: HashMap<&str, &str> = info.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
    let mut warnings = Vec::new();

    match facts.get("redis_version") {
        Some(version) => {
            let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
            if major.is_some_and(|major| major < OLDEST) {
                return Err(UnfitStore::Version((*version).into()));
            }
        }
        None => warnings.push("the store does not say its version".into()),
    }

    match facts.get("maxmemory_policy") {
        Some(&"noeviction") => {}
        Some(policy) if allow_eviction => {
            warnings.push(format!("the store's maxmemory-policy is {policy}: it may evict the line"));
        }
        Some(policy) => return Err(UnfitStore::Eviction((*policy).into())),
        None => warnings.push("the store does not say its maxmemory-policy".into()),
    }

    let bytes = |name: &str| facts.get(name).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
    let (used, most) = (bytes("used_memory"), bytes("maxmemory"));
    if most > 0 && used.saturating_mul(100) > most.saturating_mul(MEMORY_WARNING) {
        warnings.push(format!("the store uses {used} of {most} bytes, more than {MEMORY_WARNING} %"));
    }
    Ok(warnings)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIT: &str =
        "# Server\r\nredis_version:7.0.15\r\nused_memory:10\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n";

    #[test]
    fn a_fit_store_is_taken_without_a_word() {
        assert_eq!(assess(FIT, false).expect("fit"), Vec::<String>::new());
    }

    #[test]
    fn an_old_or_an_evicting_store_is_refused_by_name() {
        let old = FIT.replace("7.0.15", "6.2.6");
        assert!(assess(&old, true).expect_err("too old").to_string().contains("6.2.6"));
        let evicting = FIT.replace("noeviction", "allkeys-lru");
        assert!(assess(&evicting, false).expect_err("evicts").to_string().contains("allkeys-lru"));
        assert_eq!(assess(&evicting, true).expect("allowed").len(), 1);
    }

    #[test]
    fn memory_that_runs_short_and_facts_that_are_missing_are_warned_about() {
        let short = FIT.replace("used_memory:10", "used_memory:71").replace("maxmemory:0", "maxmemory:100");
        assert!(assess(&short, false).expect("fit")[0].contains("70 %"));
        assert_eq!(assess("", false).expect("unknown").len(), 2);
    }
}
