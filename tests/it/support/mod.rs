//! What the tests stand on: private store processes, instances, clients.

#![allow(dead_code)]

pub mod balancer;
pub mod crowd;
pub mod fleet;
#[path = "../../../src/hostile.rs"]
pub mod hostile;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod scratch;
pub mod seeds;
pub mod service;
pub mod usher;
pub mod wire;
