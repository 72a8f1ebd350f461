//! Arguments, configuration, run, shut down.
fn main() {}
