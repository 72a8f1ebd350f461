//! `cargo run --release -p sim -- --seed N` replays one seed.
fn main() {}
