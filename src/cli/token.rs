//! `usher token`: user tokens for load tests.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Done, output};
use crate::config::{AuthSettings, Settings};
use crate::domain::id::InvalidId;
use crate::domain::time::SystemClock;
use crate::domain::{Clock, Timestamp, VisitorId};
use crate::pass::{IdentityError, issue_user_token};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Whose tokens.
    pub who: Who,
    /// How long they are good for.
    pub ttl: Duration,
}

/// Whose tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// This visitor's.
    One(String),
    /// Those of `prefix-1`, `prefix-2`, … to `count`.
    Many {
        /// What the ids begin with.
        prefix: String,
        /// How many.
        count: u32,
    },
}

/// Why there are no tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The text is not an id.
    #[error("the visitor's id {0}: {1}")]
    Id(String, InvalidId),
    /// They cannot be signed.
    #[error(transparent)]
    Issue(#[from] IdentityError),
}

/// One token as `{"user_id", "token"}`, or several as an array of them.
///
/// # Errors
/// [`TokenError`] when an id is not legal, or user tokens are not signed with a secret here.
pub fn tokens(auth: &AuthSettings, options: &Options, now: Timestamp) -> Result<Value, TokenError> {
    let one = |id: String| -> Result<Value, TokenError> {
        let visitor = VisitorId::parse(&id).map_err(|e| TokenError::Id(id, e))?;
        let token = issue_user_token(auth, &visitor, options.ttl, now)?;
        Ok(json!({ "user_id": visitor, "token": token }))
    };
    match &options.who {
        Who::One(id) => one(id.clone()),
        Who::Many { prefix, count: 1 } => one(format!("{prefix}-1")),
        Who::Many { prefix, count } => (1..=*count).map(|n| one(format!("{prefix}-{n}"))).collect(),
    }
}

/// Runs the command.
///
/// # Errors
/// [`TokenError`], or what the system says when they cannot be written.
pub fn run(settings: &Settings, options: &Options, out: Option<&Path>) -> Done {
    Ok(output::write_json(&tokens(&settings.auth, options, SystemClock.now())?, out)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::from_pairs;
    use crate::pass::VisitorKey;

    const NOW: Timestamp = Timestamp::from_seconds(1_000);

    fn auth() -> AuthSettings {
        from_pairs(&[("auth_jwt_secret", &"s".repeat(32))]).expect("legal").auth
    }

    fn asked(who: Who) -> Result<Value, TokenError> {
        tokens(&auth(), &Options { who, ttl: Duration::from_mins(1) }, NOW)
    }

    #[test]
    fn ten_thousand_tokens_each_name_their_visitor() {
        let many = asked(Who::Many { prefix: "load".to_owned(), count: 10_000 }).expect("issued");
        let many = many.as_array().expect("an array");
        assert_eq!(many.len(), 10_000);
        let key = VisitorKey::open(&auth()).expect("opened").expect("a key");
        for entry in [&many[0], &many[9_999]] {
            let visitor = key.verify(entry["token"].as_str().expect("text"), NOW).expect("good");
            assert_eq!(entry["user_id"], visitor.as_str());
        }
        assert_eq!(many[9_999]["user_id"], "load-10000");
    }

    #[test]
    fn one_token_is_an_object() {
        assert_eq!(asked(Who::One("u-1".to_owned())).expect("issued")["user_id"], "u-1");
        assert_eq!(asked(Who::Many { prefix: "a".to_owned(), count: 1 }).expect("issued")["user_id"], "a-1");
    }

    #[test]
    fn what_cannot_be_issued_is_said() {
        assert!(asked(Who::One("a b".to_owned())).expect_err("refused").to_string().contains("a b"));
        let without = from_pairs(&[]).expect("legal").auth;
        let options = Options { who: Who::One("u".to_owned()), ttl: Duration::from_mins(1) };
        assert!(tokens(&without, &options, NOW).expect_err("refused").to_string().contains("auth_jwt_secret"));
    }
}
