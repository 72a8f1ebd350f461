//! The threads that carry out what a node asks of its disk.

pub mod cold_reads;
pub mod side_by_side;
pub mod turns;
pub mod writers;
