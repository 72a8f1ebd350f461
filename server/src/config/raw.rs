//! Where settings come from: flags, the environment, a file in Kafka's format.
//!
//! Owns reading and precedence. Does not own what a value means: `checked` does.
//! Precedence: flags, `--set`, `WEIR_…`, `KAFKA_…`, the file. No other module reads files or the environment for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use java_properties::PropertiesIter;

/// A settings file is a few pages; a larger one is the wrong file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Variables of Kafka's start scripts and images that are no settings.
const NOT_SETTINGS: &[&str] = &[
    "KAFKA_HOME",
    "KAFKA_OPTS",
    "KAFKA_HEAP_OPTS",
    "KAFKA_JVM_PERFORMANCE_OPTS",
    "KAFKA_GC_LOG_OPTS",
    "KAFKA_JMX_OPTS",
    "KAFKA_JMX_PORT",
    "KAFKA_DEBUG",
    "KAFKA_VERSION",
    "KAFKA_MODE",
    "KAFKA_CLASSPATH",
];
const NOT_SETTINGS_PREFIX: &[&str] = &["KAFKA_LOG4J", "KAFKA_TOOLS_LOG4J"];
/// Variables of ours that are no broker keys: read by name where they are used.
const OWN: &[&str] = &["WEIR_PUBLIC_PORT", "WEIR_LOG"];

/// Where a setting was found, for error messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    Flag(&'static str),
    Set,
    Environment(String),
    File(PathBuf),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Flag(flag) => f.write_str(flag),
            Origin::Set => f.write_str("--set"),
            Origin::Environment(variable) => write!(f, "environment variable {variable}"),
            Origin::File(path) => write!(f, "{}", path.display()),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    pub value: String,
    pub origin: Origin,
}

/// Settings by Kafka's names, the strongest source of each.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Raw {
    pub settings: BTreeMap<String, Setting>,
    pub public_port: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum RawError {
    #[error("{path}: {reason}")]
    File { path: PathBuf, reason: String },
    #[error("--set {text:?} is not of the form key=value, for example --set log.retention.hours=24")]
    Set { text: String },
}

impl Raw {
    /// Adds what a file says, below everything that is there already.
    pub fn add_file(&mut self, path: &Path) -> Result<(), RawError> {
        let fail = |reason: String| RawError::File { path: path.to_owned(), reason };
        let file = File::open(path).map_err(|error| fail(error.to_string()))?;
        let bytes = file.metadata().map_err(|error| fail(error.to_string()))?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(fail(format!("{bytes} bytes, at most {FILE_BYTES_MAX} are read as a settings file")));
        }
        let mut found = BTreeMap::new();
        let read = PropertiesIter::new(file).read_into(|key, value| {
            // The last line wins, as in Kafka.
            found.insert(key, value);
        });
        read.map_err(|error| fail(error.to_string()))?;
        for (key, value) in found {
            self.add(key, value, Origin::File(path.to_owned()));
        }
        Ok(())
    }

    /// Adds `KAFKA_…` and `WEIR_…`, below everything that is there already.
    pub fn add_environment(&mut self, variables: impl Iterator<Item = (String, String)>) {
        let mut of_kafka = Vec::new();
        for (name, value) in variables {
            if name == "WEIR_PUBLIC_PORT" {
                self.public_port = Some(value);
            } else if let Some(rest) = name.strip_prefix("WEIR_").filter(|_| !OWN.contains(&name.as_str())) {
                self.add(key_of(rest), value, Origin::Environment(name));
            } else if let Some(rest) = name.strip_prefix("KAFKA_").filter(|_| is_setting(&name)) {
                of_kafka.push((key_of(rest), value, name));
            }
        }
        for (key, value, name) in of_kafka {
            self.add(key, value, Origin::Environment(name));
        }
    }

    /// Adds one `--set key=value`, below the flags.
    pub fn add_set(&mut self, text: &str) -> Result<(), RawError> {
        let bad = || RawError::Set { text: text.to_owned() };
        let (key, value) = text.split_once('=').ok_or_else(bad)?;
        if key.trim().is_empty() {
            return Err(bad());
        }
        // Of two for one key the later one counts.
        self.settings.retain(|known, setting| known != key.trim() || setting.origin != Origin::Set);
        self.add(key.trim().to_owned(), value.to_owned(), Origin::Set);
        Ok(())
    }

    /// Adds what a flag says. Call this first: earlier settings are stronger.
    pub fn add_flag(&mut self, flag: &'static str, key: &str, value: Option<String>) {
        if let Some(value) = value {
            self.add(key.to_owned(), value, Origin::Flag(flag));
        }
    }

    fn add(&mut self, key: String, value: String, origin: Origin) {
        self.settings.entry(key).or_insert(Setting { value, origin });
    }
}

fn is_setting(name: &str) -> bool {
    !NOT_SETTINGS.contains(&name) && !NOT_SETTINGS_PREFIX.iter().any(|prefix| name.starts_with(prefix))
}

/// `LOG_RETENTION_MS` as Kafka's image maps it: `_` is a dot, `__` an underscore, `___` a dash.
fn key_of(variable: &str) -> String {
    let mut key = String::with_capacity(variable.len());
    let mut rest = variable;
    while let Some(at) = rest.find('_') {
        let (before, from) = rest.split_at(at);
        key.push_str(&before.to_ascii_lowercase());
        let run = from.bytes().take_while(|byte| *byte == b'_').take(3).count();
        key.push(match run {
            1 => '.',
            2 => '_',
            _ => '-',
        });
        rest = from.get(run..).unwrap_or_default();
    }
    key.push_str(&rest.to_ascii_lowercase());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(raw: &'a Raw, key: &str) -> Option<&'a str> {
        raw.settings.get(key).map(|setting| setting.value.as_str())
    }

    fn variables(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn variables_become_keys_as_in_kafkas_image() {
        assert_eq!(key_of("LOG_RETENTION_MS"), "log.retention.ms");
        assert_eq!(key_of("A__B___C_D"), "a_b-c.d");
    }

    #[test]
    fn flags_beat_sets_beat_our_variables_beat_kafkas_beat_the_file() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), "a=file\nb=file\nc=file\nd=file\ne=file\ne=later\n").expect("written");
        let mut raw = Raw::default();
        raw.add_flag("--a", "a", Some("flag".to_owned()));
        for text in ["a=set", "b=first", "b=set"] {
            raw.add_set(text).expect("key=value");
        }
        raw.add_environment(variables(&[
            ("KAFKA_C", "kafka"),
            ("WEIR_C", "weir"),
            ("KAFKA_D", "kafka"),
            ("WEIR_A", "weir"),
        ]));
        raw.add_file(file.path()).expect("readable");
        let got = ["a", "b", "c", "d", "e"].map(|key| value(&raw, key).expect("set"));
        assert_eq!(got, ["flag", "set", "weir", "kafka", "later"]);
    }

    #[test]
    fn variables_of_start_scripts_are_no_settings() {
        let mut raw = Raw::default();
        raw.add_environment(variables(&[
            ("KAFKA_HEAP_OPTS", "-Xmx1g"),
            ("KAFKA_LOG4J_ROOT_LOGLEVEL", "INFO"),
            ("WEIR_LOG", "debug"),
            ("PATH", "/bin"),
        ]));
        assert_eq!(raw.settings.len(), 0);
    }

    #[test]
    fn a_set_without_a_value_is_refused() {
        assert!(Raw::default().add_set("log.retention.hours").is_err());
        assert!(Raw::default().add_set("=1").is_err());
    }
}
