//! Bad input against the built binary: attacks 1 to 41 of the list in the threat model, but 9 (TLS) and ACLs.
//!
//! Rows are named by their number in that list. After each of them the process must live, a second client must be
//! answered, memory may be at most 64 MiB above the start, and what was closed must be counted in the metrics.
//! `WEIR_COMPAT_BOOTSTRAP=HOST:PORT` runs the rows against another broker, to check that the good bytes in them are good.

#[path = "attacks/batch.rs"]
mod batch;
#[path = "attacks/batches.rs"]
mod batches;
#[path = "attacks/body.rs"]
mod body;
#[path = "attacks/bombs.rs"]
mod bombs;
#[path = "attacks/codecs.rs"]
mod codecs;
#[path = "attacks/framing.rs"]
mod framing;
#[path = "attacks/header.rs"]
mod header;
#[path = "attacks/names.rs"]
mod names;
#[path = "attacks/requests.rs"]
mod requests;
#[path = "attacks/resources.rs"]
mod resources;
#[path = "attacks/target.rs"]
mod target;
