//! A reader of protobuf that takes nothing out of the bytes: each field is a number or a slice.
//!
//! Owns the wire format. Does not own what fields mean. Invariants: reading allocates nothing, whatever the bytes are, and takes time
//! linear in them; groups, which nothing has used for long, are an error.

/// Why bytes are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProtobufError {
    #[error("a number has more than 64 bits")]
    Varint,
    #[error("field {field} says that it has {length} bytes, {left} are left")]
    Length { field: u32, length: u64, left: usize },
    #[error("field {field} has the wire type {wire_type}, which is none that is read")]
    WireType { field: u32, wire_type: u8 },
    #[error("a field has the number {field}")]
    FieldNumber { field: u64 },
}

/// The value of one field as it stands there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// A message, a text or bytes; empty for a number.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Value::Bytes(bytes) => bytes,
            Value::Varint(_) | Value::Fixed64(_) | Value::Fixed32(_) => &[],
        }
    }

    /// 0 for what is no number of this form.
    pub fn varint(self) -> u64 {
        if let Value::Varint(number) = self { number } else { 0 }
    }
}

/// The fields of one message, in their order; ends with the first error.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub fn of(message: &'a [u8]) -> Fields<'a> {
        Fields { rest: message }
    }

    fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let Some((byte, rest)) = self.rest.split_first() else { return Err(ProtobufError::Varint) };
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(ProtobufError::Varint);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(ProtobufError::Varint)
    }

    fn take(&mut self, field: u32, length: u64) -> Result<&'a [u8], ProtobufError> {
        let split = usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length));
        let (taken, rest) = split.ok_or(ProtobufError::Length { field, length, left: self.rest.len() })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: u32) -> Result<[u8; N], ProtobufError> {
        let taken = self.take(field, N as u64)?;
        Ok(taken.try_into().expect("as many bytes as were asked for"))
    }

    fn field(&mut self) -> Result<(u32, Value<'a>), ProtobufError> {
        let key = self.varint()?;
        let wire_type = u8::try_from(key & 7).expect("three bits");
        let number = key >> 3;
        let field = u32::try_from(number).ok().filter(|field| *field > 0);
        let field = field.ok_or(ProtobufError::FieldNumber { field: number })?;
        let value = match wire_type {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array(field)?)),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(field, length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.array(field)?)),
            _ => return Err(ProtobufError::WireType { field, wire_type }),
        };
        Ok((field, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), ProtobufError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<(u32, Value<'_>)>, ProtobufError> {
        Fields::of(bytes).collect()
    }

    #[test]
    fn fields_come_in_their_order_with_their_values() {
        let bytes = [0x08, 0x96, 0x01, 0x12, 2, b'a', b'b', 0x19, 1, 0, 0, 0, 0, 0, 0, 0, 0x25, 2, 0, 0, 0];
        let expected =
            [(1, Value::Varint(150)), (2, Value::Bytes(b"ab")), (3, Value::Fixed64(1)), (4, Value::Fixed32(2))];
        assert_eq!(all(&bytes), Ok(expected.to_vec()));
    }

    #[test]
    fn what_is_cut_or_claims_too_much_is_an_error_and_ends_the_message() {
        for bytes in [
            &[0x08][..],
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
            &[0x12, 3, b'a', b'b'],
            &[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0x19, 1, 2],
            &[0x0b],
            &[0x00, 1],
        ] {
            assert!(all(bytes).is_err(), "{bytes:?}");
            assert!(Fields::of(bytes).count() == 1, "{bytes:?}");
        }
    }
}
