//! Any message of Kafka 4.4 to and from a tree of values, driven by the field tables.
//!
//! Owns both directions. Does not own the safety of decoding: `check` walks over the body first, so that a decoder
//! here may trust counts. Invariant: what was decoded encodes to the same bytes, as Kafka itself writes them.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use thiserror::Error;

use super::check::{CheckError, check};
use super::primitives::{Cursor, put_varint};
use super::tables::{DefaultValue, Field, Kind, Message, NO_TAG, Struct};
use super::value::{Fields, Value};

/// Why a body has no tree.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    #[error(transparent)]
    Check(#[from] CheckError),
    /// The check and the decoder read the same bytes differently: a fault of this folder, not of the sender.
    #[error("{message} version {version} passed the check and could not be decoded")]
    Disagreement { message: &'static str, version: i16 },
}

/// Why a tree is not a message.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EncodeError {
    #[error("{message} has no version {version}, only {min} to {max}")]
    UnknownVersion { message: &'static str, version: i16, min: i16, max: i16 },
    #[error("the struct of {inside} has no field {name} in version {version}")]
    UnknownField { inside: &'static str, name: &'static str, version: u8 },
    #[error("{field} must be {expected:?} and is {got}")]
    Mismatch { field: &'static str, expected: Kind, got: &'static str },
    #[error("{field} may not be null in version {version}")]
    Null { field: &'static str, version: u8 },
    #[error("{field} is {got}, outside of {expected:?}")]
    Range { field: &'static str, expected: Kind, got: i64 },
    #[error("{field} has {got} bytes or elements, more than its length can say")]
    Length { field: &'static str, got: usize },
    #[error("unknown tag {tag} of the struct of {inside} does not follow tag {previous}")]
    TagOrder { inside: &'static str, tag: u32, previous: u32 },
}

/// Checks and decodes a body. Values are slices of it; a struct holds exactly the fields that `version` has, and
/// those tagged fields that were sent.
pub fn decode(message: &Message, version: i16, body: Bytes) -> Result<Fields, DecodeError> {
    check(message, version, &body)?;
    let disagreement = DecodeError::Disagreement { message: message.name, version };
    let Some(row_version) = message.row_version(version) else { return Err(disagreement) };
    let mut reader = Reader { cursor: Cursor::new(body), version: row_version, flexible: message.is_flexible(version) };
    reader.structure(message.root()).ok_or(disagreement)
}

/// Encodes a tree as the body of `message`. Fields that the tree leaves out get their defaults; tagged ones that it
/// leaves out are not sent.
pub fn encode(message: &Message, version: i16, fields: &Fields) -> Result<Bytes, EncodeError> {
    let Some(row_version) = message.row_version(version) else {
        let (min, max) = (message.min, message.max);
        return Err(EncodeError::UnknownVersion { message: message.name, version, min, max });
    };
    let mut writer = Writer { out: BytesMut::new(), version: row_version, flexible: message.is_flexible(version) };
    writer.structure(message.name, message.root(), fields)?;
    Ok(writer.out.freeze())
}

/// Gives none where the check should have refused the body.
struct Reader {
    cursor: Cursor,
    version: u8,
    flexible: bool,
}

impl Reader {
    fn structure(&mut self, structure: &'static Struct) -> Option<Fields> {
        let mut fields = Fields::with_capacity(structure.fields().len());
        for field in structure.fields() {
            if field.tag == NO_TAG && field.is_in(self.version) {
                let value = self.field(field)?;
                fields.push(field.name(), value);
            }
        }
        if !self.flexible {
            return Some(fields);
        }
        for _ in 0..self.cursor.varint()? {
            let tag = self.cursor.varint()?;
            let bytes = usize::try_from(self.cursor.varint()?).ok()?;
            match structure.tagged(tag, self.version) {
                Some(field) => {
                    let value = self.field(field)?;
                    fields.push(field.name(), value);
                }
                None => {
                    let raw = self.cursor.slice(bytes)?;
                    fields.unknown_tags.push((tag, raw));
                }
            }
        }
        Some(fields)
    }

    fn field(&mut self, field: &'static Field) -> Option<Value> {
        if !field.array {
            return self.value(field, field.is_nullable(self.version));
        }
        let Some(count) = self.long_length()? else { return Some(Value::Null) };
        let mut values = Vec::with_capacity(count);
        for _ in 0..count {
            values.push(self.value(field, false)?);
        }
        Some(Value::Array(values))
    }

    fn value(&mut self, field: &'static Field, nullable: bool) -> Option<Value> {
        Some(match field.kind {
            Kind::Bool => Value::Bool(self.cursor.u8()? != 0),
            Kind::Int8 => Value::Int(i8::from_be_bytes(self.cursor.array()?).into()),
            Kind::Int16 => Value::Int(self.cursor.i16()?.into()),
            Kind::Uint16 => Value::Int(u16::from_be_bytes(self.cursor.array()?).into()),
            Kind::Int32 => Value::Int(self.cursor.i32()?.into()),
            Kind::Uint32 => Value::Int(u32::from_be_bytes(self.cursor.array()?).into()),
            Kind::Int64 => Value::Int(self.cursor.i64()?),
            Kind::Float64 => Value::Float(f64::from_be_bytes(self.cursor.array()?)),
            Kind::Uuid => Value::Uuid(self.cursor.array()?),
            Kind::String => match self.string_length()? {
                None => Value::Null,
                Some(length) => Value::Text(StrBytes::from_utf8(self.cursor.slice(length)?).ok()?),
            },
            Kind::Bytes | Kind::Records => match self.long_length()? {
                None => Value::Null,
                Some(length) => Value::Bytes(self.cursor.slice(length)?),
            },
            Kind::Struct if nullable && self.cursor.u8()? != 1 => Value::Null,
            Kind::Struct => Value::Struct(self.structure(field.of())?),
        })
    }

    fn string_length(&mut self) -> Option<Option<usize>> {
        if self.flexible {
            return self.cursor.compact_length();
        }
        self.cursor.i16().map(|length| usize::try_from(length).ok())
    }

    fn long_length(&mut self) -> Option<Option<usize>> {
        if self.flexible {
            return self.cursor.compact_length();
        }
        self.cursor.i32().map(|length| usize::try_from(length).ok())
    }
}

struct Writer {
    out: BytesMut,
    version: u8,
    flexible: bool,
}

impl Writer {
    fn structure(&mut self, inside: &'static str, structure: &Struct, fields: &Fields) -> Result<(), EncodeError> {
        for (name, _) in fields.iter() {
            let known = structure.fields().iter().any(|field| field.is_in(self.version) && field.name() == name);
            if !known {
                return Err(EncodeError::UnknownField { inside, name, version: self.version });
            }
        }
        for field in structure.fields() {
            if field.tag == NO_TAG && field.is_in(self.version) {
                match fields.get(field.name()) {
                    Some(value) => self.field(field, value)?,
                    None => self.default(field)?,
                }
            }
        }
        if self.flexible { self.tagged_fields(inside, structure, fields) } else { Ok(()) }
    }

    fn tagged_fields(&mut self, inside: &'static str, structure: &Struct, fields: &Fields) -> Result<(), EncodeError> {
        let mut tags = Vec::new();
        for field in structure.fields().iter().filter(|field| field.tag != NO_TAG && field.is_in(self.version)) {
            if let Some(value) = fields.get(field.name()) {
                let mut inner = Writer { out: BytesMut::new(), version: self.version, flexible: self.flexible };
                inner.field(field, value)?;
                tags.push((u32::from(field.tag), inner.out.freeze()));
            }
        }
        tags.extend(fields.unknown_tags.iter().cloned());
        tags.sort_by_key(|(tag, _)| *tag);
        self.length(inside, tags.len())?;
        let mut previous = None;
        for (tag, bytes) in tags {
            if let Some(previous) = previous.filter(|previous| tag <= *previous) {
                return Err(EncodeError::TagOrder { inside, tag, previous });
            }
            previous = Some(tag);
            put_varint(&mut self.out, tag);
            self.length(inside, bytes.len())?;
            self.out.put_slice(&bytes);
        }
        Ok(())
    }

    fn field(&mut self, field: &Field, value: &Value) -> Result<(), EncodeError> {
        let name = field.name();
        if !field.array {
            return self.value(field, value, field.is_nullable(self.version));
        }
        match value {
            Value::Array(values) => {
                self.long_length(name, values.len())?;
                values.iter().try_for_each(|value| self.value(field, value, false))
            }
            Value::Null if field.is_nullable(self.version) => {
                self.null_long();
                Ok(())
            }
            Value::Null => Err(EncodeError::Null { field: name, version: self.version }),
            other => Err(EncodeError::Mismatch { field: name, expected: field.kind, got: other.what() }),
        }
    }

    fn value(&mut self, field: &Field, value: &Value, nullable: bool) -> Result<(), EncodeError> {
        let name = field.name();
        match (field.kind, value) {
            (Kind::Bool, Value::Bool(bool)) => self.out.put_u8(u8::from(*bool)),
            (Kind::Float64, Value::Float(float)) => self.out.put_f64(*float),
            (Kind::Uuid, Value::Uuid(uuid)) => self.out.put_slice(uuid),
            (Kind::String, Value::Text(text)) => {
                self.string_length(name, text.len())?;
                self.out.put_slice(text.as_bytes());
            }
            (Kind::Bytes | Kind::Records, Value::Bytes(bytes)) => {
                self.long_length(name, bytes.len())?;
                self.out.put_slice(bytes);
            }
            (Kind::Struct, Value::Struct(fields)) => {
                if nullable {
                    self.out.put_u8(1);
                }
                self.structure(name, field.of(), fields)?;
            }
            (_, Value::Int(int)) => self.int(field, *int)?,
            (_, Value::Null) if nullable => self.null(field.kind),
            (_, Value::Null) => return Err(EncodeError::Null { field: name, version: self.version }),
            (expected, other) => return Err(EncodeError::Mismatch { field: name, expected, got: other.what() }),
        }
        Ok(())
    }

    fn int(&mut self, field: &Field, int: i64) -> Result<(), EncodeError> {
        let range = |_| EncodeError::Range { field: field.name(), expected: field.kind, got: int };
        match field.kind {
            Kind::Int8 => self.out.put_i8(int.try_into().map_err(range)?),
            Kind::Int16 => self.out.put_i16(int.try_into().map_err(range)?),
            Kind::Uint16 => self.out.put_u16(int.try_into().map_err(range)?),
            Kind::Int32 => self.out.put_i32(int.try_into().map_err(range)?),
            Kind::Uint32 => self.out.put_u32(int.try_into().map_err(range)?),
            Kind::Int64 => self.out.put_i64(int),
            expected => {
                return Err(EncodeError::Mismatch { field: field.name(), expected, got: Value::Int(int).what() });
            }
        }
        Ok(())
    }

    fn null(&mut self, kind: Kind) {
        match kind {
            Kind::String if self.flexible => self.out.put_u8(0),
            Kind::String => self.out.put_i16(-1),
            Kind::Struct => self.out.put_i8(-1),
            _ => self.null_long(),
        }
    }

    fn null_long(&mut self) {
        if self.flexible { self.out.put_u8(0) } else { self.out.put_i32(-1) }
    }

    fn default(&mut self, field: &Field) -> Result<(), EncodeError> {
        let default = match field.default() {
            DefaultValue::Null => Value::Null,
            DefaultValue::Zero if field.array => Value::Array(Vec::new()),
            DefaultValue::Int(int) if field.kind == Kind::Bool => Value::Bool(int != 0),
            DefaultValue::Int(int) => Value::Int(int),
            DefaultValue::Zero => match field.kind {
                Kind::Bool => Value::Bool(false),
                Kind::Float64 => Value::Float(0.0),
                Kind::Uuid => Value::Uuid([0; 16]),
                Kind::String => Value::Text(StrBytes::new()),
                Kind::Bytes | Kind::Records => Value::Bytes(Bytes::new()),
                Kind::Struct => Value::Struct(Fields::new()),
                _ => Value::Int(0),
            },
        };
        self.field(field, &default)
    }

    fn string_length(&mut self, field: &'static str, length: usize) -> Result<(), EncodeError> {
        let short = i16::try_from(length).map_err(|_| EncodeError::Length { field, got: length })?;
        if self.flexible {
            return self.length(field, length + 1);
        }
        self.out.put_i16(short);
        Ok(())
    }

    fn long_length(&mut self, field: &'static str, length: usize) -> Result<(), EncodeError> {
        let long = i32::try_from(length).map_err(|_| EncodeError::Length { field, got: length })?;
        if self.flexible {
            return self.length(field, length + 1);
        }
        self.out.put_i32(long);
        Ok(())
    }

    fn length(&mut self, field: &'static str, length: usize) -> Result<(), EncodeError> {
        let length = u32::try_from(length).map_err(|_| EncodeError::Length { field, got: length })?;
        put_varint(&mut self.out, length);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tables::{Direction, message};
    use super::*;

    fn api_versions() -> &'static Message {
        message(18, Direction::Request).expect("ApiVersions")
    }

    #[test]
    fn fields_left_out_get_their_defaults() {
        let fields = Fields::new().with("ClientSoftwareName", Value::text("weir"));
        let body = encode(api_versions(), 5, &fields).expect("valid");
        assert_eq!(&body[..], b"\x05weir\x01\x00\xff\xff\xff\xff\x00");
        let back = decode(api_versions(), 5, body).expect("valid");
        assert_eq!(back.get("ClusterId"), Some(&Value::Null));
        assert_eq!(back.get("NodeId").and_then(Value::as_int), Some(-1));
    }

    #[test]
    fn a_field_that_the_version_does_not_have_is_refused() {
        let fields = Fields::new().with("NodeId", Value::Int(1));
        let error = encode(api_versions(), 4, &fields).expect_err("refused");
        assert_eq!(error, EncodeError::UnknownField { inside: "ApiVersionsRequest", name: "NodeId", version: 4 });
    }

    #[test]
    fn values_outside_of_their_kind_are_refused() {
        let check = |value| encode(api_versions(), 5, &Fields::new().with("NodeId", value)).expect_err("refused");
        let range = EncodeError::Range { field: "NodeId", expected: Kind::Int32, got: 1 << 40 };
        assert_eq!(check(Value::Int(1 << 40)), range);
        assert_eq!(check(Value::Null), EncodeError::Null { field: "NodeId", version: 5 });
        let mismatch = EncodeError::Mismatch { field: "NodeId", expected: Kind::Int32, got: "text" };
        assert_eq!(check(Value::text("1")), mismatch);
    }

    #[test]
    fn unknown_tags_survive() {
        let mut fields = Fields::new();
        fields.unknown_tags.push((7, Bytes::from_static(b"x")));
        let body = encode(api_versions(), 3, &fields).expect("valid");
        let back = decode(api_versions(), 3, body).expect("valid");
        assert_eq!(back.unknown_tags, fields.unknown_tags);
    }
}
