//! The edge: sockets, threads, configuration, and the Kafka protocol. Carries out what a node asks of the world.

#[cfg(not(target_os = "linux"))]
compile_error!("Weir runs on Linux only (x86-64, arm64)");

pub mod api;
pub mod broker;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod disk;
pub mod durations;
pub mod exporter;
pub mod http;
pub mod memory;
pub mod metrics;
mod near;
pub mod net;
pub mod peer;
pub mod run;
mod scrape;
pub mod service;
pub mod shutdown;
pub mod telemetry;
pub mod wire;
