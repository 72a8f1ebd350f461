//! The length check: a walk over a message that must succeed before any decoder sees it.
//!
//! Decoders reserve memory for the counts that a sender claims: 12 bytes of a Produce body can ask for 206 GB. So
//! each count and length is compared with what is left of the frame first. Owns that walk. Does not own the meaning
//! of fields, nor record batches, which are bytes here.
//! Invariants: no allocation; the work is linear in the frame; an accepted body is decoded without an error.

use thiserror::Error;

use super::primitives::{VarintError, read_varint};
use super::tables::{Direction, Field, Kind, Message, NO_TAG, Struct};

/// Most elements in one array, as Kafka 4.4 has it.
pub const ARRAY_ELEMENTS_MAX: u32 = 1_000_000;
/// Most elements of all arrays of a request together plus its tagged fields. A decoder makes a value of up to 160 bytes
/// from an element of a few, so this bounds what a stranger's request costs, to about 64 MB.
pub const REQUEST_ELEMENTS_MAX: u32 = 400_000;
/// The same for responses, which we read as clients of servers that we chose: Metadata of 500,000 partitions.
pub const RESPONSE_ELEMENTS_MAX: u32 = 5_000_000;
/// Most tagged fields in one struct, as Kafka 4.4 has it.
pub const TAGGED_FIELDS_MAX: u32 = 10_000;
/// Longest string: Kafka writes lengths of 16 bits with a sign, and compact ones are held to the same.
pub const STRING_BYTES_MAX: usize = 32_767;
/// What an unknown tagged field counts more than an element: it is kept in a map, whose first node is 400 bytes.
const UNKNOWN_TAG_ELEMENTS: u32 = 8;

const _: () = {
    // A single array or struct at its own limit must not be refused for the sum.
    assert!(ARRAY_ELEMENTS_MAX <= RESPONSE_ELEMENTS_MAX);
    assert!(TAGGED_FIELDS_MAX * (1 + UNKNOWN_TAG_ELEMENTS) <= REQUEST_ELEMENTS_MAX);
};

/// Name used in errors where no field is known: the tagged fields of a struct.
const TAGS: &str = "tagged fields";

/// Why a message was refused. `at` counts bytes from the start of the body.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CheckError {
    #[error("{message} has no version {version}, only {min} to {max}")]
    UnknownVersion { message: &'static str, version: i16, min: i16, max: i16 },
    #[error("{field} at byte {at} needs {needed} bytes and {left} are left")]
    Truncated { field: &'static str, at: usize, needed: usize, left: usize },
    #[error("{field} at byte {at} has length {got}")]
    NegativeLength { field: &'static str, at: usize, got: i32 },
    #[error("{field} at byte {at} is null and may not be")]
    Null { field: &'static str, at: usize },
    #[error("{field} at byte {at} has a varint of more than 32 bits")]
    OverlongVarint { field: &'static str, at: usize },
    #[error("{field} at byte {at} is a string of {length} bytes, at most {max}")]
    LongString { field: &'static str, at: usize, length: usize, max: usize },
    #[error("{field} at byte {at} is not valid UTF-8")]
    Utf8 { field: &'static str, at: usize },
    #[error("{field} at byte {at} claims {count} elements, at most {max}")]
    TooManyElements { field: &'static str, at: usize, count: u32, max: u32 },
    #[error("{field} at byte {at} claims {count} elements of {element_bytes} bytes or more and {left} bytes are left")]
    ElementsDoNotFit { field: &'static str, at: usize, count: u32, element_bytes: usize, left: usize },
    #[error("{field} at byte {at} brings the message to more than {max} elements")]
    TooMuchWork { field: &'static str, at: usize, max: u32 },
    #[error("{field} at byte {at} has presence marker {got}")]
    Marker { field: &'static str, at: usize, got: u8 },
    #[error("tag {tag} at byte {at} does not follow tag {previous}")]
    TagOrder { at: usize, tag: u32, previous: u32 },
    #[error("{field} at byte {at} has tag {tag}, which version {version} does not have")]
    TagVersion { field: &'static str, at: usize, tag: u32, version: u8 },
    #[error("{field} at byte {at} is {used} bytes and its tag says {claimed}")]
    TagLength { field: &'static str, at: usize, claimed: usize, used: usize },
    #[error("{left} bytes are left after the message at byte {at}")]
    TrailingBytes { at: usize, left: usize },
}

/// Walks over `body`, which must be exactly one message of `version`.
pub fn check(message: &Message, version: i16, body: &[u8]) -> Result<(), CheckError> {
    let Some(row_version) = message.row_version(version) else {
        let (min, max) = (message.min, message.max);
        return Err(CheckError::UnknownVersion { message: message.name, version, min, max });
    };
    let flexible = message.is_flexible(version);
    let elements_max = match message.direction {
        Direction::Request => REQUEST_ELEMENTS_MAX,
        Direction::Response => RESPONSE_ELEMENTS_MAX,
    };
    let mut walk = Walk { body, at: 0, version: row_version, flexible, elements_max, elements: 0 };
    walk.structure(message.root())?;
    if walk.left() > 0 {
        return Err(CheckError::TrailingBytes { at: walk.at, left: walk.left() });
    }
    Ok(())
}

struct Walk<'a> {
    body: &'a [u8],
    at: usize,
    version: u8,
    flexible: bool,
    elements_max: u32,
    elements: u32,
}

impl Walk<'_> {
    #[inline]
    fn left(&self) -> usize {
        self.body.len() - self.at
    }

    fn structure(&mut self, structure: &Struct) -> Result<(), CheckError> {
        for field in structure.fields() {
            if field.tag == NO_TAG && field.is_in(self.version) {
                self.field(field)?;
            }
        }
        if self.flexible { self.tagged_fields(structure) } else { Ok(()) }
    }

    #[inline]
    fn field(&mut self, field: &Field) -> Result<(), CheckError> {
        if field.array {
            return self.array(field);
        }
        self.value(field, field.is_nullable(self.version))
    }

    #[inline]
    fn value(&mut self, field: &Field, nullable: bool) -> Result<(), CheckError> {
        if let Some(bytes) = field.kind.fixed_bytes() {
            return self.skip(field, bytes);
        }
        match field.kind {
            Kind::String => self.string(field, nullable),
            Kind::Struct if nullable => self.nullable_structure(field),
            Kind::Struct => self.structure(field.of()),
            _ => self.bytes(field, nullable),
        }
    }

    #[inline]
    fn skip(&mut self, field: &Field, bytes: usize) -> Result<(), CheckError> {
        let left = self.left();
        if bytes > left {
            return Err(CheckError::Truncated { field: field.name(), at: self.at, needed: bytes, left });
        }
        self.at += bytes;
        Ok(())
    }

    fn nullable_structure(&mut self, field: &Field) -> Result<(), CheckError> {
        let at = self.at;
        self.skip(field, 1)?;
        match self.body.get(at).copied() {
            Some(0xff) => Ok(()),
            Some(1) => self.structure(field.of()),
            got => Err(CheckError::Marker { field: field.name(), at, got: got.unwrap_or_default() }),
        }
    }

    fn string(&mut self, field: &Field, nullable: bool) -> Result<(), CheckError> {
        let at = self.at;
        let length = if self.flexible { self.compact_length(field)? } else { self.short_length(field)? };
        let Some(length) = length else {
            return if nullable { Ok(()) } else { Err(CheckError::Null { field: field.name(), at }) };
        };
        if length > STRING_BYTES_MAX {
            return Err(CheckError::LongString { field: field.name(), at, length, max: STRING_BYTES_MAX });
        }
        let start = self.at;
        self.skip(field, length)?;
        let text = self.body.get(start..self.at).unwrap_or_default();
        match std::str::from_utf8(text) {
            Ok(_) => Ok(()),
            Err(error) => Err(CheckError::Utf8 { field: field.name(), at: start + error.valid_up_to() }),
        }
    }

    fn bytes(&mut self, field: &Field, nullable: bool) -> Result<(), CheckError> {
        let at = self.at;
        let length = if self.flexible { self.compact_length(field)? } else { self.long_length(field)? };
        match length {
            Some(length) => self.skip(field, length),
            None if nullable => Ok(()),
            None => Err(CheckError::Null { field: field.name(), at }),
        }
    }

    fn array(&mut self, field: &Field) -> Result<(), CheckError> {
        let at = self.at;
        let count = if self.flexible { self.compact_length(field)? } else { self.long_length(field)? };
        let Some(elements) = count else {
            let nullable = field.is_nullable(self.version);
            return if nullable { Ok(()) } else { Err(CheckError::Null { field: field.name(), at }) };
        };
        let count = u32::try_from(elements).expect("it came from 32 bits");
        if count > ARRAY_ELEMENTS_MAX {
            return Err(CheckError::TooManyElements { field: field.name(), at, count, max: ARRAY_ELEMENTS_MAX });
        }
        let element_bytes = element_bytes_min(field, self.version, self.flexible);
        let left = self.left();
        if elements.checked_mul(element_bytes).is_none_or(|bytes| bytes > left) {
            return Err(CheckError::ElementsDoNotFit { field: field.name(), at, count, element_bytes, left });
        }
        self.spend(field.name(), at, count)?;
        if let Some(bytes) = field.kind.fixed_bytes() {
            // It fits: `element_bytes` is the whole of such an element.
            return self.skip(field, bytes * elements);
        }
        for _ in 0..elements {
            self.value(field, false)?;
        }
        Ok(())
    }

    fn tagged_fields(&mut self, structure: &Struct) -> Result<(), CheckError> {
        let at = self.at;
        let count = self.varint(TAGS)?;
        if count == 0 {
            return Ok(());
        }
        if count > TAGGED_FIELDS_MAX {
            return Err(CheckError::TooManyElements { field: TAGS, at, count, max: TAGGED_FIELDS_MAX });
        }
        self.spend(TAGS, at, count)?;
        let mut previous = None;
        for _ in 0..count {
            let tag_at = self.at;
            let tag = self.varint(TAGS)?;
            if let Some(previous) = previous.filter(|previous| tag <= *previous) {
                return Err(CheckError::TagOrder { at: tag_at, tag, previous });
            }
            previous = Some(tag);
            self.tagged_field(structure, tag)?;
        }
        Ok(())
    }

    fn tagged_field(&mut self, structure: &Struct, tag: u32) -> Result<(), CheckError> {
        let claimed = self.varint(TAGS)?;
        let claimed = usize::try_from(claimed).unwrap_or(usize::MAX);
        let (at, left) = (self.at, self.left());
        let known = structure.tagged(tag, self.version);
        if claimed > left {
            let field = known.map_or(TAGS, Field::name);
            return Err(CheckError::Truncated { field, at, needed: claimed, left });
        }
        let Some(field) = known else {
            // As Kafka does: an unknown tag is from the future, but a tag of a later version is a mistake.
            if let Some(field) = structure.tagged_ever(tag) {
                return Err(CheckError::TagVersion { field: field.name(), at, tag, version: self.version });
            }
            self.at += claimed;
            return self.spend(TAGS, at, UNKNOWN_TAG_ELEMENTS);
        };
        self.field(field)?;
        let used = self.at - at;
        if used != claimed {
            return Err(CheckError::TagLength { field: field.name(), at, claimed, used });
        }
        Ok(())
    }

    fn spend(&mut self, field: &'static str, at: usize, elements: u32) -> Result<(), CheckError> {
        self.elements = self.elements.saturating_add(elements);
        let max = self.elements_max;
        if self.elements > max { Err(CheckError::TooMuchWork { field, at, max }) } else { Ok(()) }
    }

    #[inline]
    fn varint(&mut self, field: &'static str) -> Result<u32, CheckError> {
        let at = self.at;
        read_varint(self.body, &mut self.at).map_err(|error| match error {
            VarintError::Truncated => {
                CheckError::Truncated { field, at, needed: self.body.len() - at + 1, left: self.body.len() - at }
            }
            VarintError::Overlong => CheckError::OverlongVarint { field, at },
        })
    }

    /// A length in a flexible version: one more than the value, zero is null.
    #[inline]
    fn compact_length(&mut self, field: &Field) -> Result<Option<usize>, CheckError> {
        let at = self.at;
        match read_varint(self.body, &mut self.at) {
            Ok(0) => Ok(None),
            Ok(length) => Ok(Some(usize::try_from(length - 1).unwrap_or(usize::MAX))),
            Err(VarintError::Truncated) => {
                let left = self.left();
                Err(CheckError::Truncated { field: field.name(), at, needed: left + 1, left })
            }
            Err(VarintError::Overlong) => Err(CheckError::OverlongVarint { field: field.name(), at }),
        }
    }

    fn short_length(&mut self, field: &Field) -> Result<Option<usize>, CheckError> {
        let at = self.at;
        self.skip(field, 2)?;
        let raw = self.body.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map_or(0, i16::from_be_bytes);
        non_negative(field, at, i32::from(raw))
    }

    fn long_length(&mut self, field: &Field) -> Result<Option<usize>, CheckError> {
        let at = self.at;
        self.skip(field, 4)?;
        let raw = self.body.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_be_bytes);
        non_negative(field, at, raw)
    }
}

fn non_negative(field: &Field, at: usize, raw: i32) -> Result<Option<usize>, CheckError> {
    match usize::try_from(raw) {
        Ok(length) => Ok(Some(length)),
        Err(_) if raw == -1 => Ok(None),
        Err(_) => Err(CheckError::NegativeLength { field: field.name(), at, got: raw }),
    }
}

/// The fewest bytes that one element of an array takes; at least one, so that a count is bounded by the frame.
fn element_bytes_min(field: &Field, version: u8, flexible: bool) -> usize {
    value_bytes_min(field, false, version, flexible).max(1)
}

fn value_bytes_min(field: &Field, nullable: bool, version: u8, flexible: bool) -> usize {
    if let Some(bytes) = field.kind.fixed_bytes() {
        return bytes;
    }
    match field.kind {
        Kind::Struct if nullable => 1,
        Kind::Struct => {
            let fields = field.of().fields().iter().filter(|field| field.tag == NO_TAG && field.is_in(version));
            let sum: usize = fields.map(|field| field_bytes_min(field, version, flexible)).sum();
            sum + usize::from(flexible) // the count of tagged fields
        }
        _ if flexible => 1,
        Kind::String => 2,
        _ => 4,
    }
}

fn field_bytes_min(field: &Field, version: u8, flexible: bool) -> usize {
    match (field.array, flexible) {
        (true, true) => 1,
        (true, false) => 4,
        (false, _) => value_bytes_min(field, field.is_nullable(version), version, flexible),
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
