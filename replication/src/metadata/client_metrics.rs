//! Subscriptions to the metrics of clients (KIP-714): what may be configured for one, and which clients it is about.
//!
//! Owns names, bounds, and the patterns. Does not own who pushed what (`server::telemetry`).
//! Invariants: a pattern is matched against the whole of what it is about, in time linear in it; a subscription holds at most one pattern
//! for each attribute, of at most `COMPILED_BYTES_MAX`; a value that another version accepted and this one cannot read matches no client.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};

use super::config_value::Kind;

pub const METRICS: &str = "metrics";
pub const INTERVAL: &str = "interval.ms";
pub const MATCH: &str = "match";
/// As an item of `metrics`: everything that the client knows.
pub const ALL_METRICS: &str = "*";

/// Five minutes: where nobody set an interval, and for clients without a subscription.
pub const INTERVAL_MS_DEFAULT: i32 = 300_000;
const INTERVAL_MS: std::ops::RangeInclusive<i64> = 100..=3_600_000;
/// Of one value: it is matched, or sent, with each client that asks.
const VALUE_BYTES_MAX: usize = 16 * 1024;
/// What one compiled pattern may take in memory, and what matching it may take beside that.
const COMPILED_BYTES_MAX: usize = 64 * 1024;
/// Each is looked at when a client asks what to push.
pub const SUBSCRIPTIONS_MAX: usize = 1000;

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ClientMetricsKey {
    pub name: &'static str,
    pub kind: Kind,
    pub default: &'static str,
    pub doc: &'static str,
}

/// Ascending by name.
pub const KEYS: [ClientMetricsKey; 3] = [
    ClientMetricsKey {
        name: INTERVAL,
        kind: Kind::Int { min: *INTERVAL_MS.start(), max: *INTERVAL_MS.end() },
        default: "300000",
        doc: "How often the clients push.",
    },
    ClientMetricsKey {
        name: MATCH,
        kind: Kind::List { of: &[] },
        default: "",
        doc: "Which clients push: ATTRIBUTE=PATTERN, all of which must match, the last for each attribute; every client where it is empty.",
    },
    ClientMetricsKey {
        name: METRICS,
        kind: Kind::List { of: &[] },
        default: "",
        doc: "What they push: beginnings of names, or * for everything.",
    },
];

impl ClientMetricsKey {
    pub fn find(name: &str) -> Option<&'static ClientMetricsKey> {
        KEYS.iter().find(|key| key.name == name)
    }
}

/// What is known of a client, and what a pattern may be about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Attribute {
    InstanceId,
    ClientId,
    SoftwareName,
    SoftwareVersion,
    SourceAddress,
    SourcePort,
}

impl Attribute {
    const ALL: [(Attribute, &'static str); 6] = [
        (Attribute::InstanceId, "client_instance_id"),
        (Attribute::ClientId, "client_id"),
        (Attribute::SoftwareName, "client_software_name"),
        (Attribute::SoftwareVersion, "client_software_version"),
        (Attribute::SourceAddress, "client_source_address"),
        (Attribute::SourcePort, "client_source_port"),
    ];

    pub fn find(name: &str) -> Option<Attribute> {
        Attribute::ALL.iter().find(|(_, known)| *known == name).map(|(attribute, _)| *attribute)
    }

    pub fn name(self) -> &'static str {
        let found = Attribute::ALL.iter().find(|(attribute, _)| *attribute == self);
        found.expect("ALL lists every attribute").1
    }
}

/// Begins in Kafka's words where it has some.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SubscriptionError {
    #[error("Unknown client metrics configuration: {key}; {METRICS}, {INTERVAL} and {MATCH} can be set")]
    Unknown { key: String },
    #[error("Invalid value {value} for {INTERVAL}, interval must be between 100 and 3600000 (1 hour)")]
    Interval { value: String },
    #[error("Invalid value {value} for configuration {INTERVAL}: not a whole number; for example {INTERVAL}=60000")]
    NoNumber { value: String },
    #[error("Illegal client matching pattern: {pattern} ({why}); for example client_id=orders-.*")]
    Pattern { pattern: String, why: String },
    #[error("{key} has {bytes} bytes, {VALUE_BYTES_MAX} are allowed")]
    TooLong { key: String, bytes: usize },
}

/// One subscription, checked.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Beginnings of names.
    pub metrics: Vec<String>,
    pub interval_ms: i32,
    patterns: BTreeMap<Attribute, Regex>,
}

impl Subscription {
    /// Of what is set; the defaults for the rest.
    pub fn new(values: &BTreeMap<String, String>) -> Result<Subscription, SubscriptionError> {
        for (key, value) in values {
            ClientMetricsKey::find(key).ok_or_else(|| SubscriptionError::Unknown { key: key.clone() })?;
            if value.len() > VALUE_BYTES_MAX {
                return Err(SubscriptionError::TooLong { key: key.clone(), bytes: value.len() });
            }
        }
        let interval_ms = values.get(INTERVAL).map_or(Ok(INTERVAL_MS_DEFAULT), |value| interval(value.trim()))?;
        let patterns = values.get(MATCH).map(String::as_str).unwrap_or_default();
        let metrics = values.get(METRICS).map(String::as_str).unwrap_or_default();
        Ok(Subscription {
            metrics: items(metrics).map(str::to_owned).collect(),
            interval_ms,
            patterns: compiled(patterns)?,
        })
    }

    /// Whether it is about this client; `told` gives what is known of it.
    pub fn matches<'a>(&self, told: impl Fn(Attribute) -> Option<&'a str>) -> bool {
        self.patterns.iter().all(|(attribute, pattern)| told(*attribute).is_some_and(|value| pattern.is_match(value)))
    }
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn interval(value: &str) -> Result<i32, SubscriptionError> {
    let number: i32 = value.parse().map_err(|_| SubscriptionError::NoNumber { value: value.to_owned() })?;
    if !INTERVAL_MS.contains(&i64::from(number)) {
        return Err(SubscriptionError::Interval { value: value.to_owned() });
    }
    Ok(number)
}

/// As in Kafka, the last pattern for an attribute is the one that holds; the others must be patterns, and are not compiled.
fn compiled(patterns: &str) -> Result<BTreeMap<Attribute, Regex>, SubscriptionError> {
    let mut last: BTreeMap<Attribute, (&str, &str)> = BTreeMap::new();
    for text in items(patterns) {
        let (attribute, expression) = pattern(text)?;
        last.insert(attribute, (text, expression));
    }
    let compile = |(attribute, (text, expression))| Ok((attribute, whole(text, expression)?));
    last.into_iter().map(compile).collect()
}

fn refuse(pattern: &str, why: &str) -> SubscriptionError {
    SubscriptionError::Pattern { pattern: pattern.to_owned(), why: why.to_owned() }
}

fn refuse_expression(pattern: &str, error: &regex::Error) -> SubscriptionError {
    refuse(pattern, error.to_string().lines().last().unwrap_or_default().trim())
}

/// What it is about, and its expression, which is read but not compiled: nothing fits into no memory.
fn pattern(text: &str) -> Result<(Attribute, &str), SubscriptionError> {
    let (name, expression) = text.split_once('=').ok_or_else(|| refuse(text, "it has no ="))?;
    let expression = expression.trim();
    if expression.is_empty() || expression.contains('=') {
        return Err(refuse(text, "one pattern stands behind the ="));
    }
    let attribute = Attribute::find(name.trim()).ok_or_else(|| {
        let known: Vec<&str> = Attribute::ALL.iter().map(|(_, name)| *name).collect();
        refuse(text, &format!("{} are known", known.join(", ")))
    })?;
    // Alone: `a)|(b` is none, though it would be one between brackets.
    match RegexBuilder::new(expression).size_limit(0).build() {
        Ok(_) | Err(regex::Error::CompiledTooBig(_)) => Ok((attribute, expression)),
        Err(error) => Err(refuse_expression(text, &error)),
    }
}

fn whole(text: &str, expression: &str) -> Result<Regex, SubscriptionError> {
    let build = |expression: &str| {
        let mut builder = RegexBuilder::new(expression);
        builder.size_limit(COMPILED_BYTES_MAX).dfa_size_limit(COMPILED_BYTES_MAX).build()
    };
    let expression = of_ascii(expression);
    let built = match build(&format!("^(?:{expression})$")) {
        // A comment would swallow the closing bracket.
        Err(regex::Error::Syntax(_)) => build(&format!("^(?:{expression}\n)$")),
        built => built,
    };
    built.map_err(|error| refuse_expression(text, &error))
}

/// Java's `\w`, `\d` and `\s` are about ASCII; with all of Unicode two `\w` would not fit into `COMPILED_BYTES_MAX`.
fn of_ascii(expression: &str) -> String {
    let mut text = String::with_capacity(expression.len());
    let mut characters = expression.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        match characters.next() {
            Some('w') => text.push_str("[0-9A-Za-z_]"),
            Some('W') => text.push_str("[^0-9A-Za-z_]"),
            Some('d') => text.push_str("[0-9]"),
            Some('D') => text.push_str("[^0-9]"),
            Some('s') => text.push_str(r"[\t-\r\x20]"),
            Some('S') => text.push_str(r"[^\t-\r\x20]"),
            other => text.extend(std::iter::once('\\').chain(other)),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(values: &[(&str, &str)]) -> Result<Subscription, SubscriptionError> {
        Subscription::new(&values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn a_subscription_is_about_the_clients_that_all_its_patterns_match_as_a_whole() {
        let told = |attribute| match attribute {
            Attribute::ClientId => Some("orders-1"),
            Attribute::SoftwareName => Some("apache-kafka-java"),
            _ => None,
        };
        for (patterns, matches) in [
            ("", true),
            ("client_id=orders-.*", true),
            (" client_id = orders-. , client_software_name=.*java", true),
            ("client_id=orders", false),
            ("client_id=a|orders-1", true),
            ("client_id=orders-.*,client_software_name=librdkafka", false),
            ("client_software_version=.*", false),
        ] {
            let subscription = subscription(&[(MATCH, patterns)]).expect(patterns);
            assert_eq!(subscription.matches(told), matches, "{patterns}");
        }
    }

    #[test]
    fn a_subscription_holds_one_pattern_for_each_attribute_which_is_the_last() {
        let told = |attribute| match attribute {
            Attribute::ClientId => Some("orders-1"),
            Attribute::SoftwareName => Some("apache-kafka-java"),
            _ => None,
        };
        let java = "client_software_name=.*java";
        for (patterns, matches) in [
            (format!("client_id=parcels,{java},client_id=orders-1"), true),
            (format!("client_id=orders-1,{java},client_id=parcels"), false),
        ] {
            let subscription = subscription(&[(MATCH, &patterns)]).expect(&patterns);
            assert_eq!((subscription.matches(told), subscription.patterns.len()), (matches, 2), "{patterns}");
        }
        // Each alone would be refused: they are too many bytes. As only the last counts, none of the others is compiled.
        let large = "client_id=\\pL{64},".repeat(850);
        assert!(subscription(&[(MATCH, &large)]).is_err());
        let many = subscription(&[(MATCH, &format!("{large}client_id=orders-.*"))]).expect("the last is small");
        assert!(many.matches(told) && many.patterns.len() == 1);
        assert!(subscription(&[(MATCH, "client_id=[,client_id=orders-.*")]).is_err(), "the first is none");
    }

    #[test]
    fn patterns_that_people_write_fit_into_the_bound() {
        for (pattern, client_id) in [
            (r"\w+-\w+-\d+", "orders-eu-17"),
            (r"[\w.-]+\W\D{2}\S{3}", "orders-eu-17"),
            (r"[a-zA-Z0-9._-]+", "orders-eu-17"),
            (r"\\w\s\p{Lu}", "\\w \u{c4}"),
            (r"(?i)ORDERS-(eu|us|ap)-\d{2}", "orders-eu-17"),
            (r"(orders|parcels|payments)-.*-[0-9]+", "orders-eu-17"),
            (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "00000000-0000-0000-0000-00000000000a"),
            ("(?x)orders-.* # a comment", "orders-eu-17"),
        ] {
            let subscription = subscription(&[(MATCH, &format!("client_id={pattern}"))]).expect(pattern);
            assert!(subscription.matches(|_| Some(client_id)), "{pattern}");
        }
    }

    #[test]
    fn what_nobody_could_mean_is_refused() {
        for (key, value) in [
            ("interval", "1000"),
            (INTERVAL, "99"),
            (INTERVAL, "3600001"),
            (INTERVAL, "soon"),
            (INTERVAL, ""),
            (MATCH, "client_id"),
            (MATCH, "client_id="),
            (MATCH, "client_id=a=b"),
            (MATCH, "group_id=a"),
            (MATCH, "client_id=a)|(b"),
            (MATCH, "client_id=(a{1000}){1000}"),
            (METRICS, &"m".repeat(VALUE_BYTES_MAX + 1)),
        ] {
            assert!(subscription(&[(key, value)]).is_err(), "{key}={value:.20}");
        }
        let defaults = subscription(&[]).expect("nothing set is allowed");
        assert_eq!((defaults.metrics, defaults.interval_ms), (Vec::new(), INTERVAL_MS_DEFAULT));
        let set = subscription(&[(METRICS, "a., b,"), (INTERVAL, "100")]).expect("valid");
        assert_eq!((set.metrics, set.interval_ms), (vec!["a.".to_owned(), "b".to_owned()], 100));
    }
}
