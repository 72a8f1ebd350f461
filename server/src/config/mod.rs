//! Configuration: what files, environment and flags say, and what the program may rely on.

pub mod checked;
mod effect;
pub mod network;
pub mod raw;

pub use checked::Config;
pub use network::Endpoint;
