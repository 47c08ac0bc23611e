//! Promises that must hold while something breaks: real processes, killed, cut off, wiped.
//!
//! `USHER_CHAOS=1` asks for the long form, `USHER_CHAOS_SEED` for what chance did in an earlier run.

mod clock;
mod dice;
mod growth;
mod kills;
mod rate;
mod rolling;
mod sales;
