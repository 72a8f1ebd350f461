//! Real clients and tools against the built binary.
