//! The threads that carry out what a node asks of its disk.

pub mod cold_reads;
pub mod give_way;
mod pace;
pub mod side_by_side;
pub mod writers;
