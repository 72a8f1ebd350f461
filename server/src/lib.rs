//! The edge: sockets, threads, configuration.
pub mod wire;
