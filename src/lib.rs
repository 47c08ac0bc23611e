//! Usher: a virtual queue in front of a booking system.

pub mod config;
pub mod domain;
pub mod engine;
pub mod ledger;
pub mod pass;
