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

/// What these settings give, for tests of each part.
#[cfg(test)]
fn check(pairs: &[&str]) -> Result<Config, checked::ConfigRefused> {
    let mut raw = raw::Raw::default();
    pairs.iter().for_each(|pair| raw.add_set(pair).expect("key=value"));
    Config::check(&raw)
}
