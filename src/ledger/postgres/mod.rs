//! The ledger on Postgres.
