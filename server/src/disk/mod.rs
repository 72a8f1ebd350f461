//! The threads that carry out what a node asks of its disk.

pub mod cold_reads;
pub mod turns;
pub mod writers;
