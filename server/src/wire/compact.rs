//! Compact strings, arrays and tagged fields for the message versions that are coded by hand in this folder.
//!
//! Owns reading from a `Bytes`, as the decoders of `kafka-protocol` do, so that both can take turns on one body.
//! Invariant: reading never panics; what `check` let pass is read without an error.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::protocol::buf::ByteBufMut;
use uuid::Uuid;

use super::primitives::{put_varint, read_varint};

fn take_varint(body: &mut Bytes) -> Result<u32, String> {
    let mut bytes = 0;
    let value = read_varint(body, &mut bytes).map_err(|error| format!("varint: {error:?}"))?;
    body.advance(bytes);
    Ok(value)
}

fn take_slice(body: &mut Bytes, bytes: u32) -> Result<Bytes, String> {
    let bytes = usize::try_from(bytes).map_err(|error| error.to_string())?;
    if bytes > body.len() {
        return Err(format!("{bytes} bytes claimed and {} are left", body.len()));
    }
    Ok(body.split_to(bytes))
}

pub(crate) fn take_i32(body: &mut Bytes) -> Result<i32, String> {
    body.try_get_i32().map_err(|error| error.to_string())
}

pub(crate) fn take_i64(body: &mut Bytes) -> Result<i64, String> {
    body.try_get_i64().map_err(|error| error.to_string())
}

pub(crate) fn take_i16(body: &mut Bytes) -> Result<i16, String> {
    body.try_get_i16().map_err(|error| error.to_string())
}

pub(crate) fn take_bool(body: &mut Bytes) -> Result<bool, String> {
    body.try_get_u8().map(|byte| byte != 0).map_err(|error| error.to_string())
}

pub(crate) fn take_uuid(body: &mut Bytes) -> Result<Uuid, String> {
    body.try_get_u128().map(Uuid::from_u128).map_err(|error| error.to_string())
}

pub(crate) fn take_nullable_string(body: &mut Bytes) -> Result<Option<StrBytes>, String> {
    match take_varint(body)? {
        0 => Ok(None),
        length => {
            let text = take_slice(body, length - 1)?;
            StrBytes::from_utf8(text).map(Some).map_err(|error| error.to_string())
        }
    }
}

pub(crate) fn take_string(body: &mut Bytes) -> Result<StrBytes, String> {
    take_nullable_string(body)?.ok_or_else(|| "null string".into())
}

pub(crate) fn take_nullable_array<T>(
    body: &mut Bytes,
    mut element: impl FnMut(&mut Bytes) -> Result<T, String>,
) -> Result<Option<Vec<T>>, String> {
    let Some(count) = take_varint(body)?.checked_sub(1) else { return Ok(None) };
    let mut elements = Vec::new();
    for _ in 0..count {
        elements.push(element(body)?);
    }
    Ok(Some(elements))
}

pub(crate) fn take_array<T>(
    body: &mut Bytes,
    element: impl FnMut(&mut Bytes) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    take_nullable_array(body, element)?.ok_or_else(|| "null array".into())
}

pub(crate) fn take_tags(body: &mut Bytes) -> Result<BTreeMap<i32, Bytes>, String> {
    let mut tags = BTreeMap::new();
    for _ in 0..take_varint(body)? {
        let tag = take_varint(body)?.cast_signed(); // the crate keeps tags in an i32
        let bytes = take_varint(body)?;
        tags.insert(tag, take_slice(body, bytes)?);
    }
    Ok(tags)
}

fn put_length<B: ByteBufMut>(out: &mut B, length: usize) -> Result<(), String> {
    put_varint(out, u32::try_from(length).map_err(|_| format!("length {length}"))?);
    Ok(())
}

pub(crate) fn put_string<B: ByteBufMut>(out: &mut B, text: &StrBytes) -> Result<(), String> {
    put_length(out, text.len() + 1)?;
    out.put_slice(text.as_bytes());
    Ok(())
}

pub(crate) fn put_nullable_string<B: ByteBufMut>(out: &mut B, text: Option<&StrBytes>) -> Result<(), String> {
    match text {
        None => put_length(out, 0),
        Some(text) => put_string(out, text),
    }
}

pub(crate) fn put_array<B: ByteBufMut, T>(
    out: &mut B,
    elements: &[T],
    mut element: impl FnMut(&mut B, &T) -> Result<(), String>,
) -> Result<(), String> {
    put_length(out, elements.len() + 1)?;
    elements.iter().try_for_each(|value| element(out, value))
}

pub(crate) fn put_nullable_array<B: ByteBufMut, T>(
    out: &mut B,
    elements: Option<&Vec<T>>,
    element: impl FnMut(&mut B, &T) -> Result<(), String>,
) -> Result<(), String> {
    match elements {
        None => put_length(out, 0),
        Some(elements) => put_array(out, elements, element),
    }
}

pub(crate) fn put_tags<B: ByteBufMut>(out: &mut B, tags: &BTreeMap<i32, Bytes>) -> Result<(), String> {
    put_length(out, tags.len())?;
    for (tag, bytes) in tags {
        put_varint(out, tag.cast_unsigned());
        put_length(out, bytes.len())?;
        out.put_slice(bytes);
    }
    Ok(())
}
