//! x
use super::{OpenError, Recovered};
use crate::disk::Disk;
use crate::store::Options;
use std::path::Path;
use std::sync::Arc;
pub(super) fn open(_disk: Arc<dyn Disk>, root: &Path, _options: Options) -> Result<Recovered, OpenError> {
    Err(OpenError::NoCheckpoint { path: root.into() })
}
