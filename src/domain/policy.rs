//! What an operator sets for an event's queue, and what follows from it at a given time.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::time::Timestamp;

/// What the operator wants of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum QueueState {
    /// Takes joins, lets nobody in until `opens_at` (or until it is opened by hand).
    Lobby,
    /// Takes joins and lets visitors in at the rate.
    Open,
    /// Takes joins, lets nobody in.
    Paused,
    /// Takes no joins, lets nobody in; those inside keep their places.
    Closed,
}

impl QueueState {
    /// The word on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lobby => "lobby",
            Self::Open => "open",
            Self::Paused => "paused",
            Self::Closed => "closed",
        }
    }

    /// Reads [`QueueState::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Lobby, Self::Open, Self::Paused, Self::Closed].into_iter().find(|s| s.as_str() == text)
    }
}

/// The rules of one event's queue. Zero means "no limit", except that zero a minute lets nobody in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QueuePolicy {
    /// Visitors let in a minute, 0 to 60,000,000.
    #[schema(minimum = 0, maximum = 60_000_000)]
    pub admit_per_minute: u32,
    /// Most passes out at a time, 0 to 10,000,000; 0 = no limit.
    #[schema(minimum = 0, maximum = 10_000_000)]
    pub max_active: u32,
    /// Seconds a pass is good for, 1 to 86,400.
    #[schema(minimum = 1, maximum = 86_400)]
    pub pass_ttl_seconds: u32,
    /// Most visitors in the line, 0 to 100,000,000; 0 = no limit.
    #[schema(minimum = 0, maximum = 100_000_000)]
    pub max_queue: u32,
    /// Seconds a reservation waits for its confirmation, 1 to 86,400.
    #[schema(minimum = 1, maximum = 86_400)]
    pub hold_ttl_seconds: u32,
    /// Most seats a visitor may have of this event, 0 to 1,000,000; 0 = no limit.
    #[schema(minimum = 0, maximum = 1_000_000)]
    pub max_per_user: u32,
    /// What the operator wants of the queue.
    pub state: QueueState,
    /// Before this time the queue is a lobby, if it is `open` or `lobby`.
    pub opens_at: Option<Timestamp>,
    /// A word to those who wait, at most 500 characters.
    #[schema(max_length = 500)]
    pub message: Option<String>,
    /// Whether a reservation needs a pass.
    pub queue_required: bool,
    /// Seconds after which a visitor who was not seen is passed over until they are back, 5 to 86,400; 0 = everybody is let in.
    pub presence_seconds: u32,
}

impl Default for QueuePolicy {
    fn default() -> Self {
        Self {
            admit_per_minute: 600,
            max_active: 0,
            pass_ttl_seconds: 300,
            max_queue: 0,
            hold_ttl_seconds: 600,
            max_per_user: 10,
            state: QueueState::Open,
            opens_at: None,
            message: None,
            queue_required: true,
            presence_seconds: 0,
        }
    }
}

/// The least `presence_seconds` but none: a visitor needs the time for a few polls.
pub const LEAST_PRESENCE_SECONDS: u32 = 5;
/// The longest `message`, in characters.
pub const MAX_MESSAGE_CHARS: usize = 500;

impl QueuePolicy {
    /// Checks every number against its range.
    ///
    /// # Errors
    /// A sentence that names the field and its range.
    pub fn check(&self) -> Result<(), String> {
        let ranges = [
            ("admit_per_minute", self.admit_per_minute, 0, 60_000_000),
            ("max_active", self.max_active, 0, 10_000_000),
            ("pass_ttl_seconds", self.pass_ttl_seconds, 1, 86_400),
            ("max_queue", self.max_queue, 0, 100_000_000),
            ("hold_ttl_seconds", self.hold_ttl_seconds, 1, 86_400),
            ("max_per_user", self.max_per_user, 0, 1_000_000),
        ];
        for (field, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(format!("queue.{field} must be from {least} to {most}, not {value}"));
            }
        }
        if (1..LEAST_PRESENCE_SECONDS).contains(&self.presence_seconds) || self.presence_seconds > 86_400 {
            let (least, is) = (LEAST_PRESENCE_SECONDS, self.presence_seconds);
            return Err(format!("queue.presence_seconds must be 0, or from {least} to 86400, not {is}"));
        }
        match &self.message {
            Some(text) if text.chars().count() > MAX_MESSAGE_CHARS => {
                Err(format!("queue.message must be at most {MAX_MESSAGE_CHARS} characters"))
            }
            _ => Ok(()),
        }
    }

    /// What the state comes to at `now`: an `open` queue is still a lobby before `opens_at`, and a `lobby` opens by itself then.
    pub fn state_at(&self, now: Timestamp) -> QueueState {
        match (self.state, self.opens_at) {
            (QueueState::Open | QueueState::Lobby, Some(opens)) if now < opens => QueueState::Lobby,
            (QueueState::Lobby, Some(_)) => QueueState::Open,
            (state, _) => state,
        }
    }

    /// Half of [`QueuePolicy::presence_seconds`]: who was seen is kept by windows of that length, the present one and the last,
    /// so that nobody counts as seen for longer than that setting. `None` when everybody is let in.
    pub fn presence_window(&self) -> Option<Duration> {
        (self.presence_seconds > 0).then(|| Duration::from_millis(u64::from(self.presence_seconds) * 500))
    }

    /// Visitors let in a second.
    pub fn rate_per_second(&self) -> f64 {
        f64::from(self.admit_per_minute) / 60.0
    }
}

/// A change to some fields of a policy. A field left out stays; `opens_at` and `message` can be set to null.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyPatch {
    /// See [`QueuePolicy::admit_per_minute`].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 60_000_000)]
    pub admit_per_minute: Option<u32>,
    /// See [`QueuePolicy::max_active`].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 10_000_000)]
    pub max_active: Option<u32>,
    /// See [`QueuePolicy::pass_ttl_seconds`].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 86_400)]
    pub pass_ttl_seconds: Option<u32>,
    /// See [`QueuePolicy::max_queue`].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 100_000_000)]
    pub max_queue: Option<u32>,
    /// See [`QueuePolicy::hold_ttl_seconds`].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 86_400)]
    pub hold_ttl_seconds: Option<u32>,
    /// See [`QueuePolicy::max_per_user`].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1_000_000)]
    pub max_per_user: Option<u32>,
    /// See [`QueuePolicy::state`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<QueueState>,
    /// See [`QueuePolicy::opens_at`]; null clears it.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub opens_at: Option<Option<Timestamp>>,
    /// See [`QueuePolicy::message`]; null clears it.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, max_length = 500)]
    pub message: Option<Option<String>>,
    /// See [`QueuePolicy::queue_required`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_required: Option<bool>,
    /// See [`QueuePolicy::presence_seconds`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_seconds: Option<u32>,
}

/// Tells a field that is null from one that was left out.
fn nullable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

impl PolicyPatch {
    /// The policy with this change made, checked.
    ///
    /// # Errors
    /// A sentence that names the field and its range.
    pub fn apply(&self, to: &QueuePolicy) -> Result<QueuePolicy, String> {
        let policy = QueuePolicy {
            admit_per_minute: self.admit_per_minute.unwrap_or(to.admit_per_minute),
            max_active: self.max_active.unwrap_or(to.max_active),
            pass_ttl_seconds: self.pass_ttl_seconds.unwrap_or(to.pass_ttl_seconds),
            max_queue: self.max_queue.unwrap_or(to.max_queue),
            hold_ttl_seconds: self.hold_ttl_seconds.unwrap_or(to.hold_ttl_seconds),
            max_per_user: self.max_per_user.unwrap_or(to.max_per_user),
            state: self.state.unwrap_or(to.state),
            opens_at: self.opens_at.unwrap_or(to.opens_at),
            message: self.message.clone().unwrap_or_else(|| to.message.clone()),
            queue_required: self.queue_required.unwrap_or(to.queue_required),
            presence_seconds: self.presence_seconds.unwrap_or(to.presence_seconds),
        };
        policy.check()?;
        Ok(policy)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hostile;

    #[test]
    fn a_lobby_opens_by_itself() {
        let opens = Timestamp::from_seconds(100);
        let policy = |state, opens_at| QueuePolicy { state, opens_at, ..QueuePolicy::default() };
        let at = |s| Timestamp::from_seconds(s);
        assert_eq!(policy(QueueState::Lobby, Some(opens)).state_at(at(99)), QueueState::Lobby);
        assert_eq!(policy(QueueState::Lobby, Some(opens)).state_at(at(100)), QueueState::Open);
        assert_eq!(policy(QueueState::Open, Some(opens)).state_at(at(99)), QueueState::Lobby);
        assert_eq!(policy(QueueState::Lobby, None).state_at(at(999)), QueueState::Lobby);
        assert_eq!(policy(QueueState::Paused, Some(opens)).state_at(at(99)), QueueState::Paused);
        assert_eq!(policy(QueueState::Closed, Some(opens)).state_at(at(999)), QueueState::Closed);
    }

    #[test]
    fn a_patch_changes_what_it_names_and_can_clear() {
        let before = QueuePolicy { message: Some("hi".into()), ..QueuePolicy::default() };
        let patch: PolicyPatch = serde_json::from_str(r#"{"admit_per_minute":0,"message":null}"#).expect("valid");
        let after = patch.apply(&before).expect("in range");
        assert_eq!(after, QueuePolicy { admit_per_minute: 0, message: None, ..before.clone() });
        let patch = PolicyPatch { pass_ttl_seconds: Some(0), ..PolicyPatch::default() };
        assert!(patch.apply(&before).expect_err("out of range").contains("pass_ttl_seconds"));
        for (presence, legal) in [(0, true), (1, false), (4, false), (5, true), (86_400, true), (86_401, false)] {
            let patch = PolicyPatch { presence_seconds: Some(presence), ..PolicyPatch::default() };
            assert_eq!(patch.apply(&before).is_ok(), legal, "{presence}");
        }
    }

    #[test]
    fn a_patch_with_an_unknown_or_negative_field_is_refused() {
        for bad in
            [r#"{"admit_per_minut":1}"#, r#"{"admit_per_minute":-1}"#, r#"{"max_active":1.5}"#, r#"{"state":"ajar"}"#]
        {
            assert!(serde_json::from_str::<PolicyPatch>(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #![proptest_config(hostile::config("policy"))]

        /// A patch of any shape is refused, or gives a policy that is in range and changes nothing that it does not name.
        #[test]
        fn a_patch_is_refused_or_gives_a_legal_policy(json in hostile::spoiled(serde_json::json!({
            "admit_per_minute": 600, "max_active": 7, "pass_ttl_seconds": 300, "max_queue": 5, "hold_ttl_seconds": 600,
            "max_per_user": 4, "state": "paused", "opens_at": "2026-05-01T18:00:00Z", "message": "hi", "queue_required": false,
        }))) {
            let Ok(patch) = serde_json::from_value::<PolicyPatch>(json.clone()) else { return Ok(()) };
            let Ok(after) = patch.apply(&QueuePolicy::default()) else { return Ok(()) };
            prop_assert_eq!(after.check(), Ok(()));
            let written = serde_json::to_value(&after).expect("JSON");
            let before = serde_json::to_value(QueuePolicy::default()).expect("JSON");
            for (field, value) in written.as_object().expect("an object") {
                let named = json.get(field).filter(|named| !named.is_null() || matches!(field.as_str(), "opens_at" | "message"));
                match named {
                    // A time may come back in another form.
                    Some(named) if field == "opens_at" => prop_assert_eq!(named.is_null(), value.is_null()),
                    Some(named) => prop_assert_eq!(named, value, "{}", field),
                    None => prop_assert_eq!(&before[field], value, "{}", field),
                }
            }
            prop_assert_eq!(serde_json::from_value::<QueuePolicy>(written).expect("what is written is read"), after);
        }
    }
}
