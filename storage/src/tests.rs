//! A data directory driven as a node drives it, for the tests of this crate.
//!
//! Owns the harness. The tests themselves are in the files below.

mod bytes;
mod compact;
mod compact_power;
mod crash;
mod harness;
mod journal;
mod log;
mod mem_disk;
mod model_test;
mod overlap;
mod power;
mod samples;
