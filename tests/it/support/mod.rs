//! What the tests stand on: private store processes, instances, clients.

#![allow(dead_code)]

#[path = "../../../src/hostile.rs"]
pub mod hostile;
pub mod postgres;
pub mod process;
pub mod redis;
pub mod scratch;
pub mod usher;
pub mod wire;
