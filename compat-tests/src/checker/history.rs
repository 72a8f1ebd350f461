//! A history: what clients did and saw, one JSON object a line, and its form in memory.
//!
//! | line | fields |
//! | --- | --- |
//! | `send` | `p` producer, `n` its number, `k` partition as TOPIC-NUMBER, `t0`, `t1`, `e` `ok` with offset `o`, or `info`: nobody knows |
//! | `poll`, `final` | `p`, `k`, `t0`, `t1`, `rs`: rows of offset and value `PRODUCER:NUMBER`; `final` is the reading of everything at the end |
//! | `assign` | `p` begins anew to poll from wherever it likes |
//! | `marks` | `p`, `k`, `t0`, `t1`, `lo`, `hi`: the ends as a client was told them |
//! | `end` | `k`, `hi`: the high watermark up to which `final` read, and below which replicas are compared |
//! | `replica` | `node`, `k`: this node holds a copy |
//! | `batch` | `node`, `k`, `o` first and `l` last offset, `ep` leader epoch, `h` hash of the bytes |
//! | `trouble` | `p`, `why`: an error that a client should not have met |
//! | `nemesis` | `t1`, `what`: for the reader of a report |
//!
//! Times are nanoseconds of one monotonic clock. Invariant: a line that is none of these is an error, never passed over.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use thiserror::Error;

/// A name that occurs often, as its place in `History::names`.
pub type Name = u32;

/// `PRODUCER:NUMBER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value {
    pub producer: Name,
    pub number: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send {
    pub value: Value,
    pub key: Name,
    pub begun: u64,
    pub ended: u64,
    /// Nothing when it is not known whether it was written.
    pub offset: Option<i64>,
}

/// What one call gave one consumer of one partition; no rows: it was assigned anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poll {
    pub process: Name,
    pub key: Name,
    pub ended: u64,
    pub rows: Vec<(i64, Value)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    pub process: Name,
    pub key: Name,
    pub begun: u64,
    pub ended: u64,
    pub low: i64,
    pub high: i64,
}

/// One batch on one node; `hash` is FNV-1a of all its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub first: i64,
    pub last: i64,
    pub epoch: i32,
    pub hash: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    names: Vec<String>,
    numbers: BTreeMap<String, Name>,
    pub sends: Vec<Send>,
    /// In the order of each process's lines.
    pub polls: Vec<Poll>,
    pub marks: Vec<Marks>,
    /// The last reading: rows of each partition in the order in which they came.
    pub finals: BTreeMap<Name, Vec<(i64, Value)>>,
    pub ends: BTreeMap<Name, i64>,
    /// Partition, node, its batches.
    pub replicas: BTreeMap<(Name, u32), Vec<Batch>>,
    pub troubles: Vec<String>,
    pub nemesis: Vec<(u64, String)>,
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum ParseError {
    #[error("line {line} is no JSON object")]
    NoObject { line: usize },
    #[error("line {line} has no usable field {field:?}")]
    Field { line: usize, field: &'static str },
    #[error("line {line} is of kind {kind:?}, which no history has")]
    Kind { line: usize, kind: String },
    #[error("line {line} holds the value {value:?}, which is not PRODUCER:NUMBER")]
    Value { line: usize, value: String },
}

/// One line while it is read.
struct Line<'a> {
    number: usize,
    object: &'a Json,
}

impl Line<'_> {
    fn field(&self, field: &'static str) -> Result<&Json, ParseError> {
        self.object.get(field).ok_or(ParseError::Field { line: self.number, field })
    }

    fn text(&self, field: &'static str) -> Result<&str, ParseError> {
        self.field(field)?.as_str().ok_or(ParseError::Field { line: self.number, field })
    }

    fn signed(&self, field: &'static str) -> Result<i64, ParseError> {
        self.field(field)?.as_i64().ok_or(ParseError::Field { line: self.number, field })
    }

    fn unsigned(&self, field: &'static str) -> Result<u64, ParseError> {
        self.field(field)?.as_u64().ok_or(ParseError::Field { line: self.number, field })
    }
}

impl History {
    /// The same number for the same name.
    pub fn name(&mut self, text: &str) -> Name {
        if let Some(known) = self.numbers.get(text) {
            return *known;
        }
        let number = u32::try_from(self.names.len()).expect("fewer than 2^32 processes and partitions");
        self.names.push(text.to_owned());
        self.numbers.insert(text.to_owned(), number);
        number
    }

    pub fn text(&self, name: Name) -> &str {
        self.names.get(usize::try_from(name).unwrap_or(usize::MAX)).map_or("?", String::as_str)
    }

    pub fn show(&self, value: Value) -> String {
        format!("{}:{}", self.text(value.producer), value.number)
    }

    /// Adds the lines of one file; a last line without its end was cut off with its process and is left out.
    pub fn add(&mut self, text: &str) -> Result<(), ParseError> {
        let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
        for (at, line) in whole.lines().enumerate() {
            let number = at + 1;
            let object: Json = serde_json::from_str(line).map_err(|_| ParseError::NoObject { line: number })?;
            self.add_line(&Line { number, object: &object })?;
        }
        Ok(())
    }

    fn add_line(&mut self, line: &Line<'_>) -> Result<(), ParseError> {
        match line.text("f")? {
            "send" => self.add_send(line),
            "poll" | "final" => self.add_rows(line),
            "assign" => {
                let process = self.name(line.text("p")?);
                self.polls.push(Poll { process, key: process, ended: line.unsigned("t1")?, rows: Vec::new() });
                Ok(())
            }
            "marks" => {
                let (process, key) = (self.name(line.text("p")?), self.name(line.text("k")?));
                let (begun, ended) = (line.unsigned("t0")?, line.unsigned("t1")?);
                let (low, high) = (line.signed("lo")?, line.signed("hi")?);
                self.marks.push(Marks { process, key, begun, ended, low, high });
                Ok(())
            }
            "end" => {
                let key = self.name(line.text("k")?);
                self.ends.insert(key, line.signed("hi")?);
                Ok(())
            }
            "replica" => {
                self.replica(line)?;
                Ok(())
            }
            "batch" => {
                let field = |field| move |_| ParseError::Field { line: line.number, field };
                let epoch = i32::try_from(line.signed("ep")?).map_err(field("ep"))?;
                let (first, last, hash) = (line.signed("o")?, line.signed("l")?, line.unsigned("h")?);
                self.replica(line)?.push(Batch { first, last, epoch, hash });
                Ok(())
            }
            "trouble" => {
                self.troubles.push(format!("{}: {}", line.text("p")?, line.text("why")?));
                Ok(())
            }
            "nemesis" => {
                self.nemesis.push((line.unsigned("t1")?, line.text("what")?.to_owned()));
                Ok(())
            }
            kind => Err(ParseError::Kind { line: line.number, kind: kind.to_owned() }),
        }
    }

    fn replica(&mut self, line: &Line<'_>) -> Result<&mut Vec<Batch>, ParseError> {
        let key = self.name(line.text("k")?);
        let node = u32::try_from(line.unsigned("node")?)
            .map_err(|_| ParseError::Field { line: line.number, field: "node" })?;
        Ok(self.replicas.entry((key, node)).or_default())
    }

    fn add_send(&mut self, line: &Line<'_>) -> Result<(), ParseError> {
        let (producer, key) = (self.name(line.text("p")?), self.name(line.text("k")?));
        let offset = match line.text("e")? {
            "ok" => Some(line.signed("o")?),
            "info" => None,
            _ => return Err(ParseError::Field { line: line.number, field: "e" }),
        };
        let value = Value { producer, number: line.unsigned("n")? };
        self.sends.push(Send { value, key, begun: line.unsigned("t0")?, ended: line.unsigned("t1")?, offset });
        Ok(())
    }

    fn add_rows(&mut self, line: &Line<'_>) -> Result<(), ParseError> {
        let (process, key, ended) = (self.name(line.text("p")?), self.name(line.text("k")?), line.unsigned("t1")?);
        let wrong = || ParseError::Field { line: line.number, field: "rs" };
        let mut rows = Vec::new();
        for row in line.field("rs")?.as_array().ok_or_else(wrong)? {
            let offset = row.get(0).and_then(Json::as_i64).ok_or_else(wrong)?;
            let text = row.get(1).and_then(Json::as_str).ok_or_else(wrong)?;
            let value = text.rsplit_once(':').and_then(|(name, number)| Some((name, number.parse().ok()?)));
            let (name, number) =
                value.ok_or_else(|| ParseError::Value { line: line.number, value: text.to_owned() })?;
            rows.push((offset, Value { producer: self.name(name), number }));
        }
        if line.text("f")? == "final" {
            self.finals.entry(key).or_default().extend(rows);
        } else if !rows.is_empty() {
            self.polls.push(Poll { process, key, ended, rows });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_off_is_left_out_and_a_strange_one_is_refused() {
        let mut history = History::default();
        let send = r#"{"f":"send","p":"a","n":1,"k":"t-0","t0":1,"t1":2,"e":"ok","o":5}"#;
        history.add(&format!("{send}\n{}", &send[..20])).unwrap();
        assert_eq!(history.sends.len(), 1);
        assert_eq!(history.sends[0].offset, Some(5));
        let strange = history.add("{\"f\":\"dream\"}\n");
        assert_eq!(strange, Err(ParseError::Kind { line: 1, kind: "dream".into() }));
        let no_number = history.add("{\"f\":\"final\",\"p\":\"r\",\"k\":\"t-0\",\"t1\":1,\"rs\":[[0,\"hello\"]]}\n");
        assert_eq!(no_number, Err(ParseError::Value { line: 1, value: "hello".into() }));
    }
}
