//! Turns Kafka's message schemas into the field tables of `server/src/wire/tables/generated.rs`.
//!
//! Owns reading the schemas and the text of the generated file. Does not own the meaning of a row: that is
//! `server::wire::tables`. Invariant: the same schemas give the same text, byte for byte.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value as Json;

/// Versions are stored in a byte, and this one means "never".
const NEVER: (u8, u8) = (1, 0);
const NO_TAG: u8 = u8::MAX;

/// Everything that the generated file holds, filled while the schemas are read.
#[derive(Default)]
struct Tables {
    names: BTreeMap<String, usize>,
    names_in_order: Vec<String>,
    defaults: Vec<String>,
    fields: Vec<String>,
    structs: Vec<String>,
    requests: BTreeMap<i16, String>,
    responses: BTreeMap<i16, String>,
}

/// One schema file while its structs are laid out.
struct Schema<'a> {
    versions: (u8, u8),
    common: BTreeMap<&'a str, &'a Json>,
    /// Struct name to its place in the table: a common struct is laid out once per message.
    laid_out: BTreeMap<String, usize>,
}

/// Reads each `*Request.json` and `*Response.json` in `folder` and gives the text of the generated file.
pub fn generate(folder: &Path) -> Result<String> {
    let mut tables = Tables { defaults: vec!["DefaultValue::Zero".into()], ..Tables::default() };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("no schemas in {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with("Request.json") || name.ends_with("Response.json") {
            files.push(path);
        }
    }
    files.sort();
    ensure!(files.len() > 100, "only {} schemas in {}", files.len(), folder.display());
    for path in files {
        let text = std::fs::read_to_string(&path)?;
        // The schemas are JSON with comment lines, which JSON does not have.
        let json: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let json: Json = serde_json::from_str(&json).with_context(|| path.display().to_string())?;
        tables.message(&json).with_context(|| path.display().to_string())?;
    }
    Ok(tables.text())
}

impl Tables {
    fn message(&mut self, json: &Json) -> Result<()> {
        let valid = text(json, "validVersions")?;
        if valid == "none" {
            return Ok(()); // an API that Kafka has removed
        }
        let versions = range(valid, (0, u8::MAX - 1))?;
        ensure!(versions.1 < u8::MAX - 1, "open valid versions {valid}");
        let flexible = match json.get("flexibleVersions").and_then(Json::as_str).unwrap_or("none") {
            "none" => "i16::MAX".to_string(),
            some => {
                let (since, until) = range(some, (0, u8::MAX))?;
                ensure!(until == u8::MAX, "flexible versions end: {some}");
                since.to_string()
            }
        };
        let common = match json.get("commonStructs").and_then(Json::as_array) {
            Some(list) => list.iter().map(|json| Ok((text(json, "name")?, json))).collect::<Result<_>>()?,
            None => BTreeMap::new(),
        };
        let mut schema = Schema { versions, common, laid_out: BTreeMap::new() };
        let key = json.get("apiKey").and_then(Json::as_i64).context("no apiKey")?;
        let name = text(json, "name")?;
        let root = self.layout(&mut schema, name, json, versions)?;
        let (min, max) = versions;
        let (direction, rows) = match text(json, "type")? {
            "request" => ("Request", &mut self.requests),
            "response" => ("Response", &mut self.responses),
            other => bail!("message type {other}"),
        };
        let row = format!("m(\"{name}\", {direction}, {key}, [{min}, {max}], {flexible}, {root})");
        let before = rows.insert(i16::try_from(key)?, row);
        ensure!(before.is_none(), "key {key} twice");
        Ok(())
    }

    /// Lays out a struct and, before it, the structs in it, so that a struct only refers to earlier ones.
    fn layout(&mut self, schema: &mut Schema<'_>, name: &str, json: &Json, within: (u8, u8)) -> Result<usize> {
        let mut rows = Vec::new();
        for field in json.get("fields").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default() {
            if let Some(row) = self.field(schema, field, within)? {
                rows.push(row);
            }
        }
        let first = self.fields.len();
        self.fields.append(&mut rows);
        let (place, count) = (self.structs.len(), self.fields.len() - first);
        self.structs.push(format!("s({first}, {count}), // {place} {name}"));
        ensure!(schema.laid_out.insert(name.to_string(), place).is_none(), "struct {name} twice");
        Ok(place)
    }

    /// The row of one field, or none where no valid version has it.
    fn field(&mut self, schema: &mut Schema<'_>, json: &Json, within: (u8, u8)) -> Result<Option<String>> {
        let name = text(json, "name")?;
        let versions = range(text(json, "versions")?, within)?;
        if versions == NEVER {
            return Ok(None);
        }
        let nullable = match json.get("nullableVersions").and_then(Json::as_str) {
            Some(versions) => range(versions, within)?,
            None => NEVER,
        };
        let tag = match json.get("tag").and_then(Json::as_u64) {
            Some(tag) => {
                let tagged = range(text(json, "taggedVersions")?, schema.versions)?;
                ensure!(tagged.0 <= versions.0 && tagged.1 >= versions.1, "{name} is tagged in some versions only");
                u8::try_from(tag).ok().filter(|tag| *tag != NO_TAG).context("tag")?.to_string()
            }
            None => "NO_TAG".into(),
        };
        ensure!(json.get("flexibleVersions").is_none(), "{name} has flexible versions of its own");
        let full = text(json, "type")?;
        let element = full.strip_prefix("[]").unwrap_or(full);
        let array = element.len() != full.len();
        let (kind, of) = match kind(element) {
            Some(kind) => (kind, 0),
            None => ("Struct", self.nested(schema, element, json, versions)?),
        };
        let default = self.default_value(json, kind, array).with_context(|| format!("default of {name}"))?;
        let (since, until) = versions;
        let (null_since, null_until) = nullable;
        let name_at = self.name(name);
        Ok(Some(format!(
            "f({name_at}, {kind}, {array}, {of}, [{since}, {until}], [{null_since}, {null_until}], {tag}, {default}), // {name}"
        )))
    }

    fn nested(&mut self, schema: &mut Schema<'_>, name: &str, field: &Json, versions: (u8, u8)) -> Result<usize> {
        if field.get("fields").is_some() {
            return self.layout(schema, name, field, versions);
        }
        if let Some(place) = schema.laid_out.get(name) {
            return Ok(*place);
        }
        let json = *schema.common.get(name).with_context(|| format!("unknown type {name}"))?;
        let all = schema.versions;
        self.layout(schema, name, json, all)
    }

    fn name(&mut self, name: &str) -> usize {
        let next = self.names.len();
        let place = *self.names.entry(name.to_string()).or_insert(next);
        if place == next {
            self.names_in_order.push(name.to_string());
        }
        place
    }

    fn default_value(&mut self, json: &Json, kind: &str, array: bool) -> Result<usize> {
        let default = match json.get("default") {
            None => return Ok(0),
            Some(Json::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let value = match default.as_str() {
            "null" => "DefaultValue::Null".to_string(),
            "" | "false" | "0" => return Ok(0),
            "true" => "DefaultValue::Int(1)".to_string(),
            _ if array => bail!("array default {default}"),
            text if kind == "String" => bail!("string default {text}"),
            number => {
                let number = match number.strip_prefix("0x") {
                    Some(hex) => i64::from_str_radix(hex, 16)?,
                    None => number.parse()?,
                };
                format!("DefaultValue::Int({number})")
            }
        };
        if let Some(place) = self.defaults.iter().position(|known| *known == value) {
            return Ok(place);
        }
        self.defaults.push(value);
        Ok(self.defaults.len() - 1)
    }

    fn text(&self) -> String {
        let mut out = String::from(
            "//! Generated by `compat-tests/tests/wire_tables.rs` from the schemas in Kafka's client jar. Not edited by hand:\n\
             //! `WEIR_REGENERATE=1 cargo test -p compat-tests --test wire_tables` writes it anew.\n\n\
             use super::Direction::*;\n\
             use super::Kind::*;\n\
             use super::{DefaultValue, Field, Message, NO_TAG, Struct, field as f, message_row as m, structure as s};\n\n",
        );
        list(&mut out, "NAMES", "&str", self.names_in_order.iter().map(|name| format!("{name:?},")));
        list(&mut out, "DEFAULTS", "DefaultValue", self.defaults.iter().map(|value| format!("{value},")));
        list(&mut out, "FIELDS", "Field", self.fields.iter().cloned());
        list(&mut out, "STRUCTS", "Struct", self.structs.iter().cloned());
        list(&mut out, "REQUESTS", "Option<Message>", by_key(&self.requests).into_iter());
        list(&mut out, "RESPONSES", "Option<Message>", by_key(&self.responses).into_iter());
        out
    }
}

fn list(out: &mut String, name: &str, of: &str, rows: impl Iterator<Item = String>) {
    let rows: Vec<String> = rows.collect();
    writeln!(out, "pub(super) static {name}: [{of}; {}] = [", rows.len()).expect("a string takes any text");
    for row in rows {
        writeln!(out, "    {row}").expect("a string takes any text");
    }
    out.push_str("];\n\n");
    if name == "RESPONSES" {
        out.pop();
    }
}

/// Rows at the place of their API key, so that a key is found without a search.
fn by_key(rows: &BTreeMap<i16, String>) -> Vec<String> {
    let last = rows.keys().next_back().copied().unwrap_or(-1);
    (0..=last)
        .map(|key| match rows.get(&key) {
            Some(row) => format!("Some({row}),"),
            None => "None,".into(),
        })
        .collect()
}

fn kind(name: &str) -> Option<&'static str> {
    Some(match name {
        "bool" => "Bool",
        "int8" => "Int8",
        "int16" => "Int16",
        "uint16" => "Uint16",
        "int32" => "Int32",
        "uint32" => "Uint32",
        "int64" => "Int64",
        "float64" => "Float64",
        "uuid" => "Uuid",
        "string" => "String",
        "bytes" => "Bytes",
        "records" => "Records",
        _ => return None,
    })
}

fn text<'a>(json: &'a Json, key: &str) -> Result<&'a str> {
    json.get(key).and_then(Json::as_str).with_context(|| format!("no {key}"))
}

/// `"3+"`, `"3-5"`, `"3"` or `"none"`, cut to what lies `within`.
fn range(text: &str, within: (u8, u8)) -> Result<(u8, u8)> {
    let (since, until) = if text == "none" {
        return Ok(NEVER);
    } else if let Some(since) = text.strip_suffix('+') {
        (since.parse()?, u8::MAX)
    } else if let Some((since, until)) = text.split_once('-') {
        (since.parse()?, until.parse()?)
    } else {
        (text.parse()?, text.parse()?)
    };
    let cut = (std::cmp::max::<u8>(since, within.0), std::cmp::min(until, within.1));
    Ok(if cut.0 <= cut.1 { cut } else { NEVER })
}
