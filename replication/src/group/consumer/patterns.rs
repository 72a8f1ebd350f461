//! Subscriptions by regular expression: RE2's syntax, matched against whole topic names in linear time.
//!
//! Owns the compiled patterns. Does not own what they resolved to, which is replicated (`state::Resolved`).
//! Invariant: whatever a client sends, compiling and matching take bounded memory and time linear in the name.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use regex::{Regex, RegexBuilder};

use super::super::error::GroupError;
use super::catalog::Catalog;

/// The longest pattern. A topic name has 249 characters.
pub const PATTERN_BYTES_MAX: usize = 4096;
/// What one compiled pattern may take in memory.
const COMPILED_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Debug, Default)]
pub(in super::super) struct Patterns {
    compiled: BTreeMap<String, Option<Regex>>,
    resolved_at: Duration,
}

impl Patterns {
    /// The topics whose whole name the pattern matches. A pattern that does not compile here matches nothing: another
    /// version accepted it.
    pub(super) fn resolve(&mut self, pattern: &str, catalog: &Catalog<'_>) -> BTreeSet<String> {
        let compiled = self.compiled.entry(pattern.to_owned()).or_insert_with(|| compile(pattern).ok());
        let Some(compiled) = compiled else { return BTreeSet::new() };
        let names = catalog.image.topics().map(|topic| topic.name.as_str());
        names.filter(|name| !is_internal(name) && compiled.is_match(name)).map(str::to_owned).collect()
    }

    /// When all of the group's patterns were resolved last.
    pub(super) fn resolved_at(&self) -> Duration {
        self.resolved_at
    }

    /// They are resolved now; only these are used.
    pub(super) fn begin(&mut self, now: Duration, used: &BTreeSet<String>) {
        self.resolved_at = now;
        self.compiled.retain(|pattern, _| used.contains(pattern));
    }
}

/// Kafka's own topics are never meant by a pattern.
fn is_internal(name: &str) -> bool {
    matches!(name, "__consumer_offsets" | "__transaction_state" | "__share_group_state")
}

pub(super) fn compile(pattern: &str) -> Result<Regex, GroupError> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(GroupError::NameTooLong { bytes: pattern.len(), limit: PATTERN_BYTES_MAX });
    }
    let refuse = |error: regex::Error| {
        // Several lines of the parser would end up in one line of a client's log.
        let why = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
        GroupError::InvalidPattern { pattern: pattern.to_owned(), why }
    };
    let build = |text: &str| RegexBuilder::new(text).size_limit(COMPILED_BYTES_MAX).build().map_err(refuse);
    // Alone first: `a)|(b` is none, though it would be one between brackets.
    build(pattern)?;
    // A comment of the verbose mode would swallow the closing bracket.
    build(&format!("^(?:{pattern})$")).or_else(|_| build(&format!("^(?:{pattern}\n)$")))
}
