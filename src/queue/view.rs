//! What a visitor is shown: the JSON of the queue's answers.

use serde::Serialize;

use crate::domain::{EventId, QueueState, Timestamp};

/// Where a visitor stands, in the words of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// In the line.
    Waiting,
    /// Let in; the pass is good.
    Admitted,
    /// The pass was used.
    Used,
    /// The pass ran out.
    Expired,
}

/// The answer to a join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct JoinView {
    /// Which line.
    pub event_id: EventId,
    /// 1 for the next to be let in, 0 once admitted.
    pub position: u64,
    /// Visitors in line.
    pub total_in_queue: u64,
    /// Seconds until admission; null while the line does not move.
    pub estimated_wait_seconds: Option<u64>,
    /// Whether the visitor is admitted.
    pub is_ready: bool,
    /// The queue ticket: proof of the place.
    pub token: String,
    /// When the place was taken, to the second.
    pub joined_at: Timestamp,
    /// Until when the place is honoured.
    pub expires_at: Timestamp,
    /// When to ask again, in seconds.
    pub poll_after_seconds: u64,
    /// The pass, for one who is admitted already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_pass: Option<String>,
    /// When the pass runs out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_pass_expires_at: Option<Timestamp>,
}

/// The answer to a poll.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PositionView {
    /// Which line.
    pub event_id: EventId,
    /// Where the visitor stands.
    pub state: Standing,
    /// 1 for the next to be let in, 0 once admitted.
    pub position: u64,
    /// Visitors in line.
    pub total_in_queue: u64,
    /// Seconds until admission; null while the line does not move.
    pub estimated_wait_seconds: Option<u64>,
    /// Whether the pass is there and good.
    pub is_ready: bool,
    /// Until when the place, or the pass, is honoured.
    pub expires_at: Timestamp,
    /// When to ask again, in seconds.
    pub poll_after_seconds: u64,
    /// The admission pass, once admitted.
    pub queue_pass: Option<String>,
    /// When the pass runs out.
    pub queue_pass_expires_at: Option<Timestamp>,
}

/// The answer about a whole line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct StatusView {
    /// Which line.
    pub event_id: EventId,
    /// The event's name.
    pub name: String,
    /// The state in force.
    pub state: QueueState,
    /// Whether visitors are let in.
    pub is_open: bool,
    /// Visitors in line.
    pub total_in_queue: u64,
    /// Passes out.
    pub admitted_active: u64,
    /// The rate that is set.
    pub admit_per_minute: u32,
    /// The rate that was observed.
    pub observed_admit_per_minute: u64,
    /// Seconds that a visitor who joins now will wait; null while the line does not move.
    pub estimated_wait_seconds: Option<u64>,
    /// The operator's word to those who wait.
    pub message: Option<String>,
    /// When these numbers were taken.
    pub updated_at: Timestamp,
}
