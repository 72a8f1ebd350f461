//! How many connections a node takes.
//!
//! Owns the meaning of `max.connections`, `max.connections.per.ip` and `max.connections.per.ip.overrides`. Does not own counting them.

use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};

use super::checked::{ConfigRefused, Settings};
use crate::net::admission::ConnectionLimits;

/// Sockets and files share the descriptors: connections get what is left of a small reserve, at most this.
const CONNECTIONS_MAX: usize = 100_000;
const OVERRIDES: &str = "max.connections.per.ip.overrides";

impl Settings<'_> {
    pub(super) fn connections(&self) -> Result<ConnectionLimits, ConfigRefused> {
        let default = descriptors().saturating_sub(512).max(descriptors() / 2).min(CONNECTIONS_MAX);
        let most = i32::MAX as u64;
        let overrides = self.overrides()?;
        // Nobody at all would be let in.
        let least = u64::from(overrides.is_empty());
        Ok(ConnectionLimits {
            all: self.size("max.connections", default as u64, 1, most)?,
            per_address: self.size("max.connections.per.ip", most, least, most)?,
            overrides,
        })
    }

    /// `HOST:COUNT,…`: a name stands for all of its addresses, looked up once.
    fn overrides(&self) -> Result<HashMap<IpAddr, usize>, ConfigRefused> {
        let mut overrides = HashMap::new();
        for item in self.items(OVERRIDES) {
            let refuse = |allowed: String| self.refuse(OVERRIDES, allowed, "127.0.0.1:1000,10.0.0.7:5");
            let parsed =
                item.rsplit_once(':').and_then(|(host, count)| Some((host.trim(), count.trim().parse().ok()?)));
            let Some((host, count)) = parsed.filter(|(host, count)| !host.is_empty() && *count <= i32::MAX as usize)
            else {
                return Err(refuse(format!(
                    "a list of HOST:COUNT with counts from 0 to {} is allowed, not {item}",
                    i32::MAX
                )));
            };
            let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            let found =
                (bare, 0).to_socket_addrs().map_err(|error| refuse(format!("{host} has no address: {error}")))?;
            overrides.extend(found.map(|found| (found.ip().to_canonical(), count)));
        }
        Ok(overrides)
    }
}

/// How many descriptors the process may have.
fn descriptors() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(1024)
}

#[cfg(test)]
mod tests {
    use super::super::checked::Config;
    use super::super::raw::Raw;
    use super::*;

    fn limits(pairs: &[&str]) -> Result<ConnectionLimits, ConfigRefused> {
        let mut raw = Raw::default();
        pairs.iter().for_each(|pair| raw.add_set(pair).expect("key=value"));
        Config::check(&raw).map(|config| config.connections)
    }

    #[test]
    fn without_settings_one_address_may_have_all_connections() {
        let limits = limits(&[]).expect("defaults are valid");
        assert!((1..=CONNECTIONS_MAX).contains(&limits.all), "{}", limits.all);
        assert_eq!((limits.per_address, limits.overrides.len()), (i32::MAX as usize, 0));
    }

    #[test]
    fn exceptions_are_addresses_of_both_kinds_and_names() {
        let set = ["max.connections.per.ip=7", "max.connections.per.ip.overrides=10.0.0.1:2, [fd00::1]:3,fd00::2:4"];
        let limits = limits(&set).expect("valid");
        let of = |text: &str| limits.overrides.get(&text.parse::<IpAddr>().expect("an address")).copied();
        assert_eq!((of("10.0.0.1"), of("fd00::1"), of("fd00::2"), limits.per_address), (Some(2), Some(3), Some(4), 7));
        let named = super::tests::limits(&["max.connections.per.ip.overrides=localhost:9"]).expect("a name");
        assert!(named.overrides.values().all(|count| *count == 9) && !named.overrides.is_empty());
    }

    #[test]
    fn a_limit_that_lets_nobody_in_is_refused_unless_there_are_exceptions() {
        let refused = limits(&["max.connections.per.ip=0"]).expect_err("nobody").to_string();
        assert!(refused.contains("max.connections.per.ip=0") && refused.contains("from 1"), "{refused}");
        let set = ["max.connections.per.ip=0", "max.connections.per.ip.overrides=127.0.0.1:5"];
        assert_eq!(limits(&set).expect("one address may").per_address, 0);
    }

    #[test]
    fn an_exception_that_means_nothing_is_refused_with_what_is_allowed() {
        for value in ["10.0.0.1", "10.0.0.1:", ":5", "10.0.0.1:-1", "10.0.0.1:2147483648", "no such host:1"] {
            let refused = limits(&[&format!("{OVERRIDES}={value}")]).expect_err(value).to_string();
            assert!(refused.contains(OVERRIDES) && refused.contains("for example"), "{refused}");
        }
    }
}
