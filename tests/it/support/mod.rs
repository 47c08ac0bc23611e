//! What the tests stand on: private store processes, instances, clients.

#![allow(dead_code)]

pub mod postgres;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod scratch;
pub mod usher;
