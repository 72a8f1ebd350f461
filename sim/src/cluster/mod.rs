//! A cluster of production nodes on simulated machines, with clients, faults and a judge.

pub mod ask;
pub mod clients;
pub mod clock;
pub mod connections;
mod copies;
pub mod faults;
pub mod finale;
pub mod hash;
pub mod host;
pub mod kinds;
pub mod links;
mod lying;
pub mod net;
pub mod observe;
mod processes;
pub mod queue;
pub mod requests;
pub mod run;
mod voters;
pub mod world;
