//! Settings that are obeyed, but not all that Kafka would take for them.
//!
//! Owns these bounds. Invariant: a value that names what is not there is refused; a number beyond a bound, which Kafka's own files may well
//! have, is taken as far as it goes, and that is said.

use model::limits::FETCH_BYTES_MAX;
use replication::group::{Assignor, MEMBERS_MAX};

use super::checked::{ConfigRefused, Settings};

const PROTOCOLS: &str = "group.coordinator.rebalance.protocols";
/// Kafka's class names for `Assignor`.
const ASSIGNOR_CLASSES: &str = "org.apache.kafka.coordinator.group.assignor.";
/// Of Kafka's own, without their package.
const SELECTORS: [&str; 2] = ["LeaderSelector", "RackAwareReplicaSelector"];
const SELECTOR_PACKAGE: &str = "org.apache.kafka.common.replica.";

impl Settings<'_> {
    /// Names of what is not there.
    pub(super) fn refuse_missing_parts(&self) -> Result<(), ConfigRefused> {
        let key = "group.consumer.assignors";
        let is_assignor = |name: &str| match name.strip_prefix(ASSIGNOR_CLASSES) {
            Some(class) => {
                Assignor::ALL.iter().any(|one| class.eq_ignore_ascii_case(&format!("{}assignor", one.name())))
            }
            None => Assignor::find(name).is_some(),
        };
        if !self.items(key).all(is_assignor) {
            let names = Assignor::ALL.map(Assignor::name).join(" and ");
            return Err(self.refuse(
                key,
                format!("a list of {names} is allowed, other assignors are not there"),
                "uniform,range",
            ));
        }
        let key = "replica.selector.class";
        let class = self.text(key).map(|class| class.strip_prefix(SELECTOR_PACKAGE).unwrap_or(class));
        if class.is_some_and(|class| !SELECTORS.contains(&class)) {
            let allowed = format!("{} is allowed, other classes are not there", SELECTORS.join(" or "));
            return Err(self.refuse(key, allowed, format!("{SELECTOR_PACKAGE}{}", SELECTORS[1])));
        }
        if self.text(PROTOCOLS).is_some() && !self.items(PROTOCOLS).any(|protocol| protocol == "classic") {
            return Err(self.refuse(PROTOCOLS, "classic must be among them, as in Kafka", "classic,consumer"));
        }
        Ok(())
    }

    /// What was given and holds up to a bound only, each with what holds instead.
    pub(super) fn bounded(&self) -> Vec<String> {
        let numbers = [
            ("fetch.max.bytes", FETCH_BYTES_MAX, "bytes in one answer"),
            ("group.max.size", MEMBERS_MAX as u64, "members in one group"),
            ("group.consumer.max.size", MEMBERS_MAX as u64, "members in one group"),
        ];
        let mut found = Vec::new();
        for (key, most, of_what) in numbers {
            let given = self.text(key).and_then(|text| text.parse::<u64>().ok());
            if given.is_some_and(|given| given > most) {
                found.push(self.says(key, &format!("at most {most} {of_what}")));
            }
        }
        for protocol in ["share", "streams"] {
            if self.items(PROTOCOLS).any(|one| one == protocol) {
                found.push(self.says(PROTOCOLS, &format!("this version serves no {protocol} groups")));
            }
        }
        found
    }

    fn says(&self, key: &str, what: &str) -> String {
        let (value, origin) = self.0.get(key).map(|set| (set.value.trim(), set.origin.to_string())).unwrap_or_default();
        format!("{key}={value} ({origin}): {what}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;

    #[test]
    fn numbers_beyond_a_bound_are_told_with_key_value_and_bound() {
        for (pair, bound) in [
            ("fetch.max.bytes=57671680", "16777216"),
            ("group.max.size=10001", "10000"),
            ("group.consumer.max.size=2147483647", "10000"),
            ("group.coordinator.rebalance.protocols=classic,share", "no share groups"),
            ("group.coordinator.rebalance.protocols=classic,consumer,streams", "no streams groups"),
        ] {
            let [said] = &check(&[pair]).expect(pair).bounded[..] else { panic!("{pair}: one bound") };
            assert!(said.starts_with(&format!("{pair} (--set): ")) && said.contains(bound), "{said}");
        }
        for pair in
            ["fetch.max.bytes=16777216", "group.max.size=10000", "group.coordinator.rebalance.protocols=classic"]
        {
            assert_eq!(check(&[pair]).expect(pair).bounded, Vec::<String>::new());
        }
    }

    #[test]
    fn names_of_what_is_not_there_are_refused_and_kafkas_own_are_not() {
        for (pair, says) in [
            ("group.consumer.assignors=sticky", "uniform and range"),
            ("group.consumer.assignors=uniform,com.example.Mine", "uniform and range"),
            (
                "group.consumer.assignors=org.apache.kafka.coordinator.group.assignor.SimpleAssignor",
                "uniform and range",
            ),
            ("replica.selector.class=com.example.MineRackAwareReplicaSelector", "RackAwareReplicaSelector"),
            ("group.coordinator.rebalance.protocols=consumer", "classic"),
        ] {
            let refused = check(&[pair]).expect_err(pair).to_string();
            assert!(refused.starts_with(pair) && refused.contains(says), "{refused}");
        }
        for pair in [
            "group.consumer.assignors=range",
            "group.consumer.assignors=org.apache.kafka.coordinator.group.assignor.RangeAssignor,uniform",
            "replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector",
            "replica.selector.class=org.apache.kafka.common.replica.LeaderSelector",
            "replica.selector.class=",
            "group.coordinator.rebalance.protocols=classic,consumer,streams",
        ] {
            assert!(check(&[pair]).is_ok(), "{pair}");
        }
    }
}
