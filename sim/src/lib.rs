//! Whole nodes on a seeded clock, disk and network.

pub mod checker;
pub mod cluster;
pub mod disk;
pub mod hunt;
pub mod one_node;
pub mod panics;
pub mod rng;
pub mod seeds;
