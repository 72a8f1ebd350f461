//! Weir and Apache Kafka side by side.
fn main() {}
