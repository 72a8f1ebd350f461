//! What the group APIs have in common.

use model::ErrorCode;
use replication::group::{GroupError, InstanceId};

use crate::wire::StrBytes;

pub fn code_of<T>(result: &Result<T, GroupError>) -> i16 {
    result.as_ref().err().map_or(ErrorCode::None, GroupError::code).to_wire()
}

pub fn optional_code(error: Option<&GroupError>) -> i16 {
    error.map_or(ErrorCode::None, GroupError::code).to_wire()
}

pub fn instance(raw: Option<&StrBytes>) -> Option<InstanceId> {
    raw.map(|id| InstanceId::new(id.as_str()))
}

pub fn owned(raw: Option<&StrBytes>) -> Option<String> {
    raw.map(|text| text.to_string())
}
