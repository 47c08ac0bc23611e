//! Usher: a virtual queue in front of a booking system.

pub mod admin;
pub mod app;
pub mod booking;
pub mod catalogue;
pub mod circuit;
pub mod cli;
pub mod coalesce;
pub mod config;
pub mod domain;
pub mod engine;
pub mod follow;
#[cfg(test)]
mod hostile;
pub mod http;
pub mod ledger;
pub mod line;
pub mod metrics;
pub mod pass;
pub mod presence;
pub mod push;
pub mod queue;
pub mod release;
pub mod telemetry;
