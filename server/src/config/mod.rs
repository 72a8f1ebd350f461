//! Configuration: what files, environment and flags say, and what the program may rely on.

pub mod checked;
pub mod raw;

pub use checked::{Config, Endpoint};
