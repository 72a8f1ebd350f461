//! Field tables of every API that Kafka 4.4 has: what is in each version of each request and response.
//!
//! Owns the meaning of a table row and finding a message by its API key. Does not own the rows themselves: they are
//! in `generated.rs`, made from Kafka's schemas. Rows refer to each other by number, not by pointer, so the tables
//! are read-only data of the binary and cost nothing at start.
//! Invariant: a struct only contains structs that stand before it, so every walk over the tables ends.

#[rustfmt::skip]
mod generated;

use generated::{DEFAULTS, FIELDS, NAMES, REQUESTS, RESPONSES, STRUCTS};

/// The `tag` of a field that is not a tagged field.
pub const NO_TAG: u8 = u8::MAX;

/// Versions are stored in a byte.
const VERSION_MAX: i16 = 254;

/// What one value is on the wire, leaving aside whether it is an element of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Uint32,
    Int64,
    Float64,
    Uuid,
    String,
    Bytes,
    /// Record batches: bytes for this layer.
    Records,
    Struct,
}

/// The value of a field that a sender left out or that a version does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// Zero, false, empty, or the struct of defaults.
    Zero,
    Null,
    Int(i64),
}

/// One field of a struct: a row of the tables.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    name: u16,
    of: u16,
    pub kind: Kind,
    /// An array of `kind`.
    pub array: bool,
    versions: [u8; 2],
    nullable: [u8; 2],
    /// Tag number, or [`NO_TAG`].
    pub tag: u8,
    default: u8,
}

/// A run of fields.
#[derive(Clone, Copy, Debug)]
pub struct Struct {
    first: u16,
    count: u16,
}

/// One request or response with all its versions.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    pub name: &'static str,
    pub direction: Direction,
    pub key: i16,
    /// First and last version that Kafka 4.4 knows.
    pub min: i16,
    pub max: i16,
    /// First version with compact lengths and tagged fields; `i16::MAX` when none has them.
    pub flexible_since: i16,
    root: u16,
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Request,
    Response,
}

impl Kind {
    /// Bytes of a value of fixed size, or none.
    #[inline]
    pub fn fixed_bytes(self) -> Option<usize> {
        match self {
            Kind::Bool | Kind::Int8 => Some(1),
            Kind::Int16 | Kind::Uint16 => Some(2),
            Kind::Int32 | Kind::Uint32 => Some(4),
            Kind::Int64 | Kind::Float64 => Some(8),
            Kind::Uuid => Some(16),
            Kind::String | Kind::Bytes | Kind::Records | Kind::Struct => None,
        }
    }
}

impl Field {
    /// The field's name as the schema writes it, for example `TransactionalId`.
    pub fn name(&self) -> &'static str {
        NAMES.get(usize::from(self.name)).expect("the tables are consistent, a test walks them")
    }

    #[inline]
    pub fn is_in(&self, version: u8) -> bool {
        self.versions[0] <= version && version <= self.versions[1]
    }

    #[inline]
    pub fn is_nullable(&self, version: u8) -> bool {
        self.nullable[0] <= version && version <= self.nullable[1]
    }

    /// The struct of a field of kind `Struct`.
    #[inline]
    pub fn of(&self) -> &'static Struct {
        assert!(self.kind == Kind::Struct);
        STRUCTS.get(usize::from(self.of)).expect("the tables are consistent, a test walks them")
    }

    pub fn default(&self) -> DefaultValue {
        *DEFAULTS.get(usize::from(self.default)).expect("the tables are consistent, a test walks them")
    }
}

impl Struct {
    /// All fields, tagged ones and those of other versions included, in wire order.
    #[inline]
    pub fn fields(&self) -> &'static [Field] {
        let first = usize::from(self.first);
        FIELDS.get(first..first + usize::from(self.count)).expect("the tables are consistent, a test walks them")
    }

    /// The field that has `tag` in some version.
    pub fn tagged_ever(&self, tag: u32) -> Option<&'static Field> {
        self.fields().iter().find(|field| u32::from(field.tag) == tag && field.tag != NO_TAG)
    }

    /// The field that has `tag` in `version`.
    pub fn tagged(&self, tag: u32, version: u8) -> Option<&'static Field> {
        self.fields().iter().find(|field| u32::from(field.tag) == tag && field.tag != NO_TAG && field.is_in(version))
    }
}

impl Message {
    #[inline]
    pub fn root(&self) -> &'static Struct {
        STRUCTS.get(usize::from(self.root)).expect("the tables are consistent, a test walks them")
    }

    #[inline]
    pub fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible_since
    }

    /// The version as rows store it, or none when Kafka does not know it.
    #[inline]
    pub fn row_version(&self, version: i16) -> Option<u8> {
        if version < self.min || version > self.max || version > VERSION_MAX {
            return None;
        }
        u8::try_from(version).ok()
    }
}

/// The table of one message, or none for an API key that Kafka 4.4 does not have.
#[inline]
pub fn message(key: i16, direction: Direction) -> Option<&'static Message> {
    let key = usize::try_from(key).ok()?;
    match direction {
        Direction::Request => REQUESTS.get(key)?.as_ref(),
        Direction::Response => RESPONSES.get(key)?.as_ref(),
    }
}

/// All messages of one direction in the order of their API keys.
pub fn messages(direction: Direction) -> impl Iterator<Item = &'static Message> {
    match direction {
        Direction::Request => REQUESTS.iter().flatten(),
        Direction::Response => RESPONSES.iter().flatten(),
    }
}

#[allow(clippy::too_many_arguments)] // a row is one line of the generated table
const fn field(
    name: u16,
    kind: Kind,
    array: bool,
    of: u16,
    versions: [u8; 2],
    nullable: [u8; 2],
    tag: u8,
    default: u8,
) -> Field {
    Field { name, of, kind, array, versions, nullable, tag, default }
}

const fn structure(first: u16, count: u16) -> Struct {
    Struct { first, count }
}

const fn message_row(
    name: &'static str,
    direction: Direction,
    key: i16,
    versions: [i16; 2],
    flexible_since: i16,
    root: u16,
) -> Message {
    let [min, max] = versions;
    Message { name, direction, key, min, max, flexible_since, root }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(place: u16) {
        let structure = STRUCTS.get(usize::from(place)).expect("struct");
        for field in structure.fields() {
            assert!(!field.name().is_empty());
            let _ = field.default();
            if field.kind == Kind::Struct {
                assert!(field.of < place, "{} refers forward", field.name());
                walk(field.of);
            }
        }
    }

    #[test]
    fn every_row_refers_to_rows_that_exist_and_stand_before_it() {
        for direction in [Direction::Request, Direction::Response] {
            for message in messages(direction) {
                assert!(message.direction == direction);
                walk(message.root);
            }
        }
    }

    #[test]
    fn requests_and_responses_have_the_same_keys_and_versions() {
        assert_eq!(messages(Direction::Request).count(), 91);
        for request in messages(Direction::Request) {
            let response = message(request.key, Direction::Response).expect("a response for each request");
            assert_eq!((request.min, request.max), (response.min, response.max), "{}", request.name);
            assert_eq!(request.flexible_since, response.flexible_since, "{}", request.name);
        }
    }

    #[test]
    fn a_row_stays_small() {
        assert_eq!(size_of::<Field>(), 12);
    }
}
