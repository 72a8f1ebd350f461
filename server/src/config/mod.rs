//! Configuration: what files, environment and flags say, and what the program may rely on.

mod bounds;
pub mod checked;
mod connections;
pub mod defaults;
pub mod effect;
pub mod network;
pub mod raw;
pub mod words;

pub use checked::Config;
pub use network::Endpoint;
