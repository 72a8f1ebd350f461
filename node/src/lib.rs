//! One node without sockets: carries actions between the state machines and the disk. No tokio, thread, clock.

pub mod effects;
pub mod requests;
