//! Whole nodes on a seeded clock, disk and network.

pub mod clients;
pub mod content;
pub mod disk;
pub mod explore;
pub mod history;
pub mod power;
pub mod rng;
pub mod run;
pub mod world;
