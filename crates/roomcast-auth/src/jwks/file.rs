//! A key set in a file.

use std::{io, path::Path};

use tokio::{fs, io::AsyncReadExt as _};

use super::error::{JwksError, MAX_BYTES};

/// What is in a file now. Neither waits for somebody to write, as a pipe would, nor reads without end.
pub(super) async fn read(path: &Path) -> Result<Vec<u8>, JwksError> {
    let about = fs::metadata(path).await.map_err(JwksError::File)?;
    if !about.is_file() {
        return Err(JwksError::File(io::Error::other("it is no regular file")));
    }
    let file = fs::File::open(path).await.map_err(JwksError::File)?;
    let mut content = vec![];
    let limit = MAX_BYTES as u64 + 1;
    file.take(limit).read_to_end(&mut content).await.map_err(JwksError::File)?;
    if content.len() > MAX_BYTES { Err(JwksError::TooLarge) } else { Ok(content) }
}
