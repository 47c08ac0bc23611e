//! The integration tests: one binary, real stores.

mod ledger;
mod support;
