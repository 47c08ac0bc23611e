//! The integration tests: one binary, real stores.

mod support;
