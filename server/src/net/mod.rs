//! Sockets of clients: frames in, answers out in the order of the requests.

pub mod admission;
pub mod complaints;
pub mod connection;
pub mod frame;
pub mod listener;
pub mod reply;
pub mod shards;
pub mod shown;
pub mod writing;
