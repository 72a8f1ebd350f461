//! Where commands find the cluster, and the names that a shell completes.
//!
//! Owns `--bootstrap`. Invariant: completion is silent: where no cluster answers at once there are no names.

use std::ffi::OsStr;

use clap::Args;
use clap_complete::CompletionCandidate;

use crate::client::Client;
use crate::client::group;
use crate::client::refused::AskError;
use crate::client::router::{Router, first_of};

pub const BOOTSTRAP: &str = "127.0.0.1:9092";

#[derive(Clone, Debug, Args)]
pub struct At {
    /// The cluster: one or more of its nodes, with commas between them
    #[arg(long, value_name = "HOST:PORT", default_value = BOOTSTRAP)]
    pub bootstrap: String,
}

impl At {
    pub fn connect(&self) -> Result<Router, AskError> {
        Router::connect(&self.bootstrap)
    }

    /// One connection, for what any node answers or passes on.
    pub fn client(&self) -> Result<Client, AskError> {
        first_of(&self.bootstrap)
    }
}

/// The bootstrap of the command line that is being completed.
fn completed_at() -> String {
    let words: Vec<String> = std::env::args().collect();
    let mut found = words.iter().filter_map(|word| word.strip_prefix("--bootstrap=").map(str::to_owned));
    let behind = || words.windows(2).find_map(|pair| (pair.first()? == "--bootstrap").then(|| pair.get(1).cloned())?);
    found.next().or_else(behind).unwrap_or_else(|| BOOTSTRAP.to_owned())
}

fn candidates(names: Vec<String>, current: &OsStr) -> Vec<CompletionCandidate> {
    let begun = current.to_string_lossy().into_owned();
    names.into_iter().filter(|name| name.starts_with(&begun)).map(CompletionCandidate::new).collect()
}

/// Names of topics for the shell.
pub fn topics(current: &OsStr) -> Vec<CompletionCandidate> {
    let found = Router::connect(&completed_at()).and_then(|mut router| router.all_topics()).unwrap_or_default();
    candidates(found.into_iter().map(|topic| topic.name).collect(), current)
}

/// Names of groups for the shell.
pub fn groups(current: &OsStr) -> Vec<CompletionCandidate> {
    let found = Router::connect(&completed_at()).and_then(|mut router| group::list(&mut router)).unwrap_or_default();
    candidates(found.into_iter().map(|group| group.id).collect(), current)
}
