//! Tests of the group state machine: transcripts of groups, records as bytes, and random groups against their replay.

mod bed;
mod consumer;
mod consumer_bed;
mod consumer_migration;
mod consumer_random;
mod consumer_records;
mod offsets;
mod random;
mod rebalance;
mod records;
mod refusals;
mod static_members;
