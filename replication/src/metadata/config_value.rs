//! The kinds of configuration values, and the check of a text against one.
//!
//! Owns bounds and messages. Invariant: a refusal names key, value, what is allowed, and an example. A bound that is but the end of what
//! its type can hold is named only to those who went beyond it.

/// What the types of whole numbers can hold.
const SHORT: (i64, i64) = (i16::MIN as i64, i16::MAX as i64);
const INT: (i64, i64) = (i32::MIN as i64, i32::MAX as i64);
const LONG: (i64, i64) = (i64::MIN, i64::MAX);

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

    /// In words, to be followed by "is allowed".
    pub fn allowed(self) -> String {
        match self {
            Kind::Short { min, max } => whole_number(min, max, SHORT),
            Kind::Int { min, max } => whole_number(min, max, INT),
            Kind::Long { min, max } => whole_number(min, max, LONG),
            Kind::Boolean => "true or false".to_owned(),
            Kind::Text | Kind::Class => "text".to_owned(),
            Kind::Password => "text that is never shown".to_owned(),
            Kind::Double { min, max } if min <= f64::MIN && max >= f64::MAX => "a number".to_owned(),
            Kind::Double { min, max } if max >= f64::MAX => format!("a number of at least {min}"),
            Kind::Double { min, max } => format!("a number from {min} to {max}"),
            Kind::List { of: [] } => "a list of words with commas between them".to_owned(),
            Kind::List { of } => format!("a list of {} (each at most once)", of.join(", ")),
            Kind::Choice { of } => format!("one of {}", of.join(", ")),
            Kind::ThrottledReplicas => "'*' or a list of PARTITION:NODE".to_owned(),
            Kind::GzipLevel => "-1 or a whole number from 1 to 9".to_owned(),
        }
    }

    /// As `allowed`, for somebody who gave this value.
    pub fn allowed_instead(self, value: &str) -> String {
        match (self.range(), value.parse::<i128>()) {
            (Some((min, max, all)), Ok(number)) if number > max.into() || number < all.0.into() => {
                format!("a whole number from {min} to {max}")
            }
            _ => self.allowed(),
        }
    }

    /// Of a whole number: the least, the greatest, and what the type can hold.
    fn range(self) -> Option<(i64, i64, (i64, i64))> {
        match self {
            Kind::Short { min, max } => Some((min, max, SHORT)),
            Kind::Int { min, max } => Some((min, max, INT)),
            Kind::Long { min, max } => Some((min, max, LONG)),
            _ => None,
        }
    }

    fn example(self) -> String {
        match self {
            Kind::Short { min, max } | Kind::Int { min, max } | Kind::Long { min, max } => {
                min.max(1).min(max).to_string()
            }
            Kind::Double { min, max } => min.midpoint(max).to_string(),
            Kind::Choice { of } | Kind::List { of } => first(of),
            Kind::Boolean => "true".to_owned(),
            Kind::GzipLevel => "6".to_owned(),
            Kind::ThrottledReplicas => "0:1,1:2".to_owned(),
            Kind::Text | Kind::Password | Kind::Class => String::new(),
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

/// Whether `value` is one of `kind`. `usual`: its default, which is a better example than any number in the bounds.
pub fn check(key: &str, kind: Kind, value: &str, usual: Option<&str>) -> Result<(), ConfigError> {
    if is_one(kind, value) {
        return Ok(());
    }
    let example = usual.filter(|usual| is_one(kind, usual)).map_or_else(|| kind.example(), str::to_owned);
    let allowed = format!("{} is allowed", kind.allowed_instead(value));
    Err(ConfigError::Value { key: key.to_owned(), value: value.to_owned(), allowed, example })
}

pub fn is_one(kind: Kind, value: &str) -> bool {
    match kind {
        Kind::Text | Kind::Password | Kind::Class | Kind::List { of: [] } => true,
        Kind::Boolean => value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false"),
        Kind::Short { min, max } | Kind::Int { min, max } | Kind::Long { min, max } => {
            value.parse::<i64>().is_ok_and(|number| (min..=max).contains(&number))
        }
        Kind::GzipLevel => matches!(value.parse::<i64>(), Ok(-1 | 1..=9)),
        Kind::Double { min, max } => value.parse::<f64>().is_ok_and(|number| (min..=max).contains(&number)),
        Kind::Choice { of } => of.contains(&value),
        Kind::List { of } => {
            let items = || value.split(',').map(str::trim);
            let twice = items().enumerate().any(|(at, item)| items().skip(at + 1).any(|later| later == item));
            !twice && items().all(|item| of.contains(&item))
        }
        Kind::ThrottledReplicas => {
            let pair = |item: &str| {
                item.trim()
                    .split_once(':')
                    .is_some_and(|(partition, node)| partition.parse::<u32>().is_ok() && node.parse::<u32>().is_ok())
            };
            value.is_empty() || value == "*" || value.split(',').all(pair)
        }
    }
}

/// `all`: what its type can hold.
fn whole_number(min: i64, max: i64, all: (i64, i64)) -> String {
    match (min == all.0, max == all.1) {
        (true, true) => "a whole number".to_owned(),
        (false, true) => format!("a whole number of at least {min}"),
        (true, false) => format!("a whole number of at most {max}"),
        (false, false) => format!("a whole number from {min} to {max}"),
    }
}

fn first(of: &[&str]) -> String {
    of.first().copied().unwrap_or_default().to_owned()
}
