//! Stores that fail under a running service: cut off, silent, slow, full, failed over, moved.
//!
//! `USHER_CHAOS=1` runs the long forms.

mod away;
mod cluster;
mod exhausted;
mod failover;
mod overload;
mod rig;

/// How long a fault lasts: `long` with `USHER_CHAOS=1`.
fn seconds(short: u64, long: u64) -> std::time::Duration {
    std::time::Duration::from_secs(if crate::support::seeds::long() { long } else { short })
}
