//! Whole nodes on a seeded clock, disk and network.

pub mod content;
pub mod disk;
pub mod history;
pub mod power;
pub mod rng;
