//! Real clients and tools against the built binary.
//!
//! Owns starting and ending the broker and the programs that use it. Owns no expectations: those are in `tests/`.
//! Invariant: whatever a test starts is ended when the test ends, also when it fails.

pub mod broker;
pub mod clients;
pub mod paths;
pub mod program;
pub mod raw;
pub mod tools;
