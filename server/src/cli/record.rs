//! Records as text and as JSON, in and out.
//!
//! Owns both shapes. Invariant: a record that was written as JSON comes back the same from it, whatever bytes it has: what is no UTF-8 stands
//! as base 64 under a name of its own.
//!
//! ```text
//! {"topic":"t","partition":0,"offset":7,"timestamp":1700000000000,"key":"k","value":"v","headers":[{"name":"n","value":"v"}]}
//! "key_base64", "value_base64", "name_base64" stand in for what is no text; null is a null
//! ```

use std::fmt::Write;

use anyhow::{Context, bail, ensure};
use serde_json::{Map, Value, json};

use super::time;
use crate::client::consumed::Consumed;
use crate::client::produce::NewRecord;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().chain([0, 0].iter()).take(3).fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        for digit in 0..4 {
            let index = usize::try_from(word >> (18 - 6 * digit) & 63).unwrap_or(0);
            let letter = ALPHABET.get(index).copied().unwrap_or(b'=');
            text.push(if digit > chunk.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let (mut word, mut bits, mut bytes) = (0_u32, 0, Vec::new());
    for digit in digits.bytes() {
        let value = ALPHABET.iter().position(|letter| *letter == digit)?;
        word = word << 6 | u32::try_from(value).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits & 0xff).to_le_bytes()[0]);
        }
    }
    Some(bytes)
}

fn put(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(std::str::from_utf8) {
        None => object.insert(name.to_owned(), Value::Null),
        Some(Ok(text)) => object.insert(name.to_owned(), text.into()),
        Some(Err(_)) => object.insert(format!("{name}_base64"), base64(bytes.unwrap_or_default()).into()),
    };
}

/// One line, without its end.
pub fn to_json(topic: &str, partition: i32, record: &Consumed) -> String {
    let mut object = Map::new();
    object.insert("topic".to_owned(), topic.into());
    object.insert("partition".to_owned(), partition.into());
    object.insert("offset".to_owned(), record.offset.into());
    object.insert("timestamp".to_owned(), record.timestamp.into());
    put(&mut object, "key", record.key.as_deref());
    put(&mut object, "value", record.value.as_deref());
    let header = |(name, value): &(Vec<u8>, Option<Vec<u8>>)| {
        let mut header = Map::new();
        put(&mut header, "name", Some(name));
        put(&mut header, "value", value.as_deref());
        Value::Object(header)
    };
    object.insert("headers".to_owned(), record.headers.iter().map(header).collect());
    Value::Object(object).to_string()
}

fn take(object: &Map<String, Value>, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
    if let Some(encoded) = object.get(&format!("{name}_base64")) {
        let text = encoded.as_str().with_context(|| format!("\"{name}_base64\" is no string"))?;
        return from_base64(text).map(Some).with_context(|| format!("\"{name}_base64\" is no base 64"));
    }
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone().into_bytes())),
        // A document in a document: its text is the value.
        Some(other) => Ok(Some(other.to_string().into_bytes())),
    }
}

/// A record from one line. Topic and offset are passed over: a record is written where the command says. Its partition is kept only where
/// `keep_partition` asks for it.
pub fn from_json(line: &str, now_ms: i64, keep_partition: bool) -> anyhow::Result<NewRecord> {
    let value: Value = serde_json::from_str(line).context("no JSON")?;
    let object = value.as_object().context("no JSON object: {\"key\":…,\"value\":…} is expected")?;
    let known = ["topic", "partition", "offset", "timestamp", "key", "key_base64", "value", "value_base64", "headers"];
    if let Some(name) = object.keys().find(|name| !known.contains(&name.as_str())) {
        bail!("\"{name}\" is nothing of a record: {} are", known.join(", "));
    }
    let mut headers = Vec::new();
    for header in object.get("headers").and_then(Value::as_array).into_iter().flatten() {
        let header = header.as_object().context("a header is no object: {\"name\":…,\"value\":…} is expected")?;
        let name = take(header, "name")?.context("a header has no \"name\"")?;
        headers.push((name, take(header, "value")?));
    }
    let timestamp = match object.get("timestamp") {
        None | Some(Value::Null) => now_ms,
        Some(timestamp) => timestamp.as_i64().context("\"timestamp\" is no number of milliseconds since 1970")?,
    };
    let partition = match object.get("partition").filter(|_| keep_partition) {
        None | Some(Value::Null) => None,
        Some(partition) => {
            let number = partition.as_i64().and_then(|number| i32::try_from(number).ok());
            Some(number.context("\"partition\" is no number of a partition")?)
        }
    };
    Ok(NewRecord { key: take(object, "key")?, value: take(object, "value")?, headers, timestamp, partition })
}

/// A format such as `%t/%p %o: %k=%v\n`, checked.
#[derive(Clone, Debug)]
pub struct Format(String);

impl Format {
    /// For clap.
    pub fn parse(text: &str) -> Result<Format, String> {
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            let known = match character {
                '%' => "tpoTdkvhKV%",
                '\\' => "ntr0\\",
                _ => continue,
            };
            let next = characters.next();
            if next.is_none_or(|next| !known.contains(next)) {
                let shown = next.map(String::from).unwrap_or_default();
                return Err(format!(
                    "'{character}{shown}' is nothing; %t topic, %p partition, %o offset, %T time in ms, %d date, %k key, %v value, %h headers, \
                     %K and %V sizes of key and value, %%, \\n, \\t, \\r, \\0 and \\\\ are"
                ));
            }
        }
        Ok(Format(text.to_owned()))
    }

    pub fn put(&self, out: &mut Vec<u8>, topic: &str, partition: i32, record: &Consumed) {
        let mut characters = self.0.chars();
        while let Some(character) = characters.next() {
            match character {
                '%' => put_field(out, characters.next(), topic, partition, record),
                '\\' => out.push(match characters.next() {
                    Some('n') => b'\n',
                    Some('t') => b'\t',
                    Some('r') => b'\r',
                    Some('0') => 0,
                    _ => b'\\',
                }),
                other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }
}

fn put_field(out: &mut Vec<u8>, field: Option<char>, topic: &str, partition: i32, record: &Consumed) {
    let size = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap_or(-1));
    let text = match field {
        Some('k') => return out.extend_from_slice(record.key.as_deref().unwrap_or_default()),
        Some('v') => return out.extend_from_slice(record.value.as_deref().unwrap_or_default()),
        Some('t') => topic.to_owned(),
        Some('p') => partition.to_string(),
        Some('o') => record.offset.to_string(),
        Some('T') => record.timestamp.to_string(),
        Some('d') => time::shown(record.timestamp),
        Some('h') => headers(record),
        Some('K') => size(&record.key).to_string(),
        Some('V') => size(&record.value).to_string(),
        _ => "%".to_owned(),
    };
    out.extend_from_slice(text.as_bytes());
}

/// `name=value,name=value`.
pub fn headers(record: &Consumed) -> String {
    let mut text = String::new();
    for (name, value) in &record.headers {
        let comma = if text.is_empty() { "" } else { "," };
        let value = value.as_deref().map_or("NULL".into(), String::from_utf8_lossy);
        let _ = write!(text, "{comma}{}={value}", String::from_utf8_lossy(name));
    }
    text
}

/// `NAME=VALUE`, for clap.
pub fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("'{text}' is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A record from one line of text.
pub fn from_line(line: &[u8], separator: Option<&str>, now_ms: i64) -> anyhow::Result<NewRecord> {
    let (key, value) = match separator {
        None => (None, line),
        Some(separator) => {
            let wanted = separator.as_bytes();
            ensure!(!wanted.is_empty(), "--key-separator is empty");
            let at = line.windows(wanted.len()).position(|window| window == wanted);
            let at = at.with_context(|| format!("no '{separator}' between key and value"))?;
            let (key, rest) = line.split_at(at);
            (Some(key.to_vec()), rest.get(wanted.len()..).unwrap_or_default())
        }
    };
    Ok(NewRecord { key, value: Some(value.to_vec()), timestamp: now_ms, ..NewRecord::default() })
}

/// What was written, as JSON.
pub fn written_json(topic: &str, runs: &[(i32, Option<i64>, u64)]) -> Value {
    let run = |(partition, first, count): &(i32, Option<i64>, u64)| json!({ "partition": partition, "first_offset": first, "records": count });
    let records: u64 = runs.iter().map(|(_, _, count)| count).sum();
    json!({ "topic": topic, "records": records, "partitions": runs.iter().map(run).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Consumed {
        Consumed {
            offset: 7,
            timestamp: 1000,
            key: Some(vec![0xff, 0, 1]),
            value: Some(b"v\"1".to_vec()),
            headers: vec![(b"n".to_vec(), None), (b"n".to_vec(), Some(vec![0x80]))],
        }
    }

    #[test]
    fn a_record_comes_back_from_json_as_it_was() {
        let record = record();
        let line = to_json("t", 3, &record);
        let back = from_json(&line, 5, true).expect(&line);
        assert_eq!((back.key, back.value, back.headers), (record.key, record.value, record.headers));
        assert_eq!((back.timestamp, back.partition), (1000, Some(3)));
        assert_eq!(from_json("{}", 5, true).expect("empty"), NewRecord { timestamp: 5, ..NewRecord::default() });
        assert_eq!(from_json("{\"value\":{\"a\":1}}", 5, false).expect("nested").value, Some(b"{\"a\":1}".to_vec()));
    }

    #[test]
    fn json_that_is_no_record_is_refused() {
        for line in
            ["", "7", "{\"vlaue\":\"x\"}", "{\"headers\":[1]}", "{\"timestamp\":\"x\"}", "{\"key_base64\":\"?\"}"]
        {
            assert!(from_json(line, 5, true).is_err(), "{line}");
        }
    }

    #[test]
    fn base_64_of_every_length_comes_back() {
        for length in 0..20_u8 {
            let bytes: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(37)).collect();
            assert_eq!(from_base64(&base64(&bytes)), Some(bytes));
        }
        assert_eq!(base64(b"Man."), "TWFuLg==");
    }

    #[test]
    fn formats_name_the_parts_of_a_record() {
        let mut out = Vec::new();
        Format::parse("%t/%p@%o %K %V [%h]\\t%v%%\\n").expect("known").put(&mut out, "t", 3, &record());
        let expected: &[u8] = b"t/3@7 3 3 [n=NULL,n=\xef\xbf\xbd]\tv\"1%\n";
        assert_eq!(out, expected);
        assert!(["%", "%x", "\\", "\\q"].iter().all(|text| Format::parse(text).is_err()));
    }

    #[test]
    fn lines_are_cut_at_the_first_separator() {
        let record = from_line(b"a::b::c", Some("::"), 1).expect("has one");
        assert_eq!((record.key, record.value), (Some(b"a".to_vec()), Some(b"b::c".to_vec())));
        assert!(from_line(b"abc", Some("::"), 1).is_err());
        assert_eq!(from_line(b"abc", None, 1).expect("a value").key, None);
    }
}
