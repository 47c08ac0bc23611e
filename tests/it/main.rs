//! The integration tests: one binary, real stores.

mod chaos;
mod coalesce;
mod docs;
mod engine;
mod http;
mod ledger;
mod lua_headers;
mod process;
mod support;
