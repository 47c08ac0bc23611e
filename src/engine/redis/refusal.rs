//! What a store says that answers, and does not let the scripts do their work: its memory is full, its user lacks rights, its
//! disk fails. It is not away, so the circuit stays closed: positions can be read, and while it is memory that is missing,
//! operators can pause. But nobody can join or be let in, and readiness has to tell.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::RedisError;

/// For how long a refusal counts. Every event is released at least every two seconds: while the store refuses that, the last
/// refusal is never older.
const LASTING: Duration = Duration::from_secs(3);

/// The last refusal.
#[derive(Debug, Default)]
pub struct Refusal(Mutex<Option<(Instant, String)>>);

impl Refusal {
    /// Takes note of an error, if it is one.
    pub fn note(&self, error: &RedisError, now: Instant) {
        if is_refusal(error) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, error.to_string()));
        }
    }

    /// What the store said, if it refused a script lately.
    pub fn lately(&self, now: Instant) -> Option<String> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, said) = last.as_ref().filter(|(at, _)| now.saturating_duration_since(*at) < LASTING)?;
        Some(said.clone())
    }
}

/// Rights of its user that a script misses only when it runs have no code of their own: Redis 7.0 and later ones have a text each.
fn is_refusal(error: &RedisError) -> bool {
    let said = |text| error.detail().is_some_and(|detail| detail.contains(text));
    matches!(error.code(), Some("OOM" | "NOPERM" | "MISCONF" | "NOREPLICAS"))
        || said("can't run this command")
        || said("ACL failure in script")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(reply: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{reply}\r\n").as_bytes()).and_then(redis::Value::extract_error);
        value.expect_err("an error")
    }

    #[test]
    fn a_refusal_counts_for_a_while_and_nothing_else_does() {
        let (refusal, start) = (Refusal::default(), Instant::now());
        for other in ["ERR wrong number of arguments", "NOSCRIPT No matching script", "LOADING the dataset", "BUSY x"] {
            refusal.note(&said(other), start);
            assert_eq!(refusal.lately(start), None, "{other}");
        }
        for (n, text) in [
            "OOM command not allowed when used memory > 'maxmemory'.",
            "NOPERM this user has no permissions to access one of the keys used as arguments",
            "MISCONF Redis is configured to save RDB snapshots",
            "NOREPLICAS Not enough good replicas to write.",
            "ERR The user executing the script can't run this command or subcommand script: 37df4d",
            "ERR ACL failure in script: User u has no permissions to run the 'zadd' command",
        ]
        .into_iter()
        .enumerate()
        {
            let at = start + LASTING * u32::try_from(n).expect("few");
            refusal.note(&said(text), at);
            let lately = refusal.lately(at + LASTING / 2).expect("a refusal");
            let (_, words) = text.split_once(' ').expect("a code and words");
            assert!(lately.contains(words), "{lately}");
            assert_eq!(refusal.lately(at + LASTING), None, "it is over when nothing is refused any more");
        }
    }
}
