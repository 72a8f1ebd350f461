//! The kinds of configuration values, and the check of a text against one.
//!
//! Owns bounds and messages. Invariant: a refusal names key, value, what is allowed, and an example.

/// The type of a value, with its bounds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    Boolean,
    Text,
    Password,
    Class,
    Short {
        min: i64,
        max: i64,
    },
    Int {
        min: i64,
        max: i64,
    },
    Long {
        min: i64,
        max: i64,
    },
    Double {
        min: f64,
        max: f64,
    },
    /// Comma-separated, each one of these; any where the list is empty.
    List {
        of: &'static [&'static str],
    },
    /// One of these.
    Choice {
        of: &'static [&'static str],
    },
    /// `*`, or comma-separated `PARTITION:NODE`.
    ThrottledReplicas,
    /// 1 to 9, or -1 for the codec's own default.
    GzipLevel,
}

impl Kind {
    /// The number that DescribeConfigs has for the type.
    pub fn to_wire(self) -> i8 {
        match self {
            Kind::Boolean => 1,
            Kind::Text | Kind::Choice { .. } => 2,
            Kind::Int { .. } | Kind::GzipLevel => 3,
            Kind::Short { .. } => 4,
            Kind::Long { .. } => 5,
            Kind::Double { .. } => 6,
            Kind::List { .. } | Kind::ThrottledReplicas => 7,
            Kind::Class => 8,
            Kind::Password => 9,
        }
    }

    pub const fn int_at_least(min: i64) -> Kind {
        Kind::Int { min, max: i32::MAX as i64 }
    }

    pub const fn long_at_least(min: i64) -> Kind {
        Kind::Long { min, max: i64::MAX }
    }
}

/// Begins in Kafka's words where it has some: scripts look for them in what the tools print.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("Unknown topic config name: {key}")]
    Unknown { key: String },
    #[error("Invalid value {value} for configuration {key}: {allowed}; for example {key}={example}")]
    Value { key: String, value: String, allowed: String, example: String },
    #[error("Invalid value {value} for configuration {key}: at most the value of {other} is allowed, which is {bound}")]
    Conflict { key: &'static str, value: String, other: &'static str, bound: String },
    #[error(
        "configuration {key} cannot be switched on: this version does not serve {why}; leave it out or set {key}=false"
    )]
    NotServed { key: &'static str, why: &'static str },
}

impl ConfigError {
    /// Whose value is refused.
    pub fn key(&self) -> &str {
        match self {
            ConfigError::Unknown { key } | ConfigError::Value { key, .. } => key,
            ConfigError::Conflict { key, .. } | ConfigError::NotServed { key, .. } => key,
        }
    }
}

/// Whether `value` is one of `kind`.
pub fn check(key: &str, kind: Kind, value: &str) -> Result<(), ConfigError> {
    let refuse = |allowed: String, example: String| {
        Err(ConfigError::Value { key: key.to_owned(), value: value.to_owned(), allowed, example })
    };
    match kind {
        Kind::Text | Kind::Password | Kind::Class => Ok(()),
        Kind::Boolean if value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false") => Ok(()),
        Kind::Boolean => refuse("true or false is allowed".into(), "true".into()),
        Kind::Short { min, max } | Kind::Int { min, max } | Kind::Long { min, max } => match value.parse::<i64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(()),
            _ => refuse(format!("a whole number from {min} to {max} is allowed"), min.max(1).min(max).to_string()),
        },
        Kind::GzipLevel => match value.parse::<i64>() {
            Ok(-1 | 1..=9) => Ok(()),
            _ => refuse("a whole number from 1 to 9, or -1, is allowed".into(), "6".into()),
        },
        Kind::Double { min, max } => match value.parse::<f64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(()),
            _ => refuse(format!("a number from {min} to {max} is allowed"), format!("{}", min.midpoint(max))),
        },
        Kind::Choice { of } if of.contains(&value) => Ok(()),
        Kind::Choice { of } => refuse(format!("one of {} is allowed", of.join(", ")), first(of)),
        Kind::List { of: [] } => Ok(()),
        Kind::List { of } => {
            let items = || value.split(',').map(str::trim);
            let twice = items().enumerate().any(|(at, item)| items().skip(at + 1).any(|later| later == item));
            if twice || !items().all(|item| of.contains(&item)) {
                return refuse(format!("a list of {} is allowed, each at most once", of.join(", ")), first(of));
            }
            Ok(())
        }
        Kind::ThrottledReplicas => {
            let pair = |item: &str| {
                item.trim()
                    .split_once(':')
                    .is_some_and(|(partition, node)| partition.parse::<u32>().is_ok() && node.parse::<u32>().is_ok())
            };
            if value.is_empty() || value == "*" || value.split(',').all(pair) {
                return Ok(());
            }
            refuse("'*' or a list of PARTITION:NODE is allowed".into(), "0:1,1:2".into())
        }
    }
}

fn first(of: &[&str]) -> String {
    of.first().copied().unwrap_or_default().to_owned()
}
