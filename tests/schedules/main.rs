//! The coalescer under a scheduler that decides, from a seed, who goes next at every step (shuttle).
//!
//! `src/coalesce.rs` is compiled here as it is. What it calls `tokio` is this crate: the runtime's tasks and clock are those of
//! the scheduler (`spawn`, `time`); channels and semaphores are Tokio's own, with a point before each use at which any other
//! task may go first (`sync`). That is why this is a binary of its own.

extern crate self as tokio;
extern crate tokio as real_tokio;

mod asking;
#[path = "../../src/coalesce.rs"]
mod coalesce;
mod coalescing;
mod runs;
#[path = "../it/support/seeds.rs"]
mod seeds;
mod sync;
mod tasks;
mod time;
mod world;

pub use real_tokio::select;
pub use tasks::spawn;
