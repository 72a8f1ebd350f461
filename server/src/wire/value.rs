//! A message of any API and version as a tree of named values.
//!
//! Owns the shape of the tree. Does not own its encoding: `codec` does. It serves the versions and APIs for which
//! `kafka-protocol` has no type, and tests; it is not for the hot path.

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;

/// One value. All whole numbers are `Int`: the field's kind bounds them when they are written.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Uuid([u8; 16]),
    Text(StrBytes),
    /// Bytes or record batches: a slice of the frame.
    Bytes(Bytes),
    Array(Vec<Value>),
    Struct(Fields),
}

/// The fields of a struct by their schema names, for example `TransactionalId`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fields {
    entries: Vec<(&'static str, Value)>,
    /// Tagged fields that the tables do not know, in rising order of their tags.
    pub unknown_tags: Vec<(u32, Bytes)>,
}

impl Fields {
    pub fn new() -> Fields {
        Fields::default()
    }

    pub(super) fn with_capacity(fields: usize) -> Fields {
        Fields { entries: Vec::with_capacity(fields), unknown_tags: Vec::new() }
    }

    /// The field's value, or none when the struct does not hold it: its version lacks it, or a tag was left out.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.entries.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Sets a field, in place of an earlier value of that name.
    pub fn set(&mut self, name: &'static str, value: Value) {
        match self.entries.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.entries.push((name, value)),
        }
    }

    /// [`Fields::set`] for building a struct in one expression.
    pub fn with(mut self, name: &'static str, value: Value) -> Fields {
        self.set(name, value);
        self
    }

    pub(super) fn push(&mut self, name: &'static str, value: Value) {
        self.entries.push((name, value));
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.entries.iter().map(|(name, value)| (*name, value))
    }
}

impl Value {
    pub fn text(text: &str) -> Value {
        Value::Text(StrBytes::from_string(text.to_string()))
    }

    pub fn as_int(&self) -> Option<i64> {
        if let Value::Int(int) = self { Some(*int) } else { None }
    }

    /// What this is, for error messages.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a bool",
            Value::Int(_) => "a whole number",
            Value::Float(_) => "a float",
            Value::Uuid(_) => "a uuid",
            Value::Text(_) => "text",
            Value::Bytes(_) => "bytes",
            Value::Array(_) => "an array",
            Value::Struct(_) => "a struct",
        }
    }
}
