//! One node and the power: it goes before, in and after every disk operation of a run.

pub mod clients;
pub mod explore;
pub mod history;
pub mod run;
pub mod world;
