//! Tests of the group state machine: transcripts of groups, records as bytes, and random groups against their replay.

mod bed;
mod offsets;
mod random;
mod rebalance;
mod records;
mod refusals;
mod static_members;
